//! Channel accounts: which account of a provider is whose, and the apps that sign for them.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{self, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::channel_settings::Settings;
use super::conn::PooledConn;
use super::provider_app::{AppSealers, AppSecrets, app_of};
use super::tenant::Tenant;
use crate::channel::Channel;
use crate::error::{Conflict, Error, Existing, Precondition};
use crate::etag::etag;
use crate::ids::{AppId, ChannelAccountId, TenantId};
use crate::master_key::{Sealer, TenantSealers, place};
use crate::page::PageSize;
use crate::schema::directory::{channel_accounts, mailboxes, provider_apps, tenants};
use crate::schema::tenant::channel_accounts as own_accounts;

/// Seals what providers entrust to accounts and apps.
#[derive(Clone)]
pub struct AccountSealers {
    /// Of apps.
    pub apps: AppSealers,
    /// Of accounts.
    pub accounts: TenantSealers,
}

/// An account, as the directory knows it.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = channel_accounts, check_for_backend(diesel::pg::Pg))]
pub struct ChannelAccount {
    /// Its id.
    pub id: ChannelAccountId,
    /// Whose it is.
    #[diesel(select_expression = tenants::slug)]
    pub tenant: String,
    /// The app that signs for it.
    pub app_id: AppId,
    /// What it is for.
    pub channel: Channel,
    /// What people call it.
    pub name: String,
    /// What is particular to the channel.
    pub settings: Value,
    /// When it was first connected.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// Goes up with every change.
    pub version: i64,
    /// When it was disconnected.
    pub disconnected_at: Option<DateTime<Utc>>,
    /// Since when it is disabled.
    pub disabled_at: Option<DateTime<Utc>>,
    /// When its provider first proved that it is this one.
    pub proved_at: Option<DateTime<Utc>>,
    /// What the provider last said of it.
    pub provider_state: String,
    /// When it said so.
    pub provider_state_at: Option<DateTime<Utc>>,
    /// Until when the secret before is valid.
    #[diesel(select_expression = provider_apps::previous_expires_at)]
    pub previous_secret_expires_at: Option<DateTime<Utc>>,
}

impl ChannelAccount {
    /// What stands for it as it is.
    pub fn etag(&self) -> String {
        etag(self.version)
    }
}

/// An account to connect.
#[derive(Debug)]
pub struct NewAccount {
    /// What people call it.
    pub name: String,
    /// What is particular to the channel.
    pub settings: Settings,
    /// The secrets of its app.
    pub app_secrets: AppSecrets,
    /// What a request calls the secret of its app.
    pub secret_field: &'static str,
    /// Its own secrets.
    pub secrets: AccountSecrets,
    /// Whether it is connected by who may do so for all tenants, and so what is the deployment's.
    pub for_all: bool,
}

/// A change of a connected account.
#[derive(Debug)]
pub struct AccountChange {
    /// The account.
    pub account: ChannelAccountId,
    /// The version that was read before.
    pub version: i64,
    /// What it is to be.
    pub new: NewAccount,
}

/// What an account and its provider share.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct AccountSecrets {
    /// Lets us send.
    pub access_token: String,
}

impl std::fmt::Debug for AccountSecrets {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("***")
    }
}

/// Returns what is particular to an account.
pub async fn settings(conn: &mut PooledConn, id: ChannelAccountId) -> Result<Settings, Error> {
    let settings: Value = channel_accounts::table
        .find(id)
        .select(channel_accounts::settings)
        .first(conn)
        .await?;
    serde_json::from_value(settings).map_err(Error::internal)
}

/// What lets us ask the provider of an account.
pub struct AccountAccess {
    /// Whose it is.
    pub tenant_id: TenantId,
    /// What is particular to its channel.
    pub settings: Settings,
    /// The token that it was given.
    pub access_token: String,
    /// The secret of its app.
    pub app_secret: String,
}

/// Returns what lets us ask the provider of an account.
pub async fn access(
    conn: &mut PooledConn,
    sealers: &AccountSealers,
    id: ChannelAccountId,
) -> Result<AccountAccess, Error> {
    let (settings, tenant, app, app_owner, account_sealed, app_sealed): (
        Value,
        TenantId,
        AppId,
        Option<TenantId>,
        Vec<u8>,
        Vec<u8>,
    ) = channel_accounts::table
        .inner_join(provider_apps::table)
        .filter(channel_accounts::id.eq(id))
        .select((
            channel_accounts::settings,
            channel_accounts::tenant_id,
            provider_apps::id,
            provider_apps::tenant_id,
            channel_accounts::secrets,
            provider_apps::secrets,
        ))
        .first(conn)
        .await?;
    let of_account: AccountSecrets = open(&sealers.accounts.of(tenant)?, id.0, &account_sealed)?;
    let of_app: AppSecrets = open(&sealers.apps.of(app_owner)?, app.0, &app_sealed)?;
    Ok(AccountAccess {
        tenant_id: tenant,
        settings: serde_json::from_value(settings).map_err(Error::internal)?,
        access_token: of_account.access_token,
        app_secret: of_app.app_secret,
    })
}

/// The longest word of a provider for the state of an account, in characters.
const MAX_STATE: usize = 100;

/// Notes what a provider said of an account, unless it has said something newer.
pub async fn note_state(
    conn: &mut PooledConn,
    id: ChannelAccountId,
    state: &str,
    at: DateTime<Utc>,
) -> Result<(), Error> {
    let state: String = state.chars().take(MAX_STATE).collect();
    let older = channel_accounts::provider_state_at
        .is_null()
        .or(channel_accounts::provider_state_at.le(at));
    diesel::update(channel_accounts::table.find(id))
        .filter(older)
        .set((
            channel_accounts::provider_state.eq(state),
            channel_accounts::provider_state_at.eq(at),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Notes what Meta said of a business account, for all its numbers that an app signs for, unless it
/// has said something newer.
pub async fn note_business_state(
    conn: &mut PooledConn,
    app: AppId,
    business_account: &str,
    (state, at): (&str, DateTime<Utc>),
) -> Result<(), Error> {
    let state: String = state.chars().take(MAX_STATE).collect();
    diesel::sql_query(
        "UPDATE directory.channel_accounts SET provider_state = $3, provider_state_at = $4
        WHERE app_id = $1 AND channel = $5 AND settings ->> 'business_account_id' = $2
            AND disconnected_at IS NULL
            AND (provider_state_at IS NULL OR provider_state_at <= $4)",
    )
    .bind::<sql_types::Uuid, _>(app)
    .bind::<Text, _>(business_account)
    .bind::<Text, _>(state)
    .bind::<Timestamptz, _>(at)
    .bind::<Text, _>(Channel::Whatsapp)
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that the provider of some accounts has proved that they are these.
pub async fn note_proved(conn: &mut PooledConn, ids: &[ChannelAccountId]) -> Result<(), Error> {
    diesel::update(channel_accounts::table)
        .filter(channel_accounts::id.eq_any(ids))
        .filter(channel_accounts::proved_at.is_null())
        // Somebody else may have connected it since.
        .filter(channel_accounts::disconnected_at.is_null())
        .set(channel_accounts::proved_at.eq(sql::<Nullable<Timestamptz>>("directory.now()")))
        .execute(conn)
        .await?;
    Ok(())
}

/// Finds an account of a tenant.
pub async fn find(
    conn: &mut PooledConn,
    slug: &str,
    id: ChannelAccountId,
) -> Result<Option<ChannelAccount>, Error> {
    let account = channel_accounts::table
        .inner_join(tenants::table)
        .inner_join(provider_apps::table)
        .filter(channel_accounts::id.eq(id))
        .filter(tenants::slug.eq(slug))
        .select(ChannelAccount::as_select());
    Ok(account.first(conn).await.optional()?)
}

/// Lists the accounts of a tenant, the oldest first, after one of them.
pub async fn list(
    conn: &mut PooledConn,
    slug: &str,
    disconnected: bool,
    size: PageSize,
    after: Option<ChannelAccountId>,
) -> Result<Vec<ChannelAccount>, Error> {
    let mut page = channel_accounts::table
        .inner_join(tenants::table)
        .inner_join(provider_apps::table)
        .filter(tenants::slug.eq(slug))
        .order(channel_accounts::id)
        .limit(size.rows())
        .select(ChannelAccount::as_select())
        .into_boxed();
    if !disconnected {
        page = page.filter(channel_accounts::disconnected_at.is_null());
    }
    if let Some(after) = after {
        page = page.filter(channel_accounts::id.gt(after));
    }
    Ok(page.load(conn).await?)
}

/// Connects an account in the open transaction, whose search path is the tenant's schema; tells
/// whether it was not connected before.
///
/// # Errors
/// The account is another tenant's, or the app is known by another secret.
pub async fn connect(
    conn: &mut AsyncPgConnection,
    sealers: &AccountSealers,
    tenant: &Tenant,
    new: NewAccount,
) -> Result<(ChannelAccountId, bool), Error> {
    let app = app_of(conn, &sealers.apps, tenant, &new).await?;
    let channel = new.settings.channel();
    let route_key = new.settings.route_key();
    let of_key = channel_accounts::table
        .filter(channel_accounts::channel.eq(channel))
        .filter(channel_accounts::route_key.eq(&route_key));
    let known: Option<(ChannelAccountId, TenantId, Option<DateTime<Utc>>)> = of_key
        .filter(held().or(channel_accounts::tenant_id.eq(tenant.id)))
        .select((
            channel_accounts::id,
            channel_accounts::tenant_id,
            channel_accounts::disconnected_at,
        ))
        // Whoever has it comes before what the tenant itself once had.
        .order((held().desc(), channel_accounts::id.desc()))
        .for_no_key_update()
        .first(conn)
        .await
        .optional()?;
    let (known, connecting) = match known {
        Some((id, owner, disconnected)) if owner == tenant.id => (Some(id), disconnected.is_some()),
        Some(_) => return Err(taken(channel, route_key)),
        None => (None, true),
    };
    let id = known.unwrap_or_default();
    let settings = serde_json::to_value(&new.settings).map_err(Error::internal)?;
    let sealer = sealers.accounts.of(tenant.id)?;
    let mut secrets = new.secrets.clone();
    if secrets.access_token.is_empty() && known.is_some() {
        let kept: Vec<u8> = channel_accounts::table
            .find(id)
            .select(channel_accounts::secrets)
            .first(conn)
            .await?;
        secrets = open(&sealer, id.0, &kept)?;
    }
    let sealed = seal(&sealer, id.0, &secrets)?;
    let values = (
        channel_accounts::app_id.eq(app),
        channel_accounts::name.eq(&new.name),
        channel_accounts::settings.eq(settings),
        channel_accounts::secrets.eq(sealed),
    );
    if known.is_some() {
        diesel::update(channel_accounts::table.find(id))
            .set((
                values,
                channel_accounts::version.eq(channel_accounts::version + 1),
                channel_accounts::updated_at.eq(sql("directory.now()")),
                channel_accounts::disconnected_at.eq(None::<DateTime<Utc>>),
            ))
            .execute(conn)
            .await?;
    } else {
        // The name of a widget is of our own making.
        let proved_at = match channel {
            Channel::Web => "directory.now()",
            _ => "NULL",
        };
        let made = diesel::insert_into(channel_accounts::table)
            .values((
                channel_accounts::id.eq(id),
                channel_accounts::tenant_id.eq(tenant.id),
                channel_accounts::channel.eq(channel),
                channel_accounts::route_key.eq(&route_key),
                channel_accounts::proved_at.eq(sql::<Nullable<Timestamptz>>(proved_at)),
                values,
            ))
            .on_conflict_do_nothing()
            .execute(conn)
            .await?;
        if made == 0 {
            // Connected by somebody else a moment earlier: trying again finds out by whom.
            return Err(Error::Aborted(Conflict::Transaction));
        }
    }
    put_in_tenant(conn, id, channel, &new.name).await?;
    Ok((id, connecting))
}

/// Accounts that nobody else can connect.
#[diesel::dsl::auto_type(no_type_alias)]
pub(super) fn held() -> _ {
    channel_accounts::disconnected_at
        .is_null()
        .or(channel_accounts::proved_at.is_not_null())
}

pub(super) fn taken(channel: Channel, key: String) -> Error {
    let channel = channel.as_str();
    Error::AlreadyExists(Existing::ChannelAccount { channel, key })
}

/// Takes an account into use in the tenant whose schema is the search path.
pub(super) async fn put_in_tenant(
    conn: &mut AsyncPgConnection,
    id: ChannelAccountId,
    channel: Channel,
    name: &str,
) -> Result<(), Error> {
    let is_read = matches!(
        channel,
        Channel::Gmail | Channel::TwilioWhatsapp | Channel::TwilioCall
    );
    if is_read {
        // Whatever kept it from being read may be mended.
        diesel::insert_into(mailboxes::table)
            .values((
                mailboxes::account_id.eq(id),
                mailboxes::due_at.eq(sql::<Timestamptz>("directory.now()")),
            ))
            .on_conflict(mailboxes::account_id)
            .do_update()
            .set(mailboxes::due_at.eq(sql::<Timestamptz>("directory.now()")))
            .execute(conn)
            .await?;
    }
    diesel::insert_into(own_accounts::table)
        .values((
            own_accounts::id.eq(id),
            own_accounts::channel.eq(channel),
            own_accounts::name.eq(name),
            own_accounts::is_default.eq(false),
        ))
        .on_conflict(own_accounts::id)
        .do_update()
        .set((
            own_accounts::name.eq(name),
            own_accounts::version.eq(own_accounts::version + 1),
            own_accounts::updated_at.eq(sql::<Timestamptz>("directory.now()")),
            own_accounts::deleted_at.eq(None::<DateTime<Utc>>),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Takes an account out of use in the tenant whose schema is the search path.
pub(super) async fn retire_in_tenant(
    conn: &mut AsyncPgConnection,
    id: ChannelAccountId,
) -> Result<(), Error> {
    diesel::update(own_accounts::table.find(id))
        .filter(own_accounts::deleted_at.is_null())
        .set((
            own_accounts::version.eq(own_accounts::version + 1),
            own_accounts::updated_at.eq(sql::<Timestamptz>("directory.now()")),
            own_accounts::deleted_at.eq(sql("directory.now()")),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Refuses a change that does not fit a connected account, and locks the account.
///
/// # Errors
/// The tenant has no such account, it is disconnected or has changed since, or would become another.
pub async fn check(
    conn: &mut AsyncPgConnection,
    tenant: &Tenant,
    change: &AccountChange,
) -> Result<(), Error> {
    let id = change.account;
    let found: Option<(i64, String, Value, Option<DateTime<Utc>>)> = channel_accounts::table
        .find(id)
        .filter(channel_accounts::tenant_id.eq(tenant.id))
        .select((
            channel_accounts::version,
            channel_accounts::route_key,
            channel_accounts::settings,
            channel_accounts::disconnected_at,
        ))
        .for_no_key_update()
        .first(conn)
        .await
        .optional()?;
    let not_found = || Error::not_found("channel_account", id);
    let (version, route_key, settings, disconnected_at) = found.ok_or_else(not_found)?;
    if disconnected_at.is_some() {
        let why = Precondition::ChannelAccountDisconnected(id.to_string());
        return Err(Error::FailedPrecondition(why));
    }
    if version != change.version {
        return Err(Error::Aborted(Conflict::Transaction));
    }
    let known: Settings = serde_json::from_value(settings).map_err(Error::internal)?;
    let wanted = &change.new.settings;
    let is_same = wanted.channel() == known.channel()
        && wanted.route_key() == route_key
        && wanted.app() == known.app();
    if is_same {
        return Ok(());
    }
    Err(Error::invalid(
        wanted.channel().as_str(),
        "names another account or app: connect that one",
    ))
}

/// Locks an account of a tenant; tells since when it is disconnected and disabled.
async fn lock(
    conn: &mut AsyncPgConnection,
    tenant: TenantId,
    id: ChannelAccountId,
) -> Result<(Option<DateTime<Utc>>, Option<DateTime<Utc>>), Error> {
    let found = channel_accounts::table
        .find(id)
        .filter(channel_accounts::tenant_id.eq(tenant))
        .select((
            channel_accounts::disconnected_at,
            channel_accounts::disabled_at,
        ))
        .for_no_key_update()
        .first(conn)
        .await
        .optional()?;
    found.ok_or_else(|| Error::not_found("channel_account", id))
}

/// Disables an account, or enables it again.
///
/// # Errors
/// The tenant has no such account.
pub async fn disable(
    conn: &mut AsyncPgConnection,
    tenant: TenantId,
    id: ChannelAccountId,
    disables: bool,
) -> Result<(), Error> {
    let (_, disabled) = lock(conn, tenant, id).await?;
    if disabled.is_some() == disables {
        return Ok(());
    }
    let since = if disables { "directory.now()" } else { "NULL" };
    diesel::update(channel_accounts::table.find(id))
        .set((
            channel_accounts::version.eq(channel_accounts::version + 1),
            channel_accounts::updated_at.eq(sql("directory.now()")),
            channel_accounts::disabled_at.eq(sql(since)),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Disconnects an account in the open transaction, whose search path is the tenant's schema.
///
/// # Errors
/// The tenant has no such account.
pub async fn disconnect(
    conn: &mut AsyncPgConnection,
    tenant: TenantId,
    id: ChannelAccountId,
) -> Result<(), Error> {
    let (disconnected, _) = lock(conn, tenant, id).await?;
    if disconnected.is_some() {
        return Ok(());
    }
    diesel::update(channel_accounts::table.find(id))
        .set((
            channel_accounts::version.eq(channel_accounts::version + 1),
            channel_accounts::updated_at.eq(sql("directory.now()")),
            channel_accounts::disconnected_at.eq(sql("directory.now()")),
        ))
        .execute(conn)
        .await?;
    retire_in_tenant(conn, id).await
}

pub(super) fn seal<T: Serialize>(sealer: &Sealer, row: Uuid, plain: &T) -> Result<Vec<u8>, Error> {
    let plain = serde_json::to_vec(plain).map_err(Error::internal)?;
    sealer.seal(place(row, "secrets"), plain)
}

pub(super) fn open<T: for<'a> Deserialize<'a>>(
    sealer: &Sealer,
    row: Uuid,
    sealed: &[u8],
) -> Result<T, Error> {
    let plain = sealer
        .open(place(row, "secrets"), sealed)
        .ok_or_else(|| Error::internal("the secrets of a provider cannot be opened"))?;
    serde_json::from_slice(&plain).map_err(Error::internal)
}
