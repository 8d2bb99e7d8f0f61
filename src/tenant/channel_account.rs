//! Channel accounts: which account of a provider is whose, and the apps that sign for them.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::conn::PooledConn;
use super::tenant::{State, Tenant};
use crate::channel::Channel;
use crate::error::{Conflict, Denial, Error, Existing};
use crate::ids::{AppId, ChannelAccountId, TenantId};
use crate::master_key::{Sealer, TenantSealers, place};
use crate::page::PageSize;
use crate::schema::directory::{channel_accounts, provider_apps, tenants};
use crate::schema::tenant::channel_accounts as own_accounts;
use crate::stored_enum::stored_enum;

/// How many apps the deployment can have: with each of them, a webhook without a key is tried.
const MOST_SHARED: i64 = 32;

stored_enum! {
    /// Who signs webhooks.
    Provider {
        /// Meta: WhatsApp, Messenger, Instagram.
        Meta = "meta",
    }
}

/// Seals what providers entrust to accounts and apps.
#[derive(Clone)]
pub struct AccountSealers {
    /// Of apps.
    pub apps: Sealer,
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
    /// When it was disconnected.
    pub disconnected_at: Option<DateTime<Utc>>,
}

/// What is particular to a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "channel", rename_all = "snake_case")]
pub enum Settings {
    /// A WhatsApp account.
    Whatsapp(WhatsappSettings),
}

impl Settings {
    /// The channel.
    pub fn channel(&self) -> Channel {
        match self {
            Self::Whatsapp(_) => Channel::Whatsapp,
        }
    }

    /// By what webhooks name the account.
    pub fn route_key(&self) -> &str {
        match self {
            Self::Whatsapp(settings) => &settings.phone_number_id,
        }
    }
}

/// A phone number on the WhatsApp Business Platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhatsappSettings {
    /// Meta's id of the phone number.
    pub phone_number_id: String,
    /// Meta's id of the app.
    pub app_id: String,
    /// Whether the app is the tenant's own.
    pub own_app: bool,
    /// Meta's id of the business account.
    pub business_account_id: String,
    /// The phone number for people.
    pub display_phone_number: String,
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
    /// Its own secrets.
    pub secrets: AccountSecrets,
    /// Whether it is connected by who may do so for all tenants, and so what is the deployment's.
    pub for_all: bool,
}

/// What an app and its provider share. Empty: not given.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppSecrets {
    /// Signs webhooks.
    pub app_secret: String,
    /// The one before, which signs until the provider has learned of the new one.
    #[serde(default)]
    pub previous_app_secret: String,
    /// Proves a subscription.
    pub verify_token: String,
}

/// What an account and its provider share.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct AccountSecrets {
    /// Lets us send.
    pub access_token: String,
}

impl std::fmt::Debug for AppSecrets {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("***")
    }
}

impl std::fmt::Debug for AccountSecrets {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("***")
    }
}

/// An app, with its secrets.
#[derive(Debug, Clone)]
pub struct App {
    /// Its id, which is the key in its webhooks' address.
    pub id: AppId,
    /// What it shares with its provider.
    pub secrets: AppSecrets,
}

/// Where the items of a connected account go.
#[derive(Debug, Clone, Queryable)]
pub struct Route {
    /// The account.
    pub account: ChannelAccountId,
    /// The app that has to have signed.
    pub app: AppId,
    /// By what webhooks name the account.
    pub key: String,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// The tenant's slug.
    pub tenant: String,
    /// Where the tenant stands.
    pub state: State,
}

/// Returns the apps that a webhook may be signed by: the one with that key, or those of the
/// deployment.
pub async fn apps(
    conn: &mut PooledConn,
    sealer: &Sealer,
    provider: Provider,
    key: Option<AppId>,
) -> Result<Vec<App>, Error> {
    let mut wanted = provider_apps::table
        .filter(provider_apps::provider.eq(provider))
        .select((provider_apps::id, provider_apps::secrets))
        .order(provider_apps::id)
        .limit(MOST_SHARED)
        .into_boxed();
    wanted = match key {
        Some(key) => wanted.filter(provider_apps::id.eq(key)),
        None => wanted.filter(provider_apps::tenant_id.is_null()),
    };
    let rows: Vec<(AppId, Vec<u8>)> = wanted.load(conn).await?;
    rows.into_iter()
        .map(|(id, sealed)| {
            let secrets = open(sealer, id.0, &sealed)?;
            Ok(App { id, secrets })
        })
        .collect()
}

/// Returns where the items of some accounts go.
pub async fn routes(
    conn: &mut PooledConn,
    channel: Channel,
    keys: &[&str],
) -> Result<Vec<Route>, Error> {
    let connected = channel_accounts::table
        .inner_join(tenants::table)
        .filter(channel_accounts::channel.eq(channel))
        .filter(channel_accounts::route_key.eq_any(keys))
        .filter(channel_accounts::disconnected_at.is_null())
        .select((
            channel_accounts::id,
            channel_accounts::app_id,
            channel_accounts::route_key,
            tenants::id,
            tenants::slug,
            tenants::state,
        ));
    Ok(connected.load(conn).await?)
}

/// Finds an account of a tenant.
pub async fn find(
    conn: &mut PooledConn,
    slug: &str,
    id: ChannelAccountId,
) -> Result<Option<ChannelAccount>, Error> {
    let account = channel_accounts::table
        .inner_join(tenants::table)
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
        .filter(channel_accounts::route_key.eq(route_key));
    let connected: Option<(ChannelAccountId, TenantId)> = of_key
        .filter(channel_accounts::disconnected_at.is_null())
        .select((channel_accounts::id, channel_accounts::tenant_id))
        .for_no_key_update()
        .first(conn)
        .await
        .optional()?;
    let (known, connecting) = match connected {
        Some((id, owner)) if owner == tenant.id => (Some(id), false),
        Some(_) => {
            return Err(Error::AlreadyExists(Existing::ChannelAccount {
                channel: channel.as_str(),
                key: route_key.to_owned(),
            }));
        }
        None => {
            // The one that it was: its contacts and conversations hang on its id.
            let before = of_key
                .filter(channel_accounts::tenant_id.eq(tenant.id))
                .select(channel_accounts::id)
                .order(channel_accounts::id.desc())
                .for_no_key_update()
                .first(conn)
                .await
                .optional()?;
            (before, true)
        }
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
        let made = diesel::insert_into(channel_accounts::table)
            .values((
                channel_accounts::id.eq(id),
                channel_accounts::tenant_id.eq(tenant.id),
                channel_accounts::channel.eq(channel),
                channel_accounts::route_key.eq(route_key),
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
    diesel::insert_into(own_accounts::table)
        .values((
            own_accounts::id.eq(id),
            own_accounts::channel.eq(channel),
            own_accounts::name.eq(&new.name),
            own_accounts::is_default.eq(false),
        ))
        .on_conflict(own_accounts::id)
        .do_update()
        .set((
            own_accounts::name.eq(&new.name),
            own_accounts::version.eq(own_accounts::version + 1),
            own_accounts::updated_at.eq(sql::<Timestamptz>("directory.now()")),
            own_accounts::deleted_at.eq(None::<DateTime<Utc>>),
        ))
        .execute(conn)
        .await?;
    Ok((id, connecting))
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
    let ours = channel_accounts::table
        .find(id)
        .filter(channel_accounts::tenant_id.eq(tenant));
    let disconnected: Option<Option<DateTime<Utc>>> = ours
        .select(channel_accounts::disconnected_at)
        .for_no_key_update()
        .first(conn)
        .await
        .optional()?;
    let disconnected = disconnected.ok_or_else(|| Error::not_found("channel_account", id))?;
    if disconnected.is_some() {
        return Ok(());
    }
    diesel::update(ours)
        .set((
            channel_accounts::version.eq(channel_accounts::version + 1),
            channel_accounts::updated_at.eq(sql("directory.now()")),
            channel_accounts::disconnected_at.eq(sql("directory.now()")),
        ))
        .execute(conn)
        .await?;
    diesel::update(own_accounts::table.find(id))
        .set((
            own_accounts::version.eq(own_accounts::version + 1),
            own_accounts::updated_at.eq(sql::<Timestamptz>("directory.now()")),
            own_accounts::deleted_at.eq(sql("directory.now()")),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Returns the app that signs for a new account, making it if it is new.
///
/// What is the deployment's is for those who may act for all tenants: others can connect an account
/// to such an app if they know its secret, and change nothing of it.
async fn app_of(
    conn: &mut AsyncPgConnection,
    sealer: &Sealer,
    tenant: &Tenant,
    new: &NewAccount,
) -> Result<AppId, Error> {
    let Settings::Whatsapp(settings) = &new.settings;
    let owner = settings.own_app.then_some(tenant.id);
    let given = &new.app_secrets;
    let may_change = new.for_all || owner.is_some();
    let denied = || Error::PermissionDenied(Denial::Tenant("*".to_owned()));
    let wanted = provider_apps::table
        .filter(provider_apps::provider.eq(Provider::Meta))
        .filter(provider_apps::external_id.eq(&settings.app_id))
        .filter(provider_apps::tenant_id.is_not_distinct_from(owner))
        .select((provider_apps::id, provider_apps::secrets))
        // Not FOR UPDATE: every delivery refers to its app, and would wait.
        .for_no_key_update();
    let mut known: Option<(AppId, Vec<u8>)> = wanted.first(conn).await.optional()?;
    if known.is_none() {
        if !may_change {
            return Err(denied());
        }
        let field = "whatsapp_secrets.app_secret";
        if given.app_secret.is_empty() {
            return Err(Error::invalid(field, "is required for an app that is new"));
        }
        if owner.is_none() && count_shared(conn).await? >= MOST_SHARED {
            let limit = format!("must be set: the deployment has its {MOST_SHARED} apps already");
            return Err(Error::invalid("whatsapp.own_app", limit));
        }
        let id = AppId::new();
        let made = diesel::insert_into(provider_apps::table)
            .values((
                provider_apps::id.eq(id),
                provider_apps::provider.eq(Provider::Meta),
                provider_apps::external_id.eq(&settings.app_id),
                provider_apps::tenant_id.eq(owner),
                provider_apps::secrets.eq(seal(sealer, id.0, given)?),
            ))
            .on_conflict_do_nothing()
            .execute(conn)
            .await?;
        if made == 1 {
            return Ok(id);
        }
        known = wanted.first(conn).await.optional()?;
    }
    let (id, sealed) = known.ok_or(Error::Aborted(Conflict::Transaction))?;
    let known: AppSecrets = open(sealer, id.0, &sealed)?;
    let secrets = known.clone().changed_by(given);
    if secrets == known && (may_change || given.app_secret == known.app_secret) {
        return Ok(id);
    }
    if !may_change {
        return Err(denied());
    }
    diesel::update(provider_apps::table.find(id))
        .set((
            provider_apps::secrets.eq(seal(sealer, id.0, &secrets)?),
            provider_apps::updated_at.eq(sql("directory.now()")),
        ))
        .execute(conn)
        .await?;
    Ok(id)
}

impl AppSecrets {
    /// What was known, and what is given now in its place. The secret before goes on to be valid:
    /// the provider may learn of the new one later.
    fn changed_by(mut self, given: &Self) -> Self {
        if !given.app_secret.is_empty() && given.app_secret != self.app_secret {
            self.previous_app_secret =
                std::mem::replace(&mut self.app_secret, given.app_secret.clone());
        }
        if !given.verify_token.is_empty() {
            self.verify_token.clone_from(&given.verify_token);
        }
        self
    }
}

async fn count_shared(conn: &mut AsyncPgConnection) -> Result<i64, Error> {
    let shared = provider_apps::table
        .filter(provider_apps::provider.eq(Provider::Meta))
        .filter(provider_apps::tenant_id.is_null());
    Ok(shared.count().get_result(conn).await?)
}

fn seal<T: Serialize>(sealer: &Sealer, row: Uuid, plain: &T) -> Result<Vec<u8>, Error> {
    let plain = serde_json::to_vec(plain).map_err(Error::internal)?;
    sealer.seal(place(row, "secrets"), plain)
}

fn open<T: for<'a> Deserialize<'a>>(sealer: &Sealer, row: Uuid, sealed: &[u8]) -> Result<T, Error> {
    let plain = sealer
        .open(place(row, "secrets"), sealed)
        .ok_or_else(|| Error::internal("the secrets of a provider cannot be opened"))?;
    serde_json::from_slice(&plain).map_err(Error::internal)
}
