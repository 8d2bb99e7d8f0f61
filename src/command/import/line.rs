//! The lines of a file of history.

use std::io::{self, BufRead};

use prost_reflect::{DescriptorPool, MessageDescriptor};
use serde_json::{Map, Value};

use crate::field::Fields;
use crate::pb::{self, NewMessage};
use crate::rest;

/// The fields of a line that say in which conversation the message is.
const CONVERSATION: [&str; 7] = [
    "channel",
    "channel_account_id",
    "contact_identifier",
    "contact_name",
    "subject",
    "priority",
    "thread_key",
];

/// The lines of a file, with their numbers.
pub struct Lines {
    reader: Box<dyn BufRead>,
    /// The number of the last one that was read.
    pub number: u64,
}

impl Lines {
    /// Reads from the beginning.
    pub fn new(reader: Box<dyn BufRead>) -> Self {
        Self { reader, number: 0 }
    }

    /// The next line that is not empty.
    pub fn next(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        loop {
            let mut line = Vec::new();
            if self.reader.read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if !line.trim_ascii().is_empty() {
                return Ok(Some((self.number, line)));
            }
        }
    }
}

/// A line.
pub struct Entry {
    /// Its conversation, unless the message names it.
    pub conversation: Option<pb::CreateConversationRequest>,
    /// The message.
    pub message: NewMessage,
    /// What the message is called that it answers.
    pub reply_to: Option<String>,
}

/// Reads lines.
pub struct Reader {
    conversation: MessageDescriptor,
    message: MessageDescriptor,
}

impl Reader {
    /// Reads what these descriptors describe.
    pub fn new(pool: &DescriptorPool) -> Result<Self, String> {
        let find = |name: &str| {
            let found = pool.get_message_by_name(&format!("communication.v1.{name}"));
            found.ok_or_else(|| format!("the descriptors have no {name}"))
        };
        Ok(Self {
            conversation: find("CreateConversationRequest")?,
            message: find("NewMessage")?,
        })
    }

    /// Reads a line, or says what is wrong with it.
    pub fn read(&self, line: &[u8]) -> Result<Entry, String> {
        let mut message: Map<String, Value> =
            serde_json::from_slice(line).map_err(|error| format!("is no object: {error}"))?;
        let mut conversation = Map::new();
        for field in CONVERSATION {
            conversation.extend(message.remove_entry(field));
        }
        let reply_to = message.remove("reply_to_import_id");
        let mut fields = Fields::default();
        let reply_to = match reply_to {
            None | Some(Value::Null) => None,
            Some(Value::String(import_id)) => Some(import_id),
            Some(_) => {
                fields.refuse("reply_to_import_id", "must be a text");
                None
            }
        };
        if conversation.is_empty() == message.get("conversation_id").is_none() {
            let description = "or `contact_identifier` and `channel` must say the conversation";
            fields.refuse("conversation_id", description);
        }
        let found = rest::read(&self.conversation, &conversation, "", &mut fields);
        let message = rest::read(&self.message, &message, "", &mut fields);
        let message: NewMessage = message.transcode_to().map_err(|error| error.to_string())?;
        let found = found.transcode_to().map_err(|error| error.to_string())?;
        if message.import_id.is_empty() {
            fields.refuse("import_id", "is required");
        }
        if message.reply_to_index.is_some() {
            fields.refuse("reply_to_index", "must be `reply_to_import_id` here");
        }
        fields.finish().map_err(|error| error.to_string())?;
        Ok(Entry {
            conversation: (!conversation.is_empty()).then_some(found),
            message,
            reply_to,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::client::descriptors;

    fn read(line: &str) -> Result<Entry, String> {
        let reader = Reader::new(&descriptors().unwrap()).unwrap();
        reader.read(line.as_bytes())
    }

    #[test]
    fn a_line_says_conversation_and_message_in_the_words_of_the_api() {
        let entry = read(
            r#"{"channel": "email", "contact_identifier": "a@example.com", "thread_key": "t",
                "import_id": "1", "direction": "outbound", "status": "read", "text": "Hi",
                "author": {"user_id": "anna"}, "provider_time": "2019-05-01T09:30:00Z",
                "metadata": {"a": [1]}, "reply_to_import_id": "0"}"#,
        );
        let entry = entry.unwrap_or_else(|problem| panic!("{problem}"));
        let conversation = entry.conversation.unwrap();
        assert_eq!(conversation.channel(), pb::Channel::Email);
        assert_eq!(conversation.thread_key, "t");
        assert_eq!(entry.message.direction(), pb::MessageDirection::Outbound);
        assert_eq!(entry.message.status(), pb::MessageStatus::Read);
        assert_eq!(entry.message.provider_time.unwrap().seconds, 1_556_703_000);
        assert_eq!(entry.reply_to.as_deref(), Some("0"));
    }

    #[test]
    fn what_is_wrong_with_a_line_is_named() {
        for (line, named) in [
            ("[]", "is no object"),
            ("{", "is no object"),
            (r#"{"import_id": "1", "text": "x"}"#, "conversation_id"),
            (
                r#"{"conversation_id": "1", "channel": "web", "import_id": "1"}"#,
                "conversation_id",
            ),
            (r#"{"channel": "web", "text": "x"}"#, "import_id"),
            (
                r#"{"channel": "fax", "import_id": "1", "text": "x"}"#,
                "channel",
            ),
            (
                r#"{"channel": "web", "import_id": "1", "txt": "x"}"#,
                "`txt` is not known",
            ),
            (
                r#"{"channel": "web", "import_id": "1", "reply_to_import_id": 1}"#,
                "reply_to_import_id",
            ),
        ] {
            let problem = read(line).err().unwrap_or_default();
            assert!(problem.contains(named), "{line}: {problem}");
        }
    }
}
