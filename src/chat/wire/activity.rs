//! Who has said how much, on the wire.

use std::mem::take;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Page, user_id};
use crate::chat::activity::{Activity, ActivityQuery};
use crate::error::Error;
use crate::field::Fields;
use crate::ids::ChannelId;
use crate::pb;
use crate::time::to_timestamp;

/// The most users that can be asked for.
const MOST_USERS: usize = 50;
/// The most days that a range can have.
const MOST_DAYS: i64 = 366;

/// What `GetChatActivity` asks for.
pub struct ActivityPage {
    /// What.
    pub query: ActivityQuery,
    /// How many, from where on.
    pub page: Page,
}

impl TryFrom<pb::GetChatActivityRequest> for ActivityPage {
    type Error = Error;

    fn try_from(mut request: pb::GetChatActivityRequest) -> Result<Self, Error> {
        let (token, size) = (take(&mut request.page_token), take(&mut request.page_size));
        let page = Page::of(&request, size, token)?;
        let mut fields = Fields::default();
        let from = time(&mut fields, "start_time", request.start_time.as_ref());
        let to = time(&mut fields, "end_time", request.end_time.as_ref());
        if let (Some(from), Some(to)) = (from, to) {
            if to <= from {
                fields.refuse("end_time", "must be later than `start_time`");
            } else if to - from > TimeDelta::days(MOST_DAYS) {
                let problem = format!("must be at most {MOST_DAYS} days after `start_time`");
                fields.refuse("end_time", problem);
            }
        }
        if request.user_ids.len() > MOST_USERS {
            fields.refuse("user_ids", format!("must be at most {MOST_USERS} users"));
        }
        let users = request.user_ids.into_iter().take(MOST_USERS).enumerate();
        let users = users.map(|(place, id)| {
            let field = format!("user_ids[{place}]");
            user_id(&mut fields, &field, id)
        });
        let mut user_ids: Vec<_> = users.collect();
        user_ids.sort();
        user_ids.dedup();
        let query = ActivityQuery {
            from: from.unwrap_or_default(),
            to: to.unwrap_or_default(),
            user_ids: (!user_ids.is_empty()).then_some(user_ids),
            channel_id: fields.id("channel_id", &request.channel_id, ChannelId),
        };
        fields.finish()?;
        Ok(Self { query, page })
    }
}

fn time(
    fields: &mut Fields,
    field: &str,
    time: Option<&prost_types::Timestamp>,
) -> Option<DateTime<Utc>> {
    if time.is_none() {
        fields.refuse(field, "is required");
    }
    fields.time(field, time)
}

impl From<Activity> for pb::ChatActivity {
    fn from(activity: Activity) -> Self {
        Self {
            user_id: activity.user_id,
            entry_count: activity.entries,
            reply_count: activity.replies,
            channel_count: activity.channels,
            last_post_time: Some(to_timestamp(activity.last_at)),
        }
    }
}
