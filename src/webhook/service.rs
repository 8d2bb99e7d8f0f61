//! The routes that providers call.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::BytesMut;
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::Value;
use tracing::Instrument as _;
use uuid::Uuid;

use super::verified::verify;
use super::webhooks::Webhooks;
use crate::call::{CORRELATION, correlation_id};
use crate::channel::Channel;
use crate::error::{Chain, Error};
use crate::ids::AppId;
use crate::provider::meta;

/// The most that a webhook may have, in bytes.
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
/// How long a provider may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the database may take to name the apps, and again to keep a delivery.
const KEEP_TIMEOUT: Duration = Duration::from_secs(2);
/// The headers that are kept with a delivery.
const KEPT_HEADERS: [&str; 4] = [
    "content-type",
    "user-agent",
    "x-hub-signature-256",
    "x-request-id",
];

/// The routes: `/webhooks/{channel}` for the apps of the deployment, `/webhooks/{channel}/{key}`
/// for one app.
pub fn routes(webhooks: Webhooks) -> Router {
    let methods = || get(subscribe).post(receive);
    Router::new()
        .route("/webhooks/{channel}", methods())
        .route("/webhooks/{channel}/{key}", methods())
        .with_state(webhooks)
}

#[derive(Deserialize)]
struct Address {
    channel: String,
    key: Option<String>,
}

impl Address {
    /// The app that the address names; an error where the address is none.
    fn key(&self) -> Result<Option<AppId>, Refusal> {
        if self.channel != Channel::Whatsapp.as_str() {
            return Err(Refusal::NotFound);
        }
        let key = self.key.as_deref().map(Uuid::try_parse);
        // A key that cannot be one is answered like one that is not.
        Ok(key.transpose().map_err(|_| Refusal::Forbidden)?.map(AppId))
    }
}

/// What proves a subscription, as Meta sends it.
#[derive(Deserialize)]
struct Subscription {
    #[serde(rename = "hub.mode", default)]
    mode: String,
    #[serde(rename = "hub.challenge", default)]
    challenge: String,
    #[serde(rename = "hub.verify_token", default)]
    token: String,
}

/// Why a webhook is not taken.
enum Refusal {
    NotFound,
    Forbidden,
    TooLarge,
    TooSlow,
    Unavailable,
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        let (status, word) = match refusal {
            Refusal::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Refusal::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
            Refusal::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Refusal::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too_slow"),
            Refusal::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        };
        count(word);
        match refusal {
            Refusal::Unavailable => (status, [(RETRY_AFTER, "1")]).into_response(),
            _ => status.into_response(),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        // Whatever it is, the provider shall send it again.
        tracing::error!(error = %Chain(&error), "a webhook could not be taken");
        Self::Unavailable
    }
}

async fn subscribe(
    State(webhooks): State<Webhooks>,
    Path(address): Path<Address>,
    Query(subscription): Query<Subscription>,
) -> Response {
    let known = async {
        let apps = webhooks.apps(address.key()?).await?;
        let is_ours = subscription.mode == "subscribe"
            && apps
                .iter()
                .any(|app| meta::is_token(&app.secrets.verify_token, &subscription.token));
        if is_ours {
            Ok(())
        } else {
            Err(Refusal::Forbidden)
        }
    };
    match known.await {
        Ok(()) => {
            let headers = [
                (CONTENT_TYPE, "text/plain; charset=utf-8"),
                (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (headers, subscription.challenge).into_response()
        }
        Err(refusal) => refusal.into(),
    }
}

async fn receive(
    State(webhooks): State<Webhooks>,
    Path(address): Path<Address>,
    request: Request,
) -> Response {
    let id = correlation_id(request.headers());
    let span = tracing::error_span!("webhook", correlation_id = %id);
    let taken = take(&webhooks, &address, request, &id).instrument(span);
    let mut response = match taken.await {
        Ok(()) => {
            count("taken");
            StatusCode::OK.into_response()
        }
        Err(refusal) => refusal.into(),
    };
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(CORRELATION, id);
    }
    response
}

async fn take(
    webhooks: &Webhooks,
    address: &Address,
    request: Request,
    id: &str,
) -> Result<(), Refusal> {
    let key = address.key()?;
    let (parts, body) = request.into_parts();
    // A stranger's body is not even read.
    if meta::signature(&parts.headers).is_none() {
        return Err(Refusal::Forbidden);
    }
    let apps = in_time(webhooks.apps(key)).await?;
    if apps.is_empty() {
        return Err(Refusal::Forbidden);
    }
    let body = read(webhooks, &parts.headers, body).await?;
    let body = verify(&apps, &parts.headers, body).ok_or(Refusal::Forbidden)?;
    let headers = kept_headers(&parts.headers);
    in_time(webhooks.take(Channel::Whatsapp, &headers, body, id.to_owned())).await
}

async fn in_time<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Refusal> {
    match tokio::time::timeout(KEEP_TIMEOUT, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Refusal::Unavailable),
    }
}

async fn read(
    webhooks: &Webhooks,
    headers: &HeaderMap,
    body: Body,
) -> Result<bytes::Bytes, Refusal> {
    // Said beforehand, it need not be sent to be refused.
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > MAX_BODY_BYTES) {
        return Err(Refusal::TooLarge);
    }
    let reading = async {
        let mut whole = BytesMut::new();
        let mut room = webhooks.room_to_read(0).ok_or(Refusal::Unavailable)?;
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            // Who does not send to the end hears no answer.
            let piece = piece.map_err(|_| Refusal::TooSlow)?;
            if whole.len() + piece.len() > MAX_BODY_BYTES {
                return Err(Refusal::TooLarge);
            }
            // Room goes to who has sent something, not to who says that they will.
            room.merge(
                webhooks
                    .room_to_read(piece.len())
                    .ok_or(Refusal::Unavailable)?,
            );
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    };
    let read = tokio::time::timeout(BODY_TIMEOUT, reading).await;
    read.map_err(|_| Refusal::TooSlow)?
}

fn kept_headers(headers: &HeaderMap) -> Value {
    let kept = KEPT_HEADERS.iter().filter_map(|name| {
        let value = headers.get(*name)?.to_str().ok()?;
        Some(((*name).to_owned(), Value::from(value)))
    });
    Value::Object(kept.collect())
}

fn count(outcome: &'static str) {
    let channel = Channel::Whatsapp.as_str();
    metrics::counter!("webhook_deliveries_total", "channel" => channel, "outcome" => outcome)
        .increment(1);
}
