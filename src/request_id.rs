//! Request ids: the same id twice has one effect and one answer.
//!
//! An id is claimed in the transaction of its effect, and kept with the answer for 7 days, for the
//! same caller and call.

use aws_lc_rs::digest::{SHA256, digest};
use diesel::prelude::*;
use diesel::sql_types;
use diesel_async::RunQueryDsl;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use crate::access::Call;
use crate::error::{Conflict, Error, Existing, Precondition};
use crate::schema::tenant::requests;
use crate::tenant::TenantConn;

/// A request whose caller may give it an id.
pub trait Repeatable: Message + Call {
    /// Takes the id out of the request.
    fn take_request_id(&mut self) -> String;
}

/// A request's id and what the request said.
#[derive(Debug, Clone)]
pub struct RequestId {
    /// The call.
    pub method: &'static str,
    /// The caller's id.
    pub id: String,
    /// The SHA-256 of the request without its id.
    pub hash: Vec<u8>,
}

impl RequestId {
    /// Takes the id out of a request; `None` where it has none.
    ///
    /// # Errors
    /// The id is longer than 128 characters or has others than visible ASCII.
    pub fn take<T: Repeatable>(request: &mut T) -> Result<Option<Self>, Error> {
        let id = request.take_request_id();
        if id.is_empty() {
            return Ok(None);
        }
        if id.len() > 128 || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::invalid(
                "request_id",
                "must be 1 to 128 visible ASCII characters",
            ));
        }
        let hash = digest(&SHA256, &request.encode_to_vec()).as_ref().to_vec();
        Ok(Some(Self {
            method: T::PATH,
            id,
            hash,
        }))
    }
}

/// Returns the first answer to a request id, if there is one.
///
/// # Errors
/// The id was used for another request, or its answer was erased.
pub async fn answer<T: DeserializeOwned>(
    conn: &mut TenantConn,
    request: &RequestId,
) -> Result<Option<T>, Error> {
    let caller = conn.facts().caller.clone();
    let stored: Option<(Vec<u8>, Value)> = requests::table
        .find((&caller.service, request.method, &request.id))
        .select((requests::request_hash, requests::response))
        .first(conn)
        .await
        .optional()?;
    match stored {
        None => Ok(None),
        Some((_, Value::Null)) => Err(Error::FailedPrecondition(Precondition::AnswerErased(
            request.id.clone(),
        ))),
        Some((hash, _)) if hash != request.hash => Err(Error::AlreadyExists(Existing::RequestId(
            request.id.clone(),
        ))),
        Some((_, answer)) => serde_json::from_value(answer)
            .map(Some)
            .map_err(Error::internal),
    }
}

/// Claims a request id in the open transaction; tells whether this is the first to come. Who comes
/// at the same time waits for the first to end.
pub async fn claim(conn: &mut TenantConn, request: &RequestId) -> Result<bool, Error> {
    let caller = conn.facts().caller.clone();
    let claimed = diesel::insert_into(requests::table)
        .values((
            requests::caller.eq(&caller.service),
            requests::method.eq(request.method),
            requests::request_id.eq(&request.id),
            requests::request_hash.eq(&request.hash),
            requests::response.eq(Value::Null),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(claimed == 1)
}

/// Claims the id of a request, where it has one, in the open transaction; returns the first answer
/// where somebody has claimed it before.
///
/// # Errors
/// The id was used for another request.
pub async fn claim_or_answer<T: DeserializeOwned>(
    conn: &mut TenantConn,
    request: Option<&RequestId>,
) -> Result<Option<T>, Error> {
    let Some(request) = request else {
        return Ok(None);
    };
    if claim(conn, request).await? {
        return Ok(None);
    }
    let answer = answer(conn, request).await?;
    answer
        .map(Some)
        .ok_or(Error::Aborted(Conflict::Transaction))
}

/// Keeps the answer to a request id that the open transaction has claimed.
pub async fn keep<T: Serialize>(
    conn: &mut TenantConn,
    request: &RequestId,
    answer: &T,
) -> Result<(), Error> {
    keep_words(conn, request, answer, None).await
}

/// Keeps an answer that holds the words of some messages or entries, so that they can be forgotten with
/// them. An answer that is kept in the minute of its one message is found without that.
pub async fn keep_words<T: Serialize>(
    conn: &mut TenantConn,
    request: &RequestId,
    answer: &T,
    of: Option<Vec<Uuid>>,
) -> Result<(), Error> {
    let caller = conn.facts().caller.clone();
    let answer = serde_json::to_value(answer).map_err(Error::internal)?;
    diesel::update(requests::table.find((&caller.service, request.method, &request.id)))
        .set((requests::response.eq(answer), requests::message_ids.eq(of)))
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets the answers that were kept with the words of a message or entry.
pub async fn forget_words(conn: &mut TenantConn, of: Uuid) -> Result<(), Error> {
    diesel::sql_query(
        "UPDATE requests SET response = 'null', request_hash = '', message_ids = NULL
         WHERE message_ids @> ARRAY[$1]",
    )
    .bind::<sql_types::Uuid, _>(of)
    .execute(conn)
    .await?;
    Ok(())
}
