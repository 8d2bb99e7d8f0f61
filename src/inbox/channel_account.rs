//! Channel accounts: by which of its accounts a tenant talks on a channel.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::channel::Channel;
use crate::error::{Error, InvalidRequest};
use crate::ids::ChannelAccountId;
use crate::schema::tenant::channel_accounts;
use crate::tenant::TenantConn;

/// How many accounts an error names.
const NAMED: i64 = 20;

/// Returns the account that a request means: the one named, or the channel's only one, or a
/// default one that is made now.
///
/// # Errors
/// The one named is missing or of another channel, or several could be meant.
pub async fn resolve(
    conn: &mut TenantConn,
    channel: Option<Channel>,
    id: Option<ChannelAccountId>,
) -> Result<(ChannelAccountId, Channel), Error> {
    match (id, channel) {
        (Some(id), channel) => {
            let found: Option<Channel> = channel_accounts::table
                .filter(channel_accounts::id.eq(id))
                .filter(channel_accounts::deleted_at.is_null())
                .select(channel_accounts::channel)
                .first(conn)
                .await
                .optional()?;
            let found = found.ok_or_else(|| Error::not_found("channel_account", id))?;
            if channel.is_some_and(|channel| channel != found) {
                let description = format!(
                    "is not the account's channel, which is `{}`",
                    found.as_str()
                );
                return Err(Error::invalid("channel", description));
            }
            Ok((id, found))
        }
        (None, Some(channel)) => Ok((of_channel(conn, channel).await?, channel)),
        (None, None) => Err(Error::invalid("channel", "is required")),
    }
}

async fn of_channel(conn: &mut TenantConn, channel: Channel) -> Result<ChannelAccountId, Error> {
    let all = channel_accounts::table
        .filter(channel_accounts::channel.eq(channel))
        .filter(channel_accounts::deleted_at.is_null())
        .order((channel_accounts::is_default, channel_accounts::id))
        .limit(NAMED)
        .select((channel_accounts::id, channel_accounts::is_default));
    let mut accounts: Vec<(ChannelAccountId, bool)> = all.load(conn).await?;
    if accounts.is_empty() {
        diesel::insert_into(channel_accounts::table)
            .values((
                channel_accounts::id.eq(ChannelAccountId::new()),
                channel_accounts::channel.eq(channel),
                channel_accounts::name.eq("default"),
                channel_accounts::is_default.eq(true),
            ))
            .on_conflict_do_nothing()
            .execute(conn)
            .await?;
        accounts = all.load(conn).await?;
    }
    // The default one stands in only while none is connected.
    if accounts.iter().any(|(_, is_default)| !is_default) {
        accounts.retain(|(_, is_default)| !is_default);
    }
    let accounts: Vec<_> = accounts.into_iter().map(|(id, _)| id).collect();
    match accounts.as_slice() {
        [only] => Ok(*only),
        several => Err(Error::InvalidRequest(InvalidRequest::AmbiguousAccount {
            channel: channel.as_str(),
            accounts: several.iter().map(ToString::to_string).collect(),
        })),
    }
}
