//! Conversations to look at one by one.

use prost_types::Timestamp;

use super::{ClientError, Teller, user};
use crate::clock;
use crate::pb;
use crate::pb::quick_reply_service_client::QuickReplyServiceClient;

/// A customer of the demonstration, what they write about, and how it goes on.
struct Story {
    channel: pb::Channel,
    identifier: &'static str,
    name: &'static str,
    subject: &'static str,
    priority: pb::Priority,
    /// Who says what: `<` the customer, `>` an agent, `#` a note.
    lines: &'static [&'static str],
}

const STORIES: [Story; 6] = [
    Story {
        channel: pb::Channel::Whatsapp,
        identifier: "+15550109911",
        name: "Dana Whitfield",
        subject: "",
        priority: pb::Priority::Normal,
        lines: &[
            "<Hello! Is the table by the window still free tonight?",
            ">Hi Dana, it is. For how many people?",
            "<Four, at half past seven.",
            "#She was here in May and liked the corner, too.",
            ">Booked: four people, 19:30, by the window. See you tonight!",
            "<Perfect, thank you 🙏",
        ],
    },
    Story {
        channel: pb::Channel::Email,
        identifier: "jonas.berg@example.com",
        name: "Jonas Berg",
        subject: "Invoice 2026-118 has the wrong address",
        priority: pb::Priority::High,
        lines: &[
            "<Good morning,\n\nthe invoice still shows our old address. Could you send a corrected one?\n\nJonas Berg",
            "#Accounting has the new address since Monday.",
            ">Dear Jonas,\n\nI am sorry about that. The corrected invoice is on its way.\n\nKind regards\nMira",
        ],
    },
    Story {
        channel: pb::Channel::Instagram,
        identifier: "17841400000000001",
        name: "mila.paints",
        subject: "",
        priority: pb::Priority::Low,
        lines: &["<do you ship to Portugal?", "<and how long does it take?"],
    },
    Story {
        channel: pb::Channel::Web,
        identifier: "visitor-7f3a",
        name: "Visitor",
        subject: "Checkout",
        priority: pb::Priority::Urgent,
        lines: &[
            "<The checkout says 'card declined', but my bank says it went through",
            ">Thanks for telling us. Which order is it about?",
            "<4711",
            "#Payment provider has an incident since 10:40.",
        ],
    },
    Story {
        channel: pb::Channel::Messenger,
        identifier: "5550000000000017",
        name: "Luís Prado",
        subject: "",
        priority: pb::Priority::Normal,
        lines: &[
            "<Olá! Ainda têm a mesa do café?",
            ">Olá Luís, sim, ainda temos duas.",
        ],
    },
    Story {
        channel: pb::Channel::TwilioWhatsapp,
        identifier: "+4915550100",
        name: "佐藤 美咲",
        subject: "",
        priority: pb::Priority::Normal,
        lines: &["<予約を明日に変更できますか？"],
    },
];

/// Tells the stories, once.
pub async fn tell(teller: &Teller) -> Result<(), ClientError> {
    for story in &STORIES {
        let request = pb::CreateConversationRequest {
            tenant: teller.tenant.clone(),
            channel: story.channel.into(),
            contact_identifier: story.identifier.to_owned(),
            contact_name: story.name.to_owned(),
            subject: story.subject.to_owned(),
            priority: story.priority.into(),
            ..Default::default()
        };
        let mut inbox = teller.inbox();
        let answer = inbox
            .create_conversation(teller.client.request(request))
            .await?;
        let conversation = answer.into_inner().conversation;
        let conversation = conversation.unwrap_or_default();
        // Told before: the stories are not told twice.
        if conversation.last_sequence > 0 {
            continue;
        }
        for line in story.lines {
            say(teller, &conversation.id, line).await?;
        }
        handle(teller, story, conversation.id).await?;
    }
    Ok(())
}

/// Does with a conversation what an agent does after writing: labels, gives and qualifies it, has
/// read it, and puts it aside.
async fn handle(teller: &Teller, story: &Story, id: String) -> Result<(), ClientError> {
    let (labels, assignee_id, team_id) = match story.channel {
        pb::Channel::Whatsapp => (["reservation", "regular"].as_slice(), "mira", "service"),
        pb::Channel::Email => (["invoice"].as_slice(), "jon", "accounting"),
        pb::Channel::Web => (["checkout", "incident"].as_slice(), "", "service"),
        pb::Channel::Messenger => (["sale"].as_slice(), "mira", ""),
        // Nobody has looked at the others yet.
        _ => return Ok(()),
    };
    let mut inbox = teller.inbox();
    let tenant = &teller.tenant;
    let update = pb::UpdateConversationRequest {
        tenant: tenant.clone(),
        actor: user("mira"),
        conversation_id: id.clone(),
        labels: labels.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    inbox
        .update_conversation(teller.client.request(update))
        .await?;
    let assign = pb::AssignConversationRequest {
        tenant: tenant.clone(),
        actor: user("mira"),
        conversation_id: id.clone(),
        assignee_id: assignee_id.to_owned(),
        team_id: team_id.to_owned(),
        ..Default::default()
    };
    inbox
        .assign_conversation(teller.client.request(assign))
        .await?;
    let read = pb::MarkConversationReadRequest {
        tenant: tenant.clone(),
        actor: user("mira"),
        conversation_id: id.clone(),
        sequence: 0,
    };
    inbox
        .mark_conversation_read(teller.client.request(read))
        .await?;
    match story.channel {
        pb::Channel::Messenger => {
            let qualify = pb::QualifyConversationRequest {
                tenant: tenant.clone(),
                actor: user("mira"),
                conversation_id: id,
                score: Some(70),
                notes: "Wants the coffee table, asks for the price next".to_owned(),
                ..Default::default()
            };
            inbox
                .qualify_conversation(teller.client.request(qualify))
                .await?;
        }
        pb::Channel::Email => {
            let snooze = pb::UpdateConversationRequest {
                tenant: tenant.clone(),
                actor: user("jon"),
                conversation_id: id,
                snooze_until_time: in_hours(20),
                ..Default::default()
            };
            inbox
                .update_conversation(teller.client.request(snooze))
                .await?;
        }
        pb::Channel::Whatsapp => {
            let reminder = pb::CreateMessageRequest {
                tenant: tenant.clone(),
                actor: user("mira"),
                request_id: "demo-reminder".to_owned(),
                conversation_id: id,
                direction: pb::MessageDirection::Outbound.into(),
                text: "Good morning, Dana! How was the table by the window?".to_owned(),
                send_time: in_hours(16),
                ..Default::default()
            };
            inbox
                .create_message(teller.client.request(reminder))
                .await?;
        }
        _ => {}
    }
    Ok(())
}

fn in_hours(hours: i64) -> Option<Timestamp> {
    let now = i64::try_from(clock::since_epoch().as_secs()).ok()?;
    Some(Timestamp {
        seconds: now + hours * 3600,
        nanos: 0,
    })
}

/// The quick replies of the demonstration, by shortcut.
const QUICK_REPLIES: [(&str, &str, &str); 3] = [
    (
        "hi",
        "Greeting",
        "Hi {{contact.first_name|there}}, how can I help?",
    ),
    (
        "hours",
        "Opening hours",
        "We are open from 9 to 18 o'clock, on Saturdays until 14 o'clock.",
    ),
    (
        "look",
        "Looking into it",
        "Thank you, {{contact.first_name|and sorry for the trouble}}. I am looking into it and come back to you today.",
    ),
];

/// Makes the quick replies, once.
pub async fn make_quick_replies(teller: &Teller) -> Result<(), ClientError> {
    let mut quick_replies = QuickReplyServiceClient::new(teller.client.channel.clone());
    for (shortcut, title, text) in QUICK_REPLIES {
        let request = pb::CreateQuickReplyRequest {
            tenant: teller.tenant.clone(),
            request_id: format!("demo-{shortcut}"),
            shortcut: shortcut.to_owned(),
            title: title.to_owned(),
            text: text.to_owned(),
            ..Default::default()
        };
        let made = quick_replies.create_quick_reply(teller.client.request(request));
        match made.await {
            Err(status) if status.code() == tonic::Code::AlreadyExists => {}
            made => drop(made?),
        }
    }
    Ok(())
}

async fn say(teller: &Teller, conversation: &str, line: &str) -> Result<(), ClientError> {
    let (who, text) = line.split_at(1);
    let (direction, actor) = match who {
        "<" => (pb::MessageDirection::Inbound, None),
        ">" => (pb::MessageDirection::Outbound, user("mira")),
        _ => (pb::MessageDirection::Internal, user("mira")),
    };
    let request = pb::CreateMessageRequest {
        tenant: teller.tenant.clone(),
        actor,
        conversation_id: conversation.to_owned(),
        direction: direction.into(),
        text: text.to_owned(),
        ..Default::default()
    };
    let message = teller
        .inbox()
        .create_message(teller.client.request(request))
        .await?;
    let message = message.into_inner().message.unwrap_or_default();
    if direction == pb::MessageDirection::Outbound {
        let request = pb::UpdateMessageStatusRequest {
            tenant: teller.tenant.clone(),
            message_id: message.id,
            status: pb::MessageStatus::Delivered.into(),
            ..Default::default()
        };
        let mut inbox = teller.inbox();
        inbox
            .update_message_status(teller.client.request(request))
            .await?;
    }
    Ok(())
}
