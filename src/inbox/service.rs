//! The calls of `InboxService`.

use std::time::Duration;

use chrono_tz::Tz;
use futures_util::stream::{BoxStream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::agent::{self, AgentPatch};
use super::attachment::{self, NewAttachment};
use super::attempt;
use super::bulk::{self, Batch};
use super::change::{self, Alteration, Target};
use super::contact::{self, NewContact};
use super::contact_identity::{self, Addition, Removal};
use super::contact_merge::{self, NewMerge};
use super::deletion::{self, Deletion};
use super::listing::{self, Position};
use super::message;
use super::message_batch::{self, NewBatch};
use super::message_status::{self, StatusReport};
use super::opening::{self, NewConversation};
use super::revision::{self, Edit};
use super::schedule::{self, ScheduledPatch};
use super::statistics::business_hours::{self, BusinessHoursPatch};
use super::statistics::conversation_stats::{self, StatsFilter};
use super::statistics::message_volume::{self, VolumeQuery};
use super::statistics::rebuild;
use super::statistics::response_times::{self, ResponseTimesQuery};
use super::statistics::time_zone;
use super::statistics::user_activity::{self, ActivityQuery};
use super::wire::{
    self, Abandonment, AgentsPage, AutoAssign, ContactEdit, ContactsPage, ConversationsPage,
    FilterCall, MergesPage, MessagesPage, PageOfConversation, PageOfMessage, PolicyEdit, ReadMark,
    Retry, ScheduledPage, SearchPage, Sending, attachment_id, contact_id, contact_merge_id,
    content, conversation_id, conversation_merge_id, frames, message_id, message_match,
    policy_account, reading, scheduled_id, team_id,
};
use super::{
    activity, contact_erasure, contact_export, conversation, merge, message_list, policy,
    read_mark, routing, search,
};
use crate::access::Call as _;
use crate::error::Error;
use crate::page::{List, cut};
use crate::pb;
use crate::pb::inbox_service_server::InboxService;
use crate::tenant::{TenantConn, TenantDirectory, TenantScope};
use crate::webhook::Webhooks;

/// How long one call recomputes statistics.
const RECOMPUTING: Duration = Duration::from_secs(10);

/// Serves conversations, messages and contacts.
pub struct Inbox {
    tenants: TenantDirectory,
    webhooks: Webhooks,
}

impl Inbox {
    /// Serves the tenants of a directory, and what came in for them.
    pub fn new(tenants: TenantDirectory, webhooks: Webhooks) -> Self {
        Self { tenants, webhooks }
    }

    /// A connection for who reads statistics in a time zone, which are counted by its days from now
    /// on.
    async fn conn_of_reader(&self, tenant: &TenantScope, zone: Tz) -> Result<TenantConn, Error> {
        let mut conn = tenant.conn().await?;
        if time_zone::ask(&mut conn, zone).await? {
            self.tenants.visit_soon(tenant.slug());
        }
        Ok(conn)
    }
}

#[tonic::async_trait]
impl InboxService for Inbox {
    async fn create_conversation(
        &self,
        request: Request<pb::CreateConversationRequest>,
    ) -> Result<Response<pb::CreateConversationResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let new = NewConversation::try_from(request)?;
        let answer = opening::create(&mut tenant.conn().await?, new).await?;
        Ok(Response::new(pb::CreateConversationResponse {
            conversation: Some(answer.conversation.into()),
            created: answer.created,
            message: answer.message.map(Into::into),
        }))
    }

    async fn get_conversation(
        &self,
        request: Request<pb::GetConversationRequest>,
    ) -> Result<Response<pb::GetConversationResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let id = conversation_id(&request)?;
        let conversation = conversation::find(&mut tenant.conn().await?, id).await?;
        let conversation = conversation.ok_or_else(|| Error::not_found("conversation", id))?;
        Ok(Response::new(pb::GetConversationResponse {
            conversation: Some(conversation.into()),
        }))
    }

    async fn list_conversations(
        &self,
        request: Request<pb::ListConversationsRequest>,
    ) -> Result<Response<pb::ListConversationsResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let page = ConversationsPage::try_from(request)?;
        let path = pb::ListConversationsRequest::PATH.as_bytes();
        let list = List::new(&[path, tenant.binding(), &page.binding]);
        let sealer = self.tenants.page_sealer();
        let beyond: Option<Position> = list.position(sealer, &page.token)?;
        let mut conn = tenant.conn().await?;
        let mut rows =
            listing::list(&mut conn, &page.filter, page.order, beyond, page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, |(conversation, _)| {
            conversation.position()
        })?;
        let conversations = rows.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListConversationsResponse {
            conversations,
            next_page_token,
        }))
    }

    async fn update_conversation(
        &self,
        request: Request<pb::UpdateConversationRequest>,
    ) -> Result<Response<pb::UpdateConversationResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let (target, change): (Target, Alteration) = request.try_into()?;
        if let Some(Some(until)) = change.snooze {
            self.tenants.set_alarm(&tenant, until).await?;
        }
        let conversation = change::alter(&mut tenant.conn().await?, target, &change).await?;
        Ok(Response::new(pb::UpdateConversationResponse {
            conversation: Some(conversation.into()),
        }))
    }

    async fn assign_conversation(
        &self,
        request: Request<pb::AssignConversationRequest>,
    ) -> Result<Response<pb::AssignConversationResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let (target, change): (Target, Alteration) = request.try_into()?;
        let conversation = change::alter(&mut tenant.conn().await?, target, &change).await?;
        Ok(Response::new(pb::AssignConversationResponse {
            conversation: Some(conversation.into()),
        }))
    }

    async fn auto_assign_conversation(
        &self,
        request: Request<pb::AutoAssignConversationRequest>,
    ) -> Result<Response<pb::AutoAssignConversationResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let AutoAssign { id, etag, reassign } = AutoAssign::try_from(request)?;
        let mut conn = tenant.conn().await?;
        let (conversation, assigned) = routing::auto_assign(&mut conn, id, etag, reassign).await?;
        Ok(Response::new(pb::AutoAssignConversationResponse {
            conversation: Some(conversation.into()),
            assigned,
        }))
    }

    async fn qualify_conversation(
        &self,
        request: Request<pb::QualifyConversationRequest>,
    ) -> Result<Response<pb::QualifyConversationResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let (target, change): (Target, Alteration) = request.try_into()?;
        let conversation = change::alter(&mut tenant.conn().await?, target, &change).await?;
        Ok(Response::new(pb::QualifyConversationResponse {
            conversation: Some(conversation.into()),
        }))
    }

    async fn disqualify_conversation(
        &self,
        request: Request<pb::DisqualifyConversationRequest>,
    ) -> Result<Response<pb::DisqualifyConversationResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let (target, change): (Target, Alteration) = request.try_into()?;
        let conversation = change::alter(&mut tenant.conn().await?, target, &change).await?;
        Ok(Response::new(pb::DisqualifyConversationResponse {
            conversation: Some(conversation.into()),
        }))
    }

    async fn archive_conversation(
        &self,
        request: Request<pb::ArchiveConversationRequest>,
    ) -> Result<Response<pb::ArchiveConversationResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let (target, change): (Target, Alteration) = request.try_into()?;
        let conversation = change::alter(&mut tenant.conn().await?, target, &change).await?;
        Ok(Response::new(pb::ArchiveConversationResponse {
            conversation: Some(conversation.into()),
        }))
    }

    async fn reopen_conversation(
        &self,
        request: Request<pb::ReopenConversationRequest>,
    ) -> Result<Response<pb::ReopenConversationResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let (target, change): (Target, Alteration) = request.try_into()?;
        let conversation = change::alter(&mut tenant.conn().await?, target, &change).await?;
        Ok(Response::new(pb::ReopenConversationResponse {
            conversation: Some(conversation.into()),
        }))
    }

    async fn batch_update_conversations(
        &self,
        request: Request<pb::BatchUpdateConversationsRequest>,
    ) -> Result<Response<pb::BatchUpdateConversationsResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let batch = Batch::try_from(request)?;
        if let Some(Some(until)) = batch.change.snooze {
            self.tenants.set_alarm(&tenant, until).await?;
        }
        let outcomes = bulk::update(&mut tenant.conn().await?, batch).await?;
        Ok(Response::new(outcomes.into_iter().collect()))
    }

    type UpdateConversationsByFilterStream =
        BoxStream<'static, Result<pb::UpdateConversationsByFilterResponse, Status>>;

    async fn update_conversations_by_filter(
        &self,
        request: Request<pb::UpdateConversationsByFilterRequest>,
    ) -> Result<Response<Self::UpdateConversationsByFilterStream>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let FilterCall {
            work,
            token,
            binding,
        } = FilterCall::try_from(request)?;
        let path = pb::UpdateConversationsByFilterRequest::PATH.as_bytes();
        let list = List::new(&[path, tenant.binding(), &binding]);
        let tenants = self.tenants.clone();
        let after = list.position(tenants.page_sealer(), &token);
        let after = after.map_err(|_| Error::invalid("resume_token", "is not of this call"))?;
        let progress = bulk::update_matching(tenants.clone(), tenant, work, after).await?;
        let answers = progress.map(move |progress| {
            let progress = progress?;
            let position = progress.position.filter(|_| !progress.is_finished());
            let token = position.map(|position| list.token(tenants.page_sealer(), &position));
            Ok(pb::UpdateConversationsByFilterResponse {
                resume_token: token.transpose()?.unwrap_or_default(),
                ..progress.into()
            })
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn merge_conversations(
        &self,
        request: Request<pb::MergeConversationsRequest>,
    ) -> Result<Response<pb::MergeConversationsResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let new = merge::NewMerge::try_from(request)?;
        let merged = merge::merge(&mut tenant.conn().await?, new).await?;
        Ok(Response::new(pb::MergeConversationsResponse {
            conversation: Some(merged.conversation.into()),
            merge: Some(merged.merge.into()),
        }))
    }

    async fn undo_conversation_merge(
        &self,
        request: Request<pb::UndoConversationMergeRequest>,
    ) -> Result<Response<pb::UndoConversationMergeResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let id = conversation_merge_id(&request)?;
        let undone = merge::undo(&mut tenant.conn().await?, id).await?;
        Ok(Response::new(pb::UndoConversationMergeResponse {
            conversation: Some(undone.conversation.into()),
            merge: Some(undone.merge.into()),
        }))
    }

    async fn list_conversation_merges(
        &self,
        request: Request<pb::ListConversationMergesRequest>,
    ) -> Result<Response<pb::ListConversationMergesResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let page = PageOfConversation::try_from(request)?;
        let path = pb::ListConversationMergesRequest::PATH.as_bytes();
        let id = page.conversation_id;
        let list = List::new(&[path, tenant.binding(), id.0.as_bytes()]);
        let sealer = self.tenants.page_sealer();
        let before = list.position(sealer, &page.token)?;
        let mut conn = tenant.conn().await?;
        let mut rows = merge::list(&mut conn, id, before, page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, |merge| merge.id)?;
        Ok(Response::new(pb::ListConversationMergesResponse {
            merges: rows.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn mark_conversation_read(
        &self,
        request: Request<pb::MarkConversationReadRequest>,
    ) -> Result<Response<pb::MarkConversationReadResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let mark = ReadMark::try_from(request)?;
        let mut conn = tenant.conn().await?;
        let facts = conn.facts().clone();
        let reader = facts.actor.user_id();
        let reader = reader.ok_or_else(|| Error::invalid("actor.user_id", "is required"))?;
        let read = read_mark::raise(&mut conn, mark.conversation_id, reader, mark.sequence).await?;
        Ok(Response::new(pb::MarkConversationReadResponse {
            conversation: Some(read.into()),
        }))
    }

    async fn list_conversation_activities(
        &self,
        request: Request<pb::ListConversationActivitiesRequest>,
    ) -> Result<Response<pb::ListConversationActivitiesResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let page = PageOfConversation::try_from(request)?;
        let path = pb::ListConversationActivitiesRequest::PATH.as_bytes();
        let id = page.conversation_id;
        let list = List::new(&[path, tenant.binding(), id.0.as_bytes()]);
        let sealer = self.tenants.page_sealer();
        let before: Option<i64> = list.position(sealer, &page.token)?;
        let mut conn = tenant.conn().await?;
        let mut rows = activity::list(&mut conn, id, before, page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, |activity| activity.id)?;
        Ok(Response::new(pb::ListConversationActivitiesResponse {
            activities: rows.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn get_account_policy(
        &self,
        request: Request<pb::GetAccountPolicyRequest>,
    ) -> Result<Response<pb::GetAccountPolicyResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let id = policy_account(&request)?;
        let policy = policy::find(&mut tenant.conn().await?, id).await?;
        let policy = policy.ok_or_else(|| Error::not_found("channel_account", id))?;
        Ok(Response::new(pb::GetAccountPolicyResponse {
            policy: Some(policy.into()),
        }))
    }

    async fn update_account_policy(
        &self,
        request: Request<pb::UpdateAccountPolicyRequest>,
    ) -> Result<Response<pb::UpdateAccountPolicyResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let edit = PolicyEdit::try_from(request)?;
        let mut conn = tenant.conn().await?;
        let policy =
            policy::update(&mut conn, edit.id, edit.etag, edit.patch, edit.agent_ids).await?;
        Ok(Response::new(pb::UpdateAccountPolicyResponse {
            policy: Some(policy.into()),
        }))
    }

    async fn update_agent(
        &self,
        request: Request<pb::UpdateAgentRequest>,
    ) -> Result<Response<pb::UpdateAgentResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let patch = AgentPatch::try_from(request)?;
        let agent = agent::update(&mut tenant.conn().await?, patch).await?;
        Ok(Response::new(pb::UpdateAgentResponse {
            agent: Some(agent.into()),
        }))
    }

    async fn list_agents(
        &self,
        request: Request<pb::ListAgentsRequest>,
    ) -> Result<Response<pb::ListAgentsResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let page = AgentsPage::try_from(request)?;
        let path = pb::ListAgentsRequest::PATH.as_bytes();
        let list = List::new(&[path, tenant.binding(), &page.binding]);
        let sealer = self.tenants.page_sealer();
        let after: Option<String> = list.position(sealer, &page.token)?;
        let mut conn = tenant.conn().await?;
        let mut rows = agent::list(&mut conn, page.available, after, page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, |agent| {
            agent.user_id.clone()
        })?;
        Ok(Response::new(pb::ListAgentsResponse {
            agents: rows.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn create_message(
        &self,
        request: Request<pb::CreateMessageRequest>,
    ) -> Result<Response<pb::CreateMessageResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let Sending { message, send_at } = Sending::try_from(request)?;
        let answer = match send_at {
            None => {
                let message = message::with_files(&tenant, message).await?;
                let message = message::create(&mut tenant.conn().await?, message).await?;
                pb::CreateMessageResponse {
                    message: Some(message.into()),
                    scheduled_message: None,
                }
            }
            Some(at) => {
                self.tenants.set_alarm(&tenant, at).await?;
                let scheduled = schedule::create(&mut tenant.conn().await?, message, at).await?;
                pb::CreateMessageResponse {
                    message: None,
                    scheduled_message: Some(scheduled.into()),
                }
            }
        };
        Ok(Response::new(answer))
    }

    async fn get_scheduled_message(
        &self,
        request: Request<pb::GetScheduledMessageRequest>,
    ) -> Result<Response<pb::GetScheduledMessageResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let id = scheduled_id(&request)?;
        let found = schedule::find(&mut tenant.conn().await?, id).await?;
        let scheduled = found.ok_or_else(|| Error::not_found("scheduled_message", id))?;
        Ok(Response::new(pb::GetScheduledMessageResponse {
            scheduled_message: Some(scheduled.into()),
        }))
    }

    async fn list_scheduled_messages(
        &self,
        request: Request<pb::ListScheduledMessagesRequest>,
    ) -> Result<Response<pb::ListScheduledMessagesResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let page = ScheduledPage::try_from(request)?;
        let path = pb::ListScheduledMessagesRequest::PATH.as_bytes();
        let id = page.conversation_id;
        let of = id.map(|id| id.0.into_bytes()).unwrap_or_default();
        let list = List::new(&[path, tenant.binding(), &of]);
        let sealer = self.tenants.page_sealer();
        let after = list.position(sealer, &page.token)?;
        let mut rows = schedule::list(&mut tenant.conn().await?, id, after, page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, |scheduled| {
            (scheduled.send_at, scheduled.id)
        })?;
        Ok(Response::new(pb::ListScheduledMessagesResponse {
            scheduled_messages: rows.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn update_scheduled_message(
        &self,
        request: Request<pb::UpdateScheduledMessageRequest>,
    ) -> Result<Response<pb::UpdateScheduledMessageResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let patch = ScheduledPatch::try_from(request)?;
        let mut conn = tenant.conn().await?;
        let found = schedule::find(&mut conn, patch.id).await?;
        let found = found.ok_or_else(|| Error::not_found("scheduled_message", patch.id))?;
        // Also for one that could not be sent and is tried again at its old time.
        let at = patch.send_at.unwrap_or(found.send_at);
        self.tenants.set_alarm(&tenant, at).await?;
        let scheduled = schedule::update(&mut conn, patch).await?;
        Ok(Response::new(pb::UpdateScheduledMessageResponse {
            scheduled_message: Some(scheduled.into()),
        }))
    }

    async fn delete_scheduled_message(
        &self,
        request: Request<pb::DeleteScheduledMessageRequest>,
    ) -> Result<Response<pb::DeleteScheduledMessageResponse>, Status> {
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
        Ok(Response::new(pb::DeleteScheduledMessageResponse {}))
    }

    async fn batch_create_messages(
        &self,
        request: Request<pb::BatchCreateMessagesRequest>,
    ) -> Result<Response<pb::BatchCreateMessagesResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let batch = NewBatch::try_from(request)?;
        let outcomes = message_batch::create(&mut tenant.conn().await?, batch).await?;
        let results = outcomes.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::BatchCreateMessagesResponse { results }))
    }

    async fn get_message(
        &self,
        request: Request<pb::GetMessageRequest>,
    ) -> Result<Response<pb::GetMessageResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let id = message_id(&request)?;
        let message = message::find(&mut tenant.conn().await?, id).await?;
        let message = message.ok_or_else(|| Error::not_found("message", id))?;
        Ok(Response::new(pb::GetMessageResponse {
            message: Some(message.into()),
        }))
    }

    async fn list_messages(
        &self,
        request: Request<pb::ListMessagesRequest>,
    ) -> Result<Response<pb::ListMessagesResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let page = MessagesPage::try_from(request)?;
        let path = pb::ListMessagesRequest::PATH.as_bytes();
        let newest_first = page.order == message_list::Order::NewestFirst;
        let which = [u8::from(newest_first), u8::from(page.shows_deleted)];
        let id = page.conversation_id;
        let list = List::new(&[path, tenant.binding(), id.0.as_bytes(), &which]);
        let sealer = self.tenants.page_sealer();
        let mut beyond: Option<i64> = list.position(sealer, &page.token)?;
        let mut conn = tenant.conn().await?;
        if let (Some(around), None) = (page.around, beyond) {
            let sequence = message_list::find_sequence(&mut conn, id, around).await?;
            let sequence = sequence.ok_or_else(|| Error::not_found("message", around))?;
            beyond = Some((sequence - 1 - page.size.items() / 2).max(0));
        }
        let (order, deleted) = (page.order, page.shows_deleted);
        let mut rows = message_list::list(&mut conn, id, order, beyond, deleted, page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, |message| {
            message.sequence
        })?;
        let messages = rows.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListMessagesResponse {
            messages,
            next_page_token,
        }))
    }

    async fn search_messages(
        &self,
        request: Request<pb::SearchMessagesRequest>,
    ) -> Result<Response<pb::SearchMessagesResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let page = SearchPage::try_from(request)?;
        let path = pb::SearchMessagesRequest::PATH.as_bytes();
        let list = List::new(&[path, tenant.binding(), &page.binding]);
        let sealer = self.tenants.page_sealer();
        let beyond: Option<search::Position> = list.position(sealer, &page.token)?;
        let mut conn = tenant.conn().await?;
        let found = search::search(&mut conn, &page.query, &page.filter, beyond, page.size).await?;
        let next = found
            .next
            .map(|next| list.token(sealer, &next))
            .transpose()?;
        let messages = found.messages.into_iter();
        Ok(Response::new(pb::SearchMessagesResponse {
            matches: messages
                .map(|message| message_match(message, &page.query))
                .collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn update_message_status(
        &self,
        request: Request<pb::UpdateMessageStatusRequest>,
    ) -> Result<Response<pb::UpdateMessageStatusResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let report = StatusReport::try_from(request)?;
        let message = message_status::report(&mut tenant.conn().await?, report).await?;
        Ok(Response::new(pb::UpdateMessageStatusResponse {
            message: Some(message.into()),
        }))
    }

    async fn retry_message(
        &self,
        request: Request<pb::RetryMessageRequest>,
    ) -> Result<Response<pb::RetryMessageResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let Retry {
            request_id,
            message_id,
        } = Retry::try_from(request)?;
        let message = attempt::retry(&mut tenant.conn().await?, message_id, request_id).await?;
        Ok(Response::new(pb::RetryMessageResponse {
            message: Some(message.into()),
        }))
    }

    async fn list_message_attempts(
        &self,
        request: Request<pb::ListMessageAttemptsRequest>,
    ) -> Result<Response<pb::ListMessageAttemptsResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let page = PageOfMessage::try_from(request)?;
        let path = pb::ListMessageAttemptsRequest::PATH.as_bytes();
        let id = page.message_id;
        let list = List::new(&[path, tenant.binding(), id.0.as_bytes()]);
        let sealer = self.tenants.page_sealer();
        let before: Option<i32> = list.position(sealer, &page.token)?;
        let mut conn = tenant.conn().await?;
        let mut rows = attempt::list(&mut conn, id, before, page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, |attempt| {
            attempt.number
        })?;
        Ok(Response::new(pb::ListMessageAttemptsResponse {
            attempts: rows.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn edit_message(
        &self,
        request: Request<pb::EditMessageRequest>,
    ) -> Result<Response<pb::EditMessageResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let edit = Edit::try_from(request)?;
        let message = revision::edit(&mut tenant.conn().await?, edit).await?;
        Ok(Response::new(pb::EditMessageResponse {
            message: Some(message.into()),
        }))
    }

    async fn delete_message(
        &self,
        request: Request<pb::DeleteMessageRequest>,
    ) -> Result<Response<pb::DeleteMessageResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let deletion = Deletion::try_from(request)?;
        let message = deletion::delete(&mut tenant.conn().await?, deletion).await?;
        Ok(Response::new(pb::DeleteMessageResponse {
            message: Some(message.into()),
        }))
    }

    async fn list_message_revisions(
        &self,
        request: Request<pb::ListMessageRevisionsRequest>,
    ) -> Result<Response<pb::ListMessageRevisionsResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let page = PageOfMessage::try_from(request)?;
        let path = pb::ListMessageRevisionsRequest::PATH.as_bytes();
        let id = page.message_id;
        let list = List::new(&[path, tenant.binding(), id.0.as_bytes()]);
        let sealer = self.tenants.page_sealer();
        let before: Option<i32> = list.position(sealer, &page.token)?;
        let mut conn = tenant.conn().await?;
        let mut rows = revision::list(&mut conn, id, before, page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, |revision| {
            revision.number
        })?;
        Ok(Response::new(pb::ListMessageRevisionsResponse {
            revisions: rows.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn create_contact(
        &self,
        request: Request<pb::CreateContactRequest>,
    ) -> Result<Response<pb::CreateContactResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let new = NewContact::try_from(request)?;
        let contact = contact::create(&mut tenant.conn().await?, new).await?;
        Ok(Response::new(pb::CreateContactResponse {
            contact: Some(contact.into()),
        }))
    }

    async fn get_contact(
        &self,
        request: Request<pb::GetContactRequest>,
    ) -> Result<Response<pb::GetContactResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let id = contact_id(&request.contact_id)?;
        let contact = contact::get(&mut tenant.conn().await?, id).await?;
        Ok(Response::new(pb::GetContactResponse {
            contact: Some(contact.into()),
        }))
    }

    async fn list_contacts(
        &self,
        request: Request<pb::ListContactsRequest>,
    ) -> Result<Response<pb::ListContactsResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let page = ContactsPage::try_from(request)?;
        let path = pb::ListContactsRequest::PATH.as_bytes();
        let list = List::new(&[path, tenant.binding(), &page.binding]);
        let sealer = self.tenants.page_sealer();
        let beyond: Option<contact::Position> = list.position(sealer, &page.token)?;
        let mut conn = tenant.conn().await?;
        let found = contact::list(
            &mut conn,
            &page.filter,
            page.order,
            beyond.as_ref(),
            page.size,
        );
        let mut rows = found.await?;
        let position = contact::Profile::position;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, position)?;
        let contacts = rows.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListContactsResponse {
            contacts,
            next_page_token,
        }))
    }

    async fn update_contact(
        &self,
        request: Request<pb::UpdateContactRequest>,
    ) -> Result<Response<pb::UpdateContactResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let edit = ContactEdit::try_from(request)?;
        let mut conn = tenant.conn().await?;
        let contact = contact::update(&mut conn, edit.id, edit.etag, edit.patch).await?;
        Ok(Response::new(pb::UpdateContactResponse {
            contact: Some(contact.into()),
        }))
    }

    async fn add_contact_identity(
        &self,
        request: Request<pb::AddContactIdentityRequest>,
    ) -> Result<Response<pb::AddContactIdentityResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let addition = Addition::try_from(request)?;
        let contact = contact_identity::add(&mut tenant.conn().await?, addition).await?;
        Ok(Response::new(pb::AddContactIdentityResponse {
            contact: Some(contact.into()),
        }))
    }

    async fn remove_contact_identity(
        &self,
        request: Request<pb::RemoveContactIdentityRequest>,
    ) -> Result<Response<pb::RemoveContactIdentityResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let removal = Removal::try_from(request)?;
        let contact = contact_identity::remove(&mut tenant.conn().await?, removal).await?;
        Ok(Response::new(pb::RemoveContactIdentityResponse {
            contact: Some(contact.into()),
        }))
    }

    async fn merge_contacts(
        &self,
        request: Request<pb::MergeContactsRequest>,
    ) -> Result<Response<pb::MergeContactsResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let new = NewMerge::try_from(request)?;
        let merged = contact_merge::merge(&mut tenant.conn().await?, new).await?;
        Ok(Response::new(pb::MergeContactsResponse {
            contact: Some(merged.target.into()),
            merge: Some(merged.merge.into()),
        }))
    }

    async fn undo_contact_merge(
        &self,
        request: Request<pb::UndoContactMergeRequest>,
    ) -> Result<Response<pb::UndoContactMergeResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let id = contact_merge_id(&request)?;
        let undone = contact_merge::undo(&mut tenant.conn().await?, id).await?;
        Ok(Response::new(pb::UndoContactMergeResponse {
            source: Some(undone.source.into()),
            target: Some(undone.target.into()),
            merge: Some(undone.merge.into()),
        }))
    }

    async fn list_contact_merges(
        &self,
        request: Request<pb::ListContactMergesRequest>,
    ) -> Result<Response<pb::ListContactMergesResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let page = MergesPage::try_from(request)?;
        let path = pb::ListContactMergesRequest::PATH.as_bytes();
        let contact = page.contact_id;
        let of = contact.as_ref().map_or([].as_slice(), |id| id.0.as_bytes());
        let list = List::new(&[path, tenant.binding(), of]);
        let sealer = self.tenants.page_sealer();
        let before = list.position(sealer, &page.token)?;
        let mut conn = tenant.conn().await?;
        let contacts = contact.as_ref().map(std::slice::from_ref);
        let mut rows = contact_merge::list(&mut conn, contacts, before, page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, |row| row.merge.id)?;
        let merges = rows.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListContactMergesResponse {
            merges,
            next_page_token,
        }))
    }

    type ExportContactStream = BoxStream<'static, Result<pb::ExportContactResponse, Status>>;

    async fn export_contact(
        &self,
        request: Request<pb::ExportContactRequest>,
    ) -> Result<Response<Self::ExportContactStream>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let id = contact_id(&request.contact_id)?;
        let pieces = contact_export::export(tenant, id).await?;
        let answers = pieces.map(|piece| Ok(piece?.into()));
        Ok(Response::new(answers.boxed()))
    }

    async fn erase_contact(
        &self,
        request: Request<pb::EraseContactRequest>,
    ) -> Result<Response<pb::EraseContactResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let id = contact_id(&request.contact_id)?;
        let erasure = contact_erasure::erase(&tenant, &self.webhooks, id).await?;
        Ok(Response::new(pb::EraseContactResponse {
            erasure: Some(erasure.into()),
        }))
    }

    async fn get_conversation_stats(
        &self,
        request: Request<pb::GetConversationStatsRequest>,
    ) -> Result<Response<pb::GetConversationStatsResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let filter = StatsFilter::try_from(request)?;
        let counts = conversation_stats::count(&mut tenant.conn().await?, &filter).await?;
        Ok(Response::new(counts.into_iter().collect()))
    }

    async fn get_response_times(
        &self,
        request: Request<pb::GetResponseTimesRequest>,
    ) -> Result<Response<pb::GetResponseTimesResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let query = ResponseTimesQuery::try_from(request)?;
        let mut conn = self.conn_of_reader(&tenant, query.range.zone).await?;
        let times = response_times::measure(&mut conn, &query).await?;
        let times = times.into_iter();
        let response_times =
            times.map(|(bucket, group, times)| wire::response_times(bucket, group, times));
        Ok(Response::new(pb::GetResponseTimesResponse {
            response_times: response_times.collect(),
        }))
    }

    async fn get_message_volume(
        &self,
        request: Request<pb::GetMessageVolumeRequest>,
    ) -> Result<Response<pb::GetMessageVolumeResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let query = VolumeQuery::try_from(request)?;
        let mut conn = self.conn_of_reader(&tenant, query.range.zone).await?;
        let volumes = message_volume::count(&mut conn, &query).await?;
        let volumes = volumes.into_iter();
        let volumes = volumes.map(|(bucket, group, volume)| wire::volume(bucket, group, volume));
        Ok(Response::new(pb::GetMessageVolumeResponse {
            volumes: volumes.collect(),
        }))
    }

    async fn get_user_activity(
        &self,
        request: Request<pb::GetUserActivityRequest>,
    ) -> Result<Response<pb::GetUserActivityResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let query = ActivityQuery::try_from(request)?;
        let activities = user_activity::sum(&mut tenant.conn().await?, &query).await?;
        Ok(Response::new(pb::GetUserActivityResponse {
            activities: activities.into_iter().map(Into::into).collect(),
        }))
    }

    async fn get_business_hours(
        &self,
        request: Request<pb::GetBusinessHoursRequest>,
    ) -> Result<Response<pb::GetBusinessHoursResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let team_id = team_id(request)?;
        let hours = business_hours::get(&mut tenant.conn().await?, &team_id).await?;
        Ok(Response::new(pb::GetBusinessHoursResponse {
            business_hours: Some(hours.into()),
        }))
    }

    async fn update_business_hours(
        &self,
        request: Request<pb::UpdateBusinessHoursRequest>,
    ) -> Result<Response<pb::UpdateBusinessHoursResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let patch = BusinessHoursPatch::try_from(request)?;
        let hours = business_hours::update(&mut tenant.conn().await?, patch).await?;
        self.tenants.visit_soon(tenant.slug());
        Ok(Response::new(pb::UpdateBusinessHoursResponse {
            business_hours: Some(hours.into()),
        }))
    }

    async fn recompute_statistics(
        &self,
        request: Request<pb::RecomputeStatisticsRequest>,
    ) -> Result<Response<pb::RecomputeStatisticsResponse>, Status> {
        let (tenant, _) = self.tenants.enter(request).await?;
        let progress = rebuild::rebuild(&mut tenant.conn().await?, RECOMPUTING).await?;
        Ok(Response::new(progress.into()))
    }

    async fn upload_attachment(
        &self,
        request: Request<Streaming<pb::UploadAttachmentRequest>>,
    ) -> Result<Response<pb::UploadAttachmentResponse>, Status> {
        let (tenant, first, frames) = self.tenants.enter_stream(request).await?;
        let new = NewAttachment::try_from(first)?;
        let stored = attachment::store(tenant, new, content(frames)).await?;
        Ok(Response::new(pb::UploadAttachmentResponse {
            attachment: Some(stored.into()),
        }))
    }

    async fn get_attachment(
        &self,
        request: Request<pb::GetAttachmentRequest>,
    ) -> Result<Response<pb::GetAttachmentResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let id = attachment_id(&request.attachment_id)?;
        let found = attachment::find(&mut tenant.conn().await?, id).await?;
        let found = found.ok_or_else(|| Error::not_found("attachment", id))?;
        Ok(Response::new(pb::GetAttachmentResponse {
            attachment: Some(found.into()),
        }))
    }

    type DownloadAttachmentStream =
        BoxStream<'static, Result<pb::DownloadAttachmentResponse, Status>>;

    async fn download_attachment(
        &self,
        request: Request<pb::DownloadAttachmentRequest>,
    ) -> Result<Response<Self::DownloadAttachmentStream>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let reading = reading(&request.attachment_id, request.offset, request.length)?;
        let (found, pieces) = attachment::open(&tenant, &reading).await?;
        Ok(Response::new(frames(found, pieces, |attachment, data| {
            pb::DownloadAttachmentResponse { attachment, data }
        })))
    }
}
