//! Entries of the log, and places in it.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{self, Array, BigInt, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::database::statement::statement;
use crate::error::Error;
use crate::tenant::TenantConn;

/// A place in the log: behind an entry, or before all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The entry's number; 0 before all.
    pub id: i64,
    /// Its own random id, which tells a history from one that was restored.
    pub event_id: Uuid,
}

/// What happened, without content.
#[derive(Debug, Clone, Queryable)]
pub struct Entry {
    /// Its number.
    pub id: i64,
    /// Its own id.
    pub event_id: Uuid,
    /// What happened: `message.created`.
    pub kind: String,
    /// To what: `message`.
    pub resource_kind: String,
    /// To which.
    pub resource_id: Uuid,
    /// What that is in.
    pub parent_id: Option<Uuid>,
    /// Its place there.
    pub sequence: Option<i64>,
    /// Its version after the change.
    pub version: i64,
    /// The fields that changed.
    pub changed: Vec<String>,
    /// The kind of who acted.
    pub actor_kind: String,
    /// Who acted.
    pub actor_id: String,
    /// The calling service.
    pub caller: String,
    /// What ties it to its call.
    pub correlation_id: String,
    /// When.
    pub at: DateTime<Utc>,
}

impl Entry {
    /// The place behind it.
    pub fn place(&self) -> Place {
        Place {
            id: self.id,
            event_id: self.event_id,
        }
    }
}

statement! {
    /// Reads entries upwards from a place, the one that it is behind first.
    Page<'a> -> (BigInt, sql_types::Uuid, Text, Text, sql_types::Uuid, Nullable<sql_types::Uuid>, Nullable<BigInt>, BigInt, Array<Text>, Text, Text, Text, Text, Timestamptz) {
        after: i64 => BigInt,
        up_to: i64 => BigInt,
        rows: i64 => BigInt,
    }
    "
        SELECT e.id, e.event_id, e.kind, e.resource_kind, e.resource_id, e.parent_id, e.sequence,
            e.version, e.changed, e.actor_kind, e.actor_id, e.caller, e.correlation_id, e.at
        FROM input
        CROSS JOIN LATERAL (
            SELECT * FROM events WHERE id >= input.after AND id <= input.up_to
            ORDER BY id LIMIT input.rows
        ) e
        ORDER BY e.id"
}

/// Reads entries behind a place, up to a number that is known to be final; `None` if the place is not
/// in the log, whose history has been replaced then.
pub async fn page(
    conn: &mut TenantConn,
    after: Place,
    up_to: i64,
    most: usize,
) -> Result<Option<Vec<Entry>>, Error> {
    let page = Page {
        after: after.id,
        up_to,
        rows: i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1),
        life: PhantomData,
    };
    let mut entries: Vec<Entry> = page.load(conn).await?;
    if after == Place::default() {
        entries.truncate(most);
        return Ok(Some(entries));
    }
    if entries.as_slice().first().map(Entry::place) != Some(after) {
        return Ok(None);
    }
    entries.remove(0);
    Ok(Some(entries))
}

statement! {
    /// Finds the last entry up to a number.
    Last<'a> -> (BigInt, sql_types::Uuid) {
        up_to: i64 => BigInt,
    }
    "
        SELECT e.id, e.event_id
        FROM input
        CROSS JOIN LATERAL (
            SELECT id, event_id FROM events WHERE id <= input.up_to ORDER BY id DESC LIMIT 1
        ) e"
}

/// Returns the place behind the last entry up to a number.
pub async fn last(conn: &mut TenantConn, up_to: i64) -> Result<Place, Error> {
    let last = Last {
        up_to,
        life: PhantomData,
    };
    let found: Option<(i64, Uuid)> = last.get_result(conn).await.optional()?;
    Ok(found.map_or_else(Place::default, |(id, event_id)| Place { id, event_id }))
}

/// Tells whether a place is in the log as it is now.
pub async fn is_there(conn: &mut TenantConn, place: Place) -> Result<bool, Error> {
    Ok(place == Place::default() || last(conn, place.id).await? == place)
}
