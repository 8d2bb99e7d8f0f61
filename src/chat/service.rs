//! The calls of `ChatService`.

use tonic::{Request, Response, Status};

use super::channel::{self, Edit, NewChannel, Seen};
use super::wire::{
    ChannelsPage, MembersPage, NewMembers, OpenDirect, RoleEdit, UserOfChannel, channel_answer,
    channel_id, member_answer, presence, settings, update,
};
use super::{listing, member};
use crate::event;
use crate::page::cut;
use crate::pb;
use crate::pb::chat_service_server::ChatService;
use crate::pb::ephemeral::Kind;
use crate::tenant::TenantDirectory;

/// Serves the team's chat.
pub struct Chat {
    tenants: TenantDirectory,
}

impl Chat {
    /// Serves the tenants of a directory.
    pub fn new(tenants: TenantDirectory) -> Self {
        Self { tenants }
    }
}

#[tonic::async_trait]
impl ChatService for Chat {
    async fn create_channel(
        &self,
        request: Request<pb::CreateChannelRequest>,
    ) -> Result<Response<pb::CreateChannelResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let new = NewChannel::try_from(request)?;
        let seen = channel::create(&mut tenant.conn().await?, new).await?;
        Ok(Response::new(pb::CreateChannelResponse {
            channel: Some(channel_answer(seen, tenant.facts())),
        }))
    }

    async fn open_direct_channel(
        &self,
        request: Request<pb::OpenDirectChannelRequest>,
    ) -> Result<Response<pb::OpenDirectChannelResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let OpenDirect { user_ids } = OpenDirect::try_from(request)?;
        let mut conn = tenant.conn().await?;
        let (seen, created) = channel::open_direct(&mut conn, user_ids).await?;
        Ok(Response::new(pb::OpenDirectChannelResponse {
            channel: Some(channel_answer(seen, tenant.facts())),
            created,
        }))
    }

    async fn get_channel(
        &self,
        request: Request<pb::GetChannelRequest>,
    ) -> Result<Response<pb::GetChannelResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let id = channel_id(&request.channel_id)?;
        let seen = channel::get(&mut tenant.conn().await?, id).await?;
        Ok(Response::new(pb::GetChannelResponse {
            channel: Some(channel_answer(seen, tenant.facts())),
        }))
    }

    async fn list_channels(
        &self,
        request: Request<pb::ListChannelsRequest>,
    ) -> Result<Response<pb::ListChannelsResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let ChannelsPage { filter, page } = ChannelsPage::try_from(request)?;
        let list = tenant.own_list::<pb::ListChannelsRequest>(&page.binding);
        let sealer = self.tenants.page_sealer();
        let beyond = list.position(sealer, &page.token)?;
        let mut conn = tenant.conn().await?;
        let mut rows = listing::list(&mut conn, &filter, beyond, page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, Seen::position)?;
        let channels = rows.into_iter();
        Ok(Response::new(pb::ListChannelsResponse {
            channels: channels
                .map(|seen| channel_answer(seen, tenant.facts()))
                .collect(),
            next_page_token,
        }))
    }

    async fn update_channel(
        &self,
        request: Request<pb::UpdateChannelRequest>,
    ) -> Result<Response<pb::UpdateChannelResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let (edit, patch) = update(request)?;
        let seen = channel::update(&mut tenant.conn().await?, edit, patch).await?;
        Ok(Response::new(pb::UpdateChannelResponse {
            channel: Some(channel_answer(seen, tenant.facts())),
        }))
    }

    async fn archive_channel(
        &self,
        request: Request<pb::ArchiveChannelRequest>,
    ) -> Result<Response<pb::ArchiveChannelResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let edit = Edit::try_from(request)?;
        let seen = channel::archive(&mut tenant.conn().await?, edit, true).await?;
        Ok(Response::new(pb::ArchiveChannelResponse {
            channel: Some(channel_answer(seen, tenant.facts())),
        }))
    }

    async fn unarchive_channel(
        &self,
        request: Request<pb::UnarchiveChannelRequest>,
    ) -> Result<Response<pb::UnarchiveChannelResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let edit = Edit::try_from(request)?;
        let seen = channel::archive(&mut tenant.conn().await?, edit, false).await?;
        Ok(Response::new(pb::UnarchiveChannelResponse {
            channel: Some(channel_answer(seen, tenant.facts())),
        }))
    }

    async fn join_channel(
        &self,
        request: Request<pb::JoinChannelRequest>,
    ) -> Result<Response<pb::JoinChannelResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let id = channel_id(&request.channel_id)?;
        let seen = member::join(&mut tenant.conn().await?, id).await?;
        Ok(Response::new(pb::JoinChannelResponse {
            channel: Some(channel_answer(seen, tenant.facts())),
        }))
    }

    async fn leave_channel(
        &self,
        request: Request<pb::LeaveChannelRequest>,
    ) -> Result<Response<pb::LeaveChannelResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let id = channel_id(&request.channel_id)?;
        let member = member::leave(&mut tenant.conn().await?, id).await?;
        Ok(Response::new(pb::LeaveChannelResponse {
            member: member.map(Into::into),
        }))
    }

    async fn add_channel_members(
        &self,
        request: Request<pb::AddChannelMembersRequest>,
    ) -> Result<Response<pb::AddChannelMembersResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let new = NewMembers::try_from(request)?;
        let mut conn = tenant.conn().await?;
        let members = member::add_all(&mut conn, new.channel_id, &new.members).await?;
        let members = members.into_iter();
        Ok(Response::new(pb::AddChannelMembersResponse {
            members: members
                .map(|member| member_answer(member, tenant.facts()))
                .collect(),
        }))
    }

    async fn remove_channel_member(
        &self,
        request: Request<pb::RemoveChannelMemberRequest>,
    ) -> Result<Response<pb::RemoveChannelMemberResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let user = UserOfChannel::try_from(request)?;
        let mut conn = tenant.conn().await?;
        let member = member::remove(&mut conn, user.channel_id, &user.user_id).await?;
        Ok(Response::new(pb::RemoveChannelMemberResponse {
            member: member.map(|member| member_answer(member, tenant.facts())),
        }))
    }

    async fn update_channel_member(
        &self,
        request: Request<pb::UpdateChannelMemberRequest>,
    ) -> Result<Response<pb::UpdateChannelMemberResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let RoleEdit { of, role } = RoleEdit::try_from(request)?;
        let mut conn = tenant.conn().await?;
        let member = member::set_role(&mut conn, of.channel_id, &of.user_id, role).await?;
        Ok(Response::new(pb::UpdateChannelMemberResponse {
            member: Some(member_answer(member, tenant.facts())),
        }))
    }

    async fn update_channel_settings(
        &self,
        request: Request<pb::UpdateChannelSettingsRequest>,
    ) -> Result<Response<pb::UpdateChannelSettingsResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let (id, settings) = settings(request)?;
        let member = member::set(&mut tenant.conn().await?, id, settings).await?;
        Ok(Response::new(pb::UpdateChannelSettingsResponse {
            member: Some(member.into()),
        }))
    }

    async fn list_channel_members(
        &self,
        request: Request<pb::ListChannelMembersRequest>,
    ) -> Result<Response<pb::ListChannelMembersResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let asked = MembersPage::try_from(request)?;
        let page = asked.page;
        let list = tenant.own_list::<pb::ListChannelMembersRequest>(&page.binding);
        let sealer = self.tenants.page_sealer();
        let after: Option<String> = list.position(sealer, &page.token)?;
        let (id, roles) = (asked.channel_id, asked.roles.as_deref());
        let mut conn = tenant.conn().await?;
        let mut rows = member::list(&mut conn, id, roles, after.as_deref(), page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, |member| {
            member.user_id.clone()
        })?;
        let members = rows.into_iter();
        Ok(Response::new(pb::ListChannelMembersResponse {
            members: members
                .map(|member| member_answer(member, tenant.facts()))
                .collect(),
            next_page_token,
        }))
    }

    async fn set_presence(
        &self,
        request: Request<pb::SetPresenceRequest>,
    ) -> Result<Response<pb::SetPresenceResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let presence = presence(request, tenant.facts())?;
        event::say(&tenant, Kind::Presence(presence));
        Ok(Response::new(pb::SetPresenceResponse {}))
    }
}
