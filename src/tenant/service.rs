//! The calls of `TenantAdminService`.

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::channel_account::{AccountChange, NewAccount};
use super::directory::TenantDirectory;
use super::life::{Change, Grace};
use super::migration;
use super::provider_app::Rotation;
use super::schema_name::Slug;
use super::wire::{NewTenant, QuarantinePage, edit, quarantined_id};
use crate::access::{Call as _, Caller, admit};
use crate::error::Error;
use crate::field::Fields;
use crate::ids::ChannelAccountId;
use crate::page::{List, PageSize, cut};
use crate::pb;
use crate::pb::tenant_admin_service_server::TenantAdminService;
use crate::webhook::Webhooks;

/// Serves the life of tenants.
pub struct TenantAdmin {
    tenants: TenantDirectory,
    webhooks: Webhooks,
}

impl TenantAdmin {
    /// Serves the tenants of a directory, and what came in for them.
    pub fn new(tenants: TenantDirectory, webhooks: Webhooks) -> Self {
        Self { tenants, webhooks }
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
        let show_deleted = request.show_deleted;
        let path = pb::ListTenantsRequest::PATH.as_bytes();
        let list = List::new(&[path, &[u8::from(show_deleted)]]);
        let sealer = self.tenants.page_sealer();
        let after = list.position(sealer, &request.page_token)?;
        let mut rows = self.tenants.list(size, after, show_deleted).await?;
        let next_page_token = cut(&mut rows, size, &list, sealer, |tenant| tenant.slug.clone())?;
        let tenants = rows.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListTenantsResponse {
            tenants,
            next_page_token,
        }))
    }

    async fn suspend_tenant(
        &self,
        request: Request<pb::SuspendTenantRequest>,
    ) -> Result<Response<pb::SuspendTenantResponse>, Status> {
        let (context, request) = admit(request)?;
        context.caller.check_tenant(&request.tenant)?;
        let (slug, terms) = edit(&request.tenant, request.etag, request.validate_only)?;
        let tenant = self.tenants.change(&slug, Change::Suspend, &terms).await?;
        Ok(Response::new(pb::SuspendTenantResponse {
            tenant: Some(tenant.into()),
        }))
    }

    async fn resume_tenant(
        &self,
        request: Request<pb::ResumeTenantRequest>,
    ) -> Result<Response<pb::ResumeTenantResponse>, Status> {
        let (context, request) = admit(request)?;
        context.caller.check_tenant(&request.tenant)?;
        let (slug, terms) = edit(&request.tenant, request.etag, request.validate_only)?;
        let tenant = self.tenants.change(&slug, Change::Resume, &terms).await?;
        self.webhooks.replay_soon();
        Ok(Response::new(pb::ResumeTenantResponse {
            tenant: Some(tenant.into()),
        }))
    }

    async fn delete_tenant(
        &self,
        request: Request<pb::DeleteTenantRequest>,
    ) -> Result<Response<pb::DeleteTenantResponse>, Status> {
        let (context, request) = admit(request)?;
        context.caller.check_tenant(&request.tenant)?;
        let (slug, terms) = edit(&request.tenant, request.etag, request.validate_only)?;
        let grace = Grace::try_from(request.grace_period)?;
        let deleting = self.tenants.change(&slug, Change::Delete(grace), &terms);
        let tenant = match deleting.await {
            Err(Error::NotFound { .. }) if request.allow_missing => {
                self.tenants.find(&slug).await?
            }
            deleted => Some(deleted?),
        };
        Ok(Response::new(pb::DeleteTenantResponse {
            tenant: tenant.map(Into::into),
        }))
    }

    async fn undelete_tenant(
        &self,
        request: Request<pb::UndeleteTenantRequest>,
    ) -> Result<Response<pb::UndeleteTenantResponse>, Status> {
        let (context, request) = admit(request)?;
        context.caller.check_tenant(&request.tenant)?;
        let (slug, terms) = edit(&request.tenant, request.etag, request.validate_only)?;
        let tenant = self.tenants.change(&slug, Change::Undelete, &terms).await?;
        self.webhooks.replay_soon();
        Ok(Response::new(pb::UndeleteTenantResponse {
            tenant: Some(tenant.into()),
        }))
    }

    async fn purge_tenant(
        &self,
        request: Request<pb::PurgeTenantRequest>,
    ) -> Result<Response<pb::PurgeTenantResponse>, Status> {
        let (context, request) = admit(request)?;
        context.caller.check_tenant(&request.tenant)?;
        let (slug, terms) = edit(&request.tenant, request.etag, request.validate_only)?;
        let tenant = match self.tenants.purge(&slug, &terms, request.force).await {
            Err(Error::NotFound { .. }) if request.allow_missing => None,
            purged => Some(purged?),
        };
        Ok(Response::new(pb::PurgeTenantResponse {
            tenant: tenant.map(Into::into),
        }))
    }

    type MigrateTenantsStream = BoxStream<'static, Result<pb::MigrateTenantsResponse, Status>>;

    async fn migrate_tenants(
        &self,
        request: Request<pb::MigrateTenantsRequest>,
    ) -> Result<Response<Self::MigrateTenantsStream>, Status> {
        let (context, request) = admit(request)?;
        let only = if request.tenant.is_empty() {
            context.caller.check_all_tenants()?;
            None
        } else {
            context.caller.check_tenant(&request.tenant)?;
            Some(Slug::parse("tenant", &request.tenant)?)
        };
        let progress = migration::run(&self.tenants, only.as_ref(), request.validate_only).await?;
        Ok(Response::new(
            progress.map(|progress| Ok(progress.into())).boxed(),
        ))
    }

    async fn connect_channel_account(
        &self,
        request: Request<pb::ConnectChannelAccountRequest>,
    ) -> Result<Response<pb::ConnectChannelAccountResponse>, Status> {
        let (context, request) = admit(request)?;
        context.caller.check_tenant(&request.tenant)?;
        let slug = Slug::parse("tenant", &request.tenant)?;
        let mut new = NewAccount::try_from(request)?;
        new.for_all = context.caller.check_all_tenants().is_ok();
        let (account, connected) = self.tenants.connect_account(slug.as_str(), new).await?;
        self.webhooks.replay_soon();
        Ok(Response::new(pb::ConnectChannelAccountResponse {
            channel_account: Some(account.try_into()?),
            connected,
        }))
    }

    async fn get_channel_account(
        &self,
        request: Request<pb::GetChannelAccountRequest>,
    ) -> Result<Response<pb::GetChannelAccountResponse>, Status> {
        let (context, request) = admit(request)?;
        context.caller.check_tenant(&request.tenant)?;
        let slug = Slug::parse("tenant", &request.tenant)?;
        let id = account_id(&request.channel_account_id)?;
        let account = self.tenants.account(slug.as_str(), id).await?;
        Ok(Response::new(pb::GetChannelAccountResponse {
            channel_account: Some(account.try_into()?),
        }))
    }

    async fn list_channel_accounts(
        &self,
        request: Request<pb::ListChannelAccountsRequest>,
    ) -> Result<Response<pb::ListChannelAccountsResponse>, Status> {
        let (context, request) = admit(request)?;
        context.caller.check_tenant(&request.tenant)?;
        let slug = Slug::parse("tenant", &request.tenant)?;
        let size = PageSize::new(request.page_size)?;
        let path = pb::ListChannelAccountsRequest::PATH.as_bytes();
        let disconnected = [u8::from(request.show_disconnected)];
        let list = List::new(&[path, slug.as_str().as_bytes(), &disconnected]);
        let sealer = self.tenants.page_sealer();
        let after = list.position(sealer, &request.page_token)?;
        let show = request.show_disconnected;
        let mut rows = self
            .tenants
            .list_accounts(slug.as_str(), show, size, after)
            .await?;
        let next_page_token = cut(&mut rows, size, &list, sealer, |account| account.id)?;
        let accounts: Result<_, Error> = rows.into_iter().map(TryInto::try_into).collect();
        Ok(Response::new(pb::ListChannelAccountsResponse {
            channel_accounts: accounts?,
            next_page_token,
        }))
    }

    async fn disconnect_channel_account(
        &self,
        request: Request<pb::DisconnectChannelAccountRequest>,
    ) -> Result<Response<pb::DisconnectChannelAccountResponse>, Status> {
        let (context, request) = admit(request)?;
        context.caller.check_tenant(&request.tenant)?;
        let slug = Slug::parse("tenant", &request.tenant)?;
        let id = account_id(&request.channel_account_id)?;
        let account = self.tenants.disconnect_account(slug.as_str(), id).await?;
        self.webhooks.forget_accounts();
        Ok(Response::new(pb::DisconnectChannelAccountResponse {
            channel_account: Some(account.try_into()?),
        }))
    }

    async fn update_channel_account(
        &self,
        request: Request<pb::UpdateChannelAccountRequest>,
    ) -> Result<Response<pb::UpdateChannelAccountResponse>, Status> {
        let (context, request) = admit(request)?;
        context.caller.check_tenant(&request.tenant)?;
        let slug = Slug::parse("tenant", &request.tenant)?;
        let id = account_id(&request.channel_account_id)?;
        let known = self.tenants.account(slug.as_str(), id).await?;
        let mut change = AccountChange::new(known, request)?;
        change.new.for_all = context.caller.check_all_tenants().is_ok();
        let account = self.tenants.update_account(slug.as_str(), change).await?;
        self.webhooks.forget_accounts();
        Ok(Response::new(pb::UpdateChannelAccountResponse {
            channel_account: Some(account.try_into()?),
        }))
    }

    async fn check_channel_account(
        &self,
        request: Request<pb::CheckChannelAccountRequest>,
    ) -> Result<Response<pb::CheckChannelAccountResponse>, Status> {
        let (context, request) = admit(request)?;
        context.caller.check_tenant(&request.tenant)?;
        let slug = Slug::parse("tenant", &request.tenant)?;
        let id = account_id(&request.channel_account_id)?;
        let known = self.tenants.account(slug.as_str(), id).await?;
        let checks = self.webhooks.check_account(&known).await?;
        let account = self.tenants.account(slug.as_str(), id).await?;
        Ok(Response::new(pb::CheckChannelAccountResponse {
            channel_account: Some(account.try_into()?),
            checks: checks.into_iter().map(Into::into).collect(),
        }))
    }

    async fn transfer_channel_account(
        &self,
        request: Request<pb::TransferChannelAccountRequest>,
    ) -> Result<Response<pb::TransferChannelAccountResponse>, Status> {
        let (context, request) = admit(request)?;
        context.caller.check_tenant(&request.tenant)?;
        context.caller.check_tenant(&request.target_tenant)?;
        let slug = Slug::parse("tenant", &request.tenant)?;
        let target = Slug::parse("target_tenant", &request.target_tenant)?;
        let id = account_id(&request.channel_account_id)?;
        let account = self.tenants.transfer_account(&slug, id, &target).await?;
        self.webhooks.replay_soon();
        Ok(Response::new(pb::TransferChannelAccountResponse {
            channel_account: Some(account.try_into()?),
        }))
    }

    async fn rotate_channel_account_secret(
        &self,
        request: Request<pb::RotateChannelAccountSecretRequest>,
    ) -> Result<Response<pb::RotateChannelAccountSecretResponse>, Status> {
        let (context, request) = admit(request)?;
        context.caller.check_tenant(&request.tenant)?;
        let slug = Slug::parse("tenant", &request.tenant)?;
        let mut rotation = Rotation::try_from(request)?;
        rotation.for_all = context.caller.check_all_tenants().is_ok();
        let account = self.tenants.rotate_secret(slug.as_str(), rotation).await?;
        self.webhooks.forget_accounts();
        Ok(Response::new(pb::RotateChannelAccountSecretResponse {
            channel_account: Some(account.try_into()?),
        }))
    }

    async fn disable_channel_account(
        &self,
        request: Request<pb::DisableChannelAccountRequest>,
    ) -> Result<Response<pb::DisableChannelAccountResponse>, Status> {
        let (context, request) = admit(request)?;
        context.caller.check_tenant(&request.tenant)?;
        let slug = Slug::parse("tenant", &request.tenant)?;
        let id = account_id(&request.channel_account_id)?;
        let account = self
            .tenants
            .disable_account(slug.as_str(), id, true)
            .await?;
        self.webhooks.forget_accounts();
        Ok(Response::new(pb::DisableChannelAccountResponse {
            channel_account: Some(account.try_into()?),
        }))
    }

    async fn enable_channel_account(
        &self,
        request: Request<pb::EnableChannelAccountRequest>,
    ) -> Result<Response<pb::EnableChannelAccountResponse>, Status> {
        let (context, request) = admit(request)?;
        context.caller.check_tenant(&request.tenant)?;
        let slug = Slug::parse("tenant", &request.tenant)?;
        let id = account_id(&request.channel_account_id)?;
        let account = self
            .tenants
            .disable_account(slug.as_str(), id, false)
            .await?;
        self.webhooks.replay_soon();
        Ok(Response::new(pb::EnableChannelAccountResponse {
            channel_account: Some(account.try_into()?),
        }))
    }

    async fn list_quarantined_items(
        &self,
        request: Request<pb::ListQuarantinedItemsRequest>,
    ) -> Result<Response<pb::ListQuarantinedItemsResponse>, Status> {
        let (context, request) = admit(request)?;
        check_tenant_or_all(&context.caller, &request.tenant)?;
        let page = QuarantinePage::try_from(request)?;
        let path = pb::ListQuarantinedItemsRequest::PATH.as_bytes();
        let list = List::new(&[path, &page.binding]);
        let sealer = self.tenants.page_sealer();
        let after = list.position(sealer, &page.token)?;
        let mut rows = self
            .webhooks
            .quarantined(&page.filter, page.size, after)
            .await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, |item| {
            (item.delivery_id, item.item)
        })?;
        Ok(Response::new(pb::ListQuarantinedItemsResponse {
            items: rows.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn replay_quarantined_item(
        &self,
        request: Request<pb::ReplayQuarantinedItemRequest>,
    ) -> Result<Response<pb::ReplayQuarantinedItemResponse>, Status> {
        let (context, request) = admit(request)?;
        check_tenant_or_all(&context.caller, &request.tenant)?;
        let (tenant, delivery, item) = quarantined_id(request)?;
        let item = self
            .webhooks
            .replay(tenant.as_deref(), delivery, item)
            .await?;
        Ok(Response::new(pb::ReplayQuarantinedItemResponse {
            item: Some(item.into()),
        }))
    }
}

fn account_id(id: &str) -> Result<ChannelAccountId, Error> {
    let mut fields = Fields::default();
    let id = fields.required_id("channel_account_id", id, ChannelAccountId);
    fields.finish()?;
    Ok(id)
}

/// What belongs to no tenant is for credentials that are for all.
fn check_tenant_or_all(caller: &Caller, slug: &str) -> Result<(), Error> {
    if slug.is_empty() {
        caller.check_all_tenants()
    } else {
        caller.check_tenant(slug)
    }
}
