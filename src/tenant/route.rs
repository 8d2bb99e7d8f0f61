//! Where what providers tell goes: to which account of which tenant.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{self, Array, Bool, Integer, Nullable, Text, Timestamptz};
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

/// What is looked for in one statement, as arrays of the same length.
#[derive(Debug, Default)]
pub struct Asked<'a> {
    /// For which of them all.
    pub numbers: Vec<i32>,
    /// The channel.
    pub channels: Vec<Channel>,
    /// By what webhooks name the account; none: what names no account is looked for.
    pub keys: Vec<Option<&'a str>>,
    /// The app that signed what names no account.
    pub apps: Vec<Option<AppId>>,
    /// The account that its address named.
    pub accounts: Vec<Option<ChannelAccountId>>,
}

impl<'a> Asked<'a> {
    /// Asks for all of them.
    pub fn of(all: &[&'a Sought]) -> Self {
        let mut asked = Self::default();
        for (number, sought) in (0..).zip(all) {
            for key in &sought.keys {
                asked.add(number, sought.channel, Some(key), None);
            }
            if let Some(unnamed) = sought.unnamed {
                asked.add(number, sought.channel, None, Some(unnamed));
            }
        }
        asked
    }

    fn add(&mut self, of: i32, channel: Channel, key: Option<&'a str>, unnamed: Option<Unnamed>) {
        self.numbers.push(of);
        self.channels.push(channel);
        self.keys.push(key);
        self.apps.push(unnamed.map(|unnamed| unnamed.app));
        self.accounts
            .push(unnamed.and_then(|unnamed| unnamed.account));
    }
}

/// The columns of a `Route`, whether a key named it, and for which of all it was asked for.
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
    Integer,
);

/// A CTE `routed` of `RouteRow`s, for what the five arrays of `Asked` in `input` look for.
macro_rules! routed {
    () => {
        ", routed AS (
            SELECT a.id, a.app_id, a.route_key, t.id AS tenant_id, t.slug, t.state, a.disabled_at,
                a.proved_at, p.tenant_id IS NULL AS app_is_shared, a.is_named, asked.number
            FROM input
            CROSS JOIN unnest(asked_numbers, asked_channels, asked_keys, asked_apps, asked_accounts)
                AS asked (number, channel, key, app, account)
            CROSS JOIN LATERAL (
                (
                    SELECT n.*, true AS is_named FROM directory.channel_accounts n
                    WHERE n.channel = asked.channel AND n.route_key = asked.key
                        AND n.disconnected_at IS NULL
                    LIMIT 1
                )
                UNION ALL
                (
                    SELECT u.*, false FROM directory.channel_accounts u
                    WHERE u.channel = asked.channel AND u.app_id = asked.app
                        AND u.disconnected_at IS NULL
                        AND (asked.account IS NULL OR u.id = asked.account)
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
    /// Of what names none: if there are two, it may be either.
    unnamed: Vec<Route>,
}

impl Routes {
    /// Sorts what was found for so many, and returns what is of each.
    pub fn of(rows: Vec<(Route, bool, i32)>, count: usize) -> Vec<Self> {
        let mut all = Vec::new();
        all.resize_with(count, Self::default);
        for (route, is_named, number) in rows {
            let asked = usize::try_from(number).ok();
            match asked.and_then(|number| all.get_mut(number)) {
                Some(found) if is_named => found.named.push(route),
                Some(found) => found.unnamed.push(route),
                None => {}
            }
        }
        all
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Route> {
        self.named.iter().chain(self.unnamed())
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
        match self.unnamed.as_slice() {
            [route] => Some(route),
            _ => None,
        }
    }
}

statement! {
    /// Looks accounts up.
    Find<'a> -> RouteRow {
        asked_numbers: &'a [i32] => Array<Integer>,
        asked_channels: &'a [Channel] => Array<Text>,
        asked_keys: &'a [Option<&'a str>] => Array<Nullable<Text>>,
        asked_apps: &'a [Option<AppId>] => Array<Nullable<sql_types::Uuid>>,
        asked_accounts: &'a [Option<ChannelAccountId>] => Array<Nullable<sql_types::Uuid>>,
    }
    concat!(routed!(), "
        SELECT routed.* FROM routed")
}

/// Returns where items go.
pub async fn find(conn: &mut PooledConn, sought: &Sought) -> Result<Routes, Error> {
    let asked = Asked::of(&[sought]);
    let find = Find {
        asked_numbers: &asked.numbers,
        asked_channels: &asked.channels,
        asked_keys: &asked.keys,
        asked_apps: &asked.apps,
        asked_accounts: &asked.accounts,
        life: PhantomData,
    };
    let found = Routes::of(find.load(conn).await?, 1);
    Ok(found.into_iter().next().unwrap_or_default())
}
