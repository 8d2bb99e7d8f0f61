//! Deliveries that are not kept yet, and how several are.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use diesel::sql_types::{self, Array, Bytea, Double, Integer, Jsonb, Nullable, Text};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

use super::delivery::{Delivery, LEASE, content_type};
use super::verified::Verified;
use crate::channel::Channel;
use crate::database::statement::statement;
use crate::error::Error;
use crate::ids::{AppId, ChannelAccountId, DeliveryId};
use crate::master_key::{Sealer, place};
use crate::tenant::{App, Asked, DirectoryConn, Provider, RouteRow, Routes, Sought, routed};

/// A delivery to keep.
#[derive(Debug, Clone)]
pub struct NewDelivery {
    /// Which app signed it.
    pub app: App,
    /// What it is for.
    pub channel: Channel,
    /// Those of its headers that are kept.
    pub headers: Value,
    /// What it says.
    pub body: Verified<Bytes>,
    /// What ties it to everything that comes of it.
    pub correlation_id: String,
}

impl NewDelivery {
    /// What its body is.
    pub fn content_type(&self) -> String {
        content_type(&self.headers)
    }

    /// The delivery, in the hands of who is about to keep it, and its headers.
    pub fn begun(self, lease: Uuid) -> (Delivery, Value) {
        let delivery = Delivery {
            id: DeliveryId::new(),
            channel: self.channel,
            provider: self.app.provider,
            account: self.app.account,
            route_prefix: self.app.route_prefix(),
            content_type: self.content_type(),
            body: self.body,
            correlation_id: self.correlation_id,
            attempts: 1,
            lease,
            taken_at: Instant::now(),
        };
        (delivery, self.headers)
    }
}

/// A delivery that is about to be kept.
#[derive(Debug)]
pub struct NewRow {
    /// The delivery.
    pub delivery: Delivery,
    /// Those of its headers that are kept.
    pub headers: Value,
    /// Its body, sealed.
    pub sealed: Vec<u8>,
    /// Where its items go, if whoever keeps it applies it at once; without, it is taken up from the
    /// queue.
    pub sought: Option<Sought>,
}

impl NewRow {
    /// Seals a body.
    pub fn new(
        sealer: &Sealer,
        (delivery, headers): (Delivery, Value),
        sought: Option<Sought>,
    ) -> Result<Self, Error> {
        let sealed = sealer.seal(place(delivery.id.0, "body"), delivery.body.to_vec())?;
        Ok(Self {
            delivery,
            headers,
            sealed,
            sought,
        })
    }
}

statement! {
    /// Keeps deliveries, and looks up where their items go.
    Keep<'a> -> RouteRow {
        ids: &'a [DeliveryId] => Array<sql_types::Uuid>,
        app_ids: &'a [AppId] => Array<sql_types::Uuid>,
        providers: &'a [Provider] => Array<Text>,
        account_ids: &'a [Option<ChannelAccountId>] => Array<Nullable<sql_types::Uuid>>,
        route_prefixes: &'a [&'a str] => Array<Text>,
        channels: &'a [Channel] => Array<Text>,
        headers: &'a [&'a Value] => Array<Jsonb>,
        bodies: &'a [&'a [u8]] => Array<Bytea>,
        correlation_ids: &'a [&'a str] => Array<Text>,
        leases: &'a [Option<Uuid>] => Array<Nullable<sql_types::Uuid>>,
        lease_seconds: f64 => Double,
        asked_numbers: &'a [i32] => Array<Integer>,
        asked_channels: &'a [Channel] => Array<Text>,
        asked_keys: &'a [Option<&'a str>] => Array<Nullable<Text>>,
        asked_apps: &'a [Option<AppId>] => Array<Nullable<sql_types::Uuid>>,
        asked_accounts: &'a [Option<ChannelAccountId>] => Array<Nullable<sql_types::Uuid>>,
    }
    concat!("
        , kept AS (
            INSERT INTO directory.deliveries (id, app_id, provider, account_id, route_prefix,
                channel, headers, body, correlation_id, attempts, due_at, lease)
            SELECT new.id, app_id, provider, account_id, route_prefix, channel, new.headers, body,
                correlation_id, CASE WHEN lease IS NULL THEN 0 ELSE 1 END,
                directory.now() + make_interval(secs => CASE WHEN lease IS NULL THEN 0
                    ELSE lease_seconds END), lease
            FROM input
            CROSS JOIN unnest(ids, app_ids, providers, account_ids, route_prefixes, channels,
                    input.headers, bodies, correlation_ids, leases)
                AS new (id, app_id, provider, account_id, route_prefix, channel, headers, body,
                    correlation_id, lease)
        )", routed!(), "
        SELECT routed.* FROM routed")
}

/// Commits deliveries, all or none; returns where the items of each go.
pub async fn insert(conn: &mut DirectoryConn, new: &[NewRow]) -> Result<Vec<Arc<Routes>>, Error> {
    // Most are for the same accounts.
    let mut sought: Vec<&Sought> = Vec::new();
    let mut numbers = Vec::new();
    for row in new {
        let wanted = row.sought.as_ref();
        numbers.push(wanted.map(|wanted| {
            let known = sought.iter().position(|known| *known == wanted);
            known.unwrap_or_else(|| {
                sought.push(wanted);
                sought.len() - 1
            })
        }));
    }
    let asked = Asked::of(&sought);
    let each = || new.iter().map(|row| &row.delivery);
    let keep = Keep {
        ids: &each().map(|new| new.id).collect::<Vec<_>>(),
        app_ids: &each().map(|new| new.body.app()).collect::<Vec<_>>(),
        providers: &each().map(|new| new.provider).collect::<Vec<_>>(),
        account_ids: &each().map(|new| new.account).collect::<Vec<_>>(),
        route_prefixes: &each()
            .map(|new| new.route_prefix.as_str())
            .collect::<Vec<_>>(),
        channels: &each().map(|new| new.channel).collect::<Vec<_>>(),
        headers: &new.iter().map(|row| &row.headers).collect::<Vec<_>>(),
        bodies: &new
            .iter()
            .map(|row| row.sealed.as_slice())
            .collect::<Vec<_>>(),
        correlation_ids: &each()
            .map(|new| new.correlation_id.as_str())
            .collect::<Vec<_>>(),
        leases: &new
            .iter()
            .map(|row| row.sought.as_ref().map(|_| row.delivery.lease))
            .collect::<Vec<_>>(),
        lease_seconds: LEASE.as_secs_f64(),
        asked_numbers: &asked.numbers,
        asked_channels: &asked.channels,
        asked_keys: &asked.keys,
        asked_apps: &asked.apps,
        asked_accounts: &asked.accounts,
        life: PhantomData,
    };
    let found = Routes::of(keep.load(conn).await?, sought.len());
    let found: Vec<_> = found.into_iter().map(Arc::new).collect();
    let of_each = numbers
        .into_iter()
        .map(|number| number.and_then(|number| found.get(number).cloned()));
    Ok(of_each.map(Option::unwrap_or_default).collect())
}
