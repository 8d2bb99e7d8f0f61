//! Reactions to messages: the newest of each person counts, and an empty one takes it back.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::prelude::*;
use diesel::sql_types::{self, BigInt, Bool, Integer, Jsonb, Text};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::database::statement::statement;
use crate::error::Error;
use crate::event::log::append_events;
use crate::ids::MessageId;
use crate::tenant::TenantConn;

/// The most people whose reactions a message keeps; of more, the oldest go.
const MOST: i64 = 100;

/// What somebody thinks of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaction {
    /// By what the provider knows the person.
    pub by: String,
    /// The emoji, or empty where it was taken back.
    pub emoji: String,
    /// The order in which one person's reactions came: milliseconds since 1970.
    pub place: i64,
}

impl Reaction {
    /// When it was, as the provider says.
    pub fn at(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(self.place)
    }
}

/// The reactions to a message, as its row has them.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, AsExpression, FromSqlRow,
)]
#[diesel(sql_type = Jsonb)]
#[serde(transparent)]
pub struct Reactions(pub Vec<Reaction>);

impl FromSql<Jsonb, Pg> for Reactions {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let value = <Value as FromSql<Jsonb, Pg>>::from_sql(value)?;
        Ok(serde_json::from_value(value)?)
    }
}

statement! {
    // No row = no such message, or a deleted one.
    /// Records what somebody thinks of a message, unless a newer word of theirs is known.
    React<'a> -> Bool {
        message_id: MessageId => sql_types::Uuid,
        by: &'a str => Text,
        emoji: &'a str => Text,
        place: i64 => BigInt,
        most: i64 => BigInt,
        actor_kind: &'a str => Text,
        actor_id: &'a str => Text,
        caller: &'a str => Text,
        correlation_id: &'a str => Text,
        tenant_number: i32 => Integer,
    }
    concat!("
        , head AS (
            SELECT m.* FROM inbox_messages m, input
            WHERE m.id = input.message_id AND m.deleted_at IS NULL
            FOR NO KEY UPDATE OF m
        ), known AS (
            SELECT r.value, r.ordinality, r.value ->> 'by' = input.by AS mine
            FROM head, input, jsonb_array_elements(head.reactions) WITH ORDINALITY r
        ), bumped AS (
            UPDATE inbox_messages m
            SET reactions = coalesce((
                    SELECT jsonb_agg(k.value ORDER BY k.ordinality) FROM (
                        SELECT * FROM known WHERE NOT mine
                        ORDER BY ordinality DESC LIMIT (SELECT most - 1 FROM input)
                    ) k
                ), '[]') || jsonb_build_array(jsonb_build_object(
                    'by', input.by, 'emoji', input.emoji, 'place', input.place)),
                version = m.version + 1, updated_at = greatest(directory.now(), m.updated_at)
            FROM head, input
            WHERE m.id = head.id AND NOT EXISTS (
                SELECT FROM known WHERE mine AND (value ->> 'place')::bigint > input.place
            )
            RETURNING m.*
        ), changes AS (
            SELECT 'message.updated' AS kind, 'message' AS resource_kind, b.id AS resource_id,
                b.conversation_id AS parent_id, b.sequence, b.version,
                '{reactions}'::text[] AS changed
            FROM bumped b
        )", append_events!(), "
        SELECT EXISTS (SELECT FROM bumped) FROM head")
}

/// Records what somebody thinks of a message; an older word than the one that is known changes
/// nothing.
///
/// # Errors
/// There is no such message.
pub(super) async fn react(
    conn: &mut TenantConn,
    message_id: MessageId,
    reaction: &Reaction,
) -> Result<(), Error> {
    let facts = conn.facts().clone();
    let statement = React {
        message_id,
        by: &reaction.by,
        emoji: &reaction.emoji,
        place: reaction.place,
        most: MOST,
        actor_kind: facts.actor.kind(),
        actor_id: facts.actor.id(),
        caller: &facts.caller.service,
        correlation_id: &facts.correlation_id,
        tenant_number: conn.tenant_number(),
        life: PhantomData,
    };
    let _: bool = statement
        .get_result(conn)
        .await
        .optional()?
        .ok_or_else(|| Error::not_found("message", message_id))?;
    Ok(())
}
