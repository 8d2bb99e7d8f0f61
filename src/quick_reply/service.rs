//! The calls of `QuickReplyService`.

use tonic::{Request, Response, Status};

use super::listing::{self, Position};
use super::quick_reply::{self, Edit, NewQuickReply};
use super::record::{self, UsagePosition, UsePosition};
use super::usage::{self, NewUse};
use super::wire::{QuickRepliesPage, StatsPage, UsesPage, quick_reply_id, update};
use crate::error::Error;
use crate::page::cut;
use crate::pb;
use crate::pb::quick_reply_service_server::QuickReplyService;
use crate::tenant::TenantDirectory;

/// Serves quick replies.
pub struct QuickReplies {
    tenants: TenantDirectory,
}

impl QuickReplies {
    /// Serves the tenants of a directory.
    pub fn new(tenants: TenantDirectory) -> Self {
        Self { tenants }
    }
}

#[tonic::async_trait]
impl QuickReplyService for QuickReplies {
    async fn create_quick_reply(
        &self,
        request: Request<pb::CreateQuickReplyRequest>,
    ) -> Result<Response<pb::CreateQuickReplyResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let new = NewQuickReply::try_from(request)?;
        let quick_reply = quick_reply::create(&mut tenant.conn().await?, new).await?;
        Ok(Response::new(pb::CreateQuickReplyResponse {
            quick_reply: Some(quick_reply.into()),
        }))
    }

    async fn get_quick_reply(
        &self,
        request: Request<pb::GetQuickReplyRequest>,
    ) -> Result<Response<pb::GetQuickReplyResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let id = quick_reply_id(&request)?;
        let quick_reply = quick_reply::find(&mut tenant.conn().await?, id).await?;
        let quick_reply = quick_reply.ok_or_else(|| Error::not_found("quick_reply", id))?;
        Ok(Response::new(pb::GetQuickReplyResponse {
            quick_reply: Some(quick_reply.into()),
        }))
    }

    async fn list_quick_replies(
        &self,
        request: Request<pb::ListQuickRepliesRequest>,
    ) -> Result<Response<pb::ListQuickRepliesResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let page = QuickRepliesPage::try_from(request)?;
        let mut conn = tenant.conn().await?;
        let list = tenant.own_list::<pb::ListQuickRepliesRequest>(&page.binding);
        let sealer = self.tenants.page_sealer();
        let beyond: Option<Position> = list.position(sealer, &page.token)?;
        let (filter, order) = (&page.filter, page.order);
        let mut rows = listing::list(&mut conn, filter, order, beyond, page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, |quick_reply| {
            quick_reply.position(order)
        })?;
        let quick_replies = rows.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListQuickRepliesResponse {
            quick_replies,
            next_page_token,
        }))
    }

    async fn update_quick_reply(
        &self,
        request: Request<pb::UpdateQuickReplyRequest>,
    ) -> Result<Response<pb::UpdateQuickReplyResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let (edit, patch) = update(request)?;
        let quick_reply = quick_reply::update(&mut tenant.conn().await?, edit, patch).await?;
        Ok(Response::new(pb::UpdateQuickReplyResponse {
            quick_reply: Some(quick_reply.into()),
        }))
    }

    async fn delete_quick_reply(
        &self,
        request: Request<pb::DeleteQuickReplyRequest>,
    ) -> Result<Response<pb::DeleteQuickReplyResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let allow_missing = request.allow_missing;
        let edit = Edit::try_from(request)?;
        let quick_reply = match quick_reply::delete(&mut tenant.conn().await?, edit).await {
            Err(Error::NotFound { .. }) if allow_missing => None,
            deleted => Some(deleted?.into()),
        };
        Ok(Response::new(pb::DeleteQuickReplyResponse { quick_reply }))
    }

    async fn undelete_quick_reply(
        &self,
        request: Request<pb::UndeleteQuickReplyRequest>,
    ) -> Result<Response<pb::UndeleteQuickReplyResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let edit = Edit::try_from(request)?;
        let quick_reply = quick_reply::undelete(&mut tenant.conn().await?, edit).await?;
        Ok(Response::new(pb::UndeleteQuickReplyResponse {
            quick_reply: Some(quick_reply.into()),
        }))
    }

    async fn use_quick_reply(
        &self,
        request: Request<pb::UseQuickReplyRequest>,
    ) -> Result<Response<pb::UseQuickReplyResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let new = NewUse::try_from(request)?;
        let used = usage::make(&mut tenant.conn().await?, new).await?;
        Ok(Response::new(used.into()))
    }

    async fn list_quick_reply_uses(
        &self,
        request: Request<pb::ListQuickReplyUsesRequest>,
    ) -> Result<Response<pb::ListQuickReplyUsesResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let page = UsesPage::try_from(request)?;
        let mut conn = tenant.conn().await?;
        let list = tenant.own_list::<pb::ListQuickReplyUsesRequest>(&page.binding);
        let sealer = self.tenants.page_sealer();
        let before: Option<UsePosition> = list.position(sealer, &page.token)?;
        let mut rows = record::list(&mut conn, &page.filter, before, page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, |used| {
            (used.used_at, used.id)
        })?;
        let uses = rows.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListQuickReplyUsesResponse {
            uses,
            next_page_token,
        }))
    }

    async fn get_quick_reply_stats(
        &self,
        request: Request<pb::GetQuickReplyStatsRequest>,
    ) -> Result<Response<pb::GetQuickReplyStatsResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let page = StatsPage::try_from(request)?;
        let mut conn = tenant.conn().await?;
        let list = tenant.own_list::<pb::GetQuickReplyStatsRequest>(&page.binding);
        let sealer = self.tenants.page_sealer();
        let beyond: Option<UsagePosition> = list.position(sealer, &page.token)?;
        let mut rows = record::stats(&mut conn, &page.filter, beyond, page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, |usage| {
            (usage.uses, usage.quick_reply_id)
        })?;
        let usages = rows.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::GetQuickReplyStatsResponse {
            usages,
            next_page_token,
        }))
    }
}
