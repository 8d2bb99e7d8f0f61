//! What streams hear of the team's chat: what the actor may see when it is sent, and nothing else.

use communication_service::pb::ephemeral::Kind;
use communication_service::pb::event::Resource;
use communication_service::pb::subscribe_request::Start;
use communication_service::pb::subscribe_response::Frame;
use communication_service::pb::{
    Actor, ChannelRole, ChatChannel, ChatChannelKind, Event, GetHeadRequest, SetTypingRequest,
    SubscribeRequest, UpdateChannelSettingsRequest,
};
use tonic::Code;

use crate::chat::{Team, incapable, member, missing, team, why};
use crate::events::{Reader, from};
use crate::harness::{Keys, Refusal, Tables, TestServer, TestTenant, decoded, eventually, user};

impl Team {
    /// A request for what somebody hears.
    fn heard_by(&self, who: Option<Actor>) -> SubscribeRequest {
        SubscribeRequest {
            actor: who,
            ..from(&self.tenant, None)
        }
    }

    async fn typing(&self, channel: &str, who: &str) -> Result<(), tonic::Status> {
        let request = SetTypingRequest {
            tenant: self.tenant.slug(),
            actor: user(who),
            channel_id: channel.to_owned(),
            ..Default::default()
        };
        let answer = self.tenant.chat.clone().set_typing(request).await;
        answer.map(drop)
    }

    async fn head(&self, server: &TestServer) -> String {
        let request = GetHeadRequest {
            tenant: self.tenant.slug(),
        };
        server
            .events()
            .get_head(request)
            .await
            .unwrap()
            .into_inner()
            .token
    }
}

/// What a stream tells, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Heard {
    /// An event, by its type and the text of its entry.
    Event(String, String),
    Gained(String),
    Lost(String),
}

fn event(kind: &str) -> Heard {
    Heard::Event(kind.to_owned(), String::new())
}

fn said(text: &str) -> Heard {
    Heard::Event("chat_entry.created".to_owned(), text.to_owned())
}

fn in_short(event: &Event) -> Heard {
    let text = match &event.resource {
        Some(Resource::ChatEntry(entry)) => entry.text.clone(),
        _ => String::new(),
    };
    Heard::Event(event.r#type.clone(), text)
}

/// Reads until an entry with a text has come; returns all that came.
async fn until(reader: &mut Reader, text: &str) -> Vec<Heard> {
    let mut heard = Vec::new();
    while !heard
        .iter()
        .any(|one| matches!(one, Heard::Event(_, it) if it == text))
    {
        match reader.frame().await {
            Frame::Batch(batch) => {
                reader.token = batch.token;
                heard.extend(decoded(&batch.events).iter().map(in_short));
            }
            Frame::AccessGained(access) => heard.push(Heard::Gained(access.channel_id)),
            Frame::AccessLost(access) => heard.push(Heard::Lost(access.channel_id)),
            Frame::Checkpoint(_) | Frame::Ephemeral(_) => {}
            other => panic!("{other:?}"),
        }
    }
    heard
}

async fn private(team: &Team) -> ChatChannel {
    let members = [("ann", ChannelRole::Member), ("bob", ChannelRole::Member)];
    team.channel(ChatChannelKind::Private, &members).await
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_hears_what_they_may_see() {
    let (server, team) = team().await;
    let public = team.channel(ChatChannelKind::Public, &[]).await;
    let private = private(&team).await;
    let mut readers = Vec::new();
    for (who, sees) in [
        (user("ann"), true),
        (user("stranger"), false),
        (None, false),
    ] {
        let reader = Reader::open(&server, team.heard_by(who)).await;
        readers.push((reader, sees));
    }
    let all = SubscribeRequest {
        unrestricted: true,
        ..team.heard_by(None)
    };
    readers.push((Reader::open(&server, all).await, true));
    team.say(&private.id, "owner", "Secret").await;
    team.say(&public.id, "owner", "Open").await;
    team.say(&private.id, "bob", "Secret, too").await;
    team.say(&public.id, "owner", "End").await;
    for (mut reader, sees) in readers {
        let heard = until(&mut reader, "End").await;
        if sees {
            assert_eq!(heard, ["Secret", "Open", "Secret, too", "End"].map(said));
        } else {
            assert_eq!(heard, ["Open", "End"].map(said));
        }
    }
    let tables = Tables::of(&team.tenant).await;
    let sql = format!("SELECT call FROM {}.audit_log", tables.schema);
    let rows = tables.admin.query(&sql, &[]).await.unwrap();
    let calls: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(calls, ["/communication.v1.EventService/Subscribe"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_the_chat_says_what_it_happened_to() {
    let (server, team) = team().await;
    let mut reader = Reader::open(&server, team.heard_by(user("ann"))).await;
    let channel = private(&team).await;
    let root = team.say(&channel.id, "bob", "Root").await;
    team.reply(&root, "ann", "Reply").await;
    team.read(&channel.id, "ann", 0, 0).await.unwrap();
    team.read(&channel.id, "bob", 0, 0).await.unwrap();
    team.delete(&root.id, "bob").await.unwrap();
    let mut events = Vec::new();
    while !events
        .iter()
        .any(|it: &Event| it.r#type == "chat_entry.deleted")
    {
        if let Frame::Batch(batch) = reader.frame().await {
            events.extend(decoded(&batch.events));
        }
    }
    let kinds: Vec<_> = events.iter().map(|it| it.r#type.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "channel_member.created",
            "channel_member.created",
            "channel_member.created",
            "channel.created",
            "chat_entry.created",
            "chat_entry.created",
            "chat_entry.updated",
            "thread_follow.updated",
            "channel_read.updated",
            "chat_entry.deleted",
        ]
    );
    for it in &events {
        let own = if it.r#type == "channel.created" {
            ""
        } else {
            channel.id.as_str()
        };
        assert_eq!(
            (it.channel_id.as_str(), it.conversation_id.as_str()),
            (own, ""),
            "{it:?}"
        );
    }
    let last = events.last().unwrap();
    assert!(last.deleted);
    let Some(Resource::ChatEntry(left)) = &last.resource else {
        panic!("{last:?}");
    };
    assert_eq!(
        (left.text.as_str(), left.version, last.sequence),
        ("", 3, 1)
    );
    let Some(Resource::ChannelMember(own)) = &events[8].resource else {
        panic!("{:?}", events[8]);
    };
    assert_eq!((own.user_id.as_str(), own.read_sequence), ("ann", 2));
    let Some(Resource::ChannelMember(other)) = &events[2].resource else {
        panic!("{:?}", events[2]);
    };
    assert_eq!((other.read_sequence, other.read_version), (0, 0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_in_hears_of_it_and_who_is_taken_out_hears_no_more() {
    let (server, team) = team().await;
    let public = team.channel(ChatChannelKind::Public, &[]).await;
    let private = private(&team).await;
    let id = &private.id;
    let before = team.head(&server).await;
    let mut reader = Reader::open(&server, team.heard_by(user("dan"))).await;
    team.say(id, "ann", "Before").await;
    let dan = || vec![member("dan", ChannelRole::Member)];
    team.add(id, user("owner"), dan()).await.unwrap();
    team.say(id, "ann", "Welcome").await;
    let heard = until(&mut reader, "Welcome").await;
    let coming = [
        Heard::Gained(id.clone()),
        event("channel_member.created"),
        said("Welcome"),
    ];
    // Access is judged when an event is sent: one from before comes if that is after it.
    let is_from_before = |it: &Heard| *it == said("Before");
    let heard: Vec<_> = heard.into_iter().filter(|it| !is_from_before(it)).collect();
    assert_eq!(heard, coming);
    team.remove(id, "owner", "dan").await.unwrap().unwrap();
    team.say(id, "ann", "Good riddance").await;
    team.say(&public.id, "owner", "End").await;
    let heard = until(&mut reader, "End").await;
    assert_eq!(heard, [Heard::Lost(id.clone()), said("End")]);
    // However long ago it happened: who comes back with a token from before hears nothing of it, but
    // that it is lost.
    let again = SubscribeRequest {
        start: Some(Start::Token(before.clone())),
        ..team.heard_by(user("dan"))
    };
    let mut reader = Reader::open(&server, again.clone()).await;
    let heard = until(&mut reader, "End").await;
    let lost = Heard::Lost(id.clone());
    assert_eq!(heard, [lost.clone(), lost, said("End")]);
    // And who is a member by then, all of it.
    team.add(id, user("owner"), dan()).await.unwrap();
    team.say(&public.id, "owner", "The very end").await;
    let heard = until(&mut reader, "The very end").await;
    assert_eq!(heard[0], Heard::Gained(id.clone()));
    let mut reader = Reader::open(&server, again).await;
    let heard = until(&mut reader, "The very end").await;
    let told = heard
        .iter()
        .filter(|it| matches!(it, Heard::Event(kind, _) if kind == "chat_entry.created"));
    let all = ["Before", "Welcome", "Good riddance", "End", "The very end"];
    assert_eq!(told.cloned().collect::<Vec<_>>(), all.map(said));
    assert!(!heard.contains(&Heard::Lost(id.clone())));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_after_a_removal_is_heard_on_no_server() {
    let (server, team) = team().await;
    let other = TestServer::start().await;
    let there = Team {
        tenant: TestTenant::new(&other, team.tenant.tenant.clone()),
    };
    let public = team.channel(ChatChannelKind::Public, &[]).await;
    let private = private(&team).await;
    let mut readers = Vec::new();
    for number in 0..8 {
        let at = if number % 2 == 0 { &server } else { &other };
        let who = format!("user-{number}");
        let new = vec![member(&who, ChannelRole::Member)];
        team.add(&private.id, user("owner"), new).await.unwrap();
        let request = team.heard_by(user(&who));
        readers.push((who, Reader::open(at, request).await));
    }
    for (number, (who, _)) in readers.iter().enumerate() {
        let here = if number % 2 == 0 { &there } else { &team };
        here.say(&private.id, "ann", &format!("Not yet {number}"))
            .await;
        // Both at once, by another server than the one that streams.
        let (removed, ()) = tokio::join!(here.remove(&private.id, "owner", who), async {
            for _ in 0..5 {
                team.say(&private.id, "bob", "Meanwhile").await;
            }
        });
        removed.unwrap().unwrap();
        here.say(&private.id, "ann", &format!("Without {number}"))
            .await;
    }
    team.say(&public.id, "owner", "End").await;
    for (number, (_, mut reader)) in readers.into_iter().enumerate() {
        let heard = until(&mut reader, "End").await;
        let lost = heard
            .iter()
            .position(|it| *it == Heard::Lost(private.id.clone()));
        let lost = lost.expect("the loss is told");
        assert_eq!(heard[lost + 1..], [said("End")]);
        assert!(!heard.contains(&said(&format!("Without {number}"))));
    }
    server.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_leave_out_what_is_elsewhere() {
    let (server, team) = team().await;
    let public = team.channel(ChatChannelKind::Public, &[]).await;
    let first = private(&team).await;
    let second = private(&team).await;
    let request = SubscribeRequest {
        channel_ids: vec![first.id.clone()],
        types: vec!["chat_entry.created".to_owned()],
        ..team.heard_by(user("ann"))
    };
    let mut reader = Reader::open(&server, request.clone()).await;
    team.say(&second.id, "bob", "Elsewhere").await;
    team.say(&public.id, "owner", "Elsewhere").await;
    team.tenant.conversation().await;
    team.read(&first.id, "ann", 0, 0).await.unwrap();
    team.say(&first.id, "bob", "Here").await;
    assert_eq!(until(&mut reader, "Here").await, [said("Here")]);
    let wrong = SubscribeRequest {
        channel_ids: vec!["no".to_owned()],
        ..request
    };
    let refused = server.events().subscribe(wrong).await.unwrap_err();
    assert!(Refusal::of(&refused).names("channel_ids[0]"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_and_settings_are_heard_by_their_user_on_all_devices() {
    let (server, team) = team().await;
    let private = private(&team).await;
    let mut first = Reader::open(&server, team.heard_by(user("ann"))).await;
    let mut second = Reader::open(&server, team.heard_by(user("ann"))).await;
    let mut bob = Reader::open(&server, team.heard_by(user("bob"))).await;
    let quiet = UpdateChannelSettingsRequest {
        tenant: team.tenant.slug(),
        actor: user("ann"),
        channel_id: private.id.clone(),
        muted: Some(true),
        ..Default::default()
    };
    let mut chat = team.tenant.chat.clone();
    chat.update_channel_settings(quiet).await.unwrap();
    let root = team.say(&private.id, "bob", "Root").await;
    team.read(&private.id, "ann", 0, 0).await.unwrap();
    team.follow(&root.id, "ann").await.unwrap();
    team.say(&private.id, "bob", "End").await;
    for reader in [&mut first, &mut second] {
        let heard = until(reader, "End").await;
        let own = [
            event("channel_settings.updated"),
            said("Root"),
            event("channel_read.updated"),
            event("thread_follow.updated"),
            said("End"),
        ];
        assert_eq!(heard, own);
    }
    assert_eq!(until(&mut bob, "End").await, ["Root", "End"].map(said));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writing_is_heard_by_who_sees_the_channel() {
    let (server, team) = team().await;
    let private = private(&team).await;
    let public = team.channel(ChatChannelKind::Public, &[]).await;
    assert_eq!(why(team.typing(&private.id, "stranger").await), missing());
    assert_eq!(why(team.typing(&public.id, "stranger").await), incapable());
    let mut ann = Reader::open(&server, team.heard_by(user("ann"))).await;
    let mut stranger = Reader::open(&server, team.heard_by(user("stranger"))).await;
    let typing = async |reader: &mut Reader| loop {
        if let Frame::Ephemeral(said) = reader.frame().await {
            let Some(Kind::Typing(typing)) = said.kind else {
                panic!("{said:?}");
            };
            return (said.actor, typing.channel_id);
        }
    };
    let by_bob = (user("bob"), private.id.clone());
    let by_owner = (user("owner"), public.id.clone());
    // A stream hears what is said once it has begun, and that is known to nobody but itself.
    eventually("the streams hear", async || {
        team.typing(&private.id, "bob").await.unwrap();
        team.typing(&public.id, "owner").await.unwrap();
        let wait = std::time::Duration::from_millis(500);
        tokio::time::timeout(wait, typing(&mut stranger)).await == Ok(by_owner.clone())
    })
    .await;
    assert_eq!(typing(&mut ann).await, by_bob);
    for _ in 0..3 {
        assert_eq!(typing(&mut ann).await.1.len(), 36);
        team.typing(&private.id, "bob").await.unwrap();
        team.typing(&public.id, "owner").await.unwrap();
        assert_eq!(typing(&mut stranger).await, by_owner);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_the_chat_is_heard_with_its_own_scope_only() {
    let keys = Keys::new();
    let server = TestServer::start_trusting(&keys).await;
    let slug = format!("t{}", uuid::Uuid::now_v7().simple());
    for (scope, code) in [
        ("events.read", Code::PermissionDenied),
        ("events.read chat.unrestricted", Code::NotFound),
    ] {
        let request = SubscribeRequest {
            tenant: slug.clone(),
            unrestricted: true,
            ..Default::default()
        };
        let mut request = tonic::Request::new(request);
        *request.metadata_mut() = keys.metadata(serde_json::json!({"scope": scope}));
        let refused = server.events().subscribe(request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{scope}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_scheduled_or_stored_is_heard_by_whose_it_is() {
    let (server, team) = team().await;
    let members = [("ann", ChannelRole::Member)];
    let public = team.channel(ChatChannelKind::Public, &members).await;
    let all = SubscribeRequest {
        unrestricted: true,
        ..team.heard_by(None)
    };
    let mut others = Vec::new();
    for request in [team.heard_by(user("owner")), team.heard_by(None), all] {
        others.push(Reader::open(&server, request).await);
    }
    let mut own = Reader::open(&server, team.heard_by(user("ann"))).await;
    let file = team.store("ann", "plan").await;
    let mut later = team.later(&public.id, "ann", "At eight");
    later.attachment_ids = vec![file.id.clone()];
    let scheduled = team.schedule(later).await.unwrap();
    let heard = own
        .until(|event| event.r#type == "scheduled_entry.created")
        .await;
    let [stored, kept] = heard.as_slice() else {
        panic!("{heard:?}")
    };
    assert_eq!(stored.r#type, "chat_attachment.created");
    assert_eq!(stored.resource_id, file.id);
    assert_eq!(kept.channel_id, public.id);
    let resource = kept.resource.clone();
    assert_eq!(resource, Some(Resource::ScheduledEntry(scheduled.clone())));

    team.bring_forward(&scheduled, "ann").await;
    team.posted(&scheduled).await;
    let kinds = |events: &[Event]| -> Vec<String> {
        let kinds = events.iter().map(|event| event.r#type.clone());
        kinds.collect()
    };
    let ended = |event: &Event| event.r#type == "scheduled_entry.deleted";
    let own_kinds = [
        "scheduled_entry.updated",
        "chat_entry.created",
        "scheduled_entry.deleted",
    ];
    assert_eq!(kinds(&own.until(ended).await), own_kinds);
    for mut other in others {
        assert_eq!(until(&mut other, "At eight").await, [said("At eight")]);
    }
    // Whoever reads it later hears that it is gone, and not of the entry that has its id.
    let late = SubscribeRequest {
        start: Some(Start::Earliest(true)),
        types: ["created", "updated", "deleted"]
            .map(|what| format!("scheduled_entry.{what}"))
            .to_vec(),
        ..team.heard_by(user("ann"))
    };
    let told = Reader::open(&server, late).await.until(ended).await;
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|event| event.resource_id == scheduled.id));
    assert!(
        told.iter()
            .all(|event| event.deleted && event.resource.is_none())
    );
    server.stop().await;
}
