//! Calls: a call is one message, and what happens to it is kept in the message's metadata, under
//! `call`.

use std::marker::PhantomData;

use diesel::prelude::*;
use diesel::sql_types::{self, Integer, Jsonb, Nullable, Text};
use diesel_async::RunQueryDsl;
use serde_json::{Map, Value};

use super::media::{self, Announced};
use crate::database::statement::statement;
use crate::error::Error;
use crate::event::log::append_events;
use crate::ids::{ChannelAccountId, DeliveryId, MessageId};
use crate::schema::tenant::inbox_messages;
use crate::tenant::TenantConn;

/// The most of each list that is kept: of keys that were pressed, of recordings.
const MOST: usize = 50;

statement! {
    /// Keeps what is known of a call.
    Keep<'a> -> sql_types::Uuid {
        message_id: MessageId => sql_types::Uuid,
        metadata: &'a Value => Jsonb,
        attachments: Option<&'a Value> => Nullable<Jsonb>,
        actor_kind: &'a str => Text,
        actor_id: &'a str => Text,
        caller: &'a str => Text,
        correlation_id: &'a str => Text,
        tenant_number: i32 => Integer,
    }
    concat!("
        , bumped AS (
            UPDATE inbox_messages m
            SET metadata = input.metadata, attachments = nullif(coalesce(m.attachments, '[]') || (
                    SELECT coalesce(jsonb_agg(file || jsonb_build_object('message_id', m.id,
                        'created_at', greatest(directory.now(), m.updated_at)) ORDER BY place), '[]')
                    FROM jsonb_array_elements(input.attachments) WITH ORDINALITY AS a (file, place)
                ), '[]'), version = m.version + 1,
                updated_at = greatest(directory.now(), m.updated_at)
            FROM input WHERE m.id = input.message_id
            RETURNING m.*
        ), changes AS (
            SELECT 'message.updated' AS kind, 'message' AS resource_kind, b.id AS resource_id,
                b.conversation_id AS parent_id, b.sequence, b.version,
                '{metadata}' || CASE WHEN input.attachments IS NOT NULL
                    THEN '{attachments}'::text[] ELSE '{}' END AS changed
            FROM bumped b, input
        )", append_events!(), "
        SELECT id FROM bumped")
}

/// Adds to what is known of a call, in the open transaction.
///
/// # Errors
/// There is no such message.
pub(super) async fn amend(
    conn: &mut TenantConn,
    told_by: (ChannelAccountId, DeliveryId),
    message_id: MessageId,
    changes: &str,
) -> Result<(), Error> {
    let Ok(Value::Object(changes)) = serde_json::from_str(changes) else {
        return Err(Error::internal("what happened to a call is no object"));
    };
    let metadata: Option<Value> = inbox_messages::table
        .find(message_id)
        .filter(inbox_messages::deleted_at.is_null())
        .select(inbox_messages::metadata)
        .for_no_key_update()
        .first(conn)
        .await
        .optional()?;
    let mut metadata = metadata.ok_or_else(|| Error::not_found("message", message_id))?;
    let Value::Object(known) = &mut metadata else {
        return Ok(());
    };
    let call = known
        .entry("call")
        .or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(call) = call else {
        return Ok(());
    };
    if !merge(call, changes) {
        return Ok(());
    }
    let mut announced = Announced::to(message_id);
    announce_recordings(call, &mut announced);
    let attachments = announced.described();
    let facts = conn.facts().clone();
    let keep = Keep {
        message_id,
        metadata: &metadata,
        attachments: attachments.as_ref(),
        actor_kind: facts.actor.kind(),
        actor_id: facts.actor.id(),
        caller: &facts.caller.service,
        correlation_id: &facts.correlation_id,
        tenant_number: conn.tenant_number(),
        life: PhantomData,
    };
    let _: uuid::Uuid = keep.get_result(conn).await?;
    media::announce(conn, told_by, &announced).await
}

/// Announces the recordings that are ready, each once: from then on they have their file's id.
fn announce_recordings(call: &mut Map<String, Value>, announced: &mut Announced) {
    let Some(Value::Array(recordings)) = call.get_mut("recordings") else {
        return;
    };
    for recording in recordings.iter_mut().filter_map(Value::as_object_mut) {
        let text = |name: &str| recording.get(name).and_then(Value::as_str);
        let is_ready = text("status").is_none_or(|status| status == "completed");
        let url = text("url").filter(|_| is_ready && text("attachment_id").is_none());
        if let Some(url) = url.map(|url| format!("{url}.mp3")) {
            let id = announced.add_recording(url);
            recording.insert("attachment_id".to_owned(), id.to_string().into());
        }
    }
}

/// How far a call is: a state never goes back to an earlier one, and the last one stays.
fn rank(status: &str) -> u8 {
    match status {
        "queued" => 0,
        "initiated" => 1,
        "ringing" => 2,
        "in-progress" => 3,
        _ => 4,
    }
}

/// Adds changes to what is known; tells whether anything is different.
fn merge(call: &mut Map<String, Value>, changes: Map<String, Value>) -> bool {
    let mut differs = false;
    for (key, new) in changes {
        let known = call.entry(key.clone()).or_insert(Value::Null);
        let merged = match (known.clone(), new) {
            (Value::Array(mut known), Value::Array(new)) => {
                new.into_iter().for_each(|element| add(&mut known, element));
                Value::Array(known)
            }
            (Value::String(known), Value::String(new)) if key == "status" => {
                let goes_on = rank(&new) > rank(&known);
                Value::String(if goes_on { new } else { known })
            }
            (_, new) => new,
        };
        differs |= *known != merged;
        *known = merged;
    }
    differs
}

/// Adds an element to a list, or what is new of one that has the same `sid`.
fn add(known: &mut Vec<Value>, element: Value) {
    let sid = element.get("sid").cloned();
    let is_same =
        |other: &Value| *other == element || sid.is_some() && other.get("sid") == sid.as_ref();
    let Some(place) = known.iter().position(is_same) else {
        if known.len() < MOST {
            known.push(element);
        }
        return;
    };
    if let (Some(Value::Object(same)), Value::Object(new)) = (known.get_mut(place), element) {
        same.extend(new);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_call_goes_on_in_whatever_order_it_is_told() {
        let mut call = Map::new();
        assert!(merge(
            &mut call,
            object(json!({"status": "completed", "duration_seconds": 73}))
        ));
        assert!(!merge(&mut call, object(json!({"status": "ringing"}))));
        assert!(!merge(&mut call, object(json!({"status": "completed"}))));
        assert!(merge(&mut call, object(json!({"digits": ["2"]}))));
        assert!(!merge(&mut call, object(json!({"digits": ["2"]}))));
        assert!(merge(
            &mut call,
            object(json!({"recordings": [{"sid": "RE1", "transcript": "Hi"}]}))
        ));
        assert!(merge(
            &mut call,
            object(json!({"recordings": [{"sid": "RE1", "url": "x"}]}))
        ));
        let known = json!({
            "status": "completed", "duration_seconds": 73, "digits": ["2"],
            "recordings": [{"sid": "RE1", "transcript": "Hi", "url": "x"}],
        });
        assert_eq!(Value::Object(call), known);
    }
}
