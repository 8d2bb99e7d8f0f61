//! Every reader, fed with damaged samples: none panics.

use http::StatusCode;

use super::{Failure, history, message, push, token};
use crate::provider::signature::google::Keys;

const SAMPLES: [&[u8]; 9] = [
    include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/samples/gmail/01_push.json"
    )),
    include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/samples/gmail/04_history_list.json"
    )),
    include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/samples/gmail/06_message_raw.json"
    )),
    include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/samples/gmail/07_history_too_old.json"
    )),
    include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/samples/gmail/08_watch_response.json"
    )),
    include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/samples/gmail/09_push_attachment_bounce.json"
    )),
    include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/samples/gmail/keys/google_jwks.json"
    )),
    br#"{"error":{"code":429,"message":"Retry after 2026-03-14T10:00:00.000Z","details":[{}]}}"#,
    br#"{"access_token":"ya29.a0","expires_in":3599,"error":"invalid_grant"}"#,
];
/// What takes the place of a byte.
const BYTES: &[u8] = b"\"\\{}[]:,0-9.eunT\0\x7f\x80\xc3\xff \n";

fn read(body: &[u8]) {
    let _ = push::read(body);
    let _ = history::read(body);
    let _ = history::messages(body);
    let _ = history::profile(body);
    let _ = history::watch(body);
    let _ = message::read(body);
    let _ = token::read(body);
    let _ = Keys::read(body);
    let _ = Failure::of(StatusCode::FORBIDDEN, body, i64::MIN);
    let _ = Failure::of(StatusCode::TOO_MANY_REQUESTS, body, i64::MAX);
    let _ = Failure::of_token(StatusCode::BAD_REQUEST, body);
}

#[test]
fn damage_makes_no_reader_panic() {
    for sample in SAMPLES {
        for at in 0..sample.len() {
            let mut body = sample.to_vec();
            body[at] = BYTES[at % BYTES.len()];
            read(&body);
            body.remove(at);
            read(&body);
            body.truncate(at);
            read(&body);
        }
    }
    for unit in [
        "[",
        r#"{"message":"#,
        r#"{"error":"#,
        r#"{"history":["#,
        "\"",
        "\\u",
        "9",
    ] {
        read(unit.repeat(5_000).as_bytes());
    }
}
