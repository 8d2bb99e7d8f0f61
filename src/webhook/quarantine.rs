//! Items that could not be applied: each alone, seen by operators, replayed.

use chrono::{DateTime, Utc};
use diesel::dsl::{exists, select, sql};
use diesel::prelude::*;
use diesel::sql_types::{self, Bool, Nullable, Timestamptz};
use diesel_async::RunQueryDsl;

use crate::channel::Channel;
use crate::error::Error;
use crate::ids::{AppId, DeliveryId, TenantId};
use crate::page::PageSize;
use crate::schema::directory::{channel_accounts, deliveries, quarantine, tenants};
use crate::stored_enum::stored_enum;
use crate::tenant::{DirectoryConn, TenantState};

/// The longest detail, in bytes.
const MAX_DETAIL_BYTES: usize = 500;

stored_enum! {
    /// Why an item could not be applied.
    Reason {
        /// No connected account has its key.
        UnknownAccount = "unknown_account",
        /// It is of a kind that we cannot apply yet.
        Unsupported = "unsupported",
        /// It is not what the provider documents.
        Unreadable = "unreadable",
        /// A fault of ours.
        Failed = "failed",
    }
}

/// An item in quarantine.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = quarantine, check_for_backend(diesel::pg::Pg))]
pub struct Quarantined {
    /// Its delivery.
    pub delivery_id: DeliveryId,
    /// Its place in it; 0 for the whole of it.
    pub item: i32,
    /// Whose it is, where that is known.
    #[diesel(select_expression = tenants::slug.nullable())]
    pub tenant: Option<String>,
    /// What it is for.
    pub channel: Channel,
    /// By what the provider named the account.
    pub route_key: String,
    /// Why it is here.
    pub reason: Reason,
    /// More about that.
    pub detail: String,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// When it was replayed.
    pub replayed_at: Option<DateTime<Utc>>,
}

impl Quarantined {
    /// Tells whether it may have its effect in a tenant.
    pub fn may_go_to(&self, tenant: &str) -> bool {
        self.tenant.as_deref().is_none_or(|owner| owner == tenant)
    }
}

/// An item to put into quarantine.
#[derive(Debug)]
pub struct NewQuarantined<'a> {
    /// Its delivery.
    pub delivery_id: DeliveryId,
    /// Its place in it; 0 for the whole of it.
    pub item: i32,
    /// Whose it is, where that is known.
    pub tenant_id: Option<TenantId>,
    /// What it is for.
    pub channel: Channel,
    /// By what the provider named the account.
    pub route_key: &'a str,
    /// Why.
    pub reason: Reason,
    /// More about that.
    pub detail: &'a str,
}

/// Puts an item into quarantine; one that is there already stays, for what is the reason now.
pub async fn put(conn: &mut DirectoryConn, new: NewQuarantined<'_>) -> Result<(), Error> {
    let mut detail = new.detail.to_owned();
    crate::provider::lenient::cut(&mut detail, MAX_DETAIL_BYTES);
    let why = (
        quarantine::reason.eq(new.reason),
        quarantine::detail.eq(detail),
    );
    // Whose it was stays known when the account is gone.
    let whose =
        sql::<Nullable<sql_types::Uuid>>("coalesce(excluded.tenant_id, quarantine.tenant_id)");
    diesel::insert_into(quarantine::table)
        .values((
            quarantine::delivery_id.eq(new.delivery_id),
            quarantine::item.eq(new.item),
            quarantine::tenant_id.eq(new.tenant_id),
            quarantine::channel.eq(new.channel),
            quarantine::route_key.eq(new.route_key),
            why.clone(),
        ))
        .on_conflict((quarantine::delivery_id, quarantine::item))
        .do_update()
        .set((quarantine::tenant_id.eq(whose), why))
        .execute(conn)
        .await?;
    Ok(())
}

/// The most items that are counted.
const MOST_COUNTED: i64 = 1_000;

/// Counts, up to a thousand, what waits for an account of a tenant's.
pub async fn count(
    conn: &mut DirectoryConn,
    tenant: TenantId,
    (channel, route_key): (Channel, &str),
) -> Result<i64, Error> {
    let waiting = || {
        quarantine::table
            .filter(quarantine::replayed_at.is_null())
            .filter(quarantine::channel.eq(channel))
            .filter(quarantine::route_key.eq(route_key.to_owned()))
            .select(quarantine::delivery_id)
            .limit(MOST_COUNTED)
    };
    let known: Vec<DeliveryId> = waiting()
        .filter(quarantine::tenant_id.eq(tenant))
        .load(conn)
        .await?;
    // What came before the account was connected is nobody's yet.
    let unknown: Vec<DeliveryId> = waiting()
        .filter(quarantine::reason.eq(Reason::UnknownAccount))
        .filter(quarantine::tenant_id.is_null())
        .load(conn)
        .await?;
    let found = i64::try_from(known.len() + unknown.len()).unwrap_or(i64::MAX);
    Ok(found.min(MOST_COUNTED))
}

/// Tells whether something waits for an account that an app signs for: in quarantine, or for long in
/// the queue.
pub async fn waits(
    conn: &mut DirectoryConn,
    app: AppId,
    (channel, route_key): (Channel, &str),
) -> Result<bool, Error> {
    let replayable = quarantine::table
        .filter(quarantine::reason.eq(Reason::UnknownAccount))
        .filter(quarantine::replayed_at.is_null())
        .filter(quarantine::channel.eq(channel))
        .filter(quarantine::route_key.eq(route_key));
    let queued = deliveries::table
        .filter(deliveries::app_id.eq(app))
        .filter(deliveries::due_at.is_not_null())
        .filter(sql::<Bool>(
            "received_at < directory.now() - interval '10 minutes'",
        ));
    let waits = select(exists(replayable).or(exists(queued)));
    Ok(waits.get_result(conn).await?)
}

/// Takes note that an item was replayed.
pub async fn release(
    conn: &mut DirectoryConn,
    delivery: DeliveryId,
    item: i32,
) -> Result<(), Error> {
    diesel::update(quarantine::table.find((delivery, item)))
        .filter(quarantine::replayed_at.is_null())
        .set(quarantine::replayed_at.eq(sql::<Nullable<Timestamptz>>("directory.now()")))
        .execute(conn)
        .await?;
    Ok(())
}

/// Finds an item; of a tenant, where one is named.
pub async fn find(
    conn: &mut DirectoryConn,
    tenant: Option<&str>,
    delivery: DeliveryId,
    item: i32,
) -> Result<Option<Quarantined>, Error> {
    let mut found = quarantine::table
        .left_join(tenants::table)
        .filter(quarantine::delivery_id.eq(delivery))
        .filter(quarantine::item.eq(item))
        .select(Quarantined::as_select())
        .into_boxed();
    if let Some(tenant) = tenant {
        found = found.filter(tenants::slug.eq(tenant));
    }
    Ok(found.first(conn).await.optional()?)
}

/// Lists the items of a delivery, and whether each was replayed.
pub async fn of_delivery(
    conn: &mut DirectoryConn,
    delivery: DeliveryId,
) -> Result<Vec<(i32, bool)>, Error> {
    let items = quarantine::table
        .filter(quarantine::delivery_id.eq(delivery))
        .select((quarantine::item, quarantine::replayed_at.is_not_null()));
    Ok(items.load(conn).await?)
}

/// Removes items of a delivery.
pub async fn remove(
    conn: &mut DirectoryConn,
    delivery: DeliveryId,
    items: &[i32],
) -> Result<(), Error> {
    diesel::delete(quarantine::table)
        .filter(quarantine::delivery_id.eq(delivery))
        .filter(quarantine::item.eq_any(items))
        .execute(conn)
        .await?;
    Ok(())
}

/// Lists some deliveries that have items of a tenant in quarantine, after one of them.
pub async fn deliveries_of(
    conn: &mut DirectoryConn,
    tenant: TenantId,
    after: DeliveryId,
    most: i64,
) -> Result<Vec<DeliveryId>, Error> {
    let found = quarantine::table
        .filter(quarantine::tenant_id.eq(tenant))
        .filter(quarantine::delivery_id.gt(after))
        .order(quarantine::delivery_id)
        .select(quarantine::delivery_id)
        .distinct()
        .limit(most);
    Ok(found.load(conn).await?)
}

/// Which items to list.
#[derive(Debug, Default)]
pub struct QuarantineFilter {
    /// Of one tenant.
    pub tenant: Option<String>,
    /// Of one channel.
    pub channel: Option<Channel>,
    /// Also those that were replayed.
    pub replayed: bool,
}

/// Lists items, the oldest delivery first, after one of them.
pub async fn list(
    conn: &mut DirectoryConn,
    filter: &QuarantineFilter,
    size: PageSize,
    after: Option<(DeliveryId, i32)>,
) -> Result<Vec<Quarantined>, Error> {
    let mut page = quarantine::table
        .left_join(tenants::table)
        .order((quarantine::delivery_id, quarantine::item))
        .limit(size.rows())
        .select(Quarantined::as_select())
        .into_boxed();
    if let Some(tenant) = &filter.tenant {
        page = page.filter(tenants::slug.eq(tenant));
    }
    if let Some(channel) = filter.channel {
        page = page.filter(quarantine::channel.eq(channel));
    }
    if !filter.replayed {
        page = page.filter(quarantine::replayed_at.is_null());
    }
    if let Some((delivery, item)) = after {
        page = page.filter(
            quarantine::delivery_id
                .gt(delivery)
                .or(quarantine::delivery_id
                    .eq(delivery)
                    .and(quarantine::item.gt(item))),
        );
    }
    Ok(page.load(conn).await?)
}

/// Finds some items that waited for an account which is connected now, the oldest first, after one
/// of them.
pub async fn replayable(
    conn: &mut DirectoryConn,
    after: (DeliveryId, i32),
    most: i64,
) -> Result<Vec<(DeliveryId, i32)>, Error> {
    let connected = channel_accounts::table
        .inner_join(tenants::table)
        .filter(channel_accounts::channel.eq(quarantine::channel))
        .filter(channel_accounts::route_key.eq(quarantine::route_key))
        .filter(channel_accounts::disconnected_at.is_null())
        .filter(channel_accounts::app_id.eq(deliveries::app_id))
        .filter(tenants::state.eq(TenantState::Active))
        .filter(
            quarantine::tenant_id
                .is_null()
                .or(quarantine::tenant_id.eq(tenants::id.nullable())),
        );
    let waiting = quarantine::table
        .inner_join(deliveries::table)
        .filter(quarantine::reason.eq(Reason::UnknownAccount))
        .filter(quarantine::replayed_at.is_null())
        .filter(diesel::dsl::exists(connected))
        .filter(
            quarantine::delivery_id
                .gt(after.0)
                .or(quarantine::delivery_id
                    .eq(after.0)
                    .and(quarantine::item.gt(after.1))),
        )
        .order((quarantine::delivery_id, quarantine::item))
        .select((quarantine::delivery_id, quarantine::item))
        .limit(most);
    Ok(waiting.load(conn).await?)
}
