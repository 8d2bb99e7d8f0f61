//! Tenants on the wire.

use super::schema_name::{SchemaName, Slug};
use super::tenant::{Isolation, State, Tenant};
use crate::error::Error;
use crate::pb;
use crate::time::to_timestamp;

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

impl From<Tenant> for pb::Tenant {
    fn from(tenant: Tenant) -> Self {
        let state = match tenant.state {
            State::Provisioning => pb::TenantState::Provisioning,
            State::Active => pb::TenantState::Active,
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
        }
    }
}
