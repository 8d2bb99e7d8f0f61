//! The routes that providers call.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{
    CONTENT_LENGTH, CONTENT_TYPE, EXPECT, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::BytesMut;
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::Value;
use tracing::Instrument as _;
use uuid::Uuid;

use super::new_delivery::NewDelivery;
use super::verified::{Unverified, may_be_signed, verify};
use super::webhooks::{KEEP_TIMEOUT, Webhooks};
use crate::call::{CORRELATION, correlation_id};
use crate::channel::Channel;
use crate::clock;
use crate::error::{Chain, Error};
use crate::provider::signature::{self, meta};
use crate::provider::twilio;
use crate::tenant::Provider;

/// How long a provider may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// How much more than too much is heard before the answer, in bytes, and how long.
const HEARD_OUT: (usize, Duration) = (64 * 1024 * 1024, Duration::from_secs(5));
/// What TwiML is.
const XML: &str = "text/xml; charset=utf-8";
/// The headers that are kept with a delivery.
const KEPT_HEADERS: [&str; 8] = [
    "content-type",
    "i-twilio-idempotency-token",
    "user-agent",
    "x-amz-sns-message-type",
    "x-hub-signature-256",
    "x-request-id",
    "x-webhook-request-id",
    "x-zendesk-webhook-invocation-id",
];

/// The most that a body of a channel may have, in bytes.
const fn most_bytes(channel: Channel) -> usize {
    const MIB: usize = 1024 * 1024;
    match channel {
        Channel::TwilioWhatsapp | Channel::TwilioCall | Channel::Web | Channel::Gmail => MIB,
        Channel::Zendesk => 2 * MIB,
        Channel::Whatsapp | Channel::Messenger | Channel::Instagram => 4 * MIB,
        // Media and attached files are in the bodies of these.
        Channel::PersonalWhatsapp => 25 * MIB,
        Channel::Email => 40 * MIB,
    }
}

/// What may stand behind the key, so that a provider can be given an address for each of its kinds
/// of webhooks. What a body is, it says itself.
const fn forms(channel: Channel) -> &'static [&'static str] {
    match channel {
        Channel::TwilioWhatsapp => &["message", "status"],
        Channel::TwilioCall => &[
            "voice",
            "gather",
            "dial",
            "status",
            "recording",
            "transcription",
            "amd",
        ],
        // Mailgun sends whole MIME where an address ends in `mime`.
        Channel::Email => &["inbound", "mime", "events"],
        Channel::Zendesk => &["events", "trigger", "conversations"],
        Channel::PersonalWhatsapp => &["waha", "evolution"],
        _ => &[],
    }
}

/// The routes: `/webhooks/{channel}` for the apps of the deployment, `/webhooks/{channel}/{key}` for
/// one app or account, and `/webhooks/{channel}/{key}/{form}` for one kind of its webhooks. Evolution
/// API can be told to add the name of each event to the address.
pub fn routes(webhooks: Webhooks) -> Router {
    let methods = || get(ask).post(receive);
    Router::new()
        .route("/webhooks/{channel}", methods())
        .route("/webhooks/{channel}/{key}", methods())
        .route("/webhooks/{channel}/{key}/{form}", methods())
        .route("/webhooks/{channel}/{key}/{form}/{event}", methods())
        .route(
            "/webhooks/twilio_call/{key}/fallback",
            get(fall_back).post(fall_back),
        )
        .with_state(webhooks)
}

#[derive(Deserialize)]
struct Address {
    channel: String,
    key: Option<String>,
    form: Option<String>,
    event: Option<String>,
}

impl Address {
    /// The channel; an error where webhooks are taken for none of that name.
    fn channel(&self) -> Result<Channel, Refusal> {
        let channel = Channel::from_word(&self.channel).ok_or(Refusal::NotFound)?;
        let is_event = |word: &String| channel == Channel::PersonalWhatsapp && is_event(word);
        let is_form = |form: &String| forms(channel).contains(&form.as_str()) || is_event(form);
        if Provider::of(channel).is_empty()
            || !self.form.as_ref().is_none_or(is_form)
            || !self.event.as_ref().is_none_or(is_event)
        {
            return Err(Refusal::NotFound);
        }
        Ok(channel)
    }

    /// The app or account that the address names; an error where the address is none.
    fn key(&self) -> Result<Option<Uuid>, Refusal> {
        let key = self.key.as_deref().map(Uuid::try_parse);
        // A key that cannot be one is answered like one that is not.
        key.transpose().map_err(|_| Refusal::Forbidden)
    }
}

/// Tells whether a word is the name of an event of Evolution API, as it stands in an address.
fn is_event(word: &str) -> bool {
    let letters = |letter: u8| letter.is_ascii_lowercase() || letter == b'-';
    word.len() <= 64 && word.contains('-') && word.bytes().all(letters)
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

impl Refusal {
    /// The word for it in metrics.
    const fn word(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Forbidden => "forbidden",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::Unavailable => "unavailable",
        }
    }
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::NotFound => StatusCode::NOT_FOUND,
            Refusal::Forbidden => StatusCode::FORBIDDEN,
            Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Refusal::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
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

/// Meta asks before it sends anything; Twilio may be set up to send all by GET.
async fn ask(
    State(webhooks): State<Webhooks>,
    Path(address): Path<Address>,
    request: Request,
) -> Response {
    if request.method() == Method::GET && address.channel().is_ok_and(sends_by_get) {
        return receive(State(webhooks), Path(address), request).await;
    }
    match Query::try_from_uri(request.uri()) {
        Ok(Query(subscription)) => subscribe(&webhooks, &address, subscription).await,
        Err(_) => refused(&address, Refusal::Forbidden),
    }
}

const fn sends_by_get(channel: Channel) -> bool {
    matches!(channel, Channel::TwilioWhatsapp | Channel::TwilioCall)
}

async fn subscribe(webhooks: &Webhooks, address: &Address, subscription: Subscription) -> Response {
    let known = async {
        let channel = address.channel()?;
        let apps = webhooks.apps(channel, address.key()?).await?;
        let of_meta = apps.iter().filter(|app| app.provider == Provider::Meta);
        let mut tokens = of_meta.map(|app| &app.secrets.verify_token);
        let is_ours = subscription.mode == "subscribe"
            && tokens.any(|token| meta::is_token(token, &subscription.token));
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
        Err(refusal) => refused(address, refusal),
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
        Ok((channel, response)) => {
            count(channel.as_str(), "taken");
            response
        }
        Err(refusal) => refused(&address, refusal),
    };
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(CORRELATION, id);
    }
    response
}

/// Counts a refusal, and answers with it.
fn refused(address: &Address, refusal: Refusal) -> Response {
    let channel = address.channel().map_or("none", Channel::as_str);
    count(channel, refusal.word());
    refusal.into()
}

async fn take(
    webhooks: &Webhooks,
    address: &Address,
    request: Request,
    id: &str,
) -> Result<(Channel, Response), Refusal> {
    let channel = address.channel()?;
    let key = address.key()?;
    let (parts, body) = request.into_parts();
    let apps = in_time(webhooks.apps(channel, key)).await?;
    // A stranger's body is not even read.
    if !apps.iter().any(|app| may_be_signed(app, &parts.headers)) {
        return Err(Refusal::Forbidden);
    }
    let body = read(webhooks, &parts.headers, body, most_bytes(channel)).await?;
    let certificate = in_time(webhooks.certificate(&apps, &body)).await?;
    let now = clock::now().timestamp();
    let urls = webhooks.urls(&parts.uri);
    let keys = webhooks.0.google.keys(&apps, &urls, &parts.headers, now);
    let keys = in_time(keys).await?;
    let query = (parts.method == Method::GET).then(|| {
        let query = parts.uri.query().unwrap_or_default();
        bytes::Bytes::copy_from_slice(query.as_bytes())
    });
    let sent = Unverified {
        urls: &urls,
        headers: &parts.headers,
        body,
        query: query.clone(),
        now,
        keys: keys.as_deref(),
        certificate: certificate.as_deref().map(Vec::as_slice),
    };
    let proved = verify(&apps, sent).ok_or(Refusal::Forbidden)?;
    if proved.is_test {
        return Ok((channel, StatusCode::OK.into_response()));
    }
    if let Some(token) = &proved.token
        && webhooks.is_used_by_another(token, &proved.body)
    {
        return Err(Refusal::Forbidden);
    }
    let new = NewDelivery {
        app: proved.app.clone(),
        channel,
        headers: kept_headers(&parts.headers, query.is_some()),
        body: proved.body,
        correlation_id: id.to_owned(),
    };
    // Twilio says to a caller that there is an error where it is answered anything else.
    let twiml = match channel {
        Channel::TwilioCall => Some(in_time(webhooks.twiml(&new)).await?),
        Channel::TwilioWhatsapp => Some("<Response/>".to_owned()),
        _ => None,
    };
    let kept = in_time(webhooks.take(new)).await;
    if let (Err(_), Some(token)) = (&kept, &proved.token) {
        // It is sent again, and the form need not have the same bytes then.
        webhooks.forget_token(token);
    }
    kept?;
    let response = match twiml {
        Some(twiml) => ([(CONTENT_TYPE, XML)], twiml).into_response(),
        None => StatusCode::OK.into_response(),
    };
    Ok((channel, response))
}

/// What Twilio's fallback address answers, which needs nothing of ours to be there: so it is also
/// for whoever asks.
async fn fall_back() -> Response {
    ([(CONTENT_TYPE, XML)], twilio::FALLBACK).into_response()
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
    most: usize,
) -> Result<bytes::Bytes, Refusal> {
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let mut pieces = body.into_data_stream();
    if length.is_some_and(|length| length > most) {
        // Who asks before they send it need not.
        if !headers.contains_key(EXPECT) {
            hear_out(&mut pieces).await;
        }
        return Err(Refusal::TooLarge);
    }
    let reading = async {
        let mut whole = BytesMut::new();
        let mut room = webhooks.room_to_read(0).ok_or(Refusal::Unavailable)?;
        while let Some(piece) = pieces.next().await {
            // Who does not send to the end hears no answer.
            let piece = piece.map_err(|_| Refusal::TooSlow)?;
            if whole.len() + piece.len() > most {
                drop((whole, room));
                hear_out(&mut pieces).await;
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

/// Lets who sends too much send the rest, up to a limit: a connection that is closed while there is
/// something unread takes the answer along.
async fn hear_out(pieces: &mut BodyDataStream) {
    let (mut left, limit) = HEARD_OUT;
    let hearing = async {
        while let Some(Ok(piece)) = pieces.next().await
            && left > piece.len()
        {
            left -= piece.len();
        }
    };
    // Whoever is slower hears no answer.
    let _ = tokio::time::timeout(limit, hearing).await;
}

fn kept_headers(headers: &HeaderMap, is_query: bool) -> Value {
    let kept = KEPT_HEADERS.iter().filter_map(|name| {
        let value = headers.get(*name)?.to_str().ok()?;
        Some(((*name).to_owned(), Value::from(value)))
    });
    let mut kept: serde_json::Map<_, _> = kept.collect();
    if is_query {
        kept.insert(
            CONTENT_TYPE.as_str().to_owned(),
            Value::from(signature::twilio::FORM),
        );
    }
    Value::Object(kept)
}

fn count(channel: &'static str, outcome: &'static str) {
    metrics::counter!("webhook_deliveries_total", "channel" => channel, "outcome" => outcome)
        .increment(1);
}
