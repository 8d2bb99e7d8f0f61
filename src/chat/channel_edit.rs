//! Changes of channels, and their archive.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::{Nullable, Timestamptz};
use diesel_async::{AsyncConnection as _, RunQueryDsl};
use serde_json::Value;

use super::capability::Capability;
use super::channel::{Channel, Policy, Seen, lock};
use crate::error::{Error, Existing};
use crate::etag::check_etag;
use crate::event::log::append;
use crate::fold::fold;
use crate::ids::ChannelId;
use crate::schema::tenant::channels;
use crate::tenant::TenantConn;

/// What to change in a channel.
#[derive(Debug, Default)]
pub struct ChannelPatch {
    /// What it is called.
    pub name: Option<String>,
    /// What it is about.
    pub topic: Option<String>,
    /// Free data.
    pub metadata: Option<Value>,
    /// Who may post.
    pub posting_policy: Option<Policy>,
    /// Who may mention everyone and here.
    pub broadcast_policy: Option<Policy>,
    /// Who may add members.
    pub invite_policy: Option<Policy>,
    /// After how many days entries go for good; 0 for never.
    pub retention_days: Option<i32>,
}

impl ChannelPatch {
    /// Puts what changes into a channel, and names it with what it takes to change it.
    fn apply(self, channel: &mut Channel) -> Vec<(&'static str, Capability)> {
        fn put<T: PartialEq>(into: &mut T, new: Option<T>) -> bool {
            let Some(new) = new.filter(|new| new != into) else {
                return false;
            };
            *into = new;
            true
        }
        use Capability::{Govern, Update};
        let fields = [
            ("name", Update, put(&mut channel.name, self.name)),
            ("topic", Update, put(&mut channel.topic, self.topic)),
            (
                "metadata",
                Update,
                put(&mut channel.metadata, self.metadata),
            ),
            (
                "posting_policy",
                Govern,
                put(&mut channel.posting_policy, self.posting_policy),
            ),
            (
                "broadcast_policy",
                Govern,
                put(&mut channel.broadcast_policy, self.broadcast_policy),
            ),
            (
                "invite_policy",
                Govern,
                put(&mut channel.invite_policy, self.invite_policy),
            ),
            (
                "retention_days",
                Govern,
                put(&mut channel.retention_days, self.retention_days),
            ),
        ];
        let changed = fields.into_iter().filter(|(.., changes)| *changes);
        changed
            .map(|(name, capability, _)| (name, capability))
            .collect()
    }
}

/// Which channel to change, and under which terms.
#[derive(Debug)]
pub struct Edit {
    /// The channel.
    pub id: ChannelId,
    /// The etag that it must have.
    pub etag: Option<String>,
}

impl Edit {
    fn check_etag(&self, channel: &Channel) -> Result<(), Error> {
        check_etag(self.etag.as_deref(), channel.etag())
    }
}

/// Changes a channel, if its etag is still the one given.
///
/// # Errors
/// There is none, its etag is another one, who acts may not, it is archived, or its new name is
/// taken.
pub async fn update(conn: &mut TenantConn, edit: Edit, patch: ChannelPatch) -> Result<Seen, Error> {
    let facts = conn.facts().clone();
    conn.transaction(async |conn| {
        let mut seen = lock(conn, edit.id).await?;
        edit.check_etag(&seen.channel)?;
        if patch.name.is_some() && seen.channel.kind.is_fixed() {
            let problem = "cannot be set: direct and group channels have none";
            return Err(Error::invalid("name", problem));
        }
        let mut channel = seen.channel.clone();
        let changed = patch.apply(&mut channel);
        if changed.is_empty() {
            return Ok(seen);
        }
        for (_, capability) in &changed {
            seen.check(&facts, *capability)?;
        }
        let changed: Vec<_> = changed.into_iter().map(|(name, _)| name).collect();
        let updated = diesel::update(channels::table.find(edit.id))
            .set((
                channels::name.eq(&channel.name),
                channels::name_key.eq(fold(&channel.name)),
                channels::topic.eq(&channel.topic),
                channels::metadata.eq(&channel.metadata),
                channels::posting_policy.eq(channel.posting_policy),
                channels::broadcast_policy.eq(channel.broadcast_policy),
                channels::invite_policy.eq(channel.invite_policy),
                channels::retention_days.eq(channel.retention_days),
                channels::version.eq(channels::version + 1),
                channels::edit_version.eq(channels::edit_version + 1),
                channels::updated_at.eq(sql("directory.now()")),
            ))
            .returning(Channel::as_returning())
            .get_result(conn)
            .await;
        seen.channel = updated.map_err(|error| taken(error, &channel.name))?;
        append(conn, seen.channel.change("channel.updated", changed)).await?;
        Ok(seen)
    })
    .await
}

/// Archives a channel, or brings it back.
///
/// # Errors
/// There is none, its etag is another one, who acts may not, or its name is taken by now.
pub async fn archive(conn: &mut TenantConn, edit: Edit, archived: bool) -> Result<Seen, Error> {
    let facts = conn.facts().clone();
    conn.transaction(async |conn| {
        let mut seen = lock(conn, edit.id).await?;
        edit.check_etag(&seen.channel)?;
        seen.check(&facts, Capability::Archive)?;
        if seen.channel.archived_at.is_some() == archived {
            return Ok(seen);
        }
        let (at, kind) = if archived {
            ("directory.now()", "channel.archived")
        } else {
            ("NULL", "channel.unarchived")
        };
        let changed = diesel::update(channels::table.find(edit.id))
            .set((
                channels::archived_at.eq(sql::<Nullable<Timestamptz>>(at)),
                channels::version.eq(channels::version + 1),
                channels::edit_version.eq(channels::edit_version + 1),
                channels::updated_at.eq(sql("directory.now()")),
            ))
            .returning(Channel::as_returning())
            .get_result(conn)
            .await;
        seen.channel = changed.map_err(|error| taken(error, &seen.channel.name))?;
        append(conn, seen.channel.change(kind, Vec::new())).await?;
        Ok(seen)
    })
    .await
}

/// Tells of a name that another channel has.
fn taken(error: DieselError, name: &str) -> Error {
    match &error {
        DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, violation)
            if violation.constraint_name() == Some("channels_name_key_key") =>
        {
            Error::AlreadyExists(Existing::ChannelName(name.to_owned()))
        }
        _ => error.into(),
    }
}
