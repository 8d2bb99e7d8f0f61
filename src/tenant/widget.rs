//! Chat widgets: what their visitors' calls need to know of them.

use diesel::prelude::*;
use diesel::sql_types::{Array, Bool, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::allowed_origin::AllowedOrigin;
use super::channel_account::{self, NewAccount};
use super::channel_settings::{Provider, Settings, WebSettings};
use super::conn::PooledConn;
use super::provider_app::{self, App, AppSealers};
use super::route::{self, Route, Sought};
use super::tenant::Tenant;
use crate::channel::Channel;
use crate::error::Error;
use crate::schema::directory::channel_accounts;

/// A connected widget.
#[derive(Debug)]
pub struct Widget {
    /// Whose it is.
    pub route: Route,
    /// What is particular to it.
    pub settings: WebSettings,
    /// What proves its users.
    proof: Option<App>,
}

impl Widget {
    /// Whether visitors are let in: it is not disabled, and its tenant not suspended.
    pub fn is_open(&self) -> bool {
        self.route.is_open()
    }

    /// Whether a call that names an origin, or none, is allowed.
    pub fn allows(&self, origin: Option<&str>) -> bool {
        let allowing = AllowedOrigin::of(origin).unwrap_or_default();
        let mut allowed = self.settings.allowed_origins.iter();
        allowed.any(|allowed| allowing.iter().any(|one| one == allowed.as_str()))
    }

    /// The secrets that its users may be proved by.
    pub fn identity_secrets(&self) -> impl Iterator<Item = &str> {
        self.proof.iter().flat_map(App::signing_secrets)
    }
}

/// Finds the connected widget of a token.
pub async fn find(
    conn: &mut PooledConn,
    apps: &AppSealers,
    token: &str,
) -> Result<Option<Widget>, Error> {
    let routes = route::find(conn, &Sought::named(Channel::Web, token)).await?;
    let Some(route) = routes.named(token).cloned() else {
        return Ok(None);
    };
    let Settings::Web(settings) = channel_account::settings(conn, route.account).await? else {
        return Err(Error::internal("an account of the web chat is none"));
    };
    let key = Some(route.account.0);
    let mut proofs = provider_app::apps(conn, apps, &[Provider::Widget], key).await?;
    Ok(Some(Widget {
        route,
        settings,
        proof: proofs.pop(),
    }))
}

#[derive(QueryableByName)]
struct Allowed {
    #[diesel(sql_type = Bool)]
    is_allowed: bool,
}

/// Tells whether an origin is that of a page of any connected widget. Who asks beforehand whether it
/// may call does not say which widget it is.
pub async fn is_origin_of_any(conn: &mut PooledConn, origin: &str) -> Result<bool, Error> {
    let Some(allowing) = AllowedOrigin::of(Some(origin)) else {
        return Ok(false);
    };
    let found: Allowed = diesel::sql_query(
        "SELECT EXISTS (
            SELECT FROM directory.channel_accounts
            WHERE channel = 'web' AND disconnected_at IS NULL
                AND settings -> 'allowed_origins' ?| $1
        ) AS is_allowed",
    )
    .bind::<Array<Text>, _>(allowing)
    .get_result(conn)
    .await?;
    Ok(found.is_allowed)
}

/// Makes the token of a new widget up, or finds the one that is named among those of the tenant.
/// Other accounts are left as they are.
///
/// # Errors
/// The tenant has no such widget, or nobody could ever write by the new one.
pub async fn settle(
    conn: &mut AsyncPgConnection,
    tenant: &Tenant,
    new: &mut NewAccount,
) -> Result<(), Error> {
    let secret_is_missing = new.app_secrets.app_secret.is_empty();
    let Settings::Web(settings) = &mut new.settings else {
        return Ok(());
    };
    if settings.widget_token.is_empty() {
        if settings.identity_required && secret_is_missing {
            let description = "is required where `web.identity_required` is set";
            return Err(Error::invalid(new.secret_field, description));
        }
        settings.widget_token = format!("wgt_{}", Uuid::new_v4().simple());
        return Ok(());
    }
    let known = channel_accounts::table
        .filter(channel_accounts::tenant_id.eq(tenant.id))
        .filter(channel_accounts::channel.eq(Channel::Web))
        .filter(channel_accounts::route_key.eq(&settings.widget_token));
    let count: i64 = known.count().get_result(conn).await?;
    if count == 0 {
        return Err(Error::invalid(
            "web.widget_token",
            "is of no widget of this tenant: leave it out to make a new one",
        ));
    }
    Ok(())
}
