//! Moves channel accounts from one tenant to another.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::channel_account::{self, AccountSealers, AccountSecrets, open, seal};
use super::channel_settings::{AppName, Provider};
use super::provider_app::{self, AppSecrets};
use super::provision::{hold, use_schema};
use super::tenant::{State, Tenant};
use crate::channel::Channel;
use crate::error::{Conflict, Error};
use crate::ids::{AppId, ChannelAccountId, TenantId};
use crate::schema::directory::{channel_accounts, mailboxes, provider_apps, quarantine};

/// Moves an account in the open transaction, whose search path is the schema of the tenant that gets
/// it. One that is there already stays there.
///
/// # Errors
/// Neither tenant has such an account, or another has connected it since this one was disconnected.
pub async fn transfer(
    conn: &mut AsyncPgConnection,
    sealers: &AccountSealers,
    (source, target): (&Tenant, &Tenant),
    id: ChannelAccountId,
) -> Result<(), Error> {
    type Found = (TenantId, AppId, Channel, String, String, Vec<u8>);
    // From here on nobody purges it, whatever became of it.
    let state = hold(conn, source).await?;
    if state.is_none_or(|state| state == State::Provisioning) {
        return Err(Error::Aborted(Conflict::Transaction));
    }
    let found: Option<Found> = channel_accounts::table
        .find(id)
        .filter(channel_accounts::tenant_id.eq_any([source.id, target.id]))
        .select((
            channel_accounts::tenant_id,
            channel_accounts::app_id,
            channel_accounts::channel,
            channel_accounts::route_key,
            channel_accounts::name,
            channel_accounts::secrets,
        ))
        .for_no_key_update()
        .first(conn)
        .await
        .optional()?;
    let not_found = || Error::not_found("channel_account", id);
    let (owner, app, channel, route_key, name, sealed) = found.ok_or_else(not_found)?;
    if owner == target.id {
        return Ok(());
    }
    let others: i64 = channel_accounts::table
        .filter(channel_accounts::channel.eq(channel))
        .filter(channel_accounts::route_key.eq(&route_key))
        .filter(channel_accounts::id.ne(id))
        .filter(channel_account::held())
        .count()
        .get_result(conn)
        .await?;
    if others > 0 {
        return Err(channel_account::taken(channel, route_key));
    }
    // What hangs on it stays there.
    use_schema(conn, source).await?;
    channel_account::retire_in_tenant(conn, id).await?;
    use_schema(conn, target).await?;
    let secrets: AccountSecrets = open(&sealers.accounts.of(source.id)?, id.0, &sealed)?;
    let sealed = seal(&sealers.accounts.of(target.id)?, id.0, &secrets)?;
    let app = move_app(conn, sealers, (source, target), id, app).await?;
    diesel::update(channel_accounts::table.find(id))
        .set((
            channel_accounts::tenant_id.eq(target.id),
            channel_accounts::app_id.eq(app),
            channel_accounts::secrets.eq(sealed),
            channel_accounts::version.eq(channel_accounts::version + 1),
            channel_accounts::updated_at.eq(sql("directory.now()")),
            channel_accounts::disconnected_at.eq(None::<DateTime<Utc>>),
        ))
        .execute(conn)
        .await?;
    // What came so far is for who had it: neither read again from where it was read to, nor replayed.
    diesel::delete(mailboxes::table.find(id))
        .execute(conn)
        .await?;
    diesel::update(quarantine::table)
        .filter(quarantine::channel.eq(channel))
        .filter(quarantine::route_key.eq(&route_key))
        .filter(quarantine::reason.eq("unknown_account"))
        .filter(quarantine::replayed_at.is_null())
        .filter(quarantine::tenant_id.is_null())
        .set(quarantine::tenant_id.eq(source.id))
        .execute(conn)
        .await?;
    channel_account::put_in_tenant(conn, id, channel, &name).await
}

/// The app that signs for an account where it goes. One of the tenant's own goes along, so that its
/// webhooks keep their address; a copy does, where it also signs for what stays.
async fn move_app(
    conn: &mut AsyncPgConnection,
    sealers: &AccountSealers,
    (source, target): (&Tenant, &Tenant),
    account: ChannelAccountId,
    app: AppId,
) -> Result<AppId, Error> {
    type Found = (
        Option<TenantId>,
        Provider,
        String,
        Vec<u8>,
        Option<DateTime<Utc>>,
    );
    let found: Found = provider_apps::table
        .find(app)
        .select((
            provider_apps::tenant_id,
            provider_apps::provider,
            provider_apps::external_id,
            provider_apps::secrets,
            provider_apps::previous_expires_at,
        ))
        .for_no_key_update()
        .first(conn)
        .await?;
    let (owner, provider, external_id, sealed, previous_expires_at) = found;
    if owner != Some(source.id) {
        return Ok(app);
    }
    let name = AppName {
        provider,
        external_id,
        own: true,
    };
    if let Some((theirs, _)) = provider_app::find(conn, &name, Some(target.id)).await? {
        return Ok(theirs);
    }
    let others: i64 = channel_accounts::table
        .filter(channel_accounts::app_id.eq(app))
        .filter(channel_accounts::id.ne(account))
        .count()
        .get_result(conn)
        .await?;
    let secrets: AppSecrets = open(&sealers.apps.of(owner)?, app.0, &sealed)?;
    let sealer = sealers.apps.of(Some(target.id))?;
    if others == 0 {
        diesel::update(provider_apps::table.find(app))
            .set((
                provider_apps::tenant_id.eq(target.id),
                provider_apps::secrets.eq(seal(&sealer, app.0, &secrets)?),
                provider_apps::updated_at.eq(sql("directory.now()")),
            ))
            .execute(conn)
            .await?;
        return Ok(app);
    }
    let kept = (&secrets, previous_expires_at);
    let copy = provider_app::make(conn, &sealer, &name, Some(target.id), kept).await?;
    copy.ok_or(Error::Aborted(Conflict::Transaction))
}
