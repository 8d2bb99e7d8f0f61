//! The labels of a message, which tell what Gmail takes it for.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde_json::Value;

use crate::inbox::Direction;
use crate::provider::lenient::list;

/// The most names that are kept of one message, and the longest, in bytes.
const MAX_NAMES: usize = 100;
const MAX_NAME_BYTES: usize = 256;

/// The labels of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    names: Vec<String>,
    in_inbox: bool,
    sent: bool,
    draft: bool,
    discarded: bool,
}

impl Labels {
    /// Their ids, such as `INBOX` or `Label_17`: the first hundred.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether the message is in the inbox; one that is in the archive is not.
    pub fn is_in_inbox(&self) -> bool {
        self.in_inbox
    }

    /// Whether the owner of the mailbox sent it, from here or elsewhere.
    pub fn is_sent(&self) -> bool {
        self.sent
    }

    /// Whether it is in the trash or taken for spam.
    pub fn is_discarded(&self) -> bool {
        self.discarded
    }

    /// Whether it is none of our business: a draft, or discarded.
    pub fn is_unwanted(&self) -> bool {
        self.draft || self.discarded
    }

    /// Which way the message goes. What somebody sends to themselves goes out.
    pub fn direction(&self) -> Direction {
        if self.sent {
            Direction::Outbound
        } else {
            Direction::Inbound
        }
    }

    /// Reads a list of them; `None` where there is none.
    pub(super) fn read(value: &Value, path: &str) -> Option<Self> {
        value.pointer(path)?.as_array()?;
        let mut labels = Self::default();
        let names = list(value, path).iter().filter_map(Value::as_str);
        names.for_each(|name| labels.add(name));
        Some(labels)
    }

    /// Adds those of another list.
    pub(super) fn join(&mut self, others: &Self) {
        for name in &others.names {
            if !self.names.contains(name) {
                self.add(name);
            }
        }
        self.in_inbox |= others.in_inbox;
        self.sent |= others.sent;
        self.draft |= others.draft;
        self.discarded |= others.discarded;
    }

    fn add(&mut self, name: &str) {
        match name {
            "INBOX" => self.in_inbox = true,
            "SENT" => self.sent = true,
            "DRAFT" => self.draft = true,
            "SPAM" | "TRASH" => self.discarded = true,
            _ => {}
        }
        if self.names.len() < MAX_NAMES && name.len() <= MAX_NAME_BYTES {
            self.names.push(name.replace('\0', "\u{fffd}"));
        }
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Names)
    }
}

/// Reads names one by one, so that a long list of them takes no room.
struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Labels;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of labels")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Labels, A::Error> {
        let mut labels = Labels::default();
        while let Some(name) = names.next_element::<Cow<'_, str>>()? {
            labels.add(&name);
        }
        Ok(labels)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(names: &[&str]) -> Labels {
        Labels::read(&json!(names), "").unwrap()
    }

    #[test]
    fn labels_tell_what_a_message_is() {
        assert_eq!(labels(&["INBOX"]).direction(), Direction::Inbound);
        assert_eq!(labels(&["INBOX", "SENT"]).direction(), Direction::Outbound);
        assert_eq!(labels(&[]).direction(), Direction::Inbound);
        for unwanted in ["DRAFT", "SPAM", "TRASH"] {
            assert!(labels(&["INBOX", unwanted]).is_unwanted(), "{unwanted}");
        }
        assert!(!labels(&["DRAFT"]).is_discarded());
        let ordinary = labels(&["sent", "Label_1", "CATEGORY_PERSONAL", "UNREAD"]);
        assert!(!ordinary.is_sent() && !ordinary.is_unwanted() && !ordinary.is_in_inbox());
        assert_eq!(ordinary.names().len(), 4);
    }

    #[test]
    fn a_long_list_is_cut_and_means_the_same() {
        let mut names = vec!["Label_1"; 1_000];
        names.push("TRASH");
        let long = "x".repeat(257);
        names.insert(0, &long);
        assert!(labels(&names).is_discarded());
        assert_eq!(labels(&names).names(), vec!["Label_1"; 100]);
        let read: Labels = serde_json::from_value(json!(names)).unwrap();
        assert_eq!(read, labels(&names));
    }

    #[test]
    fn lists_are_joined() {
        let mut joined = labels(&["INBOX", "UNREAD"]);
        joined.join(&labels(&["UNREAD", "TRASH"]));
        assert_eq!(joined, labels(&["INBOX", "UNREAD", "TRASH"]));
        assert_eq!(Labels::read(&json!({"a": "INBOX"}), "/a"), None);
        assert_eq!(Labels::read(&json!({}), "/a"), None);
        assert_eq!(
            Labels::read(&json!([1, "INBOX", null]), "").unwrap(),
            labels(&["INBOX"])
        );
    }
}
