//! What a visitor's browser hears where something cannot be done.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::error::{Chain, Error, InvalidRequest, Precondition};

/// Marks an answer that no page may read.
#[derive(Debug, Clone, Copy)]
pub struct Unheard;

/// Why a call is refused.
#[derive(Debug)]
pub enum Refusal {
    /// A field, or the whole where its name is empty, cannot be what it is.
    Invalid {
        /// Which field.
        field: String,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// There is no session, or none of ours.
    NoSession,
    /// The session has ended: a new one has to be opened.
    SessionOver,
    /// The page could not prove its user.
    NotProved,
    /// The widget has no secret that a user could be proved by.
    NoIdentities,
    /// Only users write here.
    IdentityRequired,
    /// The page may not call, and hears nothing more.
    Origin,
    /// There is no such widget, or it is closed for now.
    Widget,
    /// There is nothing like that, or it is another visitor's.
    NotFound {
        /// Which field names it.
        field: &'static str,
    },
    /// The file is of another message already.
    UploadUsed,
    /// More than may be sent at once.
    TooLarge,
    /// The body is of another kind.
    ContentType,
    /// Too often.
    TooOften(Duration),
    /// Not just now, whoever asks.
    Unavailable,
    /// A fault of ours.
    Internal,
}

impl Refusal {
    /// A field that cannot be what it is.
    pub fn invalid(field: &str, message: &str) -> Self {
        Self::Invalid {
            field: field.to_owned(),
            message: message.to_owned(),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Invalid { .. } => StatusCode::BAD_REQUEST,
            Self::NoSession | Self::SessionOver | Self::NotProved => StatusCode::UNAUTHORIZED,
            Self::NoIdentities | Self::IdentityRequired | Self::Origin | Self::Widget => {
                StatusCode::FORBIDDEN
            }
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::UploadUsed => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooOften(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The word for programs, and those for people.
    fn words(&self) -> (&'static str, &str) {
        match self {
            Self::Invalid { message, .. } => ("invalid", message),
            Self::NoSession => (
                "session_required",
                "open a session, and send its `session_token` as a Bearer token",
            ),
            Self::SessionOver => ("session_over", "the session is over: open a new one"),
            Self::NotProved => (
                "identity_not_proved",
                "is not the hexadecimal HMAC-SHA256 of `user_id` by the widget's identity secret",
            ),
            Self::NoIdentities => (
                "identity_not_configured",
                "this widget has no identity secret: nobody can be identified",
            ),
            Self::IdentityRequired => (
                "identity_required",
                "this widget is for users of the page: identify first",
            ),
            Self::Origin => ("origin_not_allowed", "this page may not use the widget"),
            Self::Widget => ("widget_unavailable", "there is no such widget just now"),
            Self::NotFound { .. } => ("not_found", "there is nothing of that id"),
            Self::UploadUsed => ("upload_used", "is of another message already"),
            Self::TooLarge => ("too_large", "has more bytes than may be sent at once"),
            Self::ContentType => (
                "content_type",
                "the content type must be `application/json`, or of a file, its own",
            ),
            Self::TooOften(_) => ("too_often", "too often: wait as `Retry-After` says"),
            Self::Unavailable => ("unavailable", "not just now: try again"),
            Self::Internal => ("internal", "a fault of the server"),
        }
    }

    fn field(&self) -> &str {
        match self {
            Self::Invalid { field, .. } => field,
            Self::NotFound { field } => field,
            Self::NotProved => "user_hash",
            Self::UploadUsed => "upload_id",
            _ => "",
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (code, message) = self.words();
        let body = json!({"error": {"code": code, "message": message, "field": self.field()}});
        let status = self.status();
        let mut response = (status, body.to_string()).into_response();
        if matches!(self, Self::Origin) {
            response.extensions_mut().insert(Unheard);
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let wait = match self {
            Self::TooOften(wait) => wait.as_secs() + u64::from(wait.subsec_nanos() > 0),
            Self::Unavailable => 1,
            _ => 0,
        };
        if wait > 0 {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait));
        }
        response
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidArgument(violations) => match violations.into_iter().next() {
                Some(first) => Self::Invalid {
                    field: first.field,
                    message: first.description,
                },
                None => Self::Internal,
            },
            Error::InvalidRequest(InvalidRequest::TooLarge) => Self::TooLarge,
            Error::NotFound { kind, .. } => match kind {
                // Of another tenant's making by now: for a visitor it was never there.
                "tenant" | "channel_account" => Self::Widget,
                "upload" => Self::NotFound { field: "upload_id" },
                "conversation" => Self::NotFound {
                    field: "conversation_id",
                },
                _ => Self::NotFound { field: "" },
            },
            Error::FailedPrecondition(precondition) => match precondition {
                Precondition::TenantSuspended(_) | Precondition::TenantDeleted(_) => Self::Widget,
                Precondition::AttachmentInUse(_) => Self::UploadUsed,
                Precondition::TenantNotReady(_) | Precondition::TenantNotMigrated { .. } => {
                    Self::Unavailable
                }
                other => fault(&Error::FailedPrecondition(other)),
            },
            Error::Aborted(_)
            | Error::ResourceExhausted { .. }
            | Error::TooManyCalls
            | Error::Draining
            | Error::DeadlineExceeded
            | Error::Cancelled => Self::Unavailable,
            error @ (Error::Unavailable(_) | Error::FilesUnavailable(_)) => {
                fault(&error);
                Self::Unavailable
            }
            error => fault(&error),
        }
    }
}

/// Writes what no visitor can do anything about to the log.
fn fault(error: &Error) -> Refusal {
    tracing::error!(error = %Chain(error), "a visitor's call failed");
    Refusal::Internal
}
