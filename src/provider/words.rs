//! The words of a message, as agents read them.

use super::lenient::cut;
use super::metadata::Metadata;
use crate::inbox::MessageType;

/// What agents read where the provider says no more.
pub const UNSUPPORTED: &str = "Unsupported message";
/// The most that a text may have; the rest stays in the delivery.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;

/// What is said where words are all there is: something, and not too much.
pub fn shown(mut words: String) -> String {
    if words.trim().is_empty() {
        UNSUPPORTED.clone_into(&mut words);
    }
    cut(&mut words, MAX_TEXT_BYTES);
    words
}

/// The words of a message: a text says something, and what is cut is told of.
pub fn said(mut words: String, message_type: MessageType, metadata: &mut Metadata) -> String {
    if message_type == MessageType::Text && words.trim().is_empty() {
        UNSUPPORTED.clone_into(&mut words);
    }
    if cut(&mut words, MAX_TEXT_BYTES) {
        metadata.set("text_cut", true);
    }
    words
}
