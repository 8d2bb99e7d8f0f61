//! Entries of the log, and places in it.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::chat;
use crate::error::Error;
use crate::ids::ChannelId;
use crate::schema::tenant::events;
use crate::tenant::TenantConn;

/// A place in the log: behind an entry. The oldest entry that is kept tells of nothing, and is the place
/// before all others; as long as nothing was removed, that is the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The entry's number.
    pub id: i64,
    /// Its own random id, which tells a history from one that was restored.
    pub event_id: Uuid,
}

/// What happened, without content.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = events, check_for_backend(diesel::pg::Pg))]
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
    pub changed: Vec<Option<String>>,
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
    /// The channel that it is of, if it is of one.
    pub fn channel_id(&self) -> Option<ChannelId> {
        match self.resource_kind.as_str() {
            "channel" => Some(ChannelId(self.resource_id)),
            kind if chat::is_loaded(kind) => self.parent_id.map(ChannelId),
            _ => None,
        }
    }

    /// The place behind it.
    pub fn place(&self) -> Place {
        Place {
            id: self.id,
            event_id: self.event_id,
        }
    }
}

/// Reads entries behind a place, up to a number that is known to be final; `None` if the place is not
/// in the log: what was there was removed, or its history has been replaced.
pub async fn page(
    conn: &mut TenantConn,
    after: Place,
    up_to: i64,
    most: usize,
) -> Result<Option<Vec<Entry>>, Error> {
    // The place itself is read with what is behind it.
    let page = events::table
        .filter(events::id.ge(after.id).and(events::id.le(up_to)))
        .order(events::id)
        .limit(i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1))
        .select(Entry::as_select());
    let mut entries: Vec<Entry> = page.load(conn).await?;
    if entries.as_slice().first().map(Entry::place) != Some(after) {
        return Ok(None);
    }
    entries.remove(0);
    Ok(Some(entries))
}

/// Reads some of the entries up to a place, upwards, and the place before them; `None` if the place is
/// not in the log.
pub async fn before(
    conn: &mut TenantConn,
    place: Place,
    most: usize,
) -> Result<Option<(Place, Vec<Entry>)>, Error> {
    let before = events::table
        .filter(events::id.le(place.id))
        .order(events::id.desc())
        .limit(i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1))
        .select(Entry::as_select());
    let mut entries: Vec<Entry> = before.load(conn).await?;
    if entries.as_slice().first().map(Entry::place) != Some(place) {
        return Ok(None);
    }
    entries.reverse();
    let begin = entries.remove(0).place();
    Ok(Some((begin, entries)))
}

/// Returns the place behind the last entry up to a number, if there is one.
pub async fn last(conn: &mut TenantConn, up_to: i64) -> Result<Option<Place>, Error> {
    let last = events::table
        .filter(events::id.le(up_to))
        .order(events::id.desc())
        .select((events::id, events::event_id));
    let found: Option<(i64, Uuid)> = last.first(conn).await.optional()?;
    Ok(found.map(|(id, event_id)| Place { id, event_id }))
}

/// Tells whether a place is in the log as it is now.
pub async fn is_there(conn: &mut TenantConn, place: Place) -> Result<bool, Error> {
    Ok(last(conn, place.id).await? == Some(place))
}

/// Returns the place behind the last entry up to a number, and since when all is kept.
pub async fn ends(conn: &mut TenantConn, up_to: i64) -> Result<(Place, DateTime<Utc>), Error> {
    let columns = (events::id, events::event_id, events::at);
    let last = events::table
        .filter(events::id.le(up_to))
        .order(events::id.desc())
        .limit(1)
        .select(columns);
    let first = events::table.order(events::id).limit(1).select(columns);
    let both: Vec<(i64, Uuid, DateTime<Utc>)> = last.union_all(first).load(conn).await?;
    let last = both.iter().max_by_key(|entry| entry.0);
    let first = both.iter().min_by_key(|entry| entry.0);
    let place = last.map(|&(id, event_id, _)| Place { id, event_id });
    let earliest = first.map(|entry| entry.2);
    Ok((place.unwrap_or_default(), earliest.unwrap_or_default()))
}

/// Returns the place before all that is kept, and since when that is.
pub async fn first(conn: &mut TenantConn) -> Result<(Place, DateTime<Utc>), Error> {
    let oldest = events::table
        .order(events::id)
        .select((events::id, events::event_id, events::at));
    let (id, event_id, at) = oldest.first(conn).await?;
    Ok((Place { id, event_id }, at))
}
