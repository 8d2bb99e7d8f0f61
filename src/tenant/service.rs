//! The calls of `TenantAdminService`.

use tonic::{Request, Response, Status};

use super::directory::TenantDirectory;
use super::schema_name::Slug;
use super::wire::NewTenant;
use crate::access::{Call as _, admit};
use crate::error::Error;
use crate::page::{List, PageSize, cut};
use crate::pb;
use crate::pb::tenant_admin_service_server::TenantAdminService;

/// Serves the life of tenants.
pub struct TenantAdmin {
    tenants: TenantDirectory,
}

impl TenantAdmin {
    /// Serves the tenants of a directory.
    pub fn new(tenants: TenantDirectory) -> Self {
        Self { tenants }
    }
}

#[tonic::async_trait]
impl TenantAdminService for TenantAdmin {
    async fn initialize_tenant(
        &self,
        request: Request<pb::InitializeTenantRequest>,
    ) -> Result<Response<pb::InitializeTenantResponse>, Status> {
        let (context, request) = admit(request)?;
        context.caller.check_tenant(&request.tenant)?;
        let new = NewTenant::try_from(request)?;
        let (tenant, created) = self
            .tenants
            .initialize(&new.slug, new.schema.as_ref())
            .await?;
        Ok(Response::new(pb::InitializeTenantResponse {
            tenant: Some(tenant.into()),
            created,
        }))
    }

    async fn get_tenant(
        &self,
        request: Request<pb::GetTenantRequest>,
    ) -> Result<Response<pb::GetTenantResponse>, Status> {
        let (context, request) = admit(request)?;
        context.caller.check_tenant(&request.tenant)?;
        let slug = Slug::parse("tenant", &request.tenant)?;
        let tenant = self.tenants.find(&slug).await?;
        let tenant = tenant.ok_or_else(|| Error::not_found("tenant", &slug))?;
        Ok(Response::new(pb::GetTenantResponse {
            tenant: Some(tenant.into()),
        }))
    }

    async fn list_tenants(
        &self,
        request: Request<pb::ListTenantsRequest>,
    ) -> Result<Response<pb::ListTenantsResponse>, Status> {
        let (context, request) = admit(request)?;
        context.caller.check_all_tenants()?;
        let size = PageSize::new(request.page_size)?;
        let list = List::new(&[pb::ListTenantsRequest::PATH.as_bytes()]);
        let sealer = self.tenants.page_sealer();
        let after = list.position(sealer, &request.page_token)?;
        let mut rows = self.tenants.list(size, after).await?;
        let next_page_token = cut(&mut rows, size, &list, sealer, |tenant| tenant.slug.clone())?;
        let tenants = rows.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListTenantsResponse {
            tenants,
            next_page_token,
        }))
    }
}
