//! What has changed in a mailbox, and the other answers from which it is told.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::answer::{id, number, object};
use super::label::Labels;
use super::push::mailbox;
use crate::provider::lenient::list;

/// The longest token of a page, in bytes: it is a part of addresses.
const MAX_PAGE_TOKEN_BYTES: usize = 4 * 1024;
/// The latest time that is believed, in seconds since 1970: the end of the year 9999.
const LATEST: i64 = 253_402_300_799;

/// A page of changes, the older ones first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// The messages to get, each once: new ones, and those that have come out of spam or archive.
    /// Drafts, spam, trash and what is deleted by now are not among them.
    pub added: Vec<Added>,
    /// Messages that have gone into the trash or are taken for spam now.
    pub discarded: Vec<String>,
    /// Messages that are deleted for good.
    pub deleted: Vec<String>,
    /// Where the history goes on, if it does.
    pub next_page: Option<String>,
    /// How far the history has come. It may be kept when the last page has been dealt with.
    pub history_id: Option<u64>,
    /// How many changes name no message.
    pub unreadable: usize,
}

/// A message to get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// Gmail's id.
    pub id: String,
    /// Gmail's id of the thread within the mailbox.
    pub thread_id: String,
    /// What Gmail took it for when it told of it last.
    pub labels: Labels,
}

/// Reads an answer of `users.history.list`.
///
/// # Errors
/// The answer is too long, no object, or names a next page that nobody can ask for.
pub fn read(body: &[u8]) -> Result<History, String> {
    let answer = object(body)?;
    let mut fates = Fates::default();
    for record in list(&answer, "/history") {
        for change in list(record, "/messagesAdded") {
            fates.add(change);
        }
        for change in list(record, "/labelsAdded") {
            fates.label(change);
        }
        for change in list(record, "/messagesDeleted") {
            fates.delete(change);
        }
    }
    let mut history = History {
        next_page: next_page(&answer)?,
        history_id: number(&answer, "/historyId"),
        unreadable: fates.unreadable,
        ..History::default()
    };
    for fate in fates.all {
        let is_unwanted = fate.message.labels.is_unwanted();
        if fate.is_deleted {
            history.deleted.push(fate.message.id);
        } else if fate.is_new && !is_unwanted {
            history.added.push(fate.message);
        } else if fate.is_discarded && fate.message.labels.is_discarded() {
            history.discarded.push(fate.message.id);
        }
    }
    Ok(history)
}

/// What has become of one message.
struct Fate {
    message: Added,
    is_new: bool,
    is_discarded: bool,
    is_deleted: bool,
}

/// What has become of each message, in the order in which they are told of first.
#[derive(Default)]
struct Fates {
    all: Vec<Fate>,
    places: HashMap<String, usize>,
    unreadable: usize,
}

impl Fates {
    fn add(&mut self, change: &Value) {
        if let Some(fate) = self.of(change) {
            fate.is_new = true;
            fate.message.labels = Labels::read(change, "/message/labelIds").unwrap_or_default();
        }
    }

    /// Of all labels only some matter: an old message that gets a star is none to get.
    fn label(&mut self, change: &Value) {
        let new = Labels::read(change, "/labelIds").unwrap_or_default();
        if let Some(fate) = self.of(change) {
            fate.is_new |= new.is_in_inbox() || new.is_sent();
            fate.is_discarded |= new.is_discarded();
            match Labels::read(change, "/message/labelIds") {
                Some(all) => fate.message.labels = all,
                None => fate.message.labels.join(&new),
            }
        }
    }

    fn delete(&mut self, change: &Value) {
        if let Some(fate) = self.of(change) {
            fate.is_deleted = true;
        }
    }

    /// The fate of the message that a change names.
    fn of(&mut self, change: &Value) -> Option<&mut Fate> {
        let Some(id) = id(change, "/message/id") else {
            self.unreadable += 1;
            return None;
        };
        let next = self.all.len();
        let place = *self.places.entry(id.clone()).or_insert(next);
        if place == next {
            self.all.push(Fate {
                message: Added {
                    // A thread is called as its first message is.
                    thread_id: thread_id(change).unwrap_or_else(|| id.clone()),
                    id,
                    labels: Labels::default(),
                },
                is_new: false,
                is_discarded: false,
                is_deleted: false,
            });
        }
        self.all.get_mut(place)
    }
}

fn thread_id(change: &Value) -> Option<String> {
    id(change, "/message/threadId")
}

/// A page of messages, the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessagePage {
    /// Gmail's ids. What the messages are is told with each of them.
    pub ids: Vec<String>,
    /// Where the list goes on, if it does.
    pub next_page: Option<String>,
}

/// Reads an answer of `users.messages.list`.
///
/// # Errors
/// The answer is too long, no object, or names a next page that nobody can ask for.
pub fn messages(body: &[u8]) -> Result<MessagePage, String> {
    let answer = object(body)?;
    let mut places = HashMap::new();
    let ids = list(&answer, "/messages").iter();
    let ids = ids.filter_map(|message| id(message, "/id"));
    Ok(MessagePage {
        ids: ids
            .filter(|id| places.insert(id.clone(), ()).is_none())
            .collect(),
        next_page: next_page(&answer)?,
    })
}

/// A mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its address, lower-cased, if it is told.
    pub mailbox: Option<String>,
    /// How far its history has come.
    pub history_id: u64,
}

/// Reads an answer of `users.getProfile`.
///
/// # Errors
/// The answer is no profile.
pub fn profile(body: &[u8]) -> Result<Profile, String> {
    let answer = object(body)?;
    Ok(Profile {
        mailbox: mailbox(&answer),
        history_id: number(&answer, "/historyId").ok_or("a profile without `historyId`")?,
    })
}

/// That a mailbox is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// How far the history of the mailbox has come.
    pub history_id: u64,
    /// Until when it is watched: for some seven days.
    pub until: DateTime<Utc>,
}

/// Reads an answer of `users.watch`.
///
/// # Errors
/// The answer does not say that anything is watched.
pub fn watch(body: &[u8]) -> Result<Watch, String> {
    let answer = object(body)?;
    let until = number(&answer, "/expiration").and_then(|until| i64::try_from(until).ok());
    let until = until.and_then(DateTime::from_timestamp_millis);
    let until = until.filter(|until| until.timestamp() <= LATEST);
    Ok(Watch {
        history_id: number(&answer, "/historyId").ok_or("a watch without `historyId`")?,
        until: until.ok_or("a watch without `expiration`")?,
    })
}

/// Reads where a list goes on. What cannot be read must not end it: the rest would be lost.
fn next_page(answer: &Value) -> Result<Option<String>, String> {
    let token = match answer.get("nextPageToken") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(token)) => token.clone(),
        Some(Value::Number(token)) => token.to_string(),
        Some(_) => return Err("`nextPageToken` is no text".to_owned()),
    };
    if token.len() > MAX_PAGE_TOKEN_BYTES {
        return Err(format!(
            "`nextPageToken` has more than {MAX_PAGE_TOKEN_BYTES} bytes"
        ));
    }
    Ok(Some(token).filter(|token| !token.is_empty()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LIST: &[u8] = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/samples/gmail/04_history_list.json"
    ));
    const WATCH: &[u8] = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/samples/gmail/08_watch_response.json"
    ));

    fn told(history: &Value) -> History {
        let answer = json!({ "history": history, "historyId": "9" });
        read(answer.to_string().as_bytes()).unwrap()
    }

    fn message(id: &str, labels: &[&str]) -> Value {
        json!({"message": {"id": id, "threadId": "t", "labelIds": labels}})
    }

    fn labelled(id: &str, all: &[&str], new: &[&str]) -> Value {
        let mut change = message(id, all);
        change["labelIds"] = json!(new);
        change
    }

    fn ids(history: &History) -> Vec<&str> {
        history.added.iter().map(|added| &*added.id).collect()
    }

    #[test]
    fn the_sample_is_read() {
        let history = read(LIST).unwrap();
        assert_eq!(ids(&history), ["18e3a0000000001a", "18e3a0000000002b"]);
        let sent: Vec<bool> = history
            .added
            .iter()
            .map(|added| added.labels.is_sent())
            .collect();
        assert_eq!(sent, [false, true]);
        let mut added = history.added.iter();
        assert!(added.all(|added| added.thread_id == "18e3a0000000001a"));
        assert_eq!(history.history_id, Some(9_876_543_210));
        assert_eq!(history.next_page, None);
        let rest = (history.discarded.len(), history.deleted.len());
        assert_eq!((rest, history.unreadable), ((0, 0), 0));
    }

    #[test]
    fn each_message_is_told_once_and_unwanted_ones_are_not() {
        let history = told(&json!([
            {"id": "1", "messagesAdded": [message("a", &["INBOX"]), message("a", &["INBOX"]),
                                          message("draft", &["DRAFT"])]},
            {"id": "2", "messagesAdded": [message("spam", &["SPAM"]), message("trash", &["TRASH"]),
                                          message("b", &["SENT"])]},
            {"id": "3", "messagesAdded": [message("a", &["INBOX", "UNREAD"]),
                                          {"message": {"id": "archived"}}]},
        ]));
        assert_eq!(ids(&history), ["a", "b", "archived"]);
        assert_eq!(history.added[0].labels.names(), ["INBOX", "UNREAD"]);
        assert_eq!(history.added[2].thread_id, "archived");
        assert_eq!(history.discarded, Vec::<String>::new());
    }

    #[test]
    fn what_is_deleted_is_not_got() {
        let history = told(&json!([
            {"messagesAdded": [message("a", &["INBOX"])]},
            {"messagesDeleted": [message("a", &["INBOX"]), {"message": {"id": "b"}}]},
            {"messagesDeleted": [message("b", &[])]},
        ]));
        assert_eq!(ids(&history), Vec::<&str>::new());
        assert_eq!(history.deleted, ["a", "b"]);
    }

    #[test]
    fn labels_bring_in_and_discard() {
        let history = told(&json!([
            {"messagesAdded": [message("late", &["SPAM"])]},
            {"labelsAdded": [labelled("late", &["INBOX"], &["INBOX"])]},
            {"labelsAdded": [labelled("star", &["INBOX", "STARRED"], &["STARRED"])]},
            {"labelsAdded": [labelled("gone", &["TRASH"], &["TRASH"])]},
            {"labelsAdded": [labelled("back", &["SPAM"], &["SPAM"])]},
            {"labelsAdded": [labelled("back", &["INBOX"], &["INBOX"])]},
            {"messagesAdded": [message("short", &["INBOX"])]},
            {"labelsAdded": [{"message": {"id": "short"}, "labelIds": ["TRASH"]}]},
            {"labelsAdded": [labelled("draft", &["DRAFT", "INBOX"], &["INBOX"])]},
        ]));
        assert_eq!(ids(&history), ["late", "back"]);
        assert_eq!(history.discarded, ["gone", "short"]);
    }

    #[test]
    fn odd_entries_are_counted_and_passed_over() {
        let history = told(&json!([
            17, null, [],
            {"messagesAdded": "x", "labelsAdded": {}, "messagesDeleted": null},
            {"messagesAdded": [1, {}, {"message": {"id": "../x"}}, {"message": {"id": ""}},
                               {"message": {"id": "a", "labelIds": "SPAM"}}]},
            {"labelsAdded": [{}], "messagesDeleted": [{"message": 1}], "labelsRemoved": [{}]},
        ]));
        assert_eq!(ids(&history), ["a"]);
        assert_eq!(history.unreadable, 6);
        let none = read(b"{}").unwrap();
        assert_eq!(none, History::default());
        assert!(read(b"[]").is_err());
        assert!(read(b"<html>").is_err());
    }

    #[test]
    fn a_list_goes_on_or_cannot_be_read() {
        let next = |token: Value| {
            let answer = json!({ "nextPageToken": token }).to_string();
            read(answer.as_bytes()).map(|history| history.next_page)
        };
        assert_eq!(
            next(json!("09876543210")),
            Ok(Some("09876543210".to_owned()))
        );
        assert_eq!(next(json!(17)), Ok(Some("17".to_owned())));
        assert_eq!(next(Value::Null), Ok(None));
        assert_eq!(next(json!("")), Ok(None));
        assert!(next(json!({"a": "secret"})).is_err());
        assert!(next(json!("x".repeat(4097))).is_err());
    }

    #[test]
    fn messages_are_listed_once() {
        let answer = json!({"messages": [{"id": "a", "threadId": "a"}, {"id": "b"}, {"id": "a"},
                                         {"id": "/"}, 1], "nextPageToken": "p",
                            "resultSizeEstimate": 201});
        let page = messages(answer.to_string().as_bytes()).unwrap();
        assert_eq!(page.ids, ["a", "b"]);
        assert_eq!(page.next_page.as_deref(), Some("p"));
        let none = messages(br#"{"resultSizeEstimate":0}"#).unwrap();
        assert_eq!((none.ids.len(), none.next_page), (0, None));
    }

    #[test]
    fn a_profile_and_a_watch_are_read() {
        let answer = br#"{"emailAddress":"Desk@Northwind.example","messagesTotal":1,
                          "historyId":"9876543210"}"#;
        let read = profile(answer).unwrap();
        assert_eq!(read.mailbox.as_deref(), Some("desk@northwind.example"));
        assert_eq!(read.history_id, 9_876_543_210);
        assert!(profile(br#"{"emailAddress":"a@b"}"#).is_err());
        let read = watch(WATCH).unwrap();
        assert_eq!(read.history_id, 9_876_543_000);
        assert_eq!(read.until.timestamp_millis(), 1_774_084_800_000);
        assert!(watch(br#"{"historyId":1,"expiration":1774084800000}"#).is_ok());
        for wrong in [
            r#"{"historyId":"1"}"#,
            r#"{"expiration":"1774084800000"}"#,
            r#"{"historyId":"1","expiration":"-1"}"#,
            r#"{"historyId":"1","expiration":"18446744073709551615"}"#,
            r#"{"historyId":"1","expiration":"253402300800000"}"#,
        ] {
            assert!(watch(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
