//! What Pub/Sub pushes: that something has changed in a mailbox, and not what.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::answer::number;
use crate::provider::email::transfer;
use crate::provider::lenient::{self, id, text, time};

/// A push of Gmail's has some 400 bytes.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// A push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// The address of the mailbox, lower-cased.
    pub mailbox: String,
    /// How far the history of the mailbox has come. Nothing can be read from here on: pushes are
    /// dropped, and come late.
    pub history_id: u64,
    /// Pub/Sub's id of the push, which is the same when it comes again.
    pub message_id: Option<String>,
    /// The name of the subscription that pushes: `projects/…/subscriptions/…`.
    pub subscription: String,
    /// When it was published.
    pub at: Option<DateTime<Utc>>,
}

/// Reads a push.
///
/// # Errors
/// The body is none of Pub/Sub, or not about a mailbox; the words quote nothing of it.
pub fn read(body: &[u8]) -> Result<Push, String> {
    if body.len() > MAX_BODY_BYTES {
        return Err(format!("the push has more than {MAX_BODY_BYTES} bytes"));
    }
    let body = lenient::json(body)?;
    let either = |paths: [&str; 2]| paths.into_iter().find_map(|path| id(&body, path));
    let subscription = id(&body, "/subscription").ok_or("a push without `subscription`")?;
    let data = text(&body, "/message/data");
    if data.is_empty() {
        return Err("a push without `message.data`".to_owned());
    }
    let data = lenient::json(&transfer::base64(data.as_bytes()))
        .map_err(|_| "the data of the push is no JSON")?;
    let times = ["/message/publishTime", "/message/publish_time"];
    Ok(Push {
        mailbox: mailbox(&data).ok_or("a push without `emailAddress`")?,
        history_id: number(&data, "/historyId").ok_or("a push without `historyId`")?,
        message_id: either(["/message/messageId", "/message/message_id"]),
        subscription,
        at: times.into_iter().find_map(|path| time(&body, path)),
    })
}

/// The address of a mailbox, lower-cased.
pub(super) fn mailbox(value: &Value) -> Option<String> {
    let address = text(value, "/emailAddress").trim().to_lowercase();
    lenient::identifier(&address)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::{
        BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD,
    };
    use serde_json::json;

    use super::*;

    const FIRST: &[u8] = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/samples/gmail/01_push.json"
    ));
    const AGAIN: &[u8] = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/samples/gmail/02_push_same_again.json"
    ));
    const OLDER: &[u8] = include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/samples/gmail/03_push_older.json"
    ));

    fn read_data(data: &str) -> Result<Push, String> {
        let body = json!({"message": {"data": data}, "subscription": "projects/a/subscriptions/b"});
        read(body.to_string().as_bytes())
    }

    #[test]
    fn the_samples_are_read() {
        let first = read(FIRST).unwrap();
        let expected = Push {
            mailbox: "desk@northwind.example".to_owned(),
            history_id: 9_876_543_210,
            message_id: Some("2070443601311540".to_owned()),
            subscription: "projects/inbox-samples/subscriptions/gmail-push".to_owned(),
            at: Some("2026-03-14T09:20:00.123Z".parse().unwrap()),
        };
        assert_eq!(first, expected);
        assert_eq!(read(AGAIN).unwrap(), first);
        let older = read(OLDER).unwrap();
        assert_eq!(older.message_id.as_deref(), Some("2070443601311499"));
        assert_eq!(older.history_id, 9_876_543_100);
    }

    #[test]
    fn data_is_base64_of_any_flavour() {
        // Such that both digits which the alphabets write differently occur, and padding.
        let data = r#"{"emailAddress":" Dés>k?~@Northwind.Example","historyId":"17","x":"??>>~~"}"#;
        let standard = BASE64_STANDARD.encode(data);
        assert!(standard.contains('+') && standard.contains('/') && standard.ends_with('='));
        let flavours = [
            standard,
            BASE64_STANDARD_NO_PAD.encode(data),
            BASE64_URL_SAFE.encode(data),
            BASE64_URL_SAFE_NO_PAD.encode(data),
        ];
        for flavour in flavours {
            let push = read_data(&flavour).unwrap();
            assert_eq!(push.mailbox, "dés>k?~@northwind.example");
            assert_eq!(push.history_id, 17);
            assert_eq!((push.message_id, push.at), (None, None));
        }
    }

    #[test]
    fn names_may_be_in_snake_case() {
        let data = BASE64_STANDARD.encode(r#"{"emailAddress":"a@b","historyId":1}"#);
        let body = json!({
            "message": {"data": data, "message_id": 17, "publish_time": "2026-03-14T09:20:00Z",
                        "attributes": {"x": "y"}},
            "subscription": "s", "deliveryAttempt": 5,
        });
        let push = read(body.to_string().as_bytes()).unwrap();
        assert_eq!(push.message_id.as_deref(), Some("17"));
    }

    #[test]
    fn what_is_no_push_is_told_of_without_its_content() {
        let encode = |data: &str| BASE64_STANDARD.encode(data);
        for (data, why) in [
            ("", "a push without `message.data`"),
            ("!!!", "the data of the push is no JSON"),
            (&encode("secret"), "the data of the push is no JSON"),
            (&encode("[1]"), "a push without `emailAddress`"),
            (
                &encode(r#"{"emailAddress":"\u0020","historyId":1}"#),
                "a push without `emailAddress`",
            ),
            (
                &encode(r#"{"emailAddress":["secret@x"],"historyId":1}"#),
                "a push without `emailAddress`",
            ),
            (
                &encode(r#"{"emailAddress":"secret@x"}"#),
                "a push without `historyId`",
            ),
            (
                &encode(r#"{"emailAddress":"secret@x","historyId":-1}"#),
                "a push without `historyId`",
            ),
        ] {
            assert_eq!(read_data(data).unwrap_err(), why, "{data}");
        }
        assert_eq!(read(b"{}").unwrap_err(), "a push without `subscription`");
        assert_eq!(read(b"17").unwrap_err(), "a push without `subscription`");
        let why = read(br#"{"message":secret}"#).unwrap_err();
        assert!(why.starts_with("the body is no JSON") && !why.contains("secret"));
        let long = [FIRST, &vec![b' '; MAX_BODY_BYTES]].concat();
        assert!(read(&long).is_err());
    }
}
