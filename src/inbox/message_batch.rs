//! Messages by the thousand: each as `CreateMessage` makes it, or as history that was written
//! elsewhere.

use chrono::{DateTime, Utc};
use diesel_async::AsyncConnection as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::message::{self, Message, NewMessage};
use super::message_import::{import, lock};
use super::message_status::MessageStatus;
use crate::access::Actor;
use crate::error::{Error, Refusal};
use crate::request_id::{self, RequestId};
use crate::tenant::TenantConn;

/// Messages to make.
#[derive(Debug)]
pub struct NewBatch {
    /// The caller's id for the request.
    pub request_id: Option<RequestId>,
    /// Whether they are history.
    pub imported: bool,
    /// Whether to make all of them or none.
    pub all_or_nothing: bool,
    /// The messages, or what is wrong with them; where all or none are made, nothing is.
    pub items: Vec<Result<Item, Error>>,
}

/// A message of a batch.
#[derive(Debug)]
pub struct Item {
    /// What to make.
    pub message: NewMessage,
    /// The place in the batch of the message that it answers.
    pub reply_to_index: Option<usize>,
    /// What is known of its past, of history.
    pub past: Past,
}

/// What is known of the past of a message.
#[derive(Debug)]
pub struct Past {
    /// Who wrote it.
    pub author: Option<Actor>,
    /// When.
    pub at: Option<DateTime<Utc>>,
    /// How far it had come, of an outbound one.
    pub status: Option<MessageStatus>,
    /// What it is called where it comes from.
    pub import_id: Option<String>,
}

/// What came of a message of a batch.
#[derive(Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// It is there.
    Message {
        /// The message.
        message: Box<Message>,
        /// Whether it was made now.
        created: bool,
    },
    /// It was refused.
    Refused(Refusal),
}

impl Outcome {
    fn made(message: Message) -> Self {
        Self::Message {
            message: Box::new(message),
            created: true,
        }
    }

    /// The messages that are there.
    pub(super) fn messages(outcomes: &[Self]) -> Vec<Uuid> {
        let of = |outcome: &Self| match outcome {
            Self::Message { message, .. } => Some(message.id.0),
            Self::Refused(_) => None,
        };
        outcomes.iter().filter_map(of).collect()
    }
}

/// Makes the messages of a batch, and says of each what came of it.
///
/// # Errors
/// The database is in the way; or one of them is refused where all are made or none.
pub async fn create(conn: &mut TenantConn, batch: NewBatch) -> Result<Vec<Outcome>, Error> {
    let request = batch.request_id.as_ref();
    if batch.imported {
        return import(conn, request, batch.all_or_nothing, &batch.items).await;
    }
    if batch.all_or_nothing {
        return make_all(conn, request, batch.items).await;
    }
    make_each(conn, request, batch.items).await
}

/// Makes messages one after the other, each in a transaction of its own.
async fn make_each(
    conn: &mut TenantConn,
    request: Option<&RequestId>,
    items: Vec<Result<Item, Error>>,
) -> Result<Vec<Outcome>, Error> {
    if let Some(request) = request {
        register(conn, request).await?;
    }
    let mut outcomes = Vec::with_capacity(items.len());
    for (place, item) in items.into_iter().enumerate() {
        let made = match item.and_then(|item| with_reply(item, place, &outcomes)) {
            Ok(mut message) => {
                // No caller's id has a space in it.
                message.request_id = request.map(|request| RequestId {
                    id: format!("{} {place}", request.id),
                    ..request.clone()
                });
                message::create(conn, message).await
            }
            Err(error) => Err(error),
        };
        outcomes.push(match made {
            Ok(message) => Outcome::made(message),
            Err(error) if is_of_item(&error) => Outcome::Refused(error.refusal()),
            Err(error) => return Err(error),
        });
    }
    Ok(outcomes)
}

/// Keeps what a request said whose messages have ids of their own.
async fn register(conn: &mut TenantConn, request: &RequestId) -> Result<(), Error> {
    conn.transaction(async |conn| {
        if request_id::claim(conn, request).await? {
            return request_id::keep(conn, request, &true).await;
        }
        let _: Option<bool> = request_id::answer(conn, request).await?;
        Ok(())
    })
    .await
}

/// Tells whether an error is about one message, and not about the call.
fn is_of_item(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidArgument(_)
            | Error::NotFound { .. }
            | Error::AlreadyExists(_)
            | Error::FailedPrecondition(_)
            | Error::Aborted(_)
    )
}

/// The message of an item, with the message that it answers.
fn with_reply(item: Item, place: usize, before: &[Outcome]) -> Result<NewMessage, Error> {
    let mut message = item.message;
    match item.reply_to_index.and_then(|index| before.get(index)) {
        None => {}
        Some(Outcome::Message { message: to, .. }) => message.reply_to = Some(to.id),
        Some(Outcome::Refused(_)) => return Err(reply_refused(place)),
    }
    Ok(message)
}

/// That the message that one answers was refused.
pub(super) fn reply_refused(place: usize) -> Error {
    let field = format!("messages[{place}].reply_to_index");
    Error::invalid(field, "is the place of a message that was refused")
}

/// Makes all messages or none.
async fn make_all(
    conn: &mut TenantConn,
    request: Option<&RequestId>,
    items: Vec<Result<Item, Error>>,
) -> Result<Vec<Outcome>, Error> {
    let items: Vec<Item> = items.into_iter().collect::<Result<_, _>>()?;
    conn.transaction(async |conn| {
        if let Some(answer) = request_id::claim_or_answer(conn, request).await? {
            return Ok(answer);
        }
        // In one order, whoever writes to which first.
        lock(conn, items.iter()).await?;
        let mut outcomes = Vec::with_capacity(items.len());
        for (place, item) in items.into_iter().enumerate() {
            let message = with_reply(item, place, &outcomes)?;
            outcomes.push(Outcome::made(message::create(conn, message).await?));
        }
        if let Some(request) = request {
            let of = Outcome::messages(&outcomes);
            request_id::keep_words(conn, request, &outcomes, Some(of)).await?;
        }
        Ok(outcomes)
    })
    .await
}
