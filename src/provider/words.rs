//! The words of a message, as agents read them.

use super::lenient::cut;
use super::metadata::Metadata;
use crate::inbox::{FileSource, InboundFile, MessageType};

/// What agents read where the provider says no more.
pub const UNSUPPORTED: &str = "Unsupported message";
/// The most that a text may have; a longer one is a file, too.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;

/// What is said where words are all there is: something, and not too much.
pub fn shown(mut words: String) -> String {
    if words.trim().is_empty() {
        UNSUPPORTED.clone_into(&mut words);
    }
    cut(&mut words, MAX_TEXT_BYTES);
    words
}

/// The words of a message: a text says something; one that is too long is cut, which is told of, and
/// is whole among the files.
pub fn said(
    mut words: String,
    message_type: MessageType,
    metadata: &mut Metadata,
    files: &mut Vec<InboundFile>,
) -> String {
    if message_type == MessageType::Text && words.trim().is_empty() {
        UNSUPPORTED.clone_into(&mut words);
    }
    if words.len() > MAX_TEXT_BYTES {
        files.push(written("message.txt", "text/plain", words.clone()));
        cut(&mut words, MAX_TEXT_BYTES);
        metadata.set("text_cut", true);
    }
    words
}

/// A file of words.
pub fn written(name: &str, content_type: &str, words: String) -> InboundFile {
    let content_type = format!("{content_type}; charset=utf-8");
    let source = FileSource::Inline(words.into());
    InboundFile::new(name.to_owned(), content_type, source)
}
