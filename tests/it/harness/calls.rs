//! A valid request for every method, and what goes into each field that names something: kept by
//! hand, and missed by the tests when a method or a field is new.

use std::collections::BTreeMap;

use prost_reflect::DynamicMessage;
use serde_json::{Value as Json, json};
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use super::dynamic::Method;
use super::whatsapp::{APP_SECRET, new_number, sign, unsupported};
use super::{TestServer, eventually};

/// A tenant that has something of everything.
pub struct Filled {
    /// Its slug.
    pub slug: String,
    /// Its schema.
    pub schema: String,
    /// The slug of a second tenant, which is deleted.
    pub deleted: String,
    channel_account: String,
    connected: String,
    /// An account whose app is the tenant's own.
    connected_by_own_app: String,
    contact: String,
    /// Contacts for merges and erasures; the conversations are of another.
    person: String,
    sources: Vec<String>,
    erasable: String,
    identity: String,
    merge: String,
    conversation: String,
    archived: String,
    merged: String,
    conversation_merge: String,
    message: String,
    /// A note that was edited, and a message that may be deleted.
    note: String,
    /// A message that is to be sent.
    scheduled: String,
    doomed: String,
    /// One that failed twice.
    failed: String,
    quick_reply: String,
    deleted_quick_reply: String,
    attachment: String,
    files_of_quick_replies: Vec<String>,
    /// A channel of user-1 with others in it, and a public one of somebody else.
    channel: String,
    public_channel: String,
    /// An entry of theirs with replies, one that may be deleted, and one that was edited twice.
    entry: String,
    doomed_entry: String,
    edited_entry: String,
    /// One of no interest to anybody.
    plain_entry: String,
    /// A file that user-1 has stored for an entry, and an entry that they have scheduled.
    chat_attachment: String,
    scheduled_entry: String,
    delivery: String,
    phone_number: String,
    request_id: String,
    page_tokens: BTreeMap<String, String>,
}

/// What a field that names something can be filled with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// The id of something that the tenant has.
    Thing(String),
    /// The id of somebody or something that another service knows: any will do.
    Stranger,
    /// A request id that the tenant's caller has used.
    Request(String),
    /// A page token of the method's example.
    Page(String),
}

impl Filled {
    /// Makes a tenant and fills it.
    pub async fn new(server: &TestServer, metadata: &MetadataMap) -> Self {
        let call = async |name: &str, request: Json| -> Json {
            let method = method(name);
            let request = method.request(request);
            let answer = method
                .call(&server.channel, &request, metadata)
                .await
                .unwrap();
            serde_json::to_value(answer).unwrap()
        };
        let text = |json: &Json| json.as_str().unwrap().to_owned();
        let slug = format!("t{}", Uuid::now_v7().simple());
        let tenant = call("InitializeTenant", json!({"tenant": slug})).await;
        let mut filled = Self {
            schema: text(&tenant["tenant"]["schemaName"]),
            request_id: format!("request-{slug}"),
            deleted: format!("{slug}-d"),
            slug,
            channel_account: String::new(),
            connected: String::new(),
            connected_by_own_app: String::new(),
            contact: String::new(),
            person: String::new(),
            sources: Vec::new(),
            erasable: String::new(),
            identity: String::new(),
            merge: String::new(),
            conversation: String::new(),
            archived: String::new(),
            merged: String::new(),
            conversation_merge: String::new(),
            message: String::new(),
            note: String::new(),
            scheduled: String::new(),
            doomed: String::new(),
            failed: String::new(),
            quick_reply: String::new(),
            deleted_quick_reply: String::new(),
            attachment: String::new(),
            files_of_quick_replies: Vec::new(),
            channel: String::new(),
            public_channel: String::new(),
            entry: String::new(),
            doomed_entry: String::new(),
            edited_entry: String::new(),
            plain_entry: String::new(),
            chat_attachment: String::new(),
            scheduled_entry: String::new(),
            delivery: String::new(),
            phone_number: new_number(),
            page_tokens: BTreeMap::new(),
        };
        let deleted = json!({"tenant": filled.deleted});
        call("InitializeTenant", deleted.clone()).await;
        call("DeleteTenant", deleted).await;
        // Two threads with one person, so that every list has a second page.
        for thread in ["archived", "first", "second"] {
            let mut new = json!({
                "tenant": filled.slug,
                "channel": "CHANNEL_EMAIL",
                "contactIdentifier": "jane@example.com",
                "firstMessage": "Hello",
                "threadKey": thread,
            });
            new["requestId"] = if thread == "first" {
                json!(filled.request_id)
            } else {
                json!("")
            };
            let made = call("CreateConversation", new).await;
            let conversation = &made["conversation"];
            filled.conversation = text(&conversation["id"]);
            filled.channel_account = text(&conversation["channelAccountId"]);
            filled.contact = text(&conversation["contactId"]);
            if thread == "archived" {
                filled.archived = text(&conversation["id"]);
            } else {
                let labels = json!({
                    "tenant": filled.slug,
                    "conversationId": conversation["id"],
                    "labels": ["vip"],
                });
                call("UpdateConversation", labels).await;
            }
        }
        for request_id in [filled.request_id.clone(), String::new(), String::new()] {
            let new = json!({
                "tenant": filled.slug,
                "actor": {"userId": "user-1"},
                "requestId": request_id,
                "conversationId": filled.conversation,
                "text": "How can I help?",
            });
            let sent = call("CreateMessage", new).await;
            filled.message = text(&sent["message"]["id"]);
        }
        for text_of_it in ["A note", "Doomed"] {
            let new = json!({
                "tenant": filled.slug,
                "conversationId": filled.conversation,
                "direction": "MESSAGE_DIRECTION_INTERNAL",
                "text": text_of_it,
            });
            let made = call("CreateMessage", new).await;
            filled.note = std::mem::replace(&mut filled.doomed, text(&made["message"]["id"]));
        }
        for again in ["A better note", "The best note"] {
            let mut edit = example("EditMessage", &filled);
            edit["text"] = json!(again);
            call("EditMessage", edit).await;
        }
        let new = json!({
            "tenant": filled.slug,
            "conversationId": filled.conversation,
            "text": "Not for you",
        });
        let made = call("CreateMessage", new).await;
        filled.failed = text(&made["message"]["id"]);
        for request_id in [filled.request_id.clone(), String::new()] {
            let failed = json!({
                "tenant": filled.slug,
                "messageId": filled.failed,
                "status": "MESSAGE_STATUS_FAILED",
            });
            call("UpdateMessageStatus", failed).await;
            let again = json!({
                "tenant": filled.slug,
                "messageId": filled.failed,
                "requestId": request_id,
            });
            call("RetryMessage", again).await;
        }
        for _ in 0..2 {
            let new = json!({
                "tenant": filled.slug,
                "conversationId": filled.conversation,
                "text": "Later",
                "sendTime": "TOMORROW",
            });
            let made = call("CreateMessage", tomorrow(new)).await;
            filled.scheduled = text(&made["scheduledMessage"]["id"]);
        }
        // Two merges into a conversation, and one more that can be merged.
        for thread in ["merged-1", "merged-2", "merged-3"] {
            let new = json!({
                "tenant": filled.slug,
                "channel": "CHANNEL_EMAIL",
                "contactIdentifier": "jane@example.com",
                "threadKey": thread,
            });
            let made = call("CreateConversation", new).await;
            filled.merged = text(&made["conversation"]["id"]);
            if thread != "merged-3" {
                let merge = json!({
                    "tenant": filled.slug,
                    "requestId": if thread == "merged-1" { &filled.request_id } else { "" },
                    "sourceConversationId": filled.merged,
                    "targetConversationId": filled.conversation,
                });
                let merged = call("MergeConversations", merge).await;
                filled.conversation_merge = text(&merged["merge"]["id"]);
            }
        }
        for user in ["user-1", "user-2"] {
            call(
                "UpdateAgent",
                json!({"tenant": filled.slug, "userId": user}),
            )
            .await;
        }
        // Contacts, and two merges into one of them.
        let mut people = Vec::new();
        for _ in 0..4 {
            let mut new = example("CreateContact", &filled);
            if people.is_empty() {
                new["requestId"] = json!(filled.request_id);
            }
            let made = call("CreateContact", new).await;
            filled.identity = text(&made["contact"]["identities"][0]["id"]);
            people.push(text(&made["contact"]["id"]));
        }
        filled.erasable = people.remove(0);
        filled.person = people.pop().unwrap();
        let mut add = example("AddContactIdentity", &filled);
        add["requestId"] = json!(filled.request_id);
        call("AddContactIdentity", add).await;
        for source in &people {
            let merge = json!({
                "tenant": filled.slug,
                "requestId": if filled.merge.is_empty() { &filled.request_id } else { "" },
                "sourceContactId": source,
                "targetContactId": filled.person,
            });
            let merged = call("MergeContacts", merge).await;
            filled.merge = text(&merged["merge"]["id"]);
        }
        filled.sources = people;
        // Two quick replies that were used, the second one twice, and one that is deleted.
        for request_id in [filled.request_id.clone(), String::new()] {
            let mut new = example("CreateQuickReply", &filled);
            new["requestId"] = json!(request_id);
            let made = call("CreateQuickReply", new).await;
            filled.quick_reply = text(&made["quickReply"]["id"]);
            let mut used = example("UseQuickReply", &filled);
            used["requestId"] = json!(request_id);
            call("UseQuickReply", used).await;
        }
        call("UseQuickReply", example("UseQuickReply", &filled)).await;
        let made = call("CreateQuickReply", example("CreateQuickReply", &filled)).await;
        filled.deleted_quick_reply = text(&made["quickReply"]["id"]);
        let deleted = json!({"tenant": filled.slug, "quickReplyId": filled.deleted_quick_reply});
        call("DeleteQuickReply", deleted).await;
        let mut new = example("CreateChannel", &filled);
        new["requestId"] = json!(filled.request_id);
        let made = call("CreateChannel", new.clone()).await;
        filled.channel = text(&made["channel"]["id"]);
        new["requestId"] = json!("");
        new["kind"] = json!("CHAT_CHANNEL_KIND_PUBLIC");
        new["actor"] = json!({"userId": "user-2"});
        let made = call("CreateChannel", new).await;
        filled.public_channel = text(&made["channel"]["id"]);
        // Two threads with a reply each, so that every list has a second page.
        for request_id in [filled.request_id.clone(), String::new()] {
            let mut new = example("PostEntry", &filled);
            new["threadRootId"] = json!("");
            new["requestId"] = json!(request_id);
            let posted = call("PostEntry", new).await;
            filled.edited_entry = std::mem::take(&mut filled.entry);
            filled.entry = text(&posted["entry"]["id"]);
            call("PostEntry", example("PostEntry", &filled)).await;
        }
        for again in ["A better plan", "The best plan"] {
            let mut edit = example("EditEntry", &filled);
            edit["text"] = json!(again);
            call("EditEntry", edit).await;
        }
        let mut new = example("PostEntry", &filled);
        new["threadRootId"] = json!("");
        let posted = call("PostEntry", new).await;
        filled.doomed_entry = text(&posted["entry"]["id"]);
        let mut new = example("PostEntry", &filled);
        new["threadRootId"] = json!("");
        let posted = call("PostEntry", new).await;
        filled.plain_entry = text(&posted["entry"]["id"]);
        for entry in [&filled.entry, &filled.edited_entry] {
            let mut pin = example("PinEntry", &filled);
            pin["entryId"] = json!(entry);
            call("PinEntry", pin).await;
        }
        for user in ["user-1", "user-3"] {
            let mut reaction = example("AddReaction", &filled);
            reaction["actor"] = json!({"userId": user});
            call("AddReaction", reaction).await;
        }
        // Of somebody else, so that there is activity of two.
        let mut new = example("PostEntry", &filled);
        new["actor"] = json!({"userId": "user-3"});
        new["threadRootId"] = json!("");
        new["mentions"] = json!({});
        call("PostEntry", new).await;
        let mut upload = example("UploadChatAttachment", &filled);
        upload["requestId"] = json!(filled.request_id);
        let stored = call("UploadChatAttachment", upload).await;
        filled.chat_attachment = text(&stored["attachment"]["id"]);
        for _ in 0..2 {
            let mut new = example("PostEntry", &filled);
            new["requestId"] = json!("");
            let made = call("PostEntry", tomorrow(new)).await;
            filled.scheduled_entry = text(&made["scheduledEntry"]["id"]);
        }
        // Made once, so that it is found from then on.
        call("OpenDirectChannel", example("OpenDirectChannel", &filled)).await;
        let mut batch = example("BatchCreateMessages", &filled);
        batch["requestId"] = json!(filled.request_id);
        call("BatchCreateMessages", batch).await;
        let mut upload = example("UploadAttachment", &filled);
        upload["requestId"] = json!(filled.request_id);
        let stored = call("UploadAttachment", upload).await;
        filled.attachment = text(&stored["attachment"]["id"]);
        // A file is of one thing.
        for _ in 0..2 {
            let mut upload = example("UploadAttachment", &filled);
            upload["requestId"] = json!("");
            let stored = call("UploadAttachment", upload).await;
            let file = text(&stored["attachment"]["id"]);
            filled.files_of_quick_replies.push(file);
        }
        // Two accounts, and two items in quarantine.
        let connect = example("ConnectChannelAccount", &filled);
        let account = call("ConnectChannelAccount", connect.clone()).await;
        filled.connected = text(&account["channelAccount"]["id"]);
        let mut second = connect;
        second["whatsapp"]["phoneNumberId"] = json!(new_number());
        let mut own = second.clone();
        call("ConnectChannelAccount", second).await;
        // One whose app is the tenant's own to change.
        own["whatsapp"]["phoneNumberId"] = json!(new_number());
        own["whatsapp"]["ownApp"] = json!(true);
        let account = call("ConnectChannelAccount", own).await;
        filled.connected_by_own_app = text(&account["channelAccount"]["id"]);
        for _ in 0..2 {
            let body = unsupported(&filled.phone_number);
            let signature = sign(APP_SECRET, &body);
            let headers = [("x-hub-signature-256", signature.as_str())];
            let taken = server
                .http_post("/webhooks/whatsapp", &headers, &body)
                .await;
            assert_eq!(taken.0, 200);
        }
        eventually("two items are in quarantine", async || {
            let list = json!({"tenant": filled.slug});
            let items = call("ListQuarantinedItems", list).await;
            let items = items["items"].as_array().cloned().unwrap_or_default();
            if let Some(item) = items.first() {
                filled.delivery = text(&item["deliveryId"]);
            }
            items.len() == 2
        })
        .await;
        for method in Method::all() {
            if method.field("page_token").is_some() {
                let answer = call(method.name(), example(method.name(), &filled)).await;
                let token = answer["nextPageToken"].as_str();
                let token = token.unwrap_or_else(|| panic!("{} has one page", method.name()));
                filled
                    .page_tokens
                    .insert(method.name().to_owned(), token.to_owned());
            }
        }
        filled
    }

    /// The valid request for a method that all walks begin with.
    pub fn example(&self, method: &Method) -> DynamicMessage {
        method.request(example(method.name(), self))
    }

    /// The valid request for a method in which a field can be set: without those that exclude it.
    pub fn example_without_rivals(&self, method: &Method, path: &str) -> DynamicMessage {
        let mut example = self.example(method);
        if (method.name(), path) == ("CreateMessage", "text") {
            for rival in ["quick_reply_id", "variables", "language"] {
                example.clear_field_by_name(rival);
            }
        }
        example
    }

    /// The valid request for a method in which a field can be set, where it does not go together
    /// with what else the example has.
    pub fn example_apart(&self, method: &Method, path: &str) -> Option<DynamicMessage> {
        if path != "attachment_ids" {
            return None;
        }
        let request = match method.name() {
            "CreateQuickReply" => json!({
                "tenant": self.slug,
                "shortcut": format!("/{}", Uuid::now_v7()),
                "text": "Here it is",
            }),
            "UpdateQuickReply" => json!({"tenant": self.slug, "quickReplyId": self.quick_reply}),
            "PostEntry" => json!({
                "tenant": self.slug,
                "actor": {"userId": "user-1"},
                "channelId": self.channel,
            }),
            _ => json!({
                "tenant": self.slug,
                "conversationId": self.conversation,
                "type": "MESSAGE_TYPE_DOCUMENT",
            }),
        };
        Some(method.request(request))
    }

    /// What a field that names something can be filled with.
    pub fn named(&self, method: &Method, path: &str) -> Named {
        let thing = |id: &String| Named::Thing(id.clone());
        match (method.name(), path) {
            (
                _,
                "actor.user_id"
                | "actor.bot_id"
                | "author.user_id"
                | "author.bot_id"
                | "whatsapp.phone_number_id"
                | "whatsapp.app_id"
                | "whatsapp.business_account_id"
                | "messenger.page_id"
                | "messenger.app_id"
                | "instagram.instagram_account_id"
                | "instagram.app_id"
                | "zendesk.external_id"
                | "gmail.client_id",
            ) => Named::Stranger,
            (_, "page_token") => Named::Page(self.page_tokens[method.name()].clone()),
            (
                "CreateConversation"
                | "ListConversations"
                | "SearchMessages"
                | "ListContacts"
                | "GetAccountPolicy"
                | "UpdateAccountPolicy"
                | "GetConversationStats"
                | "GetResponseTimes"
                | "GetMessageVolume",
                "channel_account_id",
            ) => thing(&self.channel_account),
            ("BatchUpdateConversations", "conversation_ids") => thing(&self.conversation),
            ("BatchUpdateConversations", "conversations[0].conversation_id") => {
                thing(&self.archived)
            }
            ("UpdateConversationsByFilter", "filter.channel_account_id") => {
                thing(&self.channel_account)
            }
            ("UpdateConversationsByFilter", "filter.contact_id") => thing(&self.contact),
            ("MergeConversations", "source_conversation_id") => thing(&self.merged),
            ("MergeConversations", "target_conversation_id") => thing(&self.conversation),
            ("UndoConversationMerge", "conversation_merge_id") => thing(&self.conversation_merge),
            (
                "BatchCreateMessages",
                "messages[0].author.user_id"
                | "messages[0].author.bot_id"
                | "messages[0].import_id",
            ) => Named::Stranger,
            ("BatchCreateMessages", "messages[0].conversation_id") => thing(&self.conversation),
            ("BatchCreateMessages", "messages[0].reply_to_message_id") => thing(&self.message),
            (
                _,
                "assignee_id"
                | "change.assignment.assignee_id"
                | "change.assignment.team_id"
                | "filter.assignee_id"
                | "filter.team_id"
                | "team_id"
                | "routing_assignee_id"
                | "routing_team_id"
                | "agent_ids"
                | "agent_id"
                | "user_ids"
                | "user_id"
                | "author_user_id"
                | "members[0].user_id"
                | "mentions.user_ids",
            ) => Named::Stranger,
            (
                "CreateConversation"
                | "CreateMessage"
                | "CreateContact"
                | "AddContactIdentity"
                | "MergeContacts"
                | "MergeConversations"
                | "CreateChannel"
                | "PostEntry"
                | "CreateQuickReply"
                | "UseQuickReply"
                | "UploadAttachment"
                | "UploadChatAttachment"
                | "BatchUpdateConversations"
                | "BatchCreateMessages"
                | "RetryMessage",
                "request_id",
            ) => Named::Request(self.request_id.clone()),
            ("CreateContact", "identities[0].channel_account_id")
            | ("AddContactIdentity", "identity.channel_account_id") => thing(&self.channel_account),
            (
                "ListConversations" | "SearchMessages" | "GetContact" | "UpdateContact"
                | "ExportContact",
                "contact_id",
            ) => thing(&self.contact),
            (
                "AddContactIdentity" | "RemoveContactIdentity" | "ListContactMerges",
                "contact_id",
            )
            | ("MergeContacts", "target_contact_id") => thing(&self.person),
            ("MergeContacts", "source_contact_id") => thing(&self.sources[1]),
            ("RemoveContactIdentity", "contact_identity_id") => thing(&self.identity),
            ("UndoContactMerge", "contact_merge_id") => thing(&self.merge),
            ("EraseContact", "contact_id") => thing(&self.erasable),
            (
                "GetConversation"
                | "UpdateConversation"
                | "AssignConversation"
                | "AutoAssignConversation"
                | "QualifyConversation"
                | "DisqualifyConversation"
                | "ArchiveConversation"
                | "ReopenConversation"
                | "MarkConversationRead"
                | "ListConversationActivities"
                | "ListConversationMerges"
                | "ListScheduledMessages"
                | "CreateMessage"
                | "ListMessages"
                | "SearchMessages"
                | "UseQuickReply"
                | "CreateChannel"
                | "ListChannels",
                "conversation_id",
            ) => thing(&self.conversation),
            (
                "JoinChannel" | "LeaveChannel" | "ArchiveChannel" | "UnarchiveChannel",
                "channel_id",
            ) => thing(&self.public_channel),
            (_, "channel_id" | "channel_ids") => thing(&self.channel),
            ("DeleteEntry", "entry_id") => thing(&self.doomed_entry),
            ("EditEntry" | "ListEntryRevisions", "entry_id") => thing(&self.edited_entry),
            ("RemoveReaction" | "UnpinEntry", "entry_id") => thing(&self.plain_entry),
            (_, "entry_id") => thing(&self.entry),
            ("PostEntry" | "ListEntries" | "SetTyping" | "SearchEntries", "thread_root_id")
            | ("ListEntries", "around_entry_id") => thing(&self.entry),
            ("UndeleteQuickReply", "quick_reply_id") => thing(&self.deleted_quick_reply),
            (
                "GetQuickReply" | "UpdateQuickReply" | "DeleteQuickReply" | "UseQuickReply"
                | "ListQuickReplyUses" | "CreateMessage",
                "quick_reply_id",
            ) => thing(&self.quick_reply),
            ("GetMessage" | "UpdateMessageStatus", "message_id")
            | ("CreateMessage", "reply_to_message_id")
            | ("ListMessages", "around_message_id") => thing(&self.message),
            ("EditMessage" | "ListMessageRevisions", "message_id") => thing(&self.note),
            (
                "GetScheduledMessage" | "UpdateScheduledMessage" | "DeleteScheduledMessage",
                "scheduled_message_id",
            ) => thing(&self.scheduled),
            ("DeleteMessage", "message_id") => thing(&self.doomed),
            ("RetryMessage" | "ListMessageAttempts", "message_id") => thing(&self.failed),
            ("GetAttachment" | "DownloadAttachment", "attachment_id")
            | ("CreateMessage", "attachment_ids") => thing(&self.attachment),
            (
                "GetScheduledEntry" | "UpdateScheduledEntry" | "DeleteScheduledEntry",
                "scheduled_entry_id",
            ) => thing(&self.scheduled_entry),
            ("GetChatAttachment" | "DownloadChatAttachment", "attachment_id")
            | ("PostEntry", "attachment_ids") => thing(&self.chat_attachment),
            ("CreateQuickReply", "attachment_ids") => thing(&self.files_of_quick_replies[0]),
            ("UpdateQuickReply", "attachment_ids") => thing(&self.files_of_quick_replies[1]),
            (
                "GetChannelAccount"
                | "DisconnectChannelAccount"
                | "DisableChannelAccount"
                | "EnableChannelAccount"
                | "CheckChannelAccount"
                | "TransferChannelAccount",
                "channel_account_id",
            ) => thing(&self.connected),
            ("RotateChannelAccountSecret" | "UpdateChannelAccount", "channel_account_id") => {
                thing(&self.connected_by_own_app)
            }
            ("Subscribe", "conversation_ids") => thing(&self.conversation),
            ("ReplayQuarantinedItem", "delivery_id") => thing(&self.delivery),
            (method, path) => panic!("harness/calls.rs does not know `{path}` of {method}"),
        }
    }
}

/// The method of a name.
pub fn method(name: &str) -> Method {
    let mut all = Method::all().into_iter();
    all.find(|method| method.name() == name)
        .unwrap_or_else(|| panic!("there is no method {name}"))
}

/// A request that is accepted, any number of times, with as many fields set as can be at once. A
/// list shows one item of several.
fn example(method: &str, tenant: &Filled) -> Json {
    let slug = &tenant.slug;
    let actor = json!({"userId": "user-1"});
    let metadata = json!({"key": "value", "list": [1, true, null]});
    match method {
        "CreateChannel" => json!({
            "tenant": slug,
            "actor": actor,
            "requestId": Uuid::now_v7().to_string(),
            "kind": "CHAT_CHANNEL_KIND_PRIVATE",
            "name": "Table for two",
            "topic": "Who brings the plates",
            "metadata": metadata,
            "conversationId": tenant.conversation,
            "postingPolicy": "CHAT_CHANNEL_POLICY_MEMBERS",
            "broadcastPolicy": "CHAT_CHANNEL_POLICY_MODERATORS",
            "invitePolicy": "CHAT_CHANNEL_POLICY_MEMBERS",
            "retentionDays": 365,
            "members": [{"userId": "user-3", "role": "CHANNEL_ROLE_GUEST"}],
        }),
        "OpenDirectChannel" => json!({
            "tenant": slug,
            "actor": actor,
            "userIds": ["user-2"],
        }),
        "GetChannel" => json!({"tenant": slug, "actor": actor, "channelId": tenant.channel}),
        "ListChannels" => json!({
            "tenant": slug,
            "actor": actor,
            "pageSize": 1,
            "kinds": ["CHAT_CHANNEL_KIND_PRIVATE", "CHAT_CHANNEL_KIND_PUBLIC"],
            "conversationId": tenant.conversation,
            "query": "TABLE",
            "showArchived": true,
        }),
        "UpdateChannel" => json!({
            "tenant": slug,
            "actor": actor,
            "channelId": tenant.channel,
            "updateMask": "name,topic,metadata,postingPolicy,broadcastPolicy,invitePolicy,retentionDays",
            "name": "Table for three",
            "topic": "Who brings the glasses",
            "metadata": metadata,
            "postingPolicy": "CHAT_CHANNEL_POLICY_MEMBERS",
            "broadcastPolicy": "CHAT_CHANNEL_POLICY_MEMBERS",
            "invitePolicy": "CHAT_CHANNEL_POLICY_MODERATORS",
            "retentionDays": 30,
        }),
        "SetTyping" => json!({
            "tenant": slug,
            "actor": actor,
            "channelId": tenant.channel,
            "threadRootId": tenant.entry,
        }),
        "PostEntry" => json!({
            "tenant": slug,
            "actor": actor,
            "requestId": Uuid::now_v7().to_string(),
            "channelId": tenant.channel,
            "threadRootId": tenant.entry,
            "text": "Who brings the plates?",
            "mentions": {"userIds": ["user-3"], "everyone": true, "here": true},
            "metadata": metadata,
            "type": "CHAT_ENTRY_TYPE_MESSAGE",
        }),
        "GetEntry" => json!({"tenant": slug, "actor": actor, "entryId": tenant.entry}),
        "ListEntries" => json!({
            "tenant": slug,
            "actor": actor,
            "channelId": tenant.channel,
            "orderBy": "sequence",
            "aroundEntryId": tenant.entry,
            "pageSize": 1,
            "showDeleted": true,
        }),
        "EditEntry" => json!({
            "tenant": slug,
            "actor": actor,
            "entryId": tenant.edited_entry,
            "updateMask": "text,mentions,metadata",
            "text": "I bring the plates",
            "mentions": {"userIds": ["user-3"]},
            "metadata": metadata,
        }),
        "DeleteEntry" => json!({"tenant": slug, "actor": actor, "entryId": tenant.doomed_entry}),
        "ListEntryRevisions" => json!({
            "tenant": slug,
            "actor": actor,
            "entryId": tenant.edited_entry,
            "pageSize": 1,
        }),
        "AddReaction" => json!({
            "tenant": slug,
            "actor": actor,
            "entryId": tenant.entry,
            "emoji": "❤️",
        }),
        "RemoveReaction" => json!({
            "tenant": slug,
            "actor": actor,
            "entryId": tenant.plain_entry,
            "emoji": ":no_plates:",
        }),
        "ListReactions" => json!({
            "tenant": slug,
            "actor": actor,
            "entryId": tenant.entry,
            "emoji": "❤",
            "pageSize": 1,
        }),
        "PinEntry" => json!({"tenant": slug, "actor": actor, "entryId": tenant.entry}),
        "UnpinEntry" => json!({"tenant": slug, "actor": actor, "entryId": tenant.plain_entry}),
        "ListPinnedEntries" => json!({
            "tenant": slug,
            "actor": actor,
            "channelId": tenant.channel,
            "pageSize": 1,
        }),
        // Who is mentioned by the entries of others.
        "ListMentions" => json!({
            "tenant": slug,
            "actor": {"userId": "user-3"},
            "channelId": tenant.channel,
            "unread": true,
            "pageSize": 1,
        }),
        "SearchEntries" => json!({
            "tenant": slug,
            "actor": actor,
            "query": "who \"the plates\" brin* -nobody",
            "channelId": tenant.channel,
            "authorUserId": "user-1",
            "startTime": "2020-01-01T00:00:00Z",
            "endTime": "2100-01-01T00:00:00Z",
            "pageSize": 1,
        }),
        "MarkChannelRead" => json!({
            "tenant": slug,
            "actor": actor,
            "channelId": tenant.channel,
            "sequence": "1",
            "readVersion": "1",
        }),
        "MarkChannelUnread" => json!({
            "tenant": slug,
            "actor": actor,
            "channelId": tenant.channel,
            "sequence": "1",
        }),
        "GetUnreadCounts" => json!({
            "tenant": slug,
            "actor": actor,
            "channelIds": [tenant.channel],
        }),
        "FollowThread" | "UnfollowThread" => json!({
            "tenant": slug,
            "actor": if method == "FollowThread" { json!({"userId": "user-1"}) } else { json!({"userId": "user-3"}) },
            "entryId": tenant.entry,
        }),
        "MarkThreadRead" => json!({
            "tenant": slug,
            "actor": actor,
            "entryId": tenant.entry,
            "sequence": "1",
            "readVersion": "1",
        }),
        "MarkThreadUnread" => json!({
            "tenant": slug,
            "actor": actor,
            "entryId": tenant.entry,
            "sequence": "1",
        }),
        "ListThreads" => json!({
            "tenant": slug,
            "actor": actor,
            "channelId": tenant.channel,
            "pageSize": 1,
        }),
        // Of what is not archived, so that the other examples go on.
        "ArchiveChannel" => json!({
            "tenant": slug,
            "actor": {"userId": "user-2"},
            "channelId": tenant.public_channel,
        }),
        "UnarchiveChannel" => json!({
            "tenant": slug,
            "actor": {"userId": "user-2"},
            "channelId": tenant.public_channel,
        }),
        "JoinChannel" => json!({
            "tenant": slug,
            "actor": actor,
            "channelId": tenant.public_channel,
        }),
        // Who is in it no more.
        "LeaveChannel" => json!({
            "tenant": slug,
            "actor": {"userId": "user-5"},
            "channelId": tenant.public_channel,
        }),
        "AddChannelMembers" => json!({
            "tenant": slug,
            "actor": actor,
            "channelId": tenant.channel,
            "members": [{"userId": "user-3", "role": "CHANNEL_ROLE_MODERATOR"}],
        }),
        "RemoveChannelMember" => json!({
            "tenant": slug,
            "actor": actor,
            "channelId": tenant.channel,
            "userId": "user-4",
        }),
        "UpdateChannelMember" => json!({
            "tenant": slug,
            "actor": actor,
            "channelId": tenant.channel,
            "userId": "user-3",
            "role": "CHANNEL_ROLE_MEMBER",
        }),
        "UpdateChannelSettings" => json!({
            "tenant": slug,
            "actor": actor,
            "channelId": tenant.channel,
            "updateMask": "notificationLevel,muted",
            "notificationLevel": "NOTIFICATION_LEVEL_MENTIONS",
            "muted": true,
        }),
        "ListChannelMembers" => json!({
            "tenant": slug,
            "actor": actor,
            "channelId": tenant.channel,
            "pageSize": 1,
            "roles": ["CHANNEL_ROLE_OWNER", "CHANNEL_ROLE_GUEST", "CHANNEL_ROLE_MEMBER"],
        }),
        "InitializeTenant" => json!({"tenant": slug, "schemaName": tenant.schema}),
        "GetTenant" => json!({"tenant": slug}),
        "ListTenants" => json!({"pageSize": 1, "showDeleted": true}),
        "SuspendTenant" => json!({"tenant": slug, "validateOnly": true}),
        "ResumeTenant" => json!({"tenant": slug}),
        "DeleteTenant" => json!({
            "tenant": slug,
            "validateOnly": true,
            "gracePeriod": "86400s",
            "allowMissing": true,
        }),
        "UndeleteTenant" => json!({"tenant": tenant.deleted, "validateOnly": true}),
        "PurgeTenant" => json!({
            "tenant": tenant.deleted,
            "validateOnly": true,
            "force": true,
            "allowMissing": true,
        }),
        "MigrateTenants" | "GetHead" => json!({"tenant": slug}),
        "Subscribe" => json!({
            "tenant": slug,
            "earliest": true,
            "types": ["conversation.created"],
            "conversationIds": [tenant.conversation],
            "channelIds": [tenant.channel],
        }),
        "SetPresence" => json!({
            "tenant": slug,
            "actor": actor,
            "state": "PRESENCE_STATE_AWAY",
            "text": "back at two",
        }),
        "ConnectChannelAccount" => json!({
            "tenant": slug,
            "name": "Support",
            "whatsapp": {
                "phoneNumberId": tenant.phone_number,
                "appId": "1",
                "ownApp": false,
                "businessAccountId": "2",
                "displayPhoneNumber": "+1 555 000 1001",
            },
            "whatsappSecrets": {
                "appSecret": APP_SECRET,
                "verifyToken": "vt-samples-7Qm2",
                "accessToken": "access",
            },
        }),
        "GetChannelAccount" => json!({"tenant": slug, "channelAccountId": tenant.connected}),
        "ListChannelAccounts" => {
            json!({"tenant": slug, "pageSize": 1, "showDisconnected": true})
        }
        "RotateChannelAccountSecret" => json!({
            "tenant": slug,
            "channelAccountId": tenant.connected_by_own_app,
            "secret": APP_SECRET,
            "overlap": "3600s",
        }),
        "DisconnectChannelAccount"
        | "DisableChannelAccount"
        | "EnableChannelAccount"
        | "CheckChannelAccount" => {
            json!({"tenant": slug, "channelAccountId": tenant.connected})
        }
        "UpdateChannelAccount" => json!({
            "tenant": slug,
            "channelAccountId": tenant.connected_by_own_app,
            "name": "Support",
            "whatsappSecrets": {"verifyToken": "vt-samples-7Qm2", "accessToken": "access"},
        }),
        "TransferChannelAccount" => json!({
            "tenant": slug,
            "channelAccountId": tenant.connected,
            "targetTenant": slug,
        }),
        "ListQuarantinedItems" => json!({
            "tenant": slug,
            "channel": "CHANNEL_WHATSAPP",
            "pageSize": 1,
            "showReplayed": true,
        }),
        "ReplayQuarantinedItem" => {
            json!({"tenant": slug, "deliveryId": tenant.delivery, "item": 1})
        }
        "CreateConversation" => json!({
            "tenant": slug,
            "actor": actor,
            "requestId": Uuid::now_v7().to_string(),
            "channel": "CHANNEL_EMAIL",
            "channelAccountId": tenant.channel_account,
            "contactIdentifier": format!("{}@example.com", Uuid::now_v7()),
            "contactName": "John Doe",
            "firstMessage": "Hello",
            "subject": "Help",
            "priority": "PRIORITY_HIGH",
            "metadata": metadata,
            "threadKey": "thread-1",
        }),
        "GetConversation" => {
            json!({"tenant": slug, "actor": actor, "conversationId": tenant.conversation})
        }
        "AssignConversation" => json!({
            "tenant": slug,
            "actor": actor,
            "conversationId": tenant.conversation,
            "assigneeId": "user-2",
            "teamId": "team-1",
        }),
        "AutoAssignConversation" => json!({
            "tenant": slug,
            "actor": actor,
            "conversationId": tenant.conversation,
            "reassign": true,
        }),
        "GetAccountPolicy" => {
            json!({"tenant": slug, "channelAccountId": tenant.channel_account})
        }
        "UpdateAccountPolicy" => json!({
            "tenant": slug,
            "actor": actor,
            "channelAccountId": tenant.channel_account,
            "updateMask": "reopenPolicy,reopenDays,routing,routingAssigneeId,routingTeamId,agentIds",
            "reopenPolicy": "REOPEN_POLICY_WITHIN",
            "reopenDays": 30,
            "routing": "ROUTING_NONE",
            "routingAssigneeId": "user-1",
            "routingTeamId": "team-1",
            "agentIds": ["user-2"],
        }),
        "UpdateAgent" => json!({
            "tenant": slug,
            "actor": actor,
            "userId": "user-2",
            "updateMask": "available,capacity",
            "available": true,
            "capacity": 5,
        }),
        "ListAgents" => json!({"tenant": slug, "available": true, "pageSize": 1}),
        "MergeConversations" => json!({
            "tenant": slug,
            "actor": actor,
            "requestId": Uuid::now_v7().to_string(),
            "sourceConversationId": tenant.merged,
            "targetConversationId": tenant.conversation,
        }),
        "UndoConversationMerge" => json!({
            "tenant": slug,
            "actor": actor,
            "conversationMergeId": tenant.conversation_merge,
        }),
        "ListConversationMerges" => {
            json!({"tenant": slug, "conversationId": tenant.conversation, "pageSize": 1})
        }
        "QualifyConversation" => json!({
            "tenant": slug,
            "actor": actor,
            "conversationId": tenant.conversation,
            "score": 80,
            "notes": "Wants ten of them",
        }),
        "DisqualifyConversation" | "ReopenConversation" => {
            json!({"tenant": slug, "actor": actor, "conversationId": tenant.conversation})
        }
        // Another one than the rest works with, which refuses much once it is archived.
        "ArchiveConversation" => {
            json!({"tenant": slug, "actor": actor, "conversationId": tenant.archived})
        }
        "MarkConversationRead" => json!({
            "tenant": slug,
            "actor": actor,
            "conversationId": tenant.conversation,
            "sequence": 1,
        }),
        "ListConversationActivities" => {
            json!({"tenant": slug, "conversationId": tenant.conversation, "pageSize": 1})
        }
        "ListConversations" => json!({
            "tenant": slug,
            "statuses": ["CONVERSATION_STATUS_NEW", "CONVERSATION_STATUS_REPLIED",
                "CONVERSATION_STATUS_OPEN"],
            "channels": ["CHANNEL_EMAIL"],
            "channelAccountId": tenant.channel_account,
            "contactId": tenant.contact,
            "updatedSinceTime": "2020-01-01T00:00:00Z",
            "actor": actor,
            "unassigned": true,
            "labels": ["vip"],
            "priorities": ["PRIORITY_NORMAL"],
            "qualified": false,
            "snoozed": false,
            "unread": true,
            "orderBy": "create_time",
            "pageSize": 1,
        }),
        "UpdateConversation" => json!({
            "tenant": slug,
            "actor": actor,
            "conversationId": tenant.conversation,
            "updateMask": "subject,priority,status,metadata,labels,addLabels,removeLabels,snoozeUntilTime",
            "labels": ["vip", "table"],
            "addLabels": ["window"],
            "removeLabels": ["spam"],
            "snoozeUntilTime": "2100-01-01T00:00:00Z",
            "subject": "Changed",
            "priority": "PRIORITY_LOW",
            "status": "CONVERSATION_STATUS_OPEN",
            "metadata": metadata,
        }),
        "BatchUpdateConversations" => json!({
            "tenant": slug,
            "actor": actor,
            "requestId": Uuid::now_v7().to_string(),
            "conversationIds": [tenant.conversation],
            "conversations": [{"conversationId": tenant.archived}],
            "change": change(),
            "allOrNothing": true,
        }),
        "UpdateConversationsByFilter" => json!({
            "tenant": slug,
            "actor": actor,
            "filter": {
                "statuses": ["CONVERSATION_STATUS_NEW", "CONVERSATION_STATUS_OPEN"],
                "channels": ["CHANNEL_EMAIL"],
                "channelAccountId": tenant.channel_account,
                "contactId": tenant.contact,
                "updatedSinceTime": "2020-01-01T00:00:00Z",
                "unassigned": true,
                "labels": ["vip"],
                "priorities": ["PRIORITY_NORMAL"],
                "qualified": false,
                "snoozed": false,
                "unread": true,
            },
            "change": change(),
            "validateOnly": true,
        }),
        "CreateMessage" => json!({
            "tenant": slug,
            "actor": actor,
            "requestId": Uuid::now_v7().to_string(),
            "conversationId": tenant.conversation,
            "direction": "MESSAGE_DIRECTION_INTERNAL",
            "type": "MESSAGE_TYPE_LOCATION",
            "location": {"latitude": 52.5, "longitude": 13.4, "name": "Alex", "address": "Berlin"},
            "replyToMessageId": tenant.message,
            "metadata": metadata,
            "quickReplyId": tenant.quick_reply,
            "variables": {"order": "7"},
            "language": "de",
        }),
        "BatchCreateMessages" => json!({
            "tenant": slug,
            "actor": actor,
            "requestId": Uuid::now_v7().to_string(),
            "messages": [{
                "conversationId": tenant.conversation,
                "direction": "MESSAGE_DIRECTION_OUTBOUND",
                "type": "MESSAGE_TYPE_LOCATION",
                "text": "Here",
                "location": {"latitude": 52.5, "longitude": 13.4, "name": "Alex", "address": "Berlin"},
                "metadata": metadata,
                "replyToMessageId": tenant.message,
                "author": {"userId": "user-3"},
                "providerTime": "2019-05-01T09:30:00Z",
                "status": "MESSAGE_STATUS_READ",
                "importId": Uuid::now_v7().to_string(),
            }],
            "imported": true,
            "allOrNothing": true,
        }),
        "GetMessage" => json!({"tenant": slug, "messageId": tenant.message}),
        "ListMessages" => json!({
            "tenant": slug,
            "conversationId": tenant.conversation,
            "orderBy": "sequence",
            "pageSize": 1,
            "showDeleted": true,
        }),
        "SearchMessages" => json!({
            "tenant": slug,
            "query": "help how",
            "conversationId": tenant.conversation,
            "contactId": tenant.contact,
            "channelAccountId": tenant.channel_account,
            "channels": ["CHANNEL_EMAIL"],
            "directions": ["MESSAGE_DIRECTION_OUTBOUND", "MESSAGE_DIRECTION_INTERNAL"],
            "types": ["MESSAGE_TYPE_TEXT"],
            "author": {"userId": "user-1"},
            "startTime": "2020-01-01T00:00:00Z",
            "endTime": "9000-01-01T00:00:00Z",
            "pageSize": 1,
        }),
        "UpdateMessageStatus" => json!({
            "tenant": slug,
            "actor": actor,
            "messageId": tenant.message,
            "status": "MESSAGE_STATUS_FAILED",
            "statusTime": "2026-01-01T00:00:00Z",
            "failure": {"code": "131026", "message": "undeliverable"},
        }),
        "RetryMessage" => json!({
            "tenant": slug,
            "actor": actor,
            "requestId": Uuid::now_v7().to_string(),
            "messageId": tenant.failed,
        }),
        "ListMessageAttempts" => json!({
            "tenant": slug,
            "messageId": tenant.failed,
            "pageSize": 1,
        }),
        "GetScheduledMessage" => {
            json!({"tenant": slug, "scheduledMessageId": tenant.scheduled})
        }
        "ListScheduledMessages" => json!({
            "tenant": slug,
            "conversationId": tenant.conversation,
            "pageSize": 1,
        }),
        "UpdateScheduledMessage" => tomorrow(json!({
            "tenant": slug,
            "actor": actor,
            "scheduledMessageId": tenant.scheduled,
            "updateMask": "text,sendTime",
            "text": "Even later",
            "sendTime": "TOMORROW",
        })),
        // Any number of times, so not the one that the others read.
        "DeleteScheduledMessage" => json!({
            "tenant": slug,
            "actor": actor,
            "scheduledMessageId": tenant.message,
            "allowMissing": true,
        }),
        "EditMessage" => json!({
            "tenant": slug,
            "actor": actor,
            "messageId": tenant.note,
            "text": "A note for all",
        }),
        "DeleteMessage" => json!({
            "tenant": slug,
            "actor": actor,
            "messageId": tenant.doomed,
            "redact": true,
        }),
        "ListMessageRevisions" => json!({
            "tenant": slug,
            "messageId": tenant.note,
            "pageSize": 1,
        }),
        "CreateContact" => json!({
            "tenant": slug,
            "actor": actor,
            "requestId": Uuid::now_v7().to_string(),
            "name": "Jane Roe",
            "company": "Roe & Sons",
            "language": "pt-BR",
            "notes": "Prefers mornings",
            "metadata": metadata,
            "identities": [identity(tenant)],
        }),
        "GetContact" | "ExportContact" => json!({"tenant": slug, "contactId": tenant.contact}),
        "ListContacts" => json!({
            "tenant": slug,
            "query": "exam",
            "channelAccountId": tenant.channel_account,
            "updatedSinceTime": "2020-01-01T00:00:00Z",
            "showMerged": true,
            "orderBy": "create_time",
            "pageSize": 1,
        }),
        "UpdateContact" => json!({
            "tenant": slug,
            "actor": actor,
            "contactId": tenant.contact,
            "updateMask": "name,company,language,notes,metadata",
            "name": "Jane Doe",
            "company": "Doe & Daughters",
            "language": "de",
            "notes": "Prefers evenings",
            "metadata": metadata,
        }),
        "AddContactIdentity" => json!({
            "tenant": slug,
            "actor": actor,
            "requestId": Uuid::now_v7().to_string(),
            "contactId": tenant.person,
            "identity": identity(tenant),
        }),
        "RemoveContactIdentity" => json!({
            "tenant": slug,
            "actor": actor,
            "contactId": tenant.person,
            "contactIdentityId": tenant.identity,
            "allowMissing": true,
        }),
        "MergeContacts" => json!({
            "tenant": slug,
            "actor": actor,
            "requestId": Uuid::now_v7().to_string(),
            "sourceContactId": tenant.sources[1],
            "targetContactId": tenant.person,
        }),
        "UndoContactMerge" => json!({
            "tenant": slug,
            "actor": actor,
            "contactMergeId": tenant.merge,
        }),
        "ListContactMerges" => json!({
            "tenant": slug,
            "contactId": tenant.person,
            "pageSize": 1,
        }),
        "EraseContact" => json!({"tenant": slug, "actor": actor, "contactId": tenant.erasable}),
        "CreateQuickReply" => json!({
            "tenant": slug,
            "actor": actor,
            "requestId": Uuid::now_v7().to_string(),
            "shortcut": format!("/{}", Uuid::now_v7()),
            "title": "Greeting",
            "text": "Hello {{contact.name|there}}, your order {{order}} is ready.",
            "scope": "QUICK_REPLY_SCOPE_TEAM",
            "teamId": "team-1",
            "language": "en",
            "variants": [{"language": "de", "text": "Hallo {{contact.name|du}}!"}],
            "variables": [{
                "name": "order",
                "type": "QUICK_REPLY_VARIABLE_TYPE_NUMBER",
                "fallback": "7",
            }],
            "metadata": metadata,
        }),
        "GetQuickReply" => {
            json!({"tenant": slug, "actor": actor, "quickReplyId": tenant.quick_reply})
        }
        "ListQuickReplies" => json!({
            "tenant": slug,
            "actor": actor,
            "scope": "QUICK_REPLY_SCOPE_TEAM",
            "teamId": "team-1",
            "language": "de-AT",
            "query": "hello order",
            "orderBy": "usage_count desc",
            "showDeleted": true,
            "pageSize": 1,
        }),
        "UpdateQuickReply" => json!({
            "tenant": slug,
            "actor": actor,
            "quickReplyId": tenant.quick_reply,
            "updateMask": "shortcut,title,text,language,variants,variables,metadata,attachmentIds",
            "shortcut": format!("/{}", tenant.quick_reply),
            "title": "Greeting",
            "text": "Hello {{order}}",
            "language": "en",
            "variants": [{"language": "de", "text": "Hallo, zu Order: {{order}}"}],
            "variables": [{
                "name": "order",
                "type": "QUICK_REPLY_VARIABLE_TYPE_NUMBER",
                "fallback": "7",
            }],
            "metadata": metadata,
        }),
        "DeleteQuickReply" => json!({
            "tenant": slug,
            "actor": actor,
            "quickReplyId": tenant.quick_reply,
            "allowMissing": true,
            "validateOnly": true,
        }),
        "UndeleteQuickReply" => json!({
            "tenant": slug,
            "actor": actor,
            "quickReplyId": tenant.deleted_quick_reply,
            "validateOnly": true,
        }),
        "UseQuickReply" => json!({
            "tenant": slug,
            "actor": actor,
            "requestId": Uuid::now_v7().to_string(),
            "quickReplyId": tenant.quick_reply,
            "conversationId": tenant.conversation,
            "language": "de-AT",
            "variables": {"order": "7"},
        }),
        "ListQuickReplyUses" => json!({
            "tenant": slug,
            "actor": actor,
            "quickReplyId": tenant.quick_reply,
            "userId": "user-1",
            "pageSize": 1,
        }),
        "GetQuickReplyStats" => json!({
            "tenant": slug,
            "actor": actor,
            "startTime": "2020-01-01T00:00:00Z",
            "endTime": "2100-01-01T00:00:00Z",
            "userId": "user-1",
            "pageSize": 1,
        }),
        "GetConversationStats" => json!({
            "tenant": slug,
            "channels": ["CHANNEL_EMAIL"],
            "channelAccountId": tenant.channel_account,
            "assigneeId": "user-2",
            "teamId": "team-1",
            "label": "vip",
        }),
        "GetResponseTimes" => json!({
            "tenant": slug,
            "startTime": "2026-01-01T00:00:00Z",
            "endTime": "2026-02-01T00:00:00Z",
            "timeZone": "Europe/Berlin",
            "interval": "STATISTICS_INTERVAL_DAY",
            "groupBy": "RESPONSE_TIMES_GROUPING_CHANNEL_ACCOUNT",
            "channelAccountId": tenant.channel_account,
        }),
        "GetMessageVolume" => json!({
            "tenant": slug,
            "startTime": "2026-01-01T00:00:00Z",
            "endTime": "2026-02-01T00:00:00Z",
            "timeZone": "Europe/Berlin",
            "interval": "STATISTICS_INTERVAL_DAY",
            "groupBy": "MESSAGE_VOLUME_GROUPING_TYPE",
            "channelAccountId": tenant.channel_account,
            "type": "MESSAGE_TYPE_TEXT",
        }),
        "GetUserActivity" => json!({
            "tenant": slug,
            "startTime": "2026-01-01T00:00:00Z",
            "endTime": "2026-02-01T00:00:00Z",
            "userIds": ["user-1"],
        }),
        "GetBusinessHours" => json!({"tenant": slug, "teamId": "team-1"}),
        "UpdateBusinessHours" => json!({
            "tenant": slug,
            "actor": actor,
            "teamId": "team-1",
            "updateMask": "timeZone,intervals,holidays",
            "timeZone": "Europe/Berlin",
            "intervals": [{"weekday": "WEEKDAY_MONDAY", "startMinute": 540, "endMinute": 1080}],
            "holidays": ["2026-12-25"],
        }),
        "RecomputeStatistics" => json!({"tenant": slug}),
        "UploadAttachment" | "UploadChatAttachment" => json!({
            "tenant": slug,
            "actor": actor,
            "requestId": Uuid::now_v7().to_string(),
            "fileName": "hello.txt",
            "contentType": "text/plain",
            "sizeBytes": "5",
            "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
            "data": "aGVsbG8=",
        }),
        "GetAttachment" => json!({"tenant": slug, "attachmentId": tenant.attachment}),
        "GetChatActivity" => json!({
            "tenant": slug,
            "actor": actor,
            "startTime": in_days(-1),
            "endTime": in_days(2),
            "userIds": ["user-1", "user-3"],
            "channelId": tenant.channel,
            "pageSize": 1,
        }),
        "GetScheduledEntry" => json!({
            "tenant": slug,
            "actor": actor,
            "scheduledEntryId": tenant.scheduled_entry,
        }),
        "ListScheduledEntries" => json!({
            "tenant": slug,
            "actor": actor,
            "channelId": tenant.channel,
            "pageSize": 1,
        }),
        "UpdateScheduledEntry" => tomorrow(json!({
            "tenant": slug,
            "actor": actor,
            "scheduledEntryId": tenant.scheduled_entry,
            "updateMask": "text,mentions,metadata,sendTime",
            "text": "Even later",
            "mentions": {"userIds": ["user-3"]},
            "metadata": metadata,
            "sendTime": "TOMORROW",
        })),
        // Any number of times, so not the one that the others read.
        "DeleteScheduledEntry" => json!({
            "tenant": slug,
            "actor": actor,
            "scheduledEntryId": tenant.entry,
            "allowMissing": true,
        }),
        "GetChatAttachment" => json!({
            "tenant": slug,
            "actor": actor,
            "attachmentId": tenant.chat_attachment,
        }),
        "DownloadChatAttachment" => json!({
            "tenant": slug,
            "actor": actor,
            "attachmentId": tenant.chat_attachment,
            "offset": "1",
            "length": "2",
        }),
        "DownloadAttachment" => json!({
            "tenant": slug,
            "attachmentId": tenant.attachment,
            "offset": "1",
            "length": "2",
        }),
        other => panic!("harness/calls.rs has no example of {other}"),
    }
}

/// A change of many conversations.
fn change() -> Json {
    json!({
        "status": "CONVERSATION_STATUS_OPEN",
        "priority": "PRIORITY_LOW",
        "labels": ["vip"],
        "addLabels": ["table"],
        "removeLabels": ["spam"],
        "snoozeUntilTime": "2100-01-01T00:00:00Z",
        "assignment": {"assigneeId": "user-2", "teamId": "team-1"},
        "reopen": true,
        "updateMask": "status,priority,labels,addLabels,removeLabels,snoozeUntilTime,assignment",
    })
}

/// An identity that nobody has.
fn identity(tenant: &Filled) -> Json {
    json!({
        "channel": "CHANNEL_EMAIL",
        "channelAccountId": tenant.channel_account,
        "kind": "CONTACT_IDENTITY_KIND_EMAIL",
        "value": format!("{}@example.com", Uuid::now_v7()),
    })
}

/// Puts tomorrow into a request, which the service takes for a time to come.
fn tomorrow(mut request: Json) -> Json {
    request["sendTime"] = time(i64::try_from(super::now()).unwrap() + 86_400);
    request
}

/// Midnight in so many days: the same all day, so that a page token stays good.
fn in_days(days: i64) -> Json {
    let today = i64::try_from(super::now()).unwrap() / 86_400;
    time((today + days) * 86_400)
}

/// So many seconds after 1970.
fn time(seconds: i64) -> Json {
    let time = chrono::DateTime::from_timestamp(seconds, 0).unwrap();
    json!(time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}
