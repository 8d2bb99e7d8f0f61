//! Comings and goings, and streams that hear of a channel while its members do, and no longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use communication_service::pb::event::Resource;
use communication_service::pb::subscribe_response::Frame;
use communication_service::pb::{
    ChannelRole, ChatChannelKind, ChatMentions, EditEntryRequest, SubscribeRequest,
};
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::chat::{Team, member, team};
use crate::events::{Reader, from};
use crate::harness::{TestServer, TestTenant, decoded, user};

/// How many users come and go at the same time.
const USERS: usize = 20;
/// How long a stream may take to tell of it on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn streams_hear_of_a_channel_while_its_members_do() {
    come_and_go(2).await;
}

/// What a stream has said to its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// They are in.
    Gained,
    /// They are out.
    Lost,
    /// Their name, in a public channel.
    Name,
}

/// Lets users come into a private channel and be taken out of it, so many times each, while others talk
/// there, each by another server than the one that streams to them. Returns how long their streams took
/// at most to tell them that they are out; no stream tells anything of the channel between that and
/// their coming back, whatever is said, edited, deleted and reacted to there.
pub async fn come_and_go(times: usize) -> Duration {
    let (server, team) = team().await;
    let other = TestServer::start().await;
    let there = Team {
        tenant: TestTenant::new(&other, team.tenant.tenant.clone()),
    };
    let members = [("ann", ChannelRole::Member)];
    let channel = team.channel(ChatChannelKind::Private, &members).await.id;
    let public = team.channel(ChatChannelKind::Public, &members).await.id;
    let mut running = Vec::new();
    for number in 0..USERS {
        let (at, by) = if number % 2 == 0 {
            (&server, &there)
        } else {
            (&other, &team)
        };
        let who = format!("user-{number}");
        let request = SubscribeRequest {
            actor: user(&who),
            ..from(&team.tenant, None)
        };
        let (told, said) = mpsc::unbounded_channel();
        let reader = Reader::open(at, request).await;
        let outside = Arc::new(AtomicBool::new(true));
        let listening = listen(reader, who.clone(), channel.clone(), outside.clone(), told);
        running.push((who, by, outside, said, tokio::spawn(listening)));
    }
    let going = running
        .into_iter()
        .map(async |(who, by, outside, mut said, listening)| {
            let mut slowest = Duration::ZERO;
            for time in 0..times {
                let new = vec![member(&who, ChannelRole::Member)];
                outside.store(false, Ordering::SeqCst);
                by.add(&channel, user("owner"), new).await.unwrap();
                next(&mut said, Said::Gained).await;
                let text = format!("{who}, {time}");
                let entry = by.say(&channel, "ann", &text).await;
                by.remove(&channel, "owner", &who).await.unwrap().unwrap();
                let removed = Instant::now();
                next(&mut said, Said::Lost).await;
                slowest = slowest.max(removed.elapsed());
                behind(by, &channel, &entry.id, &who).await;
                // Access is judged when an event is sent: all of this is, before they come back.
                by.say(&public, "ann", &who).await;
                next(&mut said, Said::Name).await;
            }
            listening.abort();
            assert!(listening.await.unwrap_err().is_cancelled());
            slowest
        });
    let slowest = join_all(going).await.into_iter().max();
    server.stop().await;
    other.stop().await;
    slowest.unwrap()
}

/// Waits for what a stream says next.
async fn next(said: &mut mpsc::UnboundedReceiver<Said>, expected: Said) {
    let told = tokio::time::timeout(PATIENCE, said.recv()).await;
    assert_eq!(told.expect("something is said"), Some(expected));
}

/// What is done to an entry, and about a user, behind their back.
async fn behind(team: &Team, channel: &str, entry: &str, who: &str) {
    let named = || {
        Some(ChatMentions {
            user_ids: vec![who.to_owned()],
            everyone: true,
            here: false,
        })
    };
    let edit = EditEntryRequest {
        actor: user("ann"),
        entry_id: entry.to_owned(),
        text: Some("Between us".to_owned()),
        mentions: named(),
        ..Default::default()
    };
    team.edit(edit).await.unwrap();
    let mut loud = team.new_entry(channel, "ann", "Without them");
    loud.thread_root_id = entry.to_owned();
    loud.mentions = named();
    team.try_post(loud).await.unwrap();
    team.react(entry, user("owner"), "👀").await.unwrap();
    team.delete(entry, "ann").await.unwrap();
}

/// Listens for a user who is outside at first, and passes on what is said to them. They hear nothing of
/// a channel from when they are told that they are out to when somebody lets them in again.
async fn listen(
    mut reader: Reader,
    who: String,
    channel: String,
    outside: Arc<AtomicBool>,
    told: mpsc::UnboundedSender<Said>,
) {
    loop {
        match reader.frame().await {
            Frame::Batch(batch) => {
                for event in decoded(&batch.events) {
                    let is_within = event.channel_id == channel;
                    let is_outside = outside.load(Ordering::SeqCst);
                    assert!(!(is_within && is_outside), "{who} hears {event:?}");
                    if let Some(Resource::ChatEntry(entry)) = event.resource
                        && entry.text == who
                    {
                        told.send(Said::Name).unwrap();
                    }
                }
            }
            Frame::AccessGained(access) => {
                assert_eq!(access.channel_id, channel);
                told.send(Said::Gained).unwrap();
            }
            Frame::AccessLost(access) => {
                assert_eq!(access.channel_id, channel);
                outside.store(true, Ordering::SeqCst);
                told.send(Said::Lost).unwrap();
            }
            Frame::Checkpoint(_) | Frame::Ephemeral(_) => {}
            other => panic!("{other:?}"),
        }
    }
}
