//! Where what providers tell goes: to which account of which tenant.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{self, Array, Bool, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;

use super::conn::PooledConn;
use super::tenant::State;
use crate::channel::Channel;
use crate::database::statement::statement;
use crate::error::Error;
use crate::ids::{AppId, ChannelAccountId, TenantId};

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
    /// Since when the account is disabled.
    pub disabled_at: Option<DateTime<Utc>>,
    /// When its provider first proved that it is this one.
    pub proved_at: Option<DateTime<Utc>>,
    /// Whether the app is the deployment's: whoever has one of their own can sign what they like.
    pub app_is_shared: bool,
}

impl Route {
    /// Whether its tenant and its account take in what comes.
    pub fn is_open(&self) -> bool {
        self.state == State::Active && self.disabled_at.is_none()
    }
}

/// The accounts that are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sought {
    /// Their channel.
    pub channel: Channel,
    /// By what webhooks name them.
    pub keys: Vec<String>,
    /// Where items go that name no account, if there are any.
    pub unnamed: Option<Unnamed>,
}

impl Sought {
    /// One account that webhooks name.
    pub fn named(channel: Channel, key: &str) -> Self {
        Self {
            channel,
            keys: vec![key.to_owned()],
            unnamed: None,
        }
    }
}

/// Where items go that name no account: to the one that the address named, or else to the only one
/// that the app has on the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Unnamed {
    /// The app that signed.
    pub app: AppId,
    /// The account that the address named.
    pub account: Option<ChannelAccountId>,
}

/// The columns of a `Route`, and whether a key named it.
pub type RouteRow = (
    (
        sql_types::Uuid,
        sql_types::Uuid,
        Text,
        sql_types::Uuid,
        Text,
        Text,
        Nullable<Timestamptz>,
        Nullable<Timestamptz>,
        Bool,
    ),
    Bool,
);

/// A CTE `routed` of `RouteRow`s, for what `channel`, `keys`, `unnamed_app` and `unnamed_account` of
/// `input` look for.
macro_rules! routed {
    () => {
        ", routed AS (
            SELECT a.id, a.app_id, a.route_key, t.id AS tenant_id, t.slug, t.state, a.disabled_at,
                a.proved_at, p.tenant_id IS NULL AS app_is_shared, a.is_named
            FROM input
            CROSS JOIN LATERAL (
                SELECT n.*, true AS is_named FROM directory.channel_accounts n
                WHERE n.channel = input.channel AND n.route_key = ANY (input.keys)
                    AND n.disconnected_at IS NULL
                UNION ALL
                (
                    SELECT u.*, false FROM directory.channel_accounts u
                    WHERE u.channel = input.channel AND u.app_id = input.unnamed_app
                        AND u.disconnected_at IS NULL
                        AND (input.unnamed_account IS NULL OR u.id = input.unnamed_account)
                    LIMIT 2
                )
            ) a
            JOIN directory.tenants t ON t.id = a.tenant_id
            JOIN directory.provider_apps p ON p.id = a.app_id
        )"
    };
}
pub(crate) use routed;

/// Where items go.
#[derive(Debug, Default)]
pub struct Routes {
    named: Vec<Route>,
    unnamed: Option<Route>,
}

impl Routes {
    /// Sorts what was found.
    pub fn of(rows: Vec<(Route, bool)>) -> Self {
        let (named, mut unnamed): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|(_, is_named)| *is_named);
        Self {
            named: named.into_iter().map(|(route, _)| route).collect(),
            unnamed: if unnamed.len() == 1 {
                unnamed.pop()
            } else {
                None
            }
            .map(|(route, _)| route),
        }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Route> {
        self.named.iter().chain(&self.unnamed)
    }

    /// Whether any key that was looked for is one's.
    pub fn has_named(&self) -> bool {
        !self.named.is_empty()
    }

    /// The one that a key names.
    pub fn named(&self, key: &str) -> Option<&Route> {
        self.named.iter().find(|route| route.key == key)
    }

    /// The one of what names none.
    pub fn unnamed(&self) -> Option<&Route> {
        self.unnamed.as_ref()
    }
}

statement! {
    /// Looks accounts up.
    Find<'a> -> RouteRow {
        channel: Channel => Text,
        keys: &'a [String] => Array<Text>,
        unnamed_app: Option<AppId> => Nullable<sql_types::Uuid>,
        unnamed_account: Option<ChannelAccountId> => Nullable<sql_types::Uuid>,
    }
    concat!(routed!(), "
        SELECT routed.* FROM routed")
}

/// Returns where items go.
pub async fn find(conn: &mut PooledConn, sought: &Sought) -> Result<Routes, Error> {
    let find = Find {
        channel: sought.channel,
        keys: &sought.keys,
        unnamed_app: sought.unnamed.map(|unnamed| unnamed.app),
        unnamed_account: sought.unnamed.and_then(|unnamed| unnamed.account),
        life: PhantomData,
    };
    Ok(Routes::of(find.load(conn).await?))
}
