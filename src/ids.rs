//! One type of id for each noun, so that one cannot stand for another.

use std::fmt;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, AsExpression, FromSqlRow)]
        #[diesel(sql_type = sql_types::Uuid)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Makes a new id, later in order than those made before.
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                // A good deal faster than by `Display`, and a page of a list has a hundred of them.
                id.0.hyphenated().encode_lower(&mut Uuid::encode_buffer()).to_owned()
            }
        }

        impl FromSql<sql_types::Uuid, Pg> for $name {
            fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
                <Uuid as FromSql<sql_types::Uuid, Pg>>::from_sql(value).map(Self)
            }
        }

        impl ToSql<sql_types::Uuid, Pg> for $name {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
                ToSql::<sql_types::Uuid, Pg>::to_sql(&self.0, out)
            }
        }
    )*};
}

ids! {
    /// Of a tenant.
    TenantId,
    /// Of a channel account.
    ChannelAccountId,
    /// Of a person.
    ContactId,
    /// Of one way in which a channel account knows a person.
    ContactIdentityId,
    /// That one contact turned out to be another.
    ContactMergeId,
    /// Of the erasure of a person.
    ContactErasureId,
    /// Of a conversation.
    ConversationId,
    /// Of the merging of two conversations.
    ConversationMergeId,
    /// Of a user who takes conversations.
    AgentId,
    /// Of a message.
    MessageId,
    /// Of a quick reply.
    QuickReplyId,
    /// Of one use of a quick reply.
    QuickReplyUseId,
    /// Of a file.
    AttachmentId,
    /// Of a provider's app.
    AppId,
    /// Of a place where the team talks.
    ChannelId,
    /// Of a user in a channel.
    ChannelMemberId,
    /// Of what somebody said in a channel.
    ChatEntryId,
    /// Of a user's following of a thread.
    ThreadFollowId,
    /// Of a webhook as it came.
    DeliveryId,
}
