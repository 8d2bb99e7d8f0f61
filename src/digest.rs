//! What stands for several texts together.

use aws_lc_rs::digest::{Context, SHA256};

/// The SHA-256 of some parts in their order.
pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        // The length keeps ("ab", "c") from being ("a", "bc").
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}
