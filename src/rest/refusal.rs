//! Refusals as JSON: the form of AIP-193, and the HTTP status of each code.

use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Value as Json, json};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The JSON of every answer.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

#[derive(Serialize)]
struct Body<'a> {
    error: Refused<'a>,
}

#[derive(Serialize)]
struct Refused<'a> {
    code: u16,
    message: &'a str,
    status: &'static str,
    details: Vec<Json>,
}

/// The HTTP status of a refusal, and its reason.
pub fn code_and_reason(status: &Status) -> (u16, String) {
    let info = status.get_details_error_info();
    let reason = info.map(|info| info.reason).unwrap_or_default();
    (http_status(status.code(), &reason), reason)
}

/// Writes a refusal.
pub fn refusal(status: &Status) -> Response {
    let details = status.get_error_details();
    let (code, _) = code_and_reason(status);
    let body = Body {
        error: Refused {
            code,
            message: status.message(),
            status: name(status.code()),
            details: written(&details),
        },
    };
    let body = serde_json::to_string(&body).unwrap_or_default();
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (code, body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    if let Some(delay) = retry_delay(&details) {
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if code == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// The HTTP status of a code; of some reasons, one that says more.
fn http_status(code: Code, reason: &str) -> u16 {
    match (code, reason) {
        (Code::InvalidArgument, "REQUEST_TOO_LARGE") => 413,
        (Code::InvalidArgument, "CONTENT_TYPE_UNSUPPORTED") => 415,
        (Code::Unimplemented, "METHOD_NOT_ALLOWED") => 405,
        (code, _) => row(code).0,
    }
}

/// The name of a code.
fn name(code: Code) -> &'static str {
    row(code).1
}

/// The HTTP status and the name of each code, as `google.rpc.Code` has them.
const fn row(code: Code) -> (u16, &'static str) {
    match code {
        Code::Ok => (200, "OK"),
        Code::Cancelled => (499, "CANCELLED"),
        Code::Unknown => (500, "UNKNOWN"),
        Code::InvalidArgument => (400, "INVALID_ARGUMENT"),
        Code::DeadlineExceeded => (504, "DEADLINE_EXCEEDED"),
        Code::NotFound => (404, "NOT_FOUND"),
        Code::AlreadyExists => (409, "ALREADY_EXISTS"),
        Code::PermissionDenied => (403, "PERMISSION_DENIED"),
        Code::ResourceExhausted => (429, "RESOURCE_EXHAUSTED"),
        Code::FailedPrecondition => (400, "FAILED_PRECONDITION"),
        Code::Aborted => (409, "ABORTED"),
        Code::OutOfRange => (400, "OUT_OF_RANGE"),
        Code::Unimplemented => (501, "UNIMPLEMENTED"),
        Code::Internal => (500, "INTERNAL"),
        Code::Unavailable => (503, "UNAVAILABLE"),
        Code::DataLoss => (500, "DATA_LOSS"),
        Code::Unauthenticated => (401, "UNAUTHENTICATED"),
    }
}

fn retry_delay(details: &ErrorDetails) -> Option<Duration> {
    details.retry_info()?.retry_delay
}

/// The details that our errors carry, by the proto's own names of fields.
fn written(details: &ErrorDetails) -> Vec<Json> {
    let typed = |name: &str, mut detail: Json| {
        detail["@type"] = format!("type.googleapis.com/google.rpc.{name}").into();
        detail
    };
    let info = details.error_info().map(|info| {
        let detail = json!({
            "reason": info.reason,
            "domain": info.domain,
            "metadata": info.metadata,
        });
        typed("ErrorInfo", detail)
    });
    let bad = details.bad_request().map(|bad| {
        let violations = bad.field_violations.iter().map(
            |violation| json!({"field": violation.field, "description": violation.description}),
        );
        let detail = json!({"field_violations": violations.collect::<Vec<_>>()});
        typed("BadRequest", detail)
    });
    let retry = retry_delay(details).map(|delay| {
        let detail = json!({"retry_delay": format!("{}s", delay.as_secs_f64())});
        typed("RetryInfo", detail)
    });
    let resource = details.resource_info().map(|resource| {
        let detail = json!({
            "resource_type": resource.resource_type,
            "resource_name": resource.resource_name,
            "owner": resource.owner,
            "description": resource.description,
        });
        typed("ResourceInfo", detail)
    });
    let debug = details.debug_info().map(|debug| {
        let detail = json!({"stack_entries": debug.stack_entries, "detail": debug.detail});
        typed("DebugInfo", detail)
    });
    [info, bad, retry, resource, debug]
        .into_iter()
        .flatten()
        .collect()
}
