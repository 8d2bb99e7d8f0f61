//! The calls of `ChatService`.

use futures_util::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::capability::Capability;
use super::channel::{self, NewChannel, Seen};
use super::channel_edit::{self, Edit};
use super::entry::Entry;
use super::schedule::{self, ScheduledPatch};
use super::thread::{self, Followed};
use super::turn::Turns;
use super::wire::{
    Abandonment, ActivityPage, ChannelsPage, EntriesPage, Marking, MembersPage, MentionsPage,
    NewMembers, OpenDirect, PinsPage, Posting, ReactionsPage, RevisionsPage, RoleEdit,
    ScheduledPage, SearchPage, ThreadsPage, UserOfChannel, Writing, channel_answer, channel_id,
    counted, entry_id, entry_match, entry_update, member_answer, posting, presence, reacted,
    scheduled_id, settings, typing, update,
};
use super::{
    activity, attachment, direct, entry, entry_list, entry_revision, listing, member, mention, pin,
    reaction, read_state, search,
};
use crate::error::Error;
use crate::event;
use crate::ids::{ChannelId, ChatEntryId};
use crate::inbox::{
    NewAttachment, attachment_id, content, frames, read_attachment, reading, store_attachment,
};
use crate::page::cut;
use crate::pb;
use crate::pb::chat_service_server::ChatService;
use crate::pb::ephemeral::Kind;
use crate::tenant::TenantDirectory;

/// Serves the team's chat.
pub struct Chat {
    tenants: TenantDirectory,
    turns: Turns,
}

impl Chat {
    /// Serves the tenants of a directory.
    pub fn new(tenants: TenantDirectory) -> Self {
        let turns = Turns::default();
        Self { tenants, turns }
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
        let (seen, created) = direct::open(&mut conn, user_ids).await?;
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
        let seen = channel_edit::update(&mut tenant.conn().await?, edit, patch).await?;
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
        let seen = channel_edit::archive(&mut tenant.conn().await?, edit, true).await?;
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
        let seen = channel_edit::archive(&mut tenant.conn().await?, edit, false).await?;
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

    async fn post_entry(
        &self,
        request: Request<pb::PostEntryRequest>,
    ) -> Result<Response<pb::PostEntryResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let Posting { entry, send_at } = posting(request, tenant.facts())?;
        let answer = match send_at {
            None => {
                let entry = self.turns.post(&tenant, entry).await?;
                pb::PostEntryResponse {
                    entry: Some(entry.into()),
                    scheduled_entry: None,
                }
            }
            Some(at) => {
                self.tenants.set_alarm(&tenant, at).await?;
                let scheduled = schedule::create(&mut tenant.conn().await?, entry, at).await?;
                pb::PostEntryResponse {
                    entry: None,
                    scheduled_entry: Some(scheduled.into()),
                }
            }
        };
        Ok(Response::new(answer))
    }

    async fn get_entry(
        &self,
        request: Request<pb::GetEntryRequest>,
    ) -> Result<Response<pb::GetEntryResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let id = entry_id(&request.entry_id)?;
        let (_, entry) = entry::get(&mut tenant.conn().await?, id).await?;
        Ok(Response::new(pb::GetEntryResponse {
            entry: Some(entry.into()),
        }))
    }

    async fn list_entries(
        &self,
        request: Request<pb::ListEntriesRequest>,
    ) -> Result<Response<pb::ListEntriesResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let asked = EntriesPage::try_from(request)?;
        let page = asked.page;
        let list = tenant.own_list::<pb::ListEntriesRequest>(&page.binding);
        let sealer = self.tenants.page_sealer();
        let mut beyond: Option<i64> = list.position(sealer, &page.token)?;
        let mut conn = tenant.conn().await?;
        if let (Some(around), None) = (asked.around, beyond) {
            let channel = asked.filter.channel_id;
            let sequence = entry_list::find_sequence(&mut conn, channel, around).await?;
            let sequence = sequence.ok_or_else(|| Error::not_found("chat_entry", around))?;
            beyond = Some((sequence - 1 - page.size.items() / 2).max(0));
        }
        let (filter, order) = (asked.filter, asked.order);
        let mut rows = entry_list::list(&mut conn, filter, order, beyond, page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, |entry| entry.sequence)?;
        Ok(Response::new(pb::ListEntriesResponse {
            entries: rows.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn edit_entry(
        &self,
        request: Request<pb::EditEntryRequest>,
    ) -> Result<Response<pb::EditEntryResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let (edit, patch) = entry_update(request)?;
        let entry = entry_revision::edit(&mut tenant.conn().await?, edit, patch).await?;
        Ok(Response::new(pb::EditEntryResponse {
            entry: Some(entry.into()),
        }))
    }

    async fn delete_entry(
        &self,
        request: Request<pb::DeleteEntryRequest>,
    ) -> Result<Response<pb::DeleteEntryResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let edit = entry_revision::Edit::try_from(request)?;
        let entry = entry_revision::delete(&mut tenant.conn().await?, edit).await?;
        Ok(Response::new(pb::DeleteEntryResponse {
            entry: Some(entry.into()),
        }))
    }

    async fn list_entry_revisions(
        &self,
        request: Request<pb::ListEntryRevisionsRequest>,
    ) -> Result<Response<pb::ListEntryRevisionsResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let page = RevisionsPage::try_from(request)?;
        let id = page.entry_id;
        let list = tenant.own_list::<pb::ListEntryRevisionsRequest>(id.0.as_bytes());
        let sealer = self.tenants.page_sealer();
        let before: Option<i32> = list.position(sealer, &page.token)?;
        let mut conn = tenant.conn().await?;
        let mut rows = entry_revision::list(&mut conn, id, before, page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, |revision| {
            revision.number
        })?;
        Ok(Response::new(pb::ListEntryRevisionsResponse {
            revisions: rows.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn add_reaction(
        &self,
        request: Request<pb::AddReactionRequest>,
    ) -> Result<Response<pb::AddReactionResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let (id, emoji) = reacted(&request.entry_id, &request.emoji)?;
        let entry = reaction::add(&mut tenant.conn().await?, id, &emoji).await?;
        Ok(Response::new(pb::AddReactionResponse {
            entry: Some(entry.into()),
        }))
    }

    async fn remove_reaction(
        &self,
        request: Request<pb::RemoveReactionRequest>,
    ) -> Result<Response<pb::RemoveReactionResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let (id, emoji) = reacted(&request.entry_id, &request.emoji)?;
        let entry = reaction::remove(&mut tenant.conn().await?, id, &emoji).await?;
        Ok(Response::new(pb::RemoveReactionResponse {
            entry: Some(entry.into()),
        }))
    }

    async fn list_reactions(
        &self,
        request: Request<pb::ListReactionsRequest>,
    ) -> Result<Response<pb::ListReactionsResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let asked = ReactionsPage::try_from(request)?;
        let (id, emoji, page) = (asked.entry_id, asked.emoji.as_ref(), asked.page);
        let list = tenant.own_list::<pb::ListReactionsRequest>(&page.binding);
        let sealer = self.tenants.page_sealer();
        let after: Option<i32> = list.position(sealer, &page.token)?;
        let mut conn = tenant.conn().await?;
        let mut rows = reaction::list(&mut conn, id, emoji, after, page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, |reaction| {
            reaction.number
        })?;
        Ok(Response::new(pb::ListReactionsResponse {
            reactions: rows.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn pin_entry(
        &self,
        request: Request<pb::PinEntryRequest>,
    ) -> Result<Response<pb::PinEntryResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let id = entry_id(&request.entry_id)?;
        let entry = pin::pin(&mut tenant.conn().await?, id).await?;
        Ok(Response::new(pb::PinEntryResponse {
            entry: Some(entry.into()),
        }))
    }

    async fn unpin_entry(
        &self,
        request: Request<pb::UnpinEntryRequest>,
    ) -> Result<Response<pb::UnpinEntryResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let id = entry_id(&request.entry_id)?;
        let entry = pin::unpin(&mut tenant.conn().await?, id).await?;
        Ok(Response::new(pb::UnpinEntryResponse {
            entry: Some(entry.into()),
        }))
    }

    async fn list_pinned_entries(
        &self,
        request: Request<pb::ListPinnedEntriesRequest>,
    ) -> Result<Response<pb::ListPinnedEntriesResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let PinsPage { channel_id, page } = PinsPage::try_from(request)?;
        let list = tenant.own_list::<pb::ListPinnedEntriesRequest>(&page.binding);
        let sealer = self.tenants.page_sealer();
        let beyond = list.position(sealer, &page.token)?;
        let mut rows = pin::list(&mut tenant.conn().await?, channel_id, beyond, page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, Entry::pin_position)?;
        Ok(Response::new(pb::ListPinnedEntriesResponse {
            entries: rows.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn list_mentions(
        &self,
        request: Request<pb::ListMentionsRequest>,
    ) -> Result<Response<pb::ListMentionsResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let MentionsPage { filter, page } = MentionsPage::try_from(request)?;
        let list = tenant.own_list::<pb::ListMentionsRequest>(&page.binding);
        let sealer = self.tenants.page_sealer();
        let beyond = list.position(sealer, &page.token)?;
        let mut rows = mention::list(&mut tenant.conn().await?, &filter, beyond, page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, Entry::time_position)?;
        Ok(Response::new(pb::ListMentionsResponse {
            entries: rows.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn search_entries(
        &self,
        request: Request<pb::SearchEntriesRequest>,
    ) -> Result<Response<pb::SearchEntriesResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let asked = SearchPage::try_from(request)?;
        let (query, filter, page) = (asked.query, asked.filter, asked.page);
        let list = tenant.own_list::<pb::SearchEntriesRequest>(&page.binding);
        let sealer = self.tenants.page_sealer();
        let beyond = list.position(sealer, &page.token)?;
        let mut conn = tenant.conn().await?;
        let mut rows = search::search(&mut conn, &query, &filter, beyond, page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, Entry::time_position)?;
        let matches = rows.into_iter();
        Ok(Response::new(pb::SearchEntriesResponse {
            matches: matches.map(|entry| entry_match(entry, &query)).collect(),
            next_page_token,
        }))
    }

    async fn mark_channel_read(
        &self,
        request: Request<pb::MarkChannelReadRequest>,
    ) -> Result<Response<pb::MarkChannelReadResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let Marking { id, mark } = Marking::<ChannelId>::try_from(request)?;
        let member = read_state::set_mark(&mut tenant.conn().await?, id, mark).await?;
        Ok(Response::new(pb::MarkChannelReadResponse {
            member: Some(member.into()),
        }))
    }

    async fn mark_channel_unread(
        &self,
        request: Request<pb::MarkChannelUnreadRequest>,
    ) -> Result<Response<pb::MarkChannelUnreadResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let Marking { id, mark } = Marking::<ChannelId>::try_from(request)?;
        let member = read_state::set_mark(&mut tenant.conn().await?, id, mark).await?;
        Ok(Response::new(pb::MarkChannelUnreadResponse {
            member: Some(member.into()),
        }))
    }

    async fn get_unread_counts(
        &self,
        request: Request<pb::GetUnreadCountsRequest>,
    ) -> Result<Response<pb::GetUnreadCountsResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let ids = counted(&request)?;
        let mut conn = tenant.conn().await?;
        let counts = read_state::counts(&mut conn, ids.as_deref()).await?;
        Ok(Response::new(pb::GetUnreadCountsResponse {
            channels: counts.into_iter().map(Into::into).collect(),
        }))
    }

    async fn follow_thread(
        &self,
        request: Request<pb::FollowThreadRequest>,
    ) -> Result<Response<pb::FollowThreadResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let id = entry_id(&request.entry_id)?;
        let follow = thread::follow(&mut tenant.conn().await?, id).await?;
        Ok(Response::new(pb::FollowThreadResponse {
            follow: Some(follow.into()),
        }))
    }

    async fn unfollow_thread(
        &self,
        request: Request<pb::UnfollowThreadRequest>,
    ) -> Result<Response<pb::UnfollowThreadResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let id = entry_id(&request.entry_id)?;
        let follow = thread::unfollow(&mut tenant.conn().await?, id).await?;
        Ok(Response::new(pb::UnfollowThreadResponse {
            follow: follow.map(Into::into),
        }))
    }

    async fn mark_thread_read(
        &self,
        request: Request<pb::MarkThreadReadRequest>,
    ) -> Result<Response<pb::MarkThreadReadResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let Marking { id, mark } = Marking::<ChatEntryId>::try_from(request)?;
        let follow = thread::set_mark(&mut tenant.conn().await?, id, mark).await?;
        Ok(Response::new(pb::MarkThreadReadResponse {
            follow: Some(follow.into()),
        }))
    }

    async fn mark_thread_unread(
        &self,
        request: Request<pb::MarkThreadUnreadRequest>,
    ) -> Result<Response<pb::MarkThreadUnreadResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let Marking { id, mark } = Marking::<ChatEntryId>::try_from(request)?;
        let follow = thread::set_mark(&mut tenant.conn().await?, id, mark).await?;
        Ok(Response::new(pb::MarkThreadUnreadResponse {
            follow: Some(follow.into()),
        }))
    }

    async fn list_threads(
        &self,
        request: Request<pb::ListThreadsRequest>,
    ) -> Result<Response<pb::ListThreadsResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let ThreadsPage { filter, page } = ThreadsPage::try_from(request)?;
        let list = tenant.own_list::<pb::ListThreadsRequest>(&page.binding);
        let sealer = self.tenants.page_sealer();
        let beyond = list.position(sealer, &page.token)?;
        let mut conn = tenant.conn().await?;
        let mut rows = thread::list(&mut conn, &filter, beyond, page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, Followed::position)?;
        Ok(Response::new(pb::ListThreadsResponse {
            threads: rows.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn get_scheduled_entry(
        &self,
        request: Request<pb::GetScheduledEntryRequest>,
    ) -> Result<Response<pb::GetScheduledEntryResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let id = scheduled_id(&request.scheduled_entry_id)?;
        let scheduled = schedule::get(&mut tenant.conn().await?, id).await?;
        Ok(Response::new(pb::GetScheduledEntryResponse {
            scheduled_entry: Some(scheduled.into()),
        }))
    }

    async fn list_scheduled_entries(
        &self,
        request: Request<pb::ListScheduledEntriesRequest>,
    ) -> Result<Response<pb::ListScheduledEntriesResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let ScheduledPage { channel_id, page } = ScheduledPage::try_from(request)?;
        let list = tenant.own_list::<pb::ListScheduledEntriesRequest>(&page.binding);
        let sealer = self.tenants.page_sealer();
        let after = list.position(sealer, &page.token)?;
        let mut conn = tenant.conn().await?;
        let mut rows = schedule::list(&mut conn, channel_id, after, page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, |scheduled| {
            (scheduled.send_at, scheduled.id)
        })?;
        Ok(Response::new(pb::ListScheduledEntriesResponse {
            scheduled_entries: rows.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn update_scheduled_entry(
        &self,
        request: Request<pb::UpdateScheduledEntryRequest>,
    ) -> Result<Response<pb::UpdateScheduledEntryResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let patch = ScheduledPatch::try_from(request)?;
        let mut conn = tenant.conn().await?;
        let found = schedule::get(&mut conn, patch.id).await?;
        // Also for one that could not be posted and is tried again at its old time.
        let at = patch.send_at.unwrap_or(found.send_at);
        self.tenants.set_alarm(&tenant, at).await?;
        let scheduled = schedule::update(&mut conn, patch).await?;
        Ok(Response::new(pb::UpdateScheduledEntryResponse {
            scheduled_entry: Some(scheduled.into()),
        }))
    }

    async fn delete_scheduled_entry(
        &self,
        request: Request<pb::DeleteScheduledEntryRequest>,
    ) -> Result<Response<pb::DeleteScheduledEntryResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let Abandonment {
            id,
            etag,
            allow_missing,
        } = Abandonment::try_from(request)?;
        match schedule::delete(&mut tenant.conn().await?, id, etag).await {
            Ok(()) => {}
            Err(Error::NotFound { .. }) if allow_missing => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Response::new(pb::DeleteScheduledEntryResponse {}))
    }

    async fn upload_chat_attachment(
        &self,
        request: Request<Streaming<pb::UploadChatAttachmentRequest>>,
    ) -> Result<Response<pb::UploadChatAttachmentResponse>, Status> {
        let (tenant, first, frames) = self.tenants.enter_stream(request).await?;
        let new = NewAttachment::try_from(first)?;
        let stored = store_attachment(tenant, new, content(frames)).await?;
        Ok(Response::new(pb::UploadChatAttachmentResponse {
            attachment: Some(stored.into()),
        }))
    }

    async fn get_chat_attachment(
        &self,
        request: Request<pb::GetChatAttachmentRequest>,
    ) -> Result<Response<pb::GetChatAttachmentResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let id = attachment_id(&request.attachment_id)?;
        let found = attachment::get(&mut tenant.conn().await?, id).await?;
        Ok(Response::new(pb::GetChatAttachmentResponse {
            attachment: Some(found.into()),
        }))
    }

    type DownloadChatAttachmentStream =
        BoxStream<'static, Result<pb::DownloadChatAttachmentResponse, Status>>;

    async fn download_chat_attachment(
        &self,
        request: Request<pb::DownloadChatAttachmentRequest>,
    ) -> Result<Response<Self::DownloadChatAttachmentStream>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let reading = reading(&request.attachment_id, request.offset, request.length)?;
        let found = attachment::get(&mut tenant.conn().await?, reading.id).await?;
        let pieces = read_attachment(&tenant, &found, &reading).await?;
        Ok(Response::new(frames(found, pieces, |attachment, data| {
            pb::DownloadChatAttachmentResponse { attachment, data }
        })))
    }

    async fn get_chat_activity(
        &self,
        request: Request<pb::GetChatActivityRequest>,
    ) -> Result<Response<pb::GetChatActivityResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let ActivityPage { query, page } = ActivityPage::try_from(request)?;
        let list = tenant.own_list::<pb::GetChatActivityRequest>(&page.binding);
        let sealer = self.tenants.page_sealer();
        let after: Option<String> = list.position(sealer, &page.token)?;
        let mut conn = tenant.conn().await?;
        let mut rows = activity::count(&mut conn, &query, after.as_deref(), page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, |activity| {
            activity.user_id.clone()
        })?;
        Ok(Response::new(pb::GetChatActivityResponse {
            activities: rows.into_iter().map(Into::into).collect(),
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

    async fn set_typing(
        &self,
        request: Request<pb::SetTypingRequest>,
    ) -> Result<Response<pb::SetTypingResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let Writing { id, thread_root_id } = Writing::read(request, tenant.facts())?;
        let seen = channel::get(&mut tenant.conn().await?, id).await?;
        seen.check(tenant.facts(), Capability::Post)?;
        event::say(&tenant, Kind::Typing(typing(&seen, thread_root_id)));
        Ok(Response::new(pb::SetTypingResponse {}))
    }
}
