//! Weeks of work, told as they happened, each call at its time: what statistics are of.

use std::io::IsTerminal as _;

use chrono::{DateTime, Datelike as _, Days, NaiveTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use prost_types::FieldMask;

use super::talk::converse;
use super::{ClientError, Teller};
use crate::clock;
use crate::pb;
use crate::pb::quick_reply_service_client::QuickReplyServiceClient;

/// Where the demonstration works.
pub const ZONE: &str = "Europe/Berlin";
const BERLIN: Tz = Tz::Europe__Berlin;
/// How many conversations are told at a time.
const AT_ONCE: usize = 4;

/// Who works where, how many minutes they take to answer, and how many conversations they have at
/// most.
pub const AGENTS: [(&str, &str, i64, i32); 4] = [
    ("mira", "service", 7, 40),
    ("lea", "service", 16, 25),
    ("jon", "accounting", 35, 30),
    ("tom", "sales", 55, 30),
];

/// Draws the same numbers each time.
pub struct Dice(pub u64);

impl Dice {
    /// A number below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let index = usize::try_from(self.below(of.len() as u64)).unwrap_or_default();
        &of[index]
    }

    /// Whether something happens that does in so many cases of a hundred.
    pub fn happens(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Some time, a few minutes mostly and much more at times.
    pub fn about(&mut self, minutes: i64) -> TimeDelta {
        let mut seconds = minutes * 20;
        while self.happens(55) {
            seconds += minutes * 40;
        }
        TimeDelta::seconds(seconds + i64::try_from(self.below(60)).unwrap_or_default())
    }
}

/// A conversation to be told.
pub struct Plan {
    /// Which of all.
    pub number: u64,
    /// When it begins.
    pub begun: DateTime<Utc>,
    /// What is drawn for it.
    pub dice: Dice,
}

/// Tells of some days, unless the tenant has a past.
pub async fn tell(teller: &Teller, days: u16) -> Result<(), ClientError> {
    let request = pb::GetConversationStatsRequest {
        tenant: teller.tenant.clone(),
        ..Default::default()
    };
    let mut inbox = teller.inbox();
    let counts = inbox.get_conversation_stats(teller.client.request(request));
    let counts = counts.await?.into_inner().counts.unwrap_or_default();
    if days == 0 || counts.total > 0 {
        return Ok(());
    }
    open(teller).await?;
    let quick_reply = quick_reply(teller).await?;
    let now = clock::now();
    let plans = plan(now, days);
    let total = plans.len();
    let told = stream::iter(plans)
        .map(
            async |plan| match converse(teller, &quick_reply, now, plan).await {
                // Who writes about two things has one conversation, and one agent may have closed it.
                Err(ClientError::Status { status })
                    if status.code() == tonic::Code::FailedPrecondition =>
                {
                    Ok(())
                }
                told => told,
            },
        )
        .buffered(AT_ONCE);
    let bar = std::io::stderr().is_terminal();
    let last = told.try_fold(0, async |told: usize, ()| {
        if bar {
            eprint!("\r{} of {total} conversations", told + 1);
        }
        Ok(told + 1)
    });
    last.await?;
    if bar {
        eprintln!();
    }
    Ok(())
}

/// Says who works when, and how many conversations each has at most.
async fn open(teller: &Teller) -> Result<(), ClientError> {
    let interval = |weekday| {
        let (begin, end) = hours(weekday)?;
        Some(pb::BusinessInterval {
            // From Monday, 1.
            weekday: i32::try_from(weekday + 1).ok()?,
            start_minute: i32::try_from(begin * 60).ok()?,
            end_minute: i32::try_from(end * 60).ok()?,
        })
    };
    let intervals = (0..7).filter_map(interval).collect();
    let hours = pb::UpdateBusinessHoursRequest {
        tenant: teller.tenant.clone(),
        time_zone: Some(ZONE.to_owned()),
        intervals,
        update_mask: Some(FieldMask {
            paths: vec!["time_zone".to_owned(), "intervals".to_owned()],
        }),
        ..Default::default()
    };
    let mut inbox = teller.inbox();
    inbox
        .update_business_hours(teller.client.request(hours))
        .await?;
    for (user_id, _, _, capacity) in AGENTS {
        let agent = pb::UpdateAgentRequest {
            tenant: teller.tenant.clone(),
            user_id: user_id.to_owned(),
            available: Some(true),
            capacity: Some(capacity),
            ..Default::default()
        };
        inbox.update_agent(teller.client.request(agent)).await?;
    }
    Ok(())
}

/// The id of the quick reply that agents use.
async fn quick_reply(teller: &Teller) -> Result<String, ClientError> {
    let request = pb::ListQuickRepliesRequest {
        tenant: teller.tenant.clone(),
        page_size: 500,
        ..Default::default()
    };
    let mut quick_replies = QuickReplyServiceClient::new(teller.client.channel.clone());
    let page = quick_replies
        .list_quick_replies(teller.client.request(request))
        .await?;
    let mut all = page.into_inner().quick_replies.into_iter();
    let look = all.find(|reply| reply.shortcut == "look");
    Ok(look.unwrap_or_default().id)
}

/// When customers begin to write: more on weekdays, and in the morning.
fn plan(now: DateTime<Utc>, days: u16) -> Vec<Plan> {
    let mut dice = Dice(7);
    let mut plans = Vec::new();
    let today = now.with_timezone(&BERLIN).date_naive();
    for back in (0..=u64::from(days)).rev() {
        let Some(day) = today.checked_sub_days(Days::new(back)) else {
            continue;
        };
        let conversations = match day.weekday().num_days_from_monday() {
            0 => 14,
            1..=4 => 9 + dice.below(4),
            5 => 5,
            _ => 2,
        };
        let mut seconds: Vec<_> = (0..conversations)
            .map(|_| 420 * 60 + dice.below(400 * 60) + dice.below(400 * 60))
            .collect();
        seconds.sort_unstable();
        for second in seconds {
            let wall = day.and_time(NaiveTime::MIN) + TimeDelta::seconds(second.cast_signed());
            let Some(begun) = BERLIN.from_local_datetime(&wall).earliest() else {
                continue;
            };
            let begun = begun.to_utc();
            let number = plans.len() as u64;
            let dice = Dice(number + 1000);
            if begun < now {
                plans.push(Plan {
                    number,
                    begun,
                    dice,
                });
            }
        }
    }
    plans
}

/// From which hour until which somebody works on a weekday, 0 for Monday.
fn hours(weekday: u32) -> Option<(i64, i64)> {
    match weekday {
        0..=4 => Some((9, 18)),
        5 => Some((9, 14)),
        _ => None,
    }
}

/// The first moment from one on at which somebody works.
pub fn at_work(at: DateTime<Utc>) -> DateTime<Utc> {
    let mut wall = at.with_timezone(&BERLIN).naive_local();
    loop {
        let hour = |hour| wall.date().and_time(NaiveTime::MIN) + TimeDelta::hours(hour);
        let today = hours(wall.weekday().num_days_from_monday());
        if let Some((begin, _)) = today.filter(|(_, end)| wall < hour(*end)) {
            let begin = BERLIN
                .from_local_datetime(&wall.max(hour(begin)))
                .earliest();
            return begin.map_or(at, |begin| begin.to_utc().max(at));
        }
        wall = hour(24);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_begins_when_the_doors_open() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        for (asked, works) in [
            ("2026-11-23T07:59:00Z", "2026-11-23T08:00:00Z"),
            ("2026-11-23T12:34:56Z", "2026-11-23T12:34:56Z"),
            ("2026-11-23T17:00:00Z", "2026-11-24T08:00:00Z"),
            ("2026-11-28T13:00:00Z", "2026-11-30T08:00:00Z"),
            ("2026-10-24T12:00:00Z", "2026-10-26T08:00:00Z"),
        ] {
            assert_eq!(at_work(at(asked)), at(works), "{asked}");
        }
    }

    #[test]
    fn a_month_is_planned_in_order_and_in_the_past() {
        let now = "2026-11-25T12:00:00Z".parse().unwrap();
        let plans = plan(now, 30);
        assert!((200..400).contains(&plans.len()), "{}", plans.len());
        assert!(plans.is_sorted_by_key(|plan| plan.begun));
        assert!(plans.iter().all(|plan| plan.begun < now));
    }
}
