//! Tenants on the wire.

mod account_secrets;
mod channel_account;
mod check;

use std::time::Duration;

use super::life::{Grace, Terms};
use super::migration::Progress;
use super::schema_name::{SchemaName, Slug};
use super::tenant::{Isolation, State, Tenant};
use crate::channel::Channel;
use crate::error::Error;
use crate::field::{Fields, Most};
use crate::ids::DeliveryId;
use crate::page::PageSize;
use crate::pb;
use crate::time::to_timestamp;
use crate::webhook::{QuarantineFilter, Quarantined, Reason};

/// Which tenant to make, and in which schema.
pub struct NewTenant {
    /// What callers name it by.
    pub slug: Slug,
    /// Its schema, where the caller chooses.
    pub schema: Option<SchemaName>,
}

impl TryFrom<pb::InitializeTenantRequest> for NewTenant {
    type Error = Error;

    fn try_from(request: pb::InitializeTenantRequest) -> Result<Self, Error> {
        let slug = Slug::parse("tenant", &request.tenant)?;
        let schema = match request.schema_name.as_str() {
            "" => None,
            name => Some(SchemaName::parse("schema_name", name)?),
        };
        Ok(Self { slug, schema })
    }
}

/// Reads what all calls have that change where a tenant stands.
///
/// # Errors
/// The slug is none, or the etag can be none.
pub fn edit(tenant: &str, etag: String, validate_only: bool) -> Result<(Slug, Terms), Error> {
    let slug = Slug::parse("tenant", tenant)?;
    let mut fields = Fields::default();
    let etag = fields.text("etag", etag, Most::Characters(64));
    fields.finish()?;
    let terms = Terms {
        etag: (!etag.is_empty()).then_some(etag),
        validate_only,
    };
    Ok((slug, terms))
}

impl TryFrom<Option<prost_types::Duration>> for Grace {
    type Error = Error;

    fn try_from(period: Option<prost_types::Duration>) -> Result<Self, Error> {
        let Some(period) = period else {
            return Ok(Self::default());
        };
        // By hand: prost's own conversion panics at the smallest number of seconds.
        let seconds = u64::try_from(period.seconds).ok();
        let nanos = u32::try_from(period.nanos).ok();
        let time = seconds
            .zip(nanos.filter(|nanos| *nanos < 1_000_000_000))
            .map(|(seconds, nanos)| Duration::new(seconds, nanos));
        time.and_then(Self::new)
            .ok_or_else(|| Error::invalid("grace_period", "must be 1 hour to 365 days"))
    }
}

impl From<Tenant> for pb::Tenant {
    fn from(tenant: Tenant) -> Self {
        let etag = tenant.etag();
        let state = match tenant.state {
            State::Provisioning => pb::TenantState::Provisioning,
            State::Active => pb::TenantState::Active,
            State::Suspended => pb::TenantState::Suspended,
            State::Deleted => pb::TenantState::Deleted,
        };
        let isolation = match tenant.isolation {
            Isolation::Role => pb::TenantIsolation::Role,
            Isolation::SearchPath => pb::TenantIsolation::SearchPath,
        };
        Self {
            id: tenant.id.to_string(),
            slug: tenant.slug,
            schema_name: tenant.schema_name,
            state: state.into(),
            isolation: isolation.into(),
            schema_version: tenant.schema_version,
            create_time: Some(to_timestamp(tenant.created_at)),
            update_time: Some(to_timestamp(tenant.updated_at)),
            etag,
            suspend_time: tenant.suspended_at.map(to_timestamp),
            delete_time: tenant.deleted_at.map(to_timestamp),
            purge_time: tenant.purge_at.map(to_timestamp),
        }
    }
}

/// What `ListQuarantinedItems` asks for.
pub struct QuarantinePage {
    /// Which.
    pub filter: QuarantineFilter,
    /// How many.
    pub size: PageSize,
    /// From where on.
    pub token: String,
    /// What the page token is bound to.
    pub binding: Vec<u8>,
}

impl TryFrom<pb::ListQuarantinedItemsRequest> for QuarantinePage {
    type Error = Error;

    fn try_from(mut request: pb::ListQuarantinedItemsRequest) -> Result<Self, Error> {
        let token = std::mem::take(&mut request.page_token);
        let size = PageSize::new(std::mem::take(&mut request.page_size))?;
        let binding = prost::Message::encode_to_vec(&request);
        let mut fields = Fields::default();
        let channel = fields.choice::<pb::Channel>("channel", request.channel);
        fields.finish()?;
        Ok(Self {
            filter: QuarantineFilter {
                tenant: tenant_if_any(request.tenant)?,
                channel: channel.and_then(Channel::from_wire),
                replayed: request.show_replayed,
            },
            size,
            token,
            binding,
        })
    }
}

/// Reads which item `ReplayQuarantinedItem` means.
pub fn quarantined_id(
    request: pb::ReplayQuarantinedItemRequest,
) -> Result<(Option<String>, DeliveryId, i32), Error> {
    let mut fields = Fields::default();
    let delivery = fields.required_id("delivery_id", &request.delivery_id, DeliveryId);
    if request.item < 0 {
        fields.refuse("item", "must not be negative");
    }
    fields.finish()?;
    Ok((tenant_if_any(request.tenant)?, delivery, request.item))
}

fn tenant_if_any(slug: String) -> Result<Option<String>, Error> {
    if slug.is_empty() {
        return Ok(None);
    }
    Slug::parse("tenant", &slug)?;
    Ok(Some(slug))
}

impl From<Quarantined> for pb::QuarantinedItem {
    fn from(item: Quarantined) -> Self {
        let reason = match item.reason {
            Reason::UnknownAccount => pb::QuarantineReason::UnknownAccount,
            Reason::Unsupported => pb::QuarantineReason::Unsupported,
            Reason::Unreadable => pb::QuarantineReason::Unreadable,
            Reason::Failed => pb::QuarantineReason::Failed,
        };
        Self {
            delivery_id: item.delivery_id.to_string(),
            item: item.item,
            tenant: item.tenant.unwrap_or_default(),
            channel: pb::Channel::from(item.channel).into(),
            route_key: item.route_key,
            reason: reason.into(),
            detail: item.detail,
            create_time: Some(to_timestamp(item.created_at)),
            replay_time: item.replayed_at.map(to_timestamp),
        }
    }
}

impl From<Progress> for pb::MigrateTenantsResponse {
    fn from(progress: Progress) -> Self {
        let count = |tenants| i32::try_from(tenants).unwrap_or(i32::MAX);
        let migration = progress.last.map(|last| pb::TenantMigration {
            tenant: last.slug,
            from_version: last.from_version,
            error: last.error.unwrap_or_default(),
        });
        Self {
            total: count(progress.total),
            done: count(progress.done),
            failed: count(progress.failed),
            remaining: count(progress.total - progress.done - progress.failed),
            schema_version: progress.newest,
            migration,
            finished: progress.told == progress.total,
        }
    }
}
