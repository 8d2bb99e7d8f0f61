//! Quick replies and their uses on the wire.

mod quick_reply;
mod usage;

pub use quick_reply::{QuickRepliesPage, quick_reply_id, update};
pub use usage::{StatsPage, UsesPage, filling};

use super::language::Language;
use crate::access::Actor;
use crate::field::Fields;

/// The most variables of a quick reply, and values for them.
const MAX_VARIABLES: usize = 50;

/// Reads the id of somebody whom another service knows; `None` for an empty one.
fn someone(fields: &mut Fields, field: &str, id: String) -> Option<String> {
    if id.is_empty() {
        return None;
    }
    if !Actor::may_be_called(&id) {
        fields.refuse(field, "must be 1 to 128 characters, none of them control");
    }
    Some(id)
}

/// Reads the tag of a language that may be left out.
fn language(fields: &mut Fields, field: &str, tag: &str) -> Option<Language> {
    let language = Language::parse(tag);
    if language.is_none() && !tag.is_empty() {
        fields.refuse(field, "must be a BCP 47 tag such as `pt-BR`");
    }
    language
}
