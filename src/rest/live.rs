//! A call that streams its answer, read by WebSocket: each message of the stream is a text message.
//!
//! It is the same call through the same checks as by gRPC. A browser cannot set headers here, so it
//! sends its token as a protocol that it offers, `bearer.<token>`, and not in the address, which
//! ends up in logs. No cookie speaks for anybody, so a page of any origin may connect that has a
//! token; where calls need none, the checks look at the origin as they do for every call.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderValue, StatusCode};
use prost_reflect::{DynamicMessage, MessageDescriptor};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tonic::Status;
use tonic::body::Body;
use tonic::codec::Streaming;

use super::refusal::code_and_reason;
use super::write::Written;
use crate::codec::DynamicCodec;
use crate::error::Error;
use crate::server::Lasting;

/// What is spoken.
const PROTOCOL: &str = "communication.v1.events";
/// Begins the protocol that is a token.
const BEARER: &str = "bearer.";
/// The most bytes that a message of the client may have. None of them means anything.
const MOST_BYTES: usize = 4096;
/// How often the client is asked whether it is there; the port closes what shows no sign for long.
const PING: Duration = Duration::from_secs(20);
/// How long a client may take to answer that it is closed.
const CLOSING: Duration = Duration::from_secs(5);
/// What the codes of errors begin with; the HTTP status is behind it.
const ERROR: u16 = 4000;

/// The credentials among the protocols that a client offers.
pub fn credentials(headers: &HeaderMap) -> Vec<HeaderValue> {
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let offered = offered.filter_map(|offered| offered.to_str().ok());
    let tokens = offered
        .flat_map(|offered| offered.split(','))
        .filter_map(|protocol| protocol.trim().strip_prefix(BEARER));
    tokens
        .filter_map(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok())
        .collect()
}

/// Agrees on the protocol, and bounds what the client can have us keep.
pub fn bounded(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .protocols([PROTOCOL])
        .max_message_size(MOST_BYTES)
        .max_frame_size(MOST_BYTES)
        .read_buffer_size(MOST_BYTES)
        .write_buffer_size(0)
}

/// The messages of a call's answer.
pub struct Frames(Streaming<DynamicMessage>);

impl Frames {
    /// Reads an answer.
    pub fn new(descriptor: MessageDescriptor, answer: Body) -> Self {
        let most = Some(usize::MAX);
        let frames = Streaming::new_response(
            DynamicCodec::new(descriptor),
            answer,
            StatusCode::OK,
            None,
            most,
        );
        Self(frames)
    }
}

/// Sends the messages of an answer until it ends, the client goes, or the connection has to.
pub async fn talk(
    socket: WebSocket,
    frames: Frames,
    mut lasting: Lasting,
    _place: OwnedSemaphorePermit,
) {
    let (mut speaker, mut listener) = socket.split();
    let ended = tokio::select! {
        () = lasting.ended() => return,
        ended = speak(&mut speaker, frames) => ended,
        ended = listen(&mut listener) => ended,
    };
    let closing = async {
        if let Some(frame) = ended {
            let _ = speaker.send(Message::Close(Some(frame))).await;
        }
        // What is left is the client's answer, and ours to a client that closes.
        while let Some(Ok(_)) = listener.next().await {}
    };
    tokio::select! {
        () = lasting.ended() => {}
        _ = timeout(CLOSING, closing) => {}
    }
}

/// Sends one message after the other, each when the one before it is gone; returns with what it
/// has to be closed, unless the client is gone.
async fn speak(
    speaker: &mut SplitSink<WebSocket, Message>,
    Frames(mut frames): Frames,
) -> Option<CloseFrame> {
    let mut ping = interval_at(Instant::now() + PING, PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = tokio::select! {
            next = frames.message() => next,
            _ = ping.tick() => {
                speaker.send(Message::Ping(Bytes::new())).await.ok()?;
                continue;
            }
        };
        let text = match next {
            Ok(Some(frame)) => serde_json::to_string(&Written(&frame)).map_err(Error::internal),
            Ok(None) => return Some(close(close_code::AWAY, "the server stops")),
            Err(status) => return Some(closed_by(&status)),
        };
        match text {
            Ok(text) => speaker.send(Message::Text(text.into())).await.ok()?,
            Err(error) => return Some(closed_by(&error.into())),
        }
    }
}

/// Reads what the client sends, and answers it where the protocol says so; returns with what it
/// has to be closed, unless the client did that.
async fn listen(listener: &mut SplitStream<WebSocket>) -> Option<CloseFrame> {
    while let Some(message) = listener.next().await {
        match message {
            Ok(Message::Close(_)) => return None,
            Ok(_) => {}
            Err(_) => {
                return Some(close(
                    close_code::POLICY,
                    "messages have 4096 bytes at most",
                ));
            }
        }
    }
    None
}

fn closed_by(status: &Status) -> CloseFrame {
    let (code, reason) = code_and_reason(status);
    close(ERROR + code, &reason)
}

fn close(code: u16, reason: &str) -> CloseFrame {
    CloseFrame {
        code,
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_among_the_protocols() {
        let with = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(line));
            }
            credentials(&headers)
        };
        assert!(with(&[]).is_empty());
        assert!(with(&["communication.v1.events"]).is_empty());
        let token = "communication.v1.events, bearer.ey.J-_.x";
        assert_eq!(with(&[token]), ["Bearer ey.J-_.x"]);
        // Two are found, and refused by whoever looks for the sole one.
        assert_eq!(with(&[token, "bearer.other"]).len(), 2);
    }
}
