//! The apps that sign webhooks: which secrets they have, and how those change.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Nullable, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::channel_account::{NewAccount, open, seal};
use super::channel_settings::{AppName, Provider, route_prefix};
use super::conn::PooledConn;
use super::tenant::Tenant;
use crate::error::{Conflict, Denial, Error};
use crate::ids::{AppId, ChannelAccountId, TenantId};
use crate::master_key::{Sealer, TenantSealers};
use crate::schema::directory::{channel_accounts, provider_apps};

/// How many apps of one provider the deployment can have: with each of them, a webhook without a
/// key is tried.
const MOST_SHARED: i64 = 32;
/// How long the secret before stays valid where nobody says how long, in seconds.
pub const DEFAULT_OVERLAP_SECONDS: i64 = 24 * 3600;

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

impl std::fmt::Debug for AppSecrets {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("***")
    }
}

impl AppSecrets {
    /// What was known, and what is given now in its place.
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

/// Seals what apps share with their providers.
#[derive(Clone)]
pub struct AppSealers {
    /// Of the deployment's, which serve any tenant.
    pub deployment: Sealer,
    /// Of the tenants' own.
    pub tenants: TenantSealers,
}

impl AppSealers {
    /// The sealer for the apps of a tenant's own, or for those of the deployment.
    pub(super) fn of(&self, owner: Option<TenantId>) -> Result<Sealer, Error> {
        match owner {
            Some(owner) => self.tenants.of(owner),
            None => Ok(self.deployment.clone()),
        }
    }
}

/// An app, with the secrets that are valid.
#[derive(Debug, Clone)]
pub struct App {
    /// Its id, which is the key in its webhooks' address.
    pub id: AppId,
    /// Whose app it is.
    pub provider: Provider,
    /// What the provider calls it.
    pub external_id: String,
    /// What it shares with its provider.
    pub secrets: AppSecrets,
    /// The account that the address named, if it was an account.
    pub account: Option<ChannelAccountId>,
    /// Whether it was made so lately that it may still be set up at the provider.
    pub in_setup: bool,
}

impl App {
    /// The secrets by which a webhook may be signed.
    pub fn signing_secrets(&self) -> impl Iterator<Item = &str> {
        let secrets = [&self.secrets.app_secret, &self.secrets.previous_app_secret];
        let given = secrets.into_iter().filter(|secret| !secret.is_empty());
        given.map(String::as_str)
    }

    /// What stands before the keys in its bodies.
    pub fn route_prefix(&self) -> String {
        if self.provider.has_own_keys() {
            route_prefix(&self.external_id)
        } else {
            String::new()
        }
    }
}

/// Returns the apps that a webhook may be signed by: the one that has that key or whose account has
/// it, or those of the deployment.
pub async fn apps(
    conn: &mut PooledConn,
    sealers: &AppSealers,
    providers: &[Provider],
    key: Option<Uuid>,
) -> Result<Vec<App>, Error> {
    let mut account = None;
    let mut app = key.map(AppId);
    if let Some(key) = key {
        let named: Option<AppId> = channel_accounts::table
            .find(ChannelAccountId(key))
            .filter(channel_accounts::disconnected_at.is_null())
            .select(channel_accounts::app_id)
            .first(conn)
            .await
            .optional()?;
        if named.is_some() {
            account = Some(ChannelAccountId(key));
            app = named;
        }
    }
    let mut wanted = provider_apps::table
        .filter(provider_apps::provider.eq_any(providers.iter().copied()))
        .select((
            provider_apps::id,
            provider_apps::provider,
            provider_apps::external_id,
            provider_apps::tenant_id,
            provider_apps::secrets,
            // One from before the time was kept stays valid until it is changed.
            sql::<Bool>("coalesce(previous_expires_at > directory.now(), true)"),
            sql::<Bool>("created_at > directory.now() - interval '1 hour'"),
        ))
        .order(provider_apps::id)
        .limit(MOST_SHARED * i64::try_from(providers.len()).unwrap_or(1))
        .into_boxed();
    wanted = match app {
        Some(app) => wanted.filter(provider_apps::id.eq(app)),
        None => wanted.filter(provider_apps::tenant_id.is_null()),
    };
    type Row = (
        AppId,
        Provider,
        String,
        Option<TenantId>,
        Vec<u8>,
        bool,
        bool,
    );
    let rows: Vec<Row> = wanted.load(conn).await?;
    rows.into_iter()
        .map(
            |(id, provider, external_id, owner, sealed, previous_is_valid, in_setup)| {
                let mut secrets: AppSecrets = open(&sealers.of(owner)?, id.0, &sealed)?;
                if !previous_is_valid {
                    secrets.previous_app_secret.clear();
                }
                Ok(App {
                    id,
                    provider,
                    external_id,
                    secrets,
                    account,
                    in_setup,
                })
            },
        )
        .collect()
}

/// Returns the app that signs for a new account, making it if it is new.
///
/// What is the deployment's is for those who may act for all tenants: others can connect an account
/// to such an app if they know its secret, and change nothing of it.
pub async fn app_of(
    conn: &mut AsyncPgConnection,
    sealers: &AppSealers,
    tenant: &Tenant,
    new: &NewAccount,
) -> Result<AppId, Error> {
    let name = new.settings.app();
    let owner = name.own.then_some(tenant.id);
    let sealer = sealers.of(owner)?;
    let given = &new.app_secrets;
    let may_change = new.for_all || owner.is_some();
    let denied = || Error::PermissionDenied(Denial::Tenant("*".to_owned()));
    let mut known = find(conn, &name, owner).await?;
    if known.is_none() {
        if !may_change {
            return Err(denied());
        }
        if given.app_secret.is_empty() && name.provider.needs_secret() {
            return Err(Error::invalid(
                new.secret_field,
                "is required for an app that is new",
            ));
        }
        if owner.is_none() && count_shared(conn, name.provider).await? >= MOST_SHARED {
            let limit = format!("must be set: the deployment has its {MOST_SHARED} apps already");
            let field = format!("{}.own_app", new.settings.channel().as_str());
            return Err(Error::invalid(field, limit));
        }
        if let Some(id) = make(conn, &sealer, &name, owner, (given, None)).await? {
            return Ok(id);
        }
        known = find(conn, &name, owner).await?;
    }
    let (id, sealed) = known.ok_or(Error::Aborted(Conflict::Transaction))?;
    let known: AppSecrets = open(&sealer, id.0, &sealed)?;
    let secrets = known.clone().changed_by(given);
    if secrets == known && (may_change || given.app_secret == known.app_secret) {
        return Ok(id);
    }
    if !may_change {
        return Err(denied());
    }
    let rotates = secrets.app_secret != known.app_secret;
    let overlap = rotates.then_some(DEFAULT_OVERLAP_SECONDS);
    keep(conn, &sealer, id, &secrets, overlap).await?;
    Ok(id)
}

/// Another secret for the app of an account.
pub struct Rotation {
    /// The account.
    pub account: ChannelAccountId,
    /// What signs from now on.
    pub secret: String,
    /// How long the secret before stays valid, in seconds.
    pub overlap_seconds: i64,
    /// Whether it comes from who may act for all tenants.
    pub for_all: bool,
}

/// Gives the app of an account another secret, in the open transaction. The same secret again
/// changes nothing.
///
/// # Errors
/// The tenant has no such account, Amazon's certificate signs for it, or the app is the
/// deployment's and the caller may not change it.
pub async fn rotate(
    conn: &mut AsyncPgConnection,
    sealers: &AppSealers,
    tenant: TenantId,
    rotation: &Rotation,
) -> Result<(), Error> {
    type Found = (AppId, Provider, Option<TenantId>, Vec<u8>);
    let app: Option<Found> = provider_apps::table
        .inner_join(channel_accounts::table)
        .filter(channel_accounts::id.eq(rotation.account))
        .filter(channel_accounts::tenant_id.eq(tenant))
        .select((
            provider_apps::id,
            provider_apps::provider,
            provider_apps::tenant_id,
            provider_apps::secrets,
        ))
        // Not FOR UPDATE: every delivery refers to its app, and would wait.
        .for_no_key_update()
        .first(conn)
        .await
        .optional()?;
    let not_found = || Error::not_found("channel_account", rotation.account);
    let (app, provider, owner, sealed) = app.ok_or_else(not_found)?;
    if provider == Provider::Ses {
        return Err(Error::invalid(
            "channel_account_id",
            "is of SES, whose webhooks are signed by Amazon's certificate",
        ));
    }
    if owner.is_none() && !rotation.for_all {
        return Err(Error::PermissionDenied(Denial::Tenant("*".to_owned())));
    }
    let sealer = sealers.of(owner)?;
    let known: AppSecrets = open(&sealer, app.0, &sealed)?;
    let given = AppSecrets {
        app_secret: rotation.secret.clone(),
        ..AppSecrets::default()
    };
    let secrets = known.clone().changed_by(&given);
    if secrets == known {
        return Ok(());
    }
    let overlap = Some(rotation.overlap_seconds);
    keep(conn, &sealer, app, &secrets, overlap).await
}

/// Keeps the secrets of an app; the one before is valid for so many seconds, or as long as it was.
async fn keep(
    conn: &mut AsyncPgConnection,
    sealer: &Sealer,
    id: AppId,
    secrets: &AppSecrets,
    overlap_seconds: Option<i64>,
) -> Result<(), Error> {
    let until = match overlap_seconds {
        Some(seconds) => format!("directory.now() + interval '{seconds} seconds'"),
        None => "previous_expires_at".to_owned(),
    };
    diesel::update(provider_apps::table.find(id))
        .set((
            provider_apps::secrets.eq(seal(sealer, id.0, secrets)?),
            provider_apps::previous_expires_at.eq(sql::<Nullable<Timestamptz>>(&until)),
            provider_apps::updated_at.eq(sql("directory.now()")),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Makes an app with secrets, of which the one before is valid until a time; `None` where there is
/// one of that name already.
pub(super) async fn make(
    conn: &mut AsyncPgConnection,
    sealer: &Sealer,
    name: &AppName,
    owner: Option<TenantId>,
    (secrets, previous_expires_at): (&AppSecrets, Option<DateTime<Utc>>),
) -> Result<Option<AppId>, Error> {
    let id = AppId::new();
    let made = diesel::insert_into(provider_apps::table)
        .values((
            provider_apps::id.eq(id),
            provider_apps::provider.eq(name.provider),
            provider_apps::external_id.eq(&name.external_id),
            provider_apps::tenant_id.eq(owner),
            provider_apps::secrets.eq(seal(sealer, id.0, secrets)?),
            provider_apps::previous_expires_at.eq(previous_expires_at),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok((made == 1).then_some(id))
}

/// Finds the app of a name, of a tenant's own or of the deployment, and locks it.
pub(super) async fn find(
    conn: &mut AsyncPgConnection,
    name: &AppName,
    owner: Option<TenantId>,
) -> Result<Option<(AppId, Vec<u8>)>, Error> {
    let found = provider_apps::table
        .filter(provider_apps::provider.eq(name.provider))
        .filter(provider_apps::external_id.eq(&name.external_id))
        .filter(provider_apps::tenant_id.is_not_distinct_from(owner))
        .select((provider_apps::id, provider_apps::secrets))
        // Not FOR UPDATE: every delivery refers to its app, and would wait.
        .for_no_key_update();
    Ok(found.first(conn).await.optional()?)
}

async fn count_shared(conn: &mut AsyncPgConnection, provider: Provider) -> Result<i64, Error> {
    let shared = provider_apps::table
        .filter(provider_apps::provider.eq(provider))
        .filter(provider_apps::tenant_id.is_null());
    Ok(shared.count().get_result(conn).await?)
}
