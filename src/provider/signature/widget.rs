//! The proof of the chat widget: the server behind its page signs the ids of its users.

use aws_lc_rs::hmac;

use crate::provider::signature::digest;

const HASH_BYTES: usize = 32;

/// Tells whether a secret signed the id of a user, byte for byte.
pub fn is_proved_by(secret: &str, user_id: &str, user_hash: &str) -> bool {
    digest::from_hex::<HASH_BYTES>(user_hash.as_bytes()).is_some_and(|hash| {
        digest::is_signed_by(hmac::HMAC_SHA256, secret, &[user_id.as_bytes()], &hash)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "test-identity-secret";
    const HASH: &str = "9de69cb759728ae928361cdee62c53da10c69c56e84c66567467ca6c212ca804";

    #[test]
    fn an_id_is_signed_byte_for_byte() {
        assert!(is_proved_by(SECRET, "user-42", HASH));
        assert!(is_proved_by(SECRET, "user-42", &HASH.to_uppercase()));
        for id in ["user-43", "User-42", " user-42", "user-42\0", "user-4", ""] {
            assert!(!is_proved_by(SECRET, id, HASH), "{id}");
        }
        for hash in ["", &HASH[..62], &format!("{HASH}00"), "sha256=", "ä"] {
            assert!(!is_proved_by(SECRET, "user-42", hash), "{hash}");
        }
        assert!(!is_proved_by("", "user-42", HASH));
        assert!(!is_proved_by("other", "user-42", HASH));
    }
}
