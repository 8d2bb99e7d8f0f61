//! The team that does the work, and what it says about it.

use super::{ClientError, Teller, user};
use crate::pb;

/// Who is in the team.
const TEAM: [&str; 4] = ["mira", "lea", "jon", "tom"];

/// A channel of the team, and what is said there.
struct Room {
    kind: pb::ChatChannelKind,
    name: &'static str,
    topic: &'static str,
    /// The subject of the conversation with a customer that it is about.
    about: &'static str,
    /// Who is in it; the first has made it.
    members: &'static [&'static str],
    /// Who says what, how many minutes ago: `90 mira: …`. What begins with `>` is said in the thread
    /// under the last that does not; `@` mentions, and `90 lea + 👍` reacts to the last of all.
    lines: &'static [&'static str],
}

const ROOMS: [Room; 4] = [
    Room {
        kind: pb::ChatChannelKind::Public,
        name: "General",
        topic: "What concerns all of us",
        about: "",
        members: &TEAM,
        lines: &[
            "1500 mira: Good morning @everyone! The summer menu is on the site since last night.",
            "1492 tom + 🎉",
            "1490 lea + 🎉",
            "1480 jon: Prices in the till are changed, too.",
            "1475 mira + 👍",
            "300 lea: Who can take the late shift on Friday?",
            "290 tom: > I can, until ten.",
            "288 lea: > @jon would you close?",
            "250 jon: > Will do.",
            "249 lea + 🙏",
            "35 tom: The card terminal at the bar is back.",
            "34 mira + :tada:",
        ],
    },
    Room {
        kind: pb::ChatChannelKind::Public,
        name: "Orders",
        topic: "What is on its way, and what is late",
        about: "",
        members: &["tom", "mira", "lea"],
        lines: &[
            "1300 tom: Two tables to Lisbon are packed.",
            "1290 mira: > With the café chairs?",
            "1285 tom: > Yes, eight of them.",
            "140 lea: The carrier is late again. @tom do you know more?",
            "120 tom: > They say before noon.",
            "20 lea: > It is noon.",
        ],
    },
    Room {
        kind: pb::ChatChannelKind::Private,
        name: "Invoice 2026-118",
        topic: "How do we get this one right",
        about: "Invoice 2026-118 has the wrong address",
        members: &["jon", "mira"],
        lines: &[
            "95 mira: Jonas Berg still gets invoices at the old address. @jon can you look?",
            "80 jon: The new one was saved with the delivery address only. Mended.",
            "78 mira + ❤️",
            "15 jon: The corrected invoice is in his mail.",
        ],
    },
    Room {
        kind: pb::ChatChannelKind::Direct,
        name: "",
        topic: "",
        about: "",
        members: &["mira", "tom"],
        lines: &[
            "60 tom: Do you have five minutes for the Lisbon order?",
            "55 mira: At three?",
            "54 tom + 👍",
        ],
    },
];

/// Tells of the team, once.
pub async fn tell(teller: &Teller) -> Result<(), ClientError> {
    let mut chat = teller.chat();
    let known = pb::ListChannelsRequest {
        tenant: teller.tenant.clone(),
        ..Default::default()
    };
    let known = chat.list_channels(teller.client.request(known)).await?;
    if !known.into_inner().channels.is_empty() {
        return Ok(());
    }
    for room in &ROOMS {
        let channel_id = open(teller, room).await?;
        let (mut last, mut root) = (String::new(), String::new());
        for line in room.lines {
            say(teller, &channel_id, line, &mut last, &mut root).await?;
        }
    }
    // Mira has been here; the others have something to catch up with.
    let mira = pb::ListChannelsRequest {
        tenant: teller.tenant.clone(),
        actor: user("mira"),
        joined: true,
        ..Default::default()
    };
    let mira = chat.list_channels(teller.client.request(mira)).await?;
    for channel in mira.into_inner().channels {
        let read = pb::MarkChannelReadRequest {
            tenant: teller.tenant.clone(),
            actor: user("mira"),
            channel_id: channel.id,
            sequence: channel.last_sequence - 1,
            ..Default::default()
        };
        chat.mark_channel_read(teller.client.request(read)).await?;
    }
    Ok(())
}

/// Makes a room; returns its id.
async fn open(teller: &Teller, room: &Room) -> Result<String, ClientError> {
    let mut chat = teller.chat();
    let (tenant, owner) = (teller.tenant.clone(), room.members[0]);
    let others = room.members.iter().skip(1);
    if room.kind == pb::ChatChannelKind::Direct {
        let request = pb::OpenDirectChannelRequest {
            tenant,
            actor: user(owner),
            user_ids: others.map(|&id| id.to_owned()).collect(),
            ..Default::default()
        };
        let opened = chat.open_direct_channel(teller.client.request(request));
        return Ok(opened.await?.into_inner().channel.unwrap_or_default().id);
    }
    let request = pb::CreateChannelRequest {
        tenant,
        actor: user(owner),
        kind: room.kind.into(),
        name: room.name.to_owned(),
        topic: room.topic.to_owned(),
        conversation_id: conversation(teller, room.about).await?,
        members: others
            .map(|&id| pb::NewChannelMember {
                user_id: id.to_owned(),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let made = chat.create_channel(teller.client.request(request)).await?;
    Ok(made.into_inner().channel.unwrap_or_default().id)
}

/// The id of the conversation with a subject; empty for none.
async fn conversation(teller: &Teller, subject: &str) -> Result<String, ClientError> {
    if subject.is_empty() {
        return Ok(String::new());
    }
    let request = pb::ListConversationsRequest {
        tenant: teller.tenant.clone(),
        channels: vec![pb::Channel::Email.into()],
        page_size: 500,
        ..Default::default()
    };
    let mut inbox = teller.inbox();
    let listed = inbox
        .list_conversations(teller.client.request(request))
        .await?;
    let mut all = listed.into_inner().conversations.into_iter();
    let about = all.find(|conversation| conversation.subject == subject);
    Ok(about.unwrap_or_default().id)
}

/// Says a line, or reacts with it.
async fn say(
    teller: &Teller,
    channel_id: &str,
    line: &str,
    last: &mut String,
    root: &mut String,
) -> Result<(), ClientError> {
    let mut chat = teller.chat();
    let (minutes, rest) = line.split_once(' ').unwrap_or_default();
    let ago = minutes.parse::<i64>().unwrap_or_default() * 60;
    let tenant = teller.tenant.clone();
    if let Some((who, emoji)) = rest.split_once(" + ") {
        let request = pb::AddReactionRequest {
            tenant,
            actor: user(who),
            entry_id: last.clone(),
            emoji: emoji.to_owned(),
        };
        chat.add_reaction(teller.ago(ago, request)).await?;
        return Ok(());
    }
    let (who, text) = rest.split_once(": ").unwrap_or_default();
    let (text, is_reply) = match text.strip_prefix("> ") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let named = TEAM.iter().filter(|id| text.contains(&format!("@{id}")));
    let mentions = pb::ChatMentions {
        user_ids: named.map(|&id| id.to_owned()).collect(),
        everyone: text.contains("@everyone"),
        here: false,
    };
    let request = pb::PostEntryRequest {
        tenant,
        actor: user(who),
        channel_id: channel_id.to_owned(),
        thread_root_id: if is_reply {
            root.clone()
        } else {
            String::new()
        },
        text: text.to_owned(),
        mentions: Some(mentions),
        ..Default::default()
    };
    let posted = chat.post_entry(teller.ago(ago, request)).await?;
    *last = posted.into_inner().entry.unwrap_or_default().id;
    if !is_reply {
        root.clone_from(last);
    }
    Ok(())
}
