//! What can go wrong, named by what it means to the caller, and how that goes onto the wire.

mod detail;
mod refusal;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use tonic::{Code, Status};
use tonic_types::{BadRequest, ErrorDetails, FieldViolation, StatusExt};

pub use refusal::Refusal;

/// The most that one request may have on the wire.
pub const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// The domain of every `ErrorInfo`.
const DOMAIN: &str = "communication.v1";

type Source = Box<dyn StdError + Send + Sync>;

/// A call that could not be done.
#[derive(Debug)]
pub enum Error {
    /// Fields that cannot have the values they have.
    InvalidArgument(Vec<Violation>),
    /// A request that is wrong as a whole.
    InvalidRequest(InvalidRequest),
    /// No credential, or one that is not valid.
    Unauthenticated,
    /// A credential that does not allow this.
    PermissionDenied(Denial),
    /// Nothing of that kind and id, in this tenant.
    NotFound {
        /// What was looked for, as the API names it: `conversation`.
        kind: &'static str,
        /// The id that was asked for.
        id: String,
    },
    /// Something else is there already.
    AlreadyExists(Existing),
    /// The thing is in a state that does not allow this.
    FailedPrecondition(Precondition),
    /// Another change came first.
    Aborted(Conflict),
    /// Every database connection was busy for too long.
    ResourceExhausted {
        /// When a retry has a chance.
        retry_after: Duration,
    },
    /// Too many calls are under way.
    TooManyCalls,
    /// A path that has no such method.
    MethodNotAllowed {
        /// The HTTP method.
        method: String,
        /// Those that it has, separated by commas.
        allowed: String,
    },
    /// The database cannot be reached.
    Unavailable(Source),
    /// The store of files cannot be reached.
    FilesUnavailable(Source),
    /// The server is shutting down.
    Draining,
    /// The caller's deadline, or the server's own, passed.
    DeadlineExceeded,
    /// The caller went away.
    Cancelled,
    /// A fault of ours.
    Internal(Source),
    /// One of many things could not be done, and so none was.
    OfItem {
        /// The path of the field that names it.
        path: String,
        /// Why.
        error: Box<Error>,
    },
}

impl Error {
    /// Tells whether time may heal it.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unavailable(_)
            | Self::FilesUnavailable(_)
            | Self::ResourceExhausted { .. }
            | Self::TooManyCalls
            | Self::Aborted(_)
            | Self::DeadlineExceeded
            | Self::Cancelled
            | Self::Draining => true,
            Self::InvalidArgument(_)
            | Self::FailedPrecondition(_)
            | Self::InvalidRequest(_)
            | Self::Unauthenticated
            | Self::PermissionDenied(_)
            | Self::NotFound { .. }
            | Self::AlreadyExists(_)
            | Self::MethodNotAllowed { .. }
            | Self::Internal(_) => false,
            Self::OfItem { error, .. } => error.may_pass(),
        }
    }
}

/// A field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field, as the proto spells it.
    pub field: String,
    /// What is wrong and what would be right.
    pub description: String,
}

/// What is wrong with a request as a whole.
#[derive(Debug)]
pub enum InvalidRequest {
    /// A page token that is not ours, or belongs to another list.
    PageToken,
    /// Bytes that are no message of that type.
    Undecodable(String),
    /// A body that says of itself that it is something else.
    ContentType(String),
    /// More bytes than a request may have.
    TooLarge,
    /// Several channel accounts could be meant.
    AmbiguousAccount {
        /// The channel.
        channel: &'static str,
        /// The ids of the accounts.
        accounts: Vec<String>,
    },
}

/// Why a credential does not allow a call.
#[derive(Debug)]
pub enum Denial {
    /// The credential lacks this scope.
    Scope(&'static str),
    /// The credential is not for this tenant.
    Tenant(String),
    /// A user's own credential named another actor.
    Actor,
    /// Who acts may not do this in a channel that they see.
    Capability {
        /// The channel.
        channel: String,
        /// What it takes.
        capability: &'static str,
    },
}

/// What is there already.
#[derive(Debug)]
pub enum Existing {
    /// The request id was used for another request.
    RequestId(String),
    /// The tenant, with another schema.
    Tenant {
        /// The tenant's slug.
        slug: String,
        /// The schema that it has.
        schema_name: String,
    },
    /// The schema.
    Schema(String),
    /// The tenant, which is not deleted.
    LiveTenant(String),
    /// Another quick reply of the same scope has the shortcut.
    Shortcut(String),
    /// The quick reply, which is not deleted.
    LiveQuickReply(String),
    /// Another public channel has the name.
    ChannelName(String),
    /// The channel account, of another tenant.
    ChannelAccount {
        /// The channel.
        channel: &'static str,
        /// By what its provider names the account.
        key: String,
    },
    /// The identity, of another contact.
    ContactIdentity {
        /// The channel account.
        account: String,
        /// Whose it is.
        contact: String,
    },
}

/// Which state is in the way.
#[derive(Debug)]
pub enum Precondition {
    /// The channel account is disconnected.
    ChannelAccountDisconnected(String),
    /// The tenant is still being made.
    TenantNotReady(String),
    /// The tenant's schema is not at the version of this server.
    TenantNotMigrated {
        /// The tenant's slug.
        slug: String,
        /// The version that its schema has.
        has: String,
        /// The version that this server needs.
        needs: String,
    },
    /// The tenant is suspended.
    TenantSuspended(String),
    /// The tenant is deleted.
    TenantDeleted(String),
    /// The tenant is not deleted.
    TenantNotDeleted(String),
    /// The tenant can still be brought back.
    PurgeTimeNotReached {
        /// The tenant's slug.
        slug: String,
        /// Until when.
        purge_time: String,
    },
    /// The conversation is archived.
    ConversationArchived(String),
    /// The channel is archived.
    ChannelArchived(String),
    /// The entry is somebody else's.
    ChatEntryNotOwn(String),
    /// Who acts does not follow the thread under the entry.
    ChatThreadNotFollowed(String),
    /// The entry would have too many kinds of reactions.
    ChatReactionLimit {
        /// The entry.
        entry: String,
        /// How many it can have.
        limit: usize,
    },
    /// The channel would have too many pinned entries.
    ChatPinLimit {
        /// The channel.
        channel: String,
        /// How many it can have.
        limit: i64,
    },
    /// Who acts is no member of the channel.
    NotChannelMember(String),
    /// The channel would be left without an owner.
    ChannelOwnerNeeded(String),
    /// Another conversation of the same person has taken the archived one's place.
    ConversationReplaced(String),
    /// The conversation was merged into another.
    ConversationMerged {
        /// The conversation.
        id: String,
        /// The other one.
        merged_into_id: String,
    },
    /// The conversation would have more labels than this.
    LabelLimit {
        /// The conversation.
        id: String,
        /// The most that there can be.
        limit: i32,
    },
    /// The attachment belongs to another message, quick reply or entry.
    AttachmentInUse(String),
    /// The attachment is not there.
    AttachmentNotReady {
        /// The attachment.
        id: String,
        /// Where it stands.
        state: &'static str,
    },
    /// The message is not an outbound one.
    MessageNotOutbound(String),
    /// The message is a customer's.
    MessageInbound(String),
    /// The message was sent where nothing can be changed or called back.
    MessageSent(String),
    /// The message did not fail.
    MessageNotFailed(String),
    /// The contact was merged into another.
    ContactMerged {
        /// The contact.
        contact: String,
        /// Into which.
        into: String,
    },
    /// Conversations hang on the identity.
    ContactIdentityInUse(String),
    /// The contact would have more identities than this.
    ContactIdentityLimit {
        /// The contact.
        contact: String,
        /// The most that there can be.
        limit: usize,
    },
    /// The answer to the request id was erased with the person that it told of.
    AnswerErased(String),
    /// The quick reply has variables without value and fallback.
    QuickReplyVariablesMissing {
        /// Its id.
        id: String,
        /// The names of the variables.
        variables: Vec<String>,
    },
    /// The quick reply would be longer, once filled in, than a text may be.
    QuickReplyTooLong {
        /// Its id.
        id: String,
        /// The most bytes that it may have.
        limit: usize,
    },
}

/// Which change came first.
#[derive(Debug)]
pub enum Conflict {
    /// The resource has another etag by now.
    Etag {
        /// The etag of the request.
        given: String,
        /// The etag of the resource.
        current: String,
    },
    /// The database chose another transaction.
    Transaction,
}

impl Error {
    /// One field that cannot have the value it has.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::InvalidArgument(vec![Violation {
            field: field.into(),
            description: description.into(),
        }])
    }

    /// The same error, where it names fields, for fields inside of another.
    #[must_use]
    pub fn inside(self, path: &str) -> Self {
        match self {
            Self::InvalidArgument(mut violations) => {
                for violation in &mut violations {
                    violation.field = format!("{path}.{}", violation.field);
                }
                Self::InvalidArgument(violations)
            }
            other => other,
        }
    }

    /// Nothing of that kind and id.
    pub fn not_found(kind: &'static str, id: impl fmt::Display) -> Self {
        Self::NotFound {
            kind,
            id: id.to_string(),
        }
    }

    /// A fault of ours.
    pub fn internal(source: impl Into<Source>) -> Self {
        Self::Internal(source.into())
    }

    fn code(&self) -> Code {
        match self {
            Self::InvalidArgument(_) | Self::InvalidRequest(_) => Code::InvalidArgument,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::PermissionDenied(_) => Code::PermissionDenied,
            Self::NotFound { .. } => Code::NotFound,
            Self::AlreadyExists(_) => Code::AlreadyExists,
            Self::FailedPrecondition(_) => Code::FailedPrecondition,
            Self::Aborted(_) => Code::Aborted,
            Self::ResourceExhausted { .. } | Self::TooManyCalls => Code::ResourceExhausted,
            Self::MethodNotAllowed { .. } => Code::Unimplemented,
            Self::Unavailable(_) | Self::FilesUnavailable(_) | Self::Draining => Code::Unavailable,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::Cancelled => Code::Cancelled,
            Self::Internal(_) => Code::Internal,
            Self::OfItem { error, .. } => error.code(),
        }
    }

    /// Tells whether it is ours to look at.
    fn is_fault(&self) -> bool {
        matches!(
            self.essence(),
            Self::Unavailable(_) | Self::FilesUnavailable(_) | Self::Internal(_)
        )
    }

    /// Writes a fault to the log, where it ends.
    fn log(&self) {
        if self.is_fault() {
            tracing::error!(error = %Chain(self), "call failed");
        }
    }

    /// The error itself, without which of many things it is of.
    fn essence(&self) -> &Self {
        match self {
            Self::OfItem { error, .. } => error.essence(),
            other => other,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.detail().message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Unavailable(source) | Self::FilesUnavailable(source) | Self::Internal(source) => {
                Some(source.as_ref())
            }
            Self::OfItem { error, .. } => error.source(),
            Self::InvalidArgument(_)
            | Self::InvalidRequest(_)
            | Self::Unauthenticated
            | Self::PermissionDenied(_)
            | Self::NotFound { .. }
            | Self::AlreadyExists(_)
            | Self::FailedPrecondition(_)
            | Self::Aborted(_)
            | Self::ResourceExhausted { .. }
            | Self::TooManyCalls
            | Self::MethodNotAllowed { .. }
            | Self::Draining
            | Self::DeadlineExceeded
            | Self::Cancelled => None,
        }
    }
}

impl From<DieselError> for Error {
    fn from(error: DieselError) -> Self {
        let DieselError::DatabaseError(kind, information) = &error else {
            return Self::internal(error);
        };
        match kind {
            DatabaseErrorKind::UnableToSendCommand
            | DatabaseErrorKind::ClosedConnection
            | DatabaseErrorKind::ReadOnlyTransaction => Self::Unavailable(error.into()),
            DatabaseErrorKind::SerializationFailure => Self::Aborted(Conflict::Transaction),
            // The driver keeps SQLSTATE to itself, so these are told by PostgreSQL's English words.
            _ => match information.message() {
                "canceling statement due to statement timeout"
                | "canceling statement due to lock timeout"
                | "canceling statement due to user request" => Self::DeadlineExceeded,
                "deadlock detected" => Self::Aborted(Conflict::Transaction),
                message if is_outage(message) => Self::Unavailable(error.into()),
                _ => Self::internal(error),
            },
        }
    }
}

/// Tells whether the words of PostgreSQL mean that it cannot serve just now.
fn is_outage(message: &str) -> bool {
    message.starts_with("terminating connection")
        || message.starts_with("the database system is")
        || message.starts_with("sorry, too many clients")
        || message.starts_with("remaining connection slots are reserved")
        || message.starts_with("could not extend file")
        || message.contains("No space left on device")
        || message == "out of shared memory"
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        error.log();
        let detail = error.detail();
        let metadata: Vec<_> = detail
            .metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect();
        // The reason goes without the prefix that protobuf wants of enum values.
        let reason = detail
            .reason
            .as_str_name()
            .trim_start_matches("ERROR_REASON_");
        let mut details = ErrorDetails::with_error_info(
            reason,
            DOMAIN,
            metadata
                .into_iter()
                .collect::<std::collections::HashMap<_, _>>(),
        );
        match error.essence() {
            Error::InvalidArgument(violations) => {
                details.set_bad_request(
                    violations
                        .iter()
                        .map(|violation| {
                            FieldViolation::new(&violation.field, &violation.description)
                        })
                        .collect::<Vec<_>>(),
                );
            }
            Error::InvalidRequest(InvalidRequest::PageToken) => {
                let description = "is not of this list";
                let violation = FieldViolation::new("page_token", description);
                details.set_bad_request(BadRequest::new(vec![violation]).field_violations);
            }
            Error::InvalidRequest(InvalidRequest::AmbiguousAccount { .. }) => {
                let violation =
                    FieldViolation::new("channel_account_id", "is needed to choose one of several");
                details.set_bad_request(BadRequest::new(vec![violation]).field_violations);
            }
            Error::NotFound { kind, id } => {
                details.set_resource_info(*kind, id, "", detail.message.clone());
            }
            Error::ResourceExhausted { retry_after } => {
                details.set_retry_info(Some(*retry_after));
            }
            Error::TooManyCalls
            | Error::Unavailable(_)
            | Error::FilesUnavailable(_)
            | Error::Draining => {
                details.set_retry_info(Some(Duration::from_secs(1)));
            }
            Error::InvalidRequest(
                InvalidRequest::Undecodable(_)
                | InvalidRequest::ContentType(_)
                | InvalidRequest::TooLarge,
            )
            | Error::MethodNotAllowed { .. }
            | Error::Unauthenticated
            | Error::PermissionDenied(_)
            | Error::AlreadyExists(_)
            | Error::FailedPrecondition(_)
            | Error::Aborted(_)
            | Error::DeadlineExceeded
            | Error::Cancelled
            | Error::Internal(_)
            | Error::OfItem { .. } => {}
        }
        let mut status = Status::with_error_details(error.code(), detail.message, details);
        if error.is_fault() {
            // Stays in this process, unless `with_cause` is asked.
            status.set_source(Arc::new(error));
        }
        status
    }
}

/// Returns a fault of ours with its cause as `google.rpc.DebugInfo`, for who develops. Causes
/// name tables and hosts, never values or secrets.
pub fn with_cause(status: &Status) -> Option<Status> {
    let error: &Error = status.source()?.downcast_ref()?;
    let chain = std::iter::successors(error.source(), |&error| error.source());
    let mut details = status.get_error_details();
    let entries: Vec<_> = chain.map(ToString::to_string).collect();
    details.set_debug_info(entries, Chain(error).to_string());
    let (code, message) = (status.code(), status.message());
    Some(Status::with_error_details(code, message, details))
}

/// Shows an error with all that caused it, on one line.
pub struct Chain<'a>(pub &'a (dyn StdError + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(formatter, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
