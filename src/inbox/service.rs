//! The calls of `InboxService`.

use tonic::{Request, Response, Status};

use super::conversation::{self, NewConversation, Position};
use super::message::{self, NewMessage, StatusReport};
use super::wire::{ConversationEdit, ConversationsPage, MessagesPage, conversation_id, message_id};
use crate::access::Call as _;
use crate::error::Error;
use crate::page::{List, cut};
use crate::pb;
use crate::pb::inbox_service_server::InboxService;
use crate::tenant::TenantDirectory;

/// Serves conversations and messages.
pub struct Inbox {
    tenants: TenantDirectory,
}

impl Inbox {
    /// Serves the tenants of a directory.
    pub fn new(tenants: TenantDirectory) -> Self {
        Self { tenants }
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
        let answer = conversation::create(&mut tenant.conn().await?, new).await?;
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
            conversation::list(&mut conn, &page.filter, page.order, beyond, page.size).await?;
        let next_page_token = cut(
            &mut rows,
            page.size,
            &list,
            sealer,
            conversation::Conversation::position,
        )?;
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
        let edit = ConversationEdit::try_from(request)?;
        let mut conn = tenant.conn().await?;
        let conversation = conversation::update(&mut conn, edit.id, edit.etag, edit.patch).await?;
        Ok(Response::new(pb::UpdateConversationResponse {
            conversation: Some(conversation.into()),
        }))
    }

    async fn create_message(
        &self,
        request: Request<pb::CreateMessageRequest>,
    ) -> Result<Response<pb::CreateMessageResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let new = NewMessage::try_from(request)?;
        let message = message::create(&mut tenant.conn().await?, new).await?;
        Ok(Response::new(pb::CreateMessageResponse {
            message: Some(message.into()),
        }))
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
        let order = [u8::from(page.order == message::Order::NewestFirst)];
        let id = page.conversation_id;
        let list = List::new(&[path, tenant.binding(), id.0.as_bytes(), &order]);
        let sealer = self.tenants.page_sealer();
        let mut beyond: Option<i64> = list.position(sealer, &page.token)?;
        let mut conn = tenant.conn().await?;
        if let (Some(around), None) = (page.around, beyond) {
            let sequence = message::find_sequence(&mut conn, id, around).await?;
            let sequence = sequence.ok_or_else(|| Error::not_found("message", around))?;
            beyond = Some((sequence - 1 - page.size.items() / 2).max(0));
        }
        let mut rows = message::list(&mut conn, id, page.order, beyond, page.size).await?;
        let next_page_token = cut(&mut rows, page.size, &list, sealer, |message| {
            message.sequence
        })?;
        let messages = rows.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListMessagesResponse {
            messages,
            next_page_token,
        }))
    }

    async fn update_message_status(
        &self,
        request: Request<pb::UpdateMessageStatusRequest>,
    ) -> Result<Response<pb::UpdateMessageStatusResponse>, Status> {
        let (tenant, request) = self.tenants.enter(request).await?;
        let report = StatusReport::try_from(request)?;
        let message = message::report(&mut tenant.conn().await?, report).await?;
        Ok(Response::new(pb::UpdateMessageStatusResponse {
            message: Some(message.into()),
        }))
    }
}
