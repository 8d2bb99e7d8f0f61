//! The real stack on free ports, over one PostgreSQL that all tests share.

mod calls;
mod certificates;
mod credentials;
mod dynamic;
mod file_host;
mod nats;
mod postgres;
mod provider;
mod refusal;
mod relay;
mod rest;
mod server;
mod service;
mod tables;
mod tenant;
mod whatsapp;
mod widget;

pub use calls::{Filled, Named, method};
pub use certificates::Certificates;
pub use credentials::{Keys, bearer, ed_header, now};
pub use dynamic::{Field, Method, call_raw};
pub use file_host::{FileHost, Told};
pub use nats::Nats;
pub use postgres::{admin, connect, content, database_url, folder};
pub use provider::{PUBLIC_URL, Provider, SECRET, Signed, sign_at, sign_form, sign_inside};
pub use refusal::Refusal;
pub use relay::Relay;
pub use rest::{Binding, camel, canonical, short};
pub use server::{Answer, TestServer, exchange, http, http_get};
pub use service::{Folder, Service, durable};
pub use tables::{MAILBOX_IS_FREE, Tables};
pub use tenant::TestTenant;
pub use whatsapp::{ACCESS_TOKEN, APP_SECRET, Whatsapp, sample, sign, unsupported};
pub use widget::{
    Browser, IDENTITY_SECRET, ORIGIN, Widget, parsed, patient_server, refused, text, user_hash,
    web_sample,
};

use std::time::{Duration, Instant};

use communication_service::pb::{Actor, Event, Message, actor};
use prost::Message as _;
use prost::bytes::Bytes;
use tonic::Status;
use tonic_types::StatusExt as _;

/// A server, and a tenant of it.
pub async fn tenant() -> (TestServer, TestTenant) {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    (server, tenant)
}

/// A user, as who acts.
pub fn user(id: &str) -> Option<Actor> {
    Some(Actor {
        kind: Some(actor::Kind::UserId(id.to_owned())),
    })
}

/// What a refusal says: its code, its reason, and the fields it names.
pub fn refusal<T: std::fmt::Debug>(
    answer: Result<tonic::Response<T>, Status>,
) -> (tonic::Code, String, Vec<String>) {
    let status = answer.expect_err("a refusal");
    let details = status.get_error_details();
    let reason = details
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default();
    let fields = details
        .bad_request()
        .map(|bad| {
            bad.field_violations
                .iter()
                .map(|violation| violation.field.clone())
                .collect()
        })
        .unwrap_or_default();
    (status.code(), reason, fields)
}

/// The events of a batch.
pub fn decoded(events: &[Bytes]) -> Vec<Event> {
    let events = events.iter().cloned();
    events.map(|event| Event::decode(event).unwrap()).collect()
}

/// Waits until a condition holds, for ten seconds at most.
pub async fn eventually<F: AsyncFnMut() -> bool>(what: &str, holds: F) {
    within(Duration::from_secs(10), what, holds).await;
}

/// Waits until a condition holds, for so long at most.
pub async fn within<F: AsyncFnMut() -> bool>(limit: Duration, what: &str, mut holds: F) {
    let deadline = Instant::now() + limit;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What the metadata of a message has at a path; null where there is nothing.
pub fn metadata(message: &Message, path: &str) -> serde_json::Value {
    let metadata = json_of(message.metadata.as_ref().unwrap());
    metadata.pointer(path).cloned().unwrap_or_default()
}

/// Free data as JSON.
pub fn json_of(object: &prost_types::Struct) -> serde_json::Value {
    let fields = object.fields.iter();
    fields
        .map(|(key, value)| (key.clone(), json_of_value(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn json_of_value(value: &prost_types::Value) -> serde_json::Value {
    use prost_types::value::Kind;
    match value.kind.as_ref().unwrap() {
        Kind::NullValue(_) => serde_json::Value::Null,
        Kind::NumberValue(number) => serde_json::json!(number),
        Kind::StringValue(text) => serde_json::json!(text),
        Kind::BoolValue(is) => serde_json::json!(is),
        Kind::StructValue(fields) => json_of(fields),
        Kind::ListValue(list) => list.values.iter().map(json_of_value).collect(),
    }
}
