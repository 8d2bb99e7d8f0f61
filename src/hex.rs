//! Bytes as hexadecimal digits.

use std::fmt::Write as _;

/// Writes bytes as lower-case digits, two each.
pub fn digits(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // A text takes all that is written to it.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}
