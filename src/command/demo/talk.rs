//! How one conversation of the demonstration goes.

use chrono::{DateTime, TimeDelta, Utc};

use super::month::{AGENTS, Dice, Plan, at_work};
use super::{ClientError, Teller, user};
use crate::pb;

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
            self.at = at_work(self.at);
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
pub async fn converse(
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
