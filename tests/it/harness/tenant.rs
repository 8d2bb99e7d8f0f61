//! A tenant of a test's own, and short ways to fill it.

use communication_service::pb::chat_service_client::ChatServiceClient;
use communication_service::pb::inbox_service_client::InboxServiceClient;
use communication_service::pb::quick_reply_service_client::QuickReplyServiceClient;
use communication_service::pb::{
    Channel as ChannelType, Conversation, CreateConversationRequest, CreateMessageRequest,
    GetConversationRequest, ListMessagesRequest, Message, MessageDirection, MessageFailure,
    MessageStatus, RecomputeStatisticsRequest, RecomputeStatisticsResponse, Tenant,
    UpdateMessageStatusRequest,
};
use tonic::transport::Channel;
use tonic::{Code, Status};
use uuid::Uuid;

use super::TestServer;

/// A tenant, and a client for it.
#[derive(Clone)]
pub struct TestTenant {
    /// The tenant.
    pub tenant: Tenant,
    /// A client of `InboxService`.
    pub inbox: InboxServiceClient<Channel>,
    /// A client of `ChatService`.
    pub chat: ChatServiceClient<Channel>,
    /// A client of `QuickReplyService`.
    pub quick_replies: QuickReplyServiceClient<Channel>,
}

impl TestTenant {
    /// A tenant of a server.
    pub fn new(server: &TestServer, tenant: Tenant) -> Self {
        Self::over(&server.channel, tenant)
    }

    /// A tenant of whoever is at the other end of a connection.
    pub fn over(channel: &Channel, tenant: Tenant) -> Self {
        Self {
            tenant,
            inbox: InboxServiceClient::new(channel.clone()),
            chat: ChatServiceClient::new(channel.clone()),
            quick_replies: QuickReplyServiceClient::new(channel.clone()),
        }
    }

    /// The tenant's slug.
    pub fn slug(&self) -> String {
        self.tenant.slug.clone()
    }

    /// A request for a conversation with somebody new.
    pub fn new_conversation(&self) -> CreateConversationRequest {
        CreateConversationRequest {
            tenant: self.slug(),
            channel: ChannelType::Whatsapp.into(),
            contact_identifier: format!("+{}", Uuid::now_v7().as_u128() % 1_000_000_000_000),
            ..Default::default()
        }
    }

    /// Counts the statistics anew, to the end.
    pub async fn recompute(&self) -> Result<RecomputeStatisticsResponse, Status> {
        let mut inbox = self.inbox.clone();
        loop {
            let request = RecomputeStatisticsRequest {
                tenant: self.slug(),
            };
            let answer = inbox.recompute_statistics(request).await?.into_inner();
            if answer.done {
                return Ok(answer);
            }
        }
    }

    /// Reports what became of an outbound message.
    pub async fn report(&self, message: &Message, status: MessageStatus) -> Message {
        let failed = status == MessageStatus::Failed;
        let request = UpdateMessageStatusRequest {
            tenant: self.slug(),
            message_id: message.id.clone(),
            status: status.into(),
            failure: failed.then(|| MessageFailure {
                code: "131026".to_owned(),
                message: "Undeliverable".to_owned(),
            }),
            ..Default::default()
        };
        let answer = self.inbox.clone().update_message_status(request).await;
        answer.unwrap().into_inner().message.unwrap()
    }

    /// Makes a conversation with somebody new.
    pub async fn conversation(&self) -> Conversation {
        self.create(self.new_conversation()).await
    }

    /// Makes the conversation that a request asks for.
    pub async fn create(&self, request: CreateConversationRequest) -> Conversation {
        loop {
            let mut inbox = self.inbox.clone();
            let answer = inbox.create_conversation(request.clone()).await;
            // As every caller does, on a busy machine.
            if matches!(&answer, Err(status) if status.code() == Code::ResourceExhausted) {
                continue;
            }
            return answer.unwrap().into_inner().conversation.unwrap();
        }
    }

    /// Reads a conversation.
    pub async fn get(&self, conversation: &Conversation) -> Conversation {
        let request = GetConversationRequest {
            tenant: self.slug(),
            conversation_id: conversation.id.clone(),
            ..Default::default()
        };
        let answer = self.inbox.clone().get_conversation(request).await.unwrap();
        answer.into_inner().conversation.unwrap()
    }

    /// A request for an outbound text.
    pub fn new_message(&self, conversation: &Conversation, text: &str) -> CreateMessageRequest {
        CreateMessageRequest {
            tenant: self.slug(),
            conversation_id: conversation.id.clone(),
            text: text.to_owned(),
            ..Default::default()
        }
    }

    /// Adds the message that a request asks for.
    pub async fn send(&self, request: CreateMessageRequest) -> Message {
        let answer = self.inbox.clone().create_message(request).await.unwrap();
        answer.into_inner().message.unwrap()
    }

    /// Adds an outbound text.
    pub async fn reply(&self, conversation: &Conversation, text: &str) -> Message {
        self.send(self.new_message(conversation, text)).await
    }

    /// Adds an inbound text.
    pub async fn receive(&self, conversation: &Conversation, text: &str) -> Message {
        let mut request = self.new_message(conversation, text);
        request.direction = MessageDirection::Inbound.into();
        self.send(request).await
    }

    /// Lists all messages of a conversation.
    pub async fn messages(&self, conversation: &Conversation) -> Vec<Message> {
        let mut all = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListMessagesRequest {
                tenant: self.slug(),
                conversation_id: conversation.id.clone(),
                page_size: 500,
                page_token,
                ..Default::default()
            };
            let page = self
                .inbox
                .clone()
                .list_messages(request)
                .await
                .unwrap()
                .into_inner();
            all.extend(page.messages);
            if page.next_page_token.is_empty() {
                return all;
            }
            page_token = page.next_page_token;
        }
    }
}
