//! What each error says on the wire: its reason, its words, and the values in them.

use super::{Conflict, Denial, Error, Existing, InvalidRequest, MAX_REQUEST_BYTES, Precondition};
use crate::pb::ErrorReason;

/// What an error says on the wire beside its code.
pub(super) struct Detail {
    pub(super) reason: ErrorReason,
    pub(super) message: String,
    pub(super) metadata: Vec<(&'static str, String)>,
}

impl Detail {
    fn new(reason: ErrorReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            metadata: Vec::new(),
        }
    }

    fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.metadata.push((key, value.into()));
        self
    }
}
impl Error {
    pub(super) fn detail(&self) -> Detail {
        match self {
            Self::InvalidArgument(violations) => {
                let message = match violations.as_slice() {
                    [one] => format!("`{}` {}", one.field, one.description),
                    more => {
                        let fields: Vec<_> = more
                            .iter()
                            .map(|violation| format!("`{}`", violation.field))
                            .collect();
                        format!("{} are not valid", fields.join(", "))
                    }
                };
                let fields: Vec<_> = violations
                    .iter()
                    .map(|violation| violation.field.as_str())
                    .collect();
                Detail::new(ErrorReason::InvalidField, message).with("fields", fields.join(","))
            }
            Self::InvalidRequest(invalid) => invalid.detail(),
            Self::Unauthenticated => Detail::new(
                ErrorReason::CredentialInvalid,
                "send a valid credential as metadata `authorization: Bearer <token>`",
            ),
            Self::PermissionDenied(denial) => denial.detail(),
            Self::NotFound { kind, id } => Detail::new(
                ErrorReason::ResourceNotFound,
                format!("{kind} `{id}` does not exist"),
            )
            .with("kind", *kind)
            .with("id", id.clone()),
            Self::AlreadyExists(existing) => existing.detail(),
            Self::FailedPrecondition(precondition) => precondition.detail(),
            Self::Aborted(conflict) => conflict.detail(),
            Self::ResourceExhausted { .. } => Detail::new(
                ErrorReason::ConnectionsExhausted,
                "every database connection is busy, try again",
            ),
            Self::TooManyCalls => Detail::new(
                ErrorReason::TooManyCalls,
                "the server has too many calls under way, try again",
            ),
            Self::MethodNotAllowed { method, allowed } => Detail::new(
                ErrorReason::MethodNotAllowed,
                format!("this path has no `{method}`, only `{allowed}`"),
            )
            .with("method", method.clone())
            .with("allowed", allowed.clone()),
            Self::Unavailable(_) => Detail::new(
                ErrorReason::DatabaseUnavailable,
                "the database cannot be reached, try again",
            ),
            Self::FilesUnavailable(_) => Detail::new(
                ErrorReason::FilesUnavailable,
                "the store of files cannot be reached, try again",
            ),
            Self::Draining => Detail::new(
                ErrorReason::Draining,
                "the server is shutting down, try again",
            ),
            Self::DeadlineExceeded => Detail::new(
                ErrorReason::DeadlineExceeded,
                "the deadline of the call has passed",
            ),
            Self::Cancelled => Detail::new(ErrorReason::Cancelled, "the call was cancelled"),
            Self::Internal(_) => Detail::new(
                ErrorReason::Internal,
                "a fault of the server; its log has the cause under the correlation id",
            ),
            Self::OfItem { path, error } => {
                let mut detail = error.detail();
                detail.message = format!("`{path}`: {}", detail.message);
                detail.with("item", path.clone())
            }
        }
    }
}

impl InvalidRequest {
    fn detail(&self) -> Detail {
        match self {
            Self::PageToken => Detail::new(
                ErrorReason::InvalidPageToken,
                "`page_token` is not of this list, begin again without it",
            ),
            Self::Undecodable(why) => Detail::new(
                ErrorReason::Undecodable,
                format!("the request cannot be decoded: {why}"),
            )
            .with("cause", why.clone()),
            Self::ContentType(given) => Detail::new(
                ErrorReason::ContentTypeUnsupported,
                format!("a body must be `application/json`, not `{given}`"),
            )
            .with("content_type", given.clone()),
            Self::TooLarge => Detail::new(
                ErrorReason::RequestTooLarge,
                format!("the request is larger than `{MAX_REQUEST_BYTES}` bytes"),
            )
            .with("limit", MAX_REQUEST_BYTES.to_string()),
            Self::AmbiguousAccount { channel, accounts } => {
                let accounts = accounts.join(",");
                Detail::new(
                    ErrorReason::ChannelAccountAmbiguous,
                    format!("`{channel}` has several channel accounts, name one of `{accounts}` in `channel_account_id`"),
                )
                .with("channel", *channel)
                .with("accounts", accounts)
            }
        }
    }
}

impl Denial {
    fn detail(&self) -> Detail {
        match self {
            Self::Scope(scope) => Detail::new(
                ErrorReason::ScopeMissing,
                format!("the credential lacks the scope `{scope}`"),
            )
            .with("scope", *scope),
            Self::Tenant(slug) => Detail::new(
                ErrorReason::TenantNotAllowed,
                format!("the credential is not for tenant `{slug}`"),
            )
            .with("tenant", slug.clone()),
            Self::Actor => Detail::new(
                ErrorReason::ActorNotAllowed,
                "a user's own credential can act as that user only",
            ),
            Self::Capability {
                channel,
                capability,
            } => Detail::new(
                ErrorReason::ChannelCapabilityMissing,
                format!("the actor lacks the capability `{capability}` in channel `{channel}`"),
            )
            .with("capability", *capability)
            .with("channel_id", channel.clone()),
        }
    }
}

impl Existing {
    fn detail(&self) -> Detail {
        match self {
            Self::RequestId(id) => Detail::new(
                ErrorReason::RequestIdReused,
                format!("request id `{id}` was used for another request"),
            )
            .with("request_id", id.clone()),
            Self::Tenant { slug, schema_name } => Detail::new(
                ErrorReason::TenantExists,
                format!("tenant `{slug}` exists with schema `{schema_name}`"),
            )
            .with("tenant", slug.clone())
            .with("schema_name", schema_name.clone()),
            Self::ChannelAccount { channel, key } => Detail::new(
                ErrorReason::ChannelAccountTaken,
                format!("`{channel}` account `{key}` is another tenant's: `TransferChannelAccount` moves it"),
            )
            .with("channel", *channel)
            .with("key", key.clone()),
            Self::ContactIdentity { account, contact } => Detail::new(
                ErrorReason::ContactIdentityTaken,
                format!("the identity of channel account `{account}` is contact `{contact}`'s, merge the two if they are the same person"),
            )
            .with("channel_account_id", account.clone())
            .with("contact_id", contact.clone()),
            Self::Schema(schema_name) => Detail::new(
                ErrorReason::SchemaNameTaken,
                format!("schema `{schema_name}` is taken"),
            )
            .with("schema_name", schema_name.clone()),
            Self::LiveTenant(slug) => Detail::new(
                ErrorReason::TenantLive,
                format!("tenant `{slug}` is not deleted"),
            )
            .with("tenant", slug.clone()),
            Self::Shortcut(shortcut) => Detail::new(
                ErrorReason::QuickReplyShortcutTaken,
                format!("another quick reply has the shortcut `{shortcut}`"),
            )
            .with("shortcut", shortcut.clone()),
            Self::LiveQuickReply(id) => Detail::new(
                ErrorReason::QuickReplyLive,
                format!("quick reply `{id}` is not deleted"),
            )
            .with("quick_reply_id", id.clone()),
            Self::ChannelName(name) => Detail::new(
                ErrorReason::ChannelNameTaken,
                format!("another public channel is called `{name}`"),
            )
            .with("name", name.clone()),
        }
    }
}

impl Precondition {
    fn detail(&self) -> Detail {
        match self {
            Self::ChannelAccountDisconnected(account) => Detail::new(
                ErrorReason::ChannelAccountDisconnected,
                format!("channel account `{account}` is disconnected, connect it again first"),
            )
            .with("channel_account", account.clone()),
            Self::TenantNotReady(slug) => Detail::new(
                ErrorReason::TenantNotReady,
                format!("tenant `{slug}` is still being made, call `InitializeTenant`"),
            )
            .with("tenant", slug.clone()),
            Self::TenantNotMigrated { slug, has, needs } => Detail::new(
                ErrorReason::TenantNotMigrated,
                format!("tenant `{slug}` is at schema version `{has}`, this server needs `{needs}`, call `MigrateTenants`"),
            )
            .with("tenant", slug.clone())
            .with("has", has.clone())
            .with("needs", needs.clone()),
            Self::TenantSuspended(slug) => Detail::new(
                ErrorReason::TenantSuspended,
                format!("tenant `{slug}` is suspended"),
            )
            .with("tenant", slug.clone()),
            Self::TenantDeleted(slug) => Detail::new(
                ErrorReason::TenantDeleted,
                format!("tenant `{slug}` is deleted, undelete or purge it first"),
            )
            .with("tenant", slug.clone()),
            Self::TenantNotDeleted(slug) => Detail::new(
                ErrorReason::TenantNotDeleted,
                format!("tenant `{slug}` is not deleted, only a deleted one can be purged"),
            )
            .with("tenant", slug.clone()),
            Self::PurgeTimeNotReached { slug, purge_time } => Detail::new(
                ErrorReason::PurgeTimeNotReached,
                format!("tenant `{slug}` can be brought back until `{purge_time}`, set `force` to purge it now"),
            )
            .with("tenant", slug.clone())
            .with("purge_time", purge_time.clone()),
            Self::ConversationArchived(id) => Detail::new(
                ErrorReason::ConversationArchived,
                format!("conversation `{id}` is archived"),
            )
            .with("conversation_id", id.clone()),
            Self::ChannelArchived(id) => Detail::new(
                ErrorReason::ChannelArchived,
                format!("channel `{id}` is archived, unarchive it first"),
            )
            .with("channel_id", id.clone()),
            Self::ChatEntryNotOwn(id) => Detail::new(
                ErrorReason::ChatEntryNotOwn,
                format!("chat entry `{id}` is somebody else's, who alone can edit it"),
            )
            .with("entry_id", id.clone()),
            Self::ChatThreadNotFollowed(id) => Detail::new(
                ErrorReason::ChatThreadNotFollowed,
                format!("the actor does not follow the thread under `{id}`, follow it first"),
            )
            .with("entry_id", id.clone()),
            Self::ChatReactionLimit { entry, limit } => Detail::new(
                ErrorReason::ChatReactionLimit,
                format!("chat entry `{entry}` would have more than `{limit}` kinds of reactions"),
            )
            .with("entry_id", entry.clone())
            .with("limit", limit.to_string()),
            Self::ChatPinLimit { channel, limit } => Detail::new(
                ErrorReason::ChatPinLimit,
                format!("channel `{channel}` would have more than `{limit}` pinned entries"),
            )
            .with("channel_id", channel.clone())
            .with("limit", limit.to_string()),
            Self::NotChannelMember(id) => Detail::new(
                ErrorReason::ChannelMembershipNeeded,
                format!("the actor is no member of channel `{id}`, join it first"),
            )
            .with("channel_id", id.clone()),
            Self::ChannelOwnerNeeded(id) => Detail::new(
                ErrorReason::ChannelOwnerNeeded,
                format!("channel `{id}` would be left without an owner, make another member one first"),
            )
            .with("channel_id", id.clone()),
            Self::ConversationReplaced(id) => Detail::new(
                ErrorReason::ConversationReplaced,
                format!("another conversation of the same person has taken the place of `{id}`"),
            )
            .with("conversation_id", id.clone()),
            Self::ConversationMerged { id, merged_into_id } => Detail::new(
                ErrorReason::ConversationMerged,
                format!("conversation `{id}` was merged into `{merged_into_id}`"),
            )
            .with("conversation_id", id.clone())
            .with("merged_into_id", merged_into_id.clone()),
            Self::LabelLimit { id, limit } => Detail::new(
                ErrorReason::ConversationLabelLimit,
                format!("conversation `{id}` would have more than `{limit}` labels"),
            )
            .with("conversation_id", id.clone())
            .with("limit", limit.to_string()),
            Self::AttachmentInUse(id) => Detail::new(
                ErrorReason::AttachmentInUse,
                format!("attachment `{id}` belongs to another message, quick reply or entry"),
            )
            .with("attachment_id", id.clone()),
            Self::AttachmentNotReady { id, state } => Detail::new(
                ErrorReason::AttachmentNotReady,
                format!("attachment `{id}` is not there: it is `{state}`"),
            )
            .with("attachment_id", id.clone())
            .with("state", (*state).to_owned()),
            Self::MessageNotOutbound(id) => Detail::new(
                ErrorReason::MessageNotOutbound,
                format!("message `{id}` is not outbound and has no status"),
            )
            .with("message_id", id.clone()),
            Self::MessageInbound(id) => Detail::new(
                ErrorReason::MessageInbound,
                format!("message `{id}` is the customer's, who alone can edit it"),
            )
            .with("message_id", id.clone()),
            Self::MessageSent(id) => Detail::new(
                ErrorReason::MessageSent,
                format!("message `{id}` was sent, and its channel can neither change nor call it back; `redact` deletes our copy"),
            )
            .with("message_id", id.clone()),
            Self::MessageNotFailed(id) => Detail::new(
                ErrorReason::MessageNotFailed,
                format!("message `{id}` was sent and did not fail"),
            )
            .with("message_id", id.clone()),
            Self::ContactMerged { contact, into } => Detail::new(
                ErrorReason::ContactMerged,
                format!("contact `{contact}` was merged into `{into}`"),
            )
            .with("contact_id", contact.clone())
            .with("merged_into_id", into.clone()),
            Self::ContactIdentityInUse(id) => Detail::new(
                ErrorReason::ContactIdentityInUse,
                format!("conversations hang on contact identity `{id}`"),
            )
            .with("contact_identity_id", id.clone()),
            Self::ContactIdentityLimit { contact, limit } => Detail::new(
                ErrorReason::ContactIdentityLimit,
                format!("contact `{contact}` would have more than `{limit}` identities"),
            )
            .with("contact_id", contact.clone())
            .with("limit", limit.to_string()),
            Self::AnswerErased(id) => Detail::new(
                ErrorReason::AnswerErased,
                format!("the answer to request id `{id}` was erased with the person that it told of"),
            )
            .with("request_id", id.clone()),
            Self::QuickReplyVariablesMissing { id, variables } => {
                let variables = variables.join(",");
                Detail::new(
                    ErrorReason::QuickReplyVariablesMissing,
                    format!("quick reply `{id}` has no value for `{variables}`"),
                )
                .with("quick_reply_id", id.clone())
                .with("variables", variables)
            }
            Self::QuickReplyTooLong { id, limit } => Detail::new(
                ErrorReason::QuickReplyTooLong,
                format!("quick reply `{id}`, filled in, would have more than `{limit}` bytes"),
            )
            .with("quick_reply_id", id.clone())
            .with("limit", limit.to_string()),
        }
    }
}

impl Conflict {
    fn detail(&self) -> Detail {
        match self {
            Self::Etag { given, current } => Detail::new(
                ErrorReason::EtagMismatch,
                format!("the etag is `{current}` by now, not `{given}`, read again"),
            )
            .with("given", given.clone())
            .with("current", current.clone()),
            Self::Transaction => Detail::new(
                ErrorReason::Conflict,
                "another change was in the way, try again",
            ),
        }
    }
}
