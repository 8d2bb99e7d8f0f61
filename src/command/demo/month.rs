//! Weeks of work, told as they happened, each call at its time: what statistics are of.

use std::io::IsTerminal as _;

use chrono::{DateTime, Datelike as _, Days, NaiveTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use prost_types::FieldMask;

use super::{ClientError, Teller, user};
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
const AGENTS: [(&str, &str, i64, i32); 4] = [
    ("mira", "service", 7, 40),
    ("lea", "service", 16, 25),
    ("jon", "accounting", 35, 30),
    ("tom", "sales", 55, 30),
];

/// What customers write about.
struct Topic {
    team: &'static str,
    label: &'static str,
    subject: &'static str,
    /// What is said in turn, by the customer first.
    lines: [&'static str; 4],
}

const TOPICS: [Topic; 6] = [
    Topic {
        team: "service",
        label: "delivery",
        subject: "Where is my parcel?",
        lines: [
            "Hello, my parcel should have been here yesterday. Can you see where it is?",
            "I am sorry about that. It left our house on time and is with the carrier; I have asked them and tell you as soon as I know more.",
            "Thank you. I am at home tomorrow until noon.",
            "The carrier brings it tomorrow between 9 and 12. Thank you for your patience!",
        ],
    },
    Topic {
        team: "service",
        label: "return",
        subject: "Wrong size",
        lines: [
            "The jacket is too small. Can I have it one size larger instead?",
            "Of course. The label for your return is on its way; the larger one goes out today.",
            "That was quick, thanks! Shall I use the same box?",
            "The same box is fine.",
        ],
    },
    Topic {
        team: "accounting",
        label: "invoice",
        subject: "Question about an invoice",
        lines: [
            "Good morning, on the last invoice our VAT number is missing. Could you send it again?",
            "Good morning, certainly: a corrected invoice is attached to our next mail.",
            "It has come. The amount seems to be the old one, though?",
            "You are right, that is corrected now, too. I apologize.",
        ],
    },
    Topic {
        team: "sales",
        label: "sale",
        subject: "Coffee table in oak",
        lines: [
            "Do you have the coffee table in oak as well?",
            "We do, in three sizes. Which one would fit your room?",
            "120 cm would be perfect. What would delivery to Hamburg cost?",
            "49 euros, and it would be there within two weeks. Shall I reserve it?",
        ],
    },
    Topic {
        team: "service",
        label: "checkout",
        subject: "Payment does not go through",
        lines: [
            "the checkout says my card is declined, but the bank says all is fine",
            "Thank you for telling us. Could you try once more? We had an incident this morning.",
            "works now 👍",
            "Glad to hear that!",
        ],
    },
    Topic {
        team: "sales",
        label: "sale",
        subject: "Angebot für unser Büro",
        lines: [
            "Guten Tag, wir richten ein Büro mit zwölf Plätzen ein. Machen Sie uns ein Angebot?",
            "Sehr gerne. Brauchen Sie auch Stühle, oder nur Tische?",
            "Beides, bitte. Lieferung im nächsten Monat wäre ideal.",
            "Das Angebot ist unterwegs. Melden Sie sich gerne, wenn etwas unklar ist.",
        ],
    },
];

const FIRST_NAMES: [&str; 16] = [
    "Anna", "Ben", "Chiara", "David", "Elif", "Finn", "Grace", "Hugo", "Inès", "Jamal", "Kaja",
    "Liam", "Mei", "Noah", "Olga", "Paulo",
];
const LAST_NAMES: [&str; 9] = [
    "Albrecht", "Costa", "Demir", "Eriksen", "Fischer", "Nowak", "Okafor", "Rossi", "Tanaka",
];

/// Draws the same numbers each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let index = usize::try_from(self.below(of.len() as u64)).unwrap_or_default();
        &of[index]
    }

    fn happens(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Some time, a few minutes mostly and much more at times.
    fn about(&mut self, minutes: i64) -> TimeDelta {
        let mut seconds = minutes * 20;
        while self.happens(55) {
            seconds += minutes * 40;
        }
        TimeDelta::seconds(seconds + i64::try_from(self.below(60)).unwrap_or_default())
    }
}

/// A conversation to be told.
struct Plan {
    number: u64,
    begun: DateTime<Utc>,
    dice: Dice,
}

/// Tells of some days, unless the tenant has a past.
pub async fn tell(teller: &Teller, days: u16) -> Result<(), ClientError> {
    let request = pb::GetConversationStatsRequest {
        tenant: teller.tenant.clone(),
        ..Default::default()
    };
    let mut inbox = teller.inbox();
    let counts = inbox.get_conversation_stats(teller.now(request));
    let counts = counts.await?.into_inner().counts.unwrap_or_default();
    if days == 0 || counts.total > 0 {
        return Ok(());
    }
    open(teller).await?;
    let quick_reply = quick_reply(teller).await?;
    let now = DateTime::<Utc>::UNIX_EPOCH + clock::since_epoch();
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
    use pb::Weekday::{Friday, Monday, Saturday, Thursday, Tuesday, Wednesday};
    let interval = |weekday: pb::Weekday, start_minute, end_minute| pb::BusinessInterval {
        weekday: weekday.into(),
        start_minute,
        end_minute,
    };
    let weekdays = [Monday, Tuesday, Wednesday, Thursday, Friday];
    let mut intervals = weekdays.map(|day| interval(day, 540, 1080)).to_vec();
    intervals.push(interval(Saturday, 540, 840));
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
    inbox.update_business_hours(teller.now(hours)).await?;
    for (user_id, _, _, capacity) in AGENTS {
        let agent = pb::UpdateAgentRequest {
            tenant: teller.tenant.clone(),
            user_id: user_id.to_owned(),
            available: Some(true),
            capacity: Some(capacity),
            ..Default::default()
        };
        inbox.update_agent(teller.now(agent)).await?;
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
        .list_quick_replies(teller.now(request))
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

/// The first moment from one on at which somebody works.
fn at_work(at: DateTime<Utc>) -> DateTime<Utc> {
    let mut wall = at.with_timezone(&BERLIN).naive_local();
    loop {
        let end = match wall.weekday().num_days_from_monday() {
            0..=4 => 18,
            5 => 14,
            _ => 0,
        };
        let hour = |hour| wall.date().and_time(NaiveTime::MIN) + TimeDelta::hours(hour);
        if wall < hour(end) {
            let begin = BERLIN.from_local_datetime(&wall.max(hour(9))).earliest();
            return begin.map_or(at, |begin| begin.to_utc().max(at));
        }
        wall = hour(24);
    }
}

/// Where a conversation has come to.
struct Talk<'a> {
    teller: &'a Teller,
    now: DateTime<Utc>,
    id: String,
    agent: &'static str,
    /// When the next thing happens.
    at: DateTime<Utc>,
}

impl Talk<'_> {
    /// Goes on by some time, to when somebody works if need be; tells whether that is in the past.
    fn passes(&mut self, time: TimeDelta, works: bool) -> bool {
        self.at += time;
        if works {
            self.at = at_work(self.at).max(self.at);
        }
        self.at < self.now - TimeDelta::minutes(1)
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        self.teller.ago((self.now - self.at).num_seconds(), message)
    }

    fn tenant(&self) -> String {
        self.teller.tenant.clone()
    }

    async fn message(
        &mut self,
        direction: pb::MessageDirection,
        text: &str,
        quick_reply_id: &str,
    ) -> Result<pb::Message, ClientError> {
        let by_agent = direction != pb::MessageDirection::Inbound;
        let request = pb::CreateMessageRequest {
            tenant: self.tenant(),
            actor: by_agent.then(|| user(self.agent)).flatten(),
            conversation_id: self.id.clone(),
            direction: direction.into(),
            text: text.to_owned(),
            quick_reply_id: quick_reply_id.to_owned(),
            ..Default::default()
        };
        let mut inbox = self.teller.inbox();
        let made = inbox.create_message(self.request(request)).await?;
        let message = made.into_inner().message.unwrap_or_default();
        // What comes after an archiving may be another conversation.
        self.id.clone_from(&message.conversation_id);
        Ok(message)
    }

    async fn answer(&mut self, text: &str, quick_reply_id: &str) -> Result<(), ClientError> {
        use pb::MessageStatus::{Delivered, Read, Sent};
        let direction = pb::MessageDirection::Outbound;
        let message = self.message(direction, text, quick_reply_id).await?;
        for status in [Sent, Delivered, Read] {
            self.at += TimeDelta::seconds(2);
            let request = pb::UpdateMessageStatusRequest {
                tenant: self.tenant(),
                message_id: message.id.clone(),
                status: status.into(),
                ..Default::default()
            };
            let mut inbox = self.teller.inbox();
            inbox.update_message_status(self.request(request)).await?;
        }
        Ok(())
    }

    async fn read(&self) -> Result<(), ClientError> {
        let request = pb::MarkConversationReadRequest {
            tenant: self.tenant(),
            actor: user(self.agent),
            conversation_id: self.id.clone(),
            sequence: 0,
        };
        let mut inbox = self.teller.inbox();
        inbox.mark_conversation_read(self.request(request)).await?;
        Ok(())
    }

    async fn archive(&self) -> Result<(), ClientError> {
        let request = pb::ArchiveConversationRequest {
            tenant: self.tenant(),
            actor: user(self.agent),
            conversation_id: self.id.clone(),
            ..Default::default()
        };
        let mut inbox = self.teller.inbox();
        inbox.archive_conversation(self.request(request)).await?;
        Ok(())
    }
}

/// Tells one conversation, as far as it has come by now.
async fn converse(
    teller: &Teller,
    quick_reply: &str,
    now: DateTime<Utc>,
    plan: Plan,
) -> Result<(), ClientError> {
    let Plan {
        number,
        begun,
        mut dice,
    } = plan;
    let topic = dice.pick(&TOPICS);
    let of_team: Vec<_> = (AGENTS.iter())
        .filter(|(_, team, ..)| *team == topic.team)
        .collect();
    let (agent, team, minutes, _) = **dice.pick(&of_team);
    let mut talk = Talk {
        teller,
        now,
        id: String::new(),
        agent,
        at: begun,
    };
    let [asks, answers, adds, ends] = topic.lines;
    talk.id = begin(&talk, number, topic, &mut dice).await?;
    talk.message(pb::MessageDirection::Inbound, asks, "")
        .await?;

    if !talk.passes(dice.about(3), false) {
        return Ok(());
    }
    assign(&talk, team, topic.label).await?;
    if !talk.passes(dice.about(minutes), true) {
        return Ok(());
    }
    if dice.happens(20) {
        talk.answer("", quick_reply).await?;
    } else {
        talk.answer(answers, "").await?;
    }
    if dice.happens(25) && talk.passes(TimeDelta::minutes(1), false) {
        let note = pb::MessageDirection::Internal;
        talk.message(
            note,
            "Has written about this before, see the other conversation.",
            "",
        )
        .await?;
    }
    if dice.happens(75) {
        if !talk.passes(dice.about(40), false) {
            return Ok(());
        }
        talk.message(pb::MessageDirection::Inbound, adds, "")
            .await?;
        if !talk.passes(dice.about(minutes), true) {
            return Ok(());
        }
        talk.answer(ends, "").await?;
    }
    talk.read().await?;
    if topic.label == "sale" && dice.happens(50) {
        let qualify = pb::QualifyConversationRequest {
            tenant: talk.tenant(),
            actor: user(agent),
            conversation_id: talk.id.clone(),
            score: i32::try_from(40 + dice.below(60)).ok(),
            notes: "Asked for a price".to_owned(),
            ..Default::default()
        };
        let mut inbox = teller.inbox();
        inbox.qualify_conversation(talk.request(qualify)).await?;
    }
    if !dice.happens(85) || !talk.passes(dice.about(180), true) {
        return Ok(());
    }
    talk.archive().await?;
    // Some come back.
    if dice.happens(12) && talk.passes(dice.about(2000), false) {
        let again = "One more thing: could you send me the confirmation once more?";
        talk.message(pb::MessageDirection::Inbound, again, "")
            .await?;
        if talk.passes(dice.about(minutes), true) {
            talk.answer("Of course, here it is.", "").await?;
            talk.read().await?;
        }
        if talk.passes(dice.about(60), true) {
            talk.archive().await?;
        }
    }
    Ok(())
}

/// Finds or makes the conversation of a customer; some have written before.
async fn begin(
    talk: &Talk<'_>,
    number: u64,
    topic: &Topic,
    dice: &mut Dice,
) -> Result<String, ClientError> {
    use pb::Channel::{Email, Instagram, Messenger, Web, Whatsapp};
    let person = number - dice.below(number.min(20) + 1) * dice.below(2) * dice.below(2);
    let mut of_person = Dice(person * 77 + 5);
    let name = format!(
        "{} {}",
        of_person.pick(&FIRST_NAMES),
        of_person.pick(&LAST_NAMES)
    );
    let channels = [
        Whatsapp, Whatsapp, Whatsapp, Email, Email, Web, Instagram, Messenger,
    ];
    let channel = *of_person.pick(&channels);
    let identifier = match channel {
        Email => format!("customer{person}@example.com"),
        Whatsapp => format!("+1555020{person:04}"),
        _ => format!("1784150000{person:06}"),
    };
    let priority = match dice.below(20) {
        0 => pb::Priority::Urgent,
        1..=3 => pb::Priority::High,
        4..=5 => pb::Priority::Low,
        _ => pb::Priority::Normal,
    };
    let request = pb::CreateConversationRequest {
        tenant: talk.tenant(),
        channel: channel.into(),
        contact_identifier: identifier,
        contact_name: name,
        subject: topic.subject.to_owned(),
        priority: priority.into(),
        ..Default::default()
    };
    let mut inbox = talk.teller.inbox();
    let made = inbox.create_conversation(talk.request(request)).await?;
    let conversation = made.into_inner().conversation;
    Ok(conversation.unwrap_or_default().id)
}

/// Gives a conversation to who handles it, and labels it.
async fn assign(talk: &Talk<'_>, team: &str, label: &str) -> Result<(), ClientError> {
    let assign = pb::AssignConversationRequest {
        tenant: talk.tenant(),
        actor: user("mira"),
        conversation_id: talk.id.clone(),
        assignee_id: talk.agent.to_owned(),
        team_id: team.to_owned(),
        ..Default::default()
    };
    let mut inbox = talk.teller.inbox();
    inbox.assign_conversation(talk.request(assign)).await?;
    let update = pb::UpdateConversationRequest {
        tenant: talk.tenant(),
        actor: user("mira"),
        conversation_id: talk.id.clone(),
        add_labels: vec![label.to_owned()],
        ..Default::default()
    };
    inbox.update_conversation(talk.request(update)).await?;
    Ok(())
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
