//! What Twilio's log says of messages and calls: where it is asked, and the webhook that each entry
//! would have come by. The log lacks some of what that had, so what is made of it says so.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use crate::provider::lenient::{self, list, text};

/// The most bytes of a page: each of a thousand messages has up to 1,600 characters.
pub const MAX_PAGE_BYTES: u64 = 16 * 1024 * 1024;
/// How many entries a page has; more are not allowed.
const PAGE: &str = "1000";
/// What all paths begin with.
const VERSION: &str = "/2010-04-01/Accounts";
/// Says, in a field of ours, that a webhook was made of an entry of the log.
pub const RECOVERED: &str = "Recovered";
/// When Twilio says that it was.
pub const SENT: &str = "DateSent";
/// The most files of a message.
const MOST_FILES: usize = 10;

/// Which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// Of messages of WhatsApp.
    Messages,
    /// Of calls.
    Calls,
}

/// An entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What Twilio calls the message or call.
    pub sid: String,
    /// Where a call stands; empty of a message.
    pub status: String,
    /// Where its files are told of, if it has any.
    pub media: Option<String>,
    /// When it was.
    pub at: Option<DateTime<Utc>>,
    fields: Map<String, Value>,
}

/// A page of a log.
#[derive(Debug, PartialEq)]
pub struct Page {
    /// What customers have begun.
    pub entries: Vec<Entry>,
    /// The path of the next page.
    pub next: Option<String>,
}

impl Log {
    /// The path of the first page of what came to a number since a time.
    pub fn path(self, account_sid: &str, number: &str, since: DateTime<Utc>) -> String {
        let (name, since_field, to) = match self {
            Self::Messages => ("Messages", "DateSent>", format!("whatsapp:{number}")),
            Self::Calls => ("Calls", "StartTime>", number.to_owned()),
        };
        let since = since.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("To", &to)
            .append_pair(since_field, &since)
            .append_pair("PageSize", PAGE)
            .finish();
        format!("{VERSION}/{account_sid}/{name}.json?{query}")
    }

    /// Reads a page.
    ///
    /// # Errors
    /// It is none.
    pub fn read(self, account_sid: &str, body: &[u8]) -> Result<Page, String> {
        let answer: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let name = match self {
            Self::Messages => "messages",
            Self::Calls => "calls",
        };
        let entries = answer.get(name).and_then(Value::as_array);
        let entries = entries.ok_or_else(|| format!("a page without `{name}`"))?;
        Ok(Page {
            entries: entries
                .iter()
                .filter_map(|entry| self.entry(entry))
                .collect(),
            next: own_path(account_sid, &text(&answer, "/next_page_uri")),
        })
    }

    fn entry(self, entry: &Value) -> Option<Entry> {
        let sid = lenient::identifier(&text(entry, "/sid"))?;
        if text(entry, "/direction") != "inbound" {
            return None;
        }
        let mut fields = Map::new();
        let mut set = |name: &str, path: &str| {
            let value = text(entry, path);
            if !value.is_empty() {
                fields.insert(name.to_owned(), value.into());
            }
        };
        set("AccountSid", "/account_sid");
        set("From", "/from");
        set("To", "/to");
        let (at, status, media) = match self {
            Self::Messages => {
                set("Body", "/body");
                set("NumMedia", "/num_media");
                let has_files = !matches!(text(entry, "/num_media").as_str(), "" | "0");
                let media = text(entry, "/subresource_uris/media");
                let account_sid = text(entry, "/account_sid");
                let media = own_path(&account_sid, &media).filter(|_| has_files);
                (time(entry, "/date_sent"), String::new(), media)
            }
            Self::Calls => {
                set("CallStatus", "/status");
                set("CallDuration", "/duration");
                set("CallerName", "/caller_name");
                set("ForwardedFrom", "/forwarded_from");
                set("AnsweredBy", "/answered_by");
                set("ParentCallSid", "/parent_call_sid");
                (time(entry, "/start_time"), text(entry, "/status"), None)
            }
        };
        let at = at.or_else(|| time(entry, "/date_created"));
        let sid_field = match self {
            Self::Messages => "MessageSid",
            Self::Calls => "CallSid",
        };
        fields.insert(sid_field.to_owned(), sid.clone().into());
        if self == Self::Calls {
            fields.insert("Direction".to_owned(), "inbound".into());
        }
        fields.insert(RECOVERED.to_owned(), "true".into());
        if let Some(at) = at {
            fields.insert(SENT.to_owned(), at.to_rfc3339().into());
        }
        Some(Entry {
            sid,
            status,
            media,
            at,
            fields,
        })
    }
}

impl Entry {
    /// Adds the files that an answer tells of.
    pub fn add_files(&mut self, api: &str, body: &[u8]) {
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        let account_sid = self.fields.get("AccountSid").and_then(Value::as_str);
        let account_sid = account_sid.unwrap_or_default().to_owned();
        for (number, file) in list(&answer, "/media_list")
            .iter()
            .take(MOST_FILES)
            .enumerate()
        {
            let Some(path) = own_path(&account_sid, &text(file, "/uri")) else {
                continue;
            };
            let path = path.trim_end_matches(".json");
            let url = json!(format!("{api}{path}"));
            self.fields.insert(format!("MediaUrl{number}"), url);
            let content_type = text(file, "/content_type");
            self.fields
                .insert(format!("MediaContentType{number}"), content_type.into());
        }
    }

    /// The webhook.
    pub fn into_body(self) -> Vec<u8> {
        Value::Object(self.fields).to_string().into_bytes()
    }
}

/// A path of the account, as answers name what belongs to them; nothing else is asked.
fn own_path(account_sid: &str, path: &str) -> Option<String> {
    let own = format!("{VERSION}/{account_sid}/");
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\' && byte != b'#';
    let is_own = path.starts_with(&own) && path.bytes().all(is_plain) && !path.contains("..");
    is_own.then(|| path.to_owned())
}

fn time(entry: &Value, path: &str) -> Option<DateTime<Utc>> {
    let at = DateTime::parse_from_rfc2822(&text(entry, path)).ok()?;
    lenient::not_ahead(at.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: &str = r#"{"messages":[
        {"sid":"SM1","account_sid":"AC1","from":"whatsapp:+15550109911","to":"whatsapp:+15550001001",
         "body":"Hello","num_media":"1","direction":"inbound","status":"received",
         "date_sent":"Sat, 14 Mar 2026 09:20:00 +0000",
         "subresource_uris":{"media":"/2010-04-01/Accounts/AC1/Messages/SM1/Media.json"}},
        {"sid":"SM2","account_sid":"AC1","direction":"outbound-api","body":"ours"},
        {"sid":"","direction":"inbound"}, 7],
        "next_page_uri":"/2010-04-01/Accounts/AC1/Messages.json?Page=1&PageToken=PASM1"}"#;

    #[test]
    fn a_log_is_asked_for_what_came_to_a_number_since_a_time() {
        let since = DateTime::from_timestamp(1_773_480_000, 0).unwrap();
        assert_eq!(
            Log::Messages.path("AC1", "+15550001001", since),
            "/2010-04-01/Accounts/AC1/Messages.json?To=whatsapp%3A%2B15550001001&DateSent%3E=2026-03-14T09%3A20%3A00Z&PageSize=1000"
        );
        assert!(
            Log::Calls
                .path("AC1", "+15550001001", since)
                .starts_with("/2010-04-01/Accounts/AC1/Calls.json?To=%2B15550001001&StartTime%3E=")
        );
    }

    #[test]
    fn an_entry_is_the_webhook_that_did_not_come() {
        let mut page = Log::Messages.read("AC1", MESSAGES.as_bytes()).unwrap();
        assert_eq!(
            page.next.as_deref(),
            Some("/2010-04-01/Accounts/AC1/Messages.json?Page=1&PageToken=PASM1")
        );
        assert_eq!(page.entries.len(), 1);
        let mut entry = page.entries.remove(0);
        assert_eq!(entry.sid, "SM1");
        assert_eq!(
            entry.media.as_deref(),
            Some("/2010-04-01/Accounts/AC1/Messages/SM1/Media.json")
        );
        entry.add_files(
            "https://api.twilio.com",
            br#"{"media_list":[{"uri":"/2010-04-01/Accounts/AC1/Messages/SM1/Media/ME1.json",
                "content_type":"image/jpeg"}, {"uri":"https://evil.example/x"}]}"#,
        );
        let webhook: Value = serde_json::from_slice(&entry.into_body()).unwrap();
        assert_eq!(
            webhook,
            json!({"AccountSid": "AC1", "MessageSid": "SM1", "From": "whatsapp:+15550109911",
                "To": "whatsapp:+15550001001", "Body": "Hello", "NumMedia": "1",
                "MediaUrl0": "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages/SM1/Media/ME1",
                "MediaContentType0": "image/jpeg", "Recovered": "true",
                "DateSent": "2026-03-14T09:20:00+00:00"})
        );
    }

    #[test]
    fn nothing_else_is_asked_than_the_account_itself() {
        for path in [
            "",
            "https://evil.example/2010-04-01/Accounts/AC1/x",
            "/2010-04-01/Accounts/AC2/Messages.json",
            "/2010-04-01/Accounts/AC1/../AC2/Messages.json",
            "/2010-04-01/Accounts/AC1/a b",
            "@evil.example/2010-04-01/Accounts/AC1/",
        ] {
            assert_eq!(own_path("AC1", path), None, "{path}");
        }
        for wrong in ["", "[]", "{}", r#"{"messages":{}}"#] {
            assert!(
                Log::Messages.read("AC1", wrong.as_bytes()).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_call_of_the_log_has_its_end() {
        let body = r#"{"calls":[{"sid":"CA1","account_sid":"AC1","from":"+15550109911",
            "to":"+15550001001","direction":"inbound","status":"no-answer","duration":"0",
            "start_time":"Sat, 14 Mar 2026 09:20:00 +0000"}]}"#;
        let page = Log::Calls.read("AC1", body.as_bytes()).unwrap();
        assert_eq!(page.next, None);
        assert_eq!(page.entries[0].status, "no-answer");
        let webhook: Value = serde_json::from_slice(&page.entries[0].clone().into_body()).unwrap();
        assert_eq!(webhook["CallSid"], "CA1");
        assert_eq!(webhook["Direction"], "inbound");
        assert_eq!(webhook["CallStatus"], "no-answer");
    }
}
