//! By which link somebody came to a conversation, where a provider tells of it without a message.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use serde_json::Value;

use super::change::{self, Alteration, ChangeKind, Target};
use super::inbound::{Effect, EventKind, Origin, claim};
use super::opening;
use crate::error::Error;
use crate::ids::ContactIdentityId;
use crate::schema::tenant::{contact_identities, inbox_conversations};
use crate::tenant::TenantConn;

/// That somebody came by a link.
#[derive(Debug, PartialEq)]
pub struct Referral {
    /// What tells it apart from others.
    pub provider_id: String,
    /// By what the provider knows the person, at least one.
    pub identifiers: Vec<String>,
    /// What is noted on the conversation.
    pub metadata: Value,
}

/// Notes by which link somebody came on their conversation, if they have one.
pub(super) async fn record(
    conn: &mut TenantConn,
    origin: Origin,
    referral: &Referral,
) -> Result<Effect, Error> {
    conn.transaction(async |conn| {
        let kind = EventKind::Referral;
        if !claim(conn, origin, &referral.provider_id, kind, "").await? {
            return Ok(Effect::Known);
        }
        let identity: Option<ContactIdentityId> = contact_identities::table
            .filter(contact_identities::channel_account_id.eq(origin.account))
            .filter(contact_identities::value.eq_any(&referral.identifiers))
            .select(contact_identities::id)
            .first(conn)
            .await
            .optional()?;
        let Some(identity) = identity else {
            return Ok(Effect::Applied);
        };
        let Some(id) = opening::find_latest(conn, identity, "").await? else {
            return Ok(Effect::Applied);
        };
        let metadata: Option<Value> = inbox_conversations::table
            .find(id)
            .select(sql::<diesel::sql_types::Jsonb>("metadata"))
            .for_no_key_update()
            .first(conn)
            .await
            .optional()?;
        let Some(Value::Object(mut known)) = metadata else {
            return Ok(Effect::Applied);
        };
        if let Value::Object(new) = referral.metadata.clone() {
            known.extend(new);
        }
        let note = Alteration {
            rule: "referral",
            metadata: Some(Value::Object(known)),
            ..Alteration::new(ChangeKind::Updated)
        };
        change::alter(conn, Target { id, etag: None }, &note).await?;
        Ok(Effect::Applied)
    })
    .await
}
