//! What is to be done at a time, in the name of who asked for it: with the rights that they have then,
//! once, or with the reason why not.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::access::{Actor, Caller, Facts};
use crate::clock;
use crate::error::Error;
use crate::field::Fields;
use crate::pb::ErrorReason;
use crate::tenant::{TenantConn, TenantScope};

/// How many are done in one step.
pub const STEP: i64 = 100;

/// How far ahead something can be scheduled, in days.
const DAYS: i64 = 366;

/// Reads when to send a message, or to post an entry.
pub fn send_time(
    fields: &mut Fields,
    time: Option<&prost_types::Timestamp>,
) -> Option<DateTime<Utc>> {
    let time = fields.time("send_time", time)?;
    let now = i64::try_from(clock::since_epoch().as_secs()).unwrap_or(i64::MAX);
    if time.timestamp() > now.saturating_add(DAYS * 86_400) {
        fields.refuse("send_time", format!("must be at most {DAYS} days from now"));
    }
    Some(time)
}

/// Who asked for something.
#[derive(Debug, Clone)]
pub struct Author {
    /// Their kind.
    pub kind: String,
    /// Who they are.
    pub id: String,
    /// The service that called for them.
    pub caller: String,
    /// The correlation id of the call.
    pub correlation_id: String,
}

/// Why something could not be done when its time had come.
#[derive(Debug)]
pub struct Failure {
    /// The reason of the error.
    pub reason: String,
    /// The same in words.
    pub message: String,
}

impl Failure {
    /// Reads an error that lasts until somebody changes something.
    ///
    /// # Errors
    /// It is another one, which may be over soon.
    fn of(error: Error) -> Result<Self, Error> {
        match &error {
            Error::NotFound { .. }
            | Error::FailedPrecondition(_)
            | Error::InvalidArgument(_)
            | Error::PermissionDenied(_) => {
                let reason = ErrorReason::try_from(error.refusal().reason);
                let reason = reason
                    .map(|reason| reason.as_str_name())
                    .unwrap_or_default();
                Ok(Self {
                    reason: reason.trim_start_matches("ERROR_REASON_").to_owned(),
                    message: error.to_string(),
                })
            }
            _ => Err(error),
        }
    }
}

/// Something that is to be done at a time.
pub trait Scheduled: Sized + Send {
    /// Lists those whose time has come, the first first, and that have not failed.
    fn due(conn: &mut TenantConn) -> impl Future<Output = Result<Vec<Self>, Error>> + Send;

    /// Who asked for it.
    fn author(&self) -> Author;

    /// Does it, and forgets it in the same transaction, unless it has been done, changed or given up
    /// since it was listed.
    fn fulfil(&self, conn: &mut TenantConn) -> impl Future<Output = Result<(), Error>> + Send;

    /// Keeps why it cannot be done, unless it has been done, changed or given up since.
    fn fail(
        &self,
        conn: &mut TenantConn,
        failure: Failure,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

/// Does what is due in a tenant.
///
/// # Errors
/// Something is in the way for now; what was not done is due still.
pub async fn do_due<T: Scheduled>(scope: &TenantScope) -> Result<(), Error> {
    loop {
        let due = T::due(&mut scope.conn().await?).await?;
        if due.is_empty() {
            return Ok(());
        }
        for scheduled in due {
            let scope = on_behalf(scope, scheduled.author())?;
            let done = scheduled.fulfil(&mut scope.conn().await?).await;
            if let Err(error) = done {
                let failure = Failure::of(error)?;
                scheduled.fail(&mut scope.conn().await?, failure).await?;
            }
        }
    }
}

fn on_behalf(scope: &TenantScope, author: Author) -> Result<TenantScope, Error> {
    let actor = Actor::of_kind(&author.kind, author.id);
    let facts = Facts {
        actor: actor.ok_or_else(|| Error::internal("an actor of no kind"))?,
        caller: Arc::new(Caller::before(&author.caller)),
        correlation_id: author.correlation_id.as_str().into(),
        clock_offset: 0,
        unrestricted: None,
    };
    Ok(scope.on_behalf(facts))
}
