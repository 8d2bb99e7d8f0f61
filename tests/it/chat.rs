//! The team's channels: who sees them, who may do what in them, and who is in them.

use communication_service::pb::{
    Actor, AddChannelMembersRequest, ArchiveChannelRequest, ChannelCapability, ChannelMember,
    ChannelRole, ChatChannel, ChatChannelKind, ChatChannelPolicy, CreateChannelRequest,
    GetChannelRequest, JoinChannelRequest, LeaveChannelRequest, ListChannelMembersRequest,
    ListChannelsRequest, NewChannelMember, NotificationLevel, OpenDirectChannelRequest,
    OpenDirectChannelResponse, RemoveChannelMemberRequest, UnarchiveChannelRequest,
    UpdateChannelMemberRequest, UpdateChannelRequest, UpdateChannelSettingsRequest, actor,
};
use futures_util::future::join_all;
use tonic::{Code, Status};

use crate::harness::{Refusal, Tables, TestTenant, tenant, user};

/// What the calls of a test have in common.
#[derive(Clone)]
pub struct Team {
    pub tenant: TestTenant,
}

/// A service that acts for nobody.
fn nobody() -> Option<Actor> {
    None
}

fn bot(id: &str) -> Option<Actor> {
    let kind = Some(actor::Kind::BotId(id.to_owned()));
    Some(Actor { kind })
}

impl Team {
    pub fn new_channel(&self, owner: &str, kind: ChatChannelKind) -> CreateChannelRequest {
        CreateChannelRequest {
            tenant: self.tenant.slug(),
            actor: user(owner),
            kind: kind.into(),
            name: format!("{} of {owner}", uuid::Uuid::now_v7().simple()),
            ..Default::default()
        }
    }

    pub async fn try_create(&self, request: CreateChannelRequest) -> Result<ChatChannel, Status> {
        let answer = self.tenant.chat.clone().create_channel(request).await;
        answer.map(|answer| answer.into_inner().channel.unwrap())
    }

    /// A channel with an owner, and members of some roles who are called after them.
    pub async fn channel(
        &self,
        kind: ChatChannelKind,
        members: &[(&str, ChannelRole)],
    ) -> ChatChannel {
        let mut new = self.new_channel("owner", kind);
        new.members = members.iter().map(|(id, role)| member(id, *role)).collect();
        self.try_create(new).await.unwrap()
    }

    pub async fn get(&self, channel: &str, who: Option<Actor>) -> Result<ChatChannel, Status> {
        let request = GetChannelRequest {
            tenant: self.tenant.slug(),
            actor: who,
            channel_id: channel.to_owned(),
            ..Default::default()
        };
        let answer = self.tenant.chat.clone().get_channel(request).await;
        answer.map(|answer| answer.into_inner().channel.unwrap())
    }

    pub async fn join(&self, channel: &str, who: &str) -> Result<ChatChannel, Status> {
        let request = JoinChannelRequest {
            tenant: self.tenant.slug(),
            actor: user(who),
            channel_id: channel.to_owned(),
        };
        let answer = self.tenant.chat.clone().join_channel(request).await;
        answer.map(|answer| answer.into_inner().channel.unwrap())
    }

    pub async fn leave(&self, channel: &str, who: &str) -> Result<Option<ChannelMember>, Status> {
        let request = LeaveChannelRequest {
            tenant: self.tenant.slug(),
            actor: user(who),
            channel_id: channel.to_owned(),
        };
        let answer = self.tenant.chat.clone().leave_channel(request).await;
        answer.map(|answer| answer.into_inner().member)
    }

    pub async fn add(
        &self,
        channel: &str,
        who: Option<Actor>,
        members: Vec<NewChannelMember>,
    ) -> Result<Vec<ChannelMember>, Status> {
        let request = AddChannelMembersRequest {
            tenant: self.tenant.slug(),
            actor: who,
            channel_id: channel.to_owned(),
            members,
            ..Default::default()
        };
        let answer = self.tenant.chat.clone().add_channel_members(request).await;
        answer.map(|answer| answer.into_inner().members)
    }

    pub async fn remove(
        &self,
        channel: &str,
        who: &str,
        removed: &str,
    ) -> Result<Option<ChannelMember>, Status> {
        let request = RemoveChannelMemberRequest {
            tenant: self.tenant.slug(),
            actor: user(who),
            channel_id: channel.to_owned(),
            user_id: removed.to_owned(),
            ..Default::default()
        };
        let mut chat = self.tenant.chat.clone();
        let answer = chat.remove_channel_member(request).await;
        answer.map(|answer| answer.into_inner().member)
    }

    async fn promote(
        &self,
        channel: &str,
        who: &str,
        whom: &str,
        role: ChannelRole,
    ) -> Result<ChannelMember, Status> {
        let request = UpdateChannelMemberRequest {
            tenant: self.tenant.slug(),
            actor: user(who),
            channel_id: channel.to_owned(),
            user_id: whom.to_owned(),
            role: role.into(),
            ..Default::default()
        };
        let mut chat = self.tenant.chat.clone();
        let answer = chat.update_channel_member(request).await;
        answer.map(|answer| answer.into_inner().member.unwrap())
    }

    async fn update(&self, request: UpdateChannelRequest) -> Result<ChatChannel, Status> {
        let answer = self.tenant.chat.clone().update_channel(request).await;
        answer.map(|answer| answer.into_inner().channel.unwrap())
    }

    pub async fn archive(&self, channel: &str, who: Option<Actor>) -> Result<ChatChannel, Status> {
        let request = ArchiveChannelRequest {
            tenant: self.tenant.slug(),
            actor: who,
            channel_id: channel.to_owned(),
            ..Default::default()
        };
        let answer = self.tenant.chat.clone().archive_channel(request).await;
        answer.map(|answer| answer.into_inner().channel.unwrap())
    }

    async fn unarchive(&self, channel: &str, who: Option<Actor>) -> Result<ChatChannel, Status> {
        let request = UnarchiveChannelRequest {
            tenant: self.tenant.slug(),
            actor: who,
            channel_id: channel.to_owned(),
            ..Default::default()
        };
        let answer = self.tenant.chat.clone().unarchive_channel(request).await;
        answer.map(|answer| answer.into_inner().channel.unwrap())
    }

    pub async fn direct(
        &self,
        who: Option<Actor>,
        users: &[&str],
    ) -> Result<OpenDirectChannelResponse, Status> {
        let request = OpenDirectChannelRequest {
            tenant: self.tenant.slug(),
            actor: who,
            user_ids: users.iter().map(|&id| id.to_owned()).collect(),
            ..Default::default()
        };
        let answer = self.tenant.chat.clone().open_direct_channel(request).await;
        answer.map(tonic::Response::into_inner)
    }

    async fn list(&self, request: ListChannelsRequest) -> Vec<ChatChannel> {
        let mut all = Vec::new();
        let mut request = ListChannelsRequest {
            tenant: self.tenant.slug(),
            ..request
        };
        loop {
            let mut chat = self.tenant.chat.clone();
            let page = chat.list_channels(request.clone()).await.unwrap();
            let page = page.into_inner();
            all.extend(page.channels);
            if page.next_page_token.is_empty() {
                return all;
            }
            request.page_token = page.next_page_token;
        }
    }

    async fn members(&self, channel: &str, page_size: i32) -> Vec<ChannelMember> {
        let mut all = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListChannelMembersRequest {
                tenant: self.tenant.slug(),
                actor: user("owner"),
                channel_id: channel.to_owned(),
                page_size,
                page_token,
                ..Default::default()
            };
            let mut chat = self.tenant.chat.clone();
            let page = chat.list_channel_members(request).await.unwrap();
            let page = page.into_inner();
            all.extend(page.members);
            if page.next_page_token.is_empty() {
                return all;
            }
            page_token = page.next_page_token;
        }
    }
}

pub fn member(id: &str, role: ChannelRole) -> NewChannelMember {
    NewChannelMember {
        user_id: id.to_owned(),
        role: role.into(),
    }
}

pub async fn team() -> (crate::harness::TestServer, Team) {
    let (server, tenant) = tenant().await;
    (server, Team { tenant })
}

/// What a call was refused with.
pub fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> Refusal {
    Refusal::of(&answer.unwrap_err())
}

/// Why a call was refused.
pub fn why<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let refusal = refused(answer);
    (refusal.code, refusal.reason)
}

pub fn missing() -> (Code, String) {
    (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned())
}

pub fn incapable() -> (Code, String) {
    let reason = "CHANNEL_CAPABILITY_MISSING".to_owned();
    (Code::PermissionDenied, reason)
}

fn names(channels: &[ChatChannel]) -> Vec<&str> {
    channels
        .iter()
        .map(|channel| channel.name.as_str())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_actor_may_not_see_does_not_exist() {
    let (server, team) = team().await;
    let others = [
        ("member", ChannelRole::Member),
        ("guest", ChannelRole::Guest),
    ];
    let public = team.channel(ChatChannelKind::Public, &others).await;
    let private = team.channel(ChatChannelKind::Private, &others).await;
    let direct = team.direct(user("owner"), &["member"]).await.unwrap();
    let direct = direct.channel.unwrap();
    for (who, sees) in [
        (user("owner"), [true, true, true]),
        (user("member"), [true, true, true]),
        (user("guest"), [true, true, false]),
        (user("stranger"), [true, false, false]),
        (bot("bot"), [true, false, false]),
        (nobody(), [true, false, false]),
    ] {
        for (channel, sees) in [&public, &private, &direct].into_iter().zip(sees) {
            let found = team.get(&channel.id, who.clone()).await;
            if sees {
                let found = found.unwrap();
                assert_eq!((&found.id, &found.name), (&channel.id, &channel.name));
            } else {
                assert_eq!(why(found), missing(), "{who:?} {:?}", channel.kind);
            }
        }
        let request = ListChannelsRequest {
            actor: who.clone(),
            page_size: 1,
            ..Default::default()
        };
        let listed = team.list(request).await;
        let mut seen: Vec<_> = listed.iter().map(|channel| &channel.id).collect();
        seen.sort();
        let mut all: Vec<_> = [&public, &private, &direct]
            .into_iter()
            .zip(sees)
            .filter(|(_, sees)| *sees)
            .map(|(channel, _)| &channel.id)
            .collect();
        all.sort();
        assert_eq!(seen, all, "{who:?}");
    }
    // Nor can anything be done with it.
    for channel in [&private, &direct] {
        assert_eq!(why(team.join(&channel.id, "stranger").await), missing());
        assert_eq!(why(team.leave(&channel.id, "stranger").await), missing());
        let added = team
            .add(
                &channel.id,
                user("stranger"),
                vec![member("x", ChannelRole::Member)],
            )
            .await;
        assert_eq!(why(added), missing());
        assert_eq!(
            why(team.archive(&channel.id, user("stranger")).await),
            missing()
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capabilities_say_what_the_calls_allow() {
    let (server, team) = team().await;
    let roles = [
        ("moderator", ChannelRole::Moderator),
        ("member", ChannelRole::Member),
        ("guest", ChannelRole::Guest),
        ("victim", ChannelRole::Member),
    ];
    for kind in [ChatChannelKind::Public, ChatChannelKind::Private] {
        for policy in [ChatChannelPolicy::Members, ChatChannelPolicy::Moderators] {
            for who in ["owner", "moderator", "member", "guest", "stranger"] {
                if kind == ChatChannelKind::Private && who == "stranger" {
                    continue;
                }
                let mut new = team.new_channel("owner", kind);
                new.invite_policy = policy.into();
                new.members = roles.iter().map(|(id, role)| member(id, *role)).collect();
                let channel = team.try_create(new).await.unwrap();
                let id = &channel.id;
                let seen = team.get(id, user(who)).await.unwrap();
                let may = |capability: ChannelCapability| {
                    seen.capabilities.contains(&i32::from(capability))
                };
                let case = format!("{who} in {kind:?} with {policy:?}");
                let added = team
                    .add(id, user(who), vec![member("new", ChannelRole::Guest)])
                    .await;
                let governed = team
                    .add(id, user(who), vec![member("newer", ChannelRole::Moderator)])
                    .await;
                let removed = team.remove(id, who, "victim").await;
                let topic = UpdateChannelRequest {
                    tenant: team.tenant.slug(),
                    actor: user(who),
                    channel_id: id.clone(),
                    topic: Some("Another".to_owned()),
                    ..Default::default()
                };
                let updated = team.update(topic.clone()).await;
                let days = UpdateChannelRequest {
                    topic: None,
                    retention_days: Some(7),
                    ..topic
                };
                let kept = team.update(days).await;
                let promoted = team.promote(id, who, "guest", ChannelRole::Member).await;
                let archived = team.archive(id, user(who)).await;
                let back = team.unarchive(id, user(who)).await;
                for (capability, refused) in [
                    (ChannelCapability::AddMembers, added.err()),
                    (ChannelCapability::Govern, governed.err()),
                    (ChannelCapability::RemoveMembers, removed.err()),
                    (ChannelCapability::Update, updated.err()),
                    (ChannelCapability::Govern, kept.err()),
                    (ChannelCapability::Govern, promoted.err()),
                    (ChannelCapability::Archive, archived.err()),
                    (ChannelCapability::Archive, back.err()),
                ] {
                    assert_eq!(refused.is_none(), may(capability), "{case}: {capability:?}");
                    if let Some(refused) = refused {
                        assert_eq!(why(Err::<(), _>(refused)), incapable(), "{case}");
                    }
                }
                let is_stranger = who == "stranger";
                assert_eq!(may(ChannelCapability::Join), is_stranger, "{case}");
                assert_eq!(may(ChannelCapability::Leave), !is_stranger, "{case}");
            }
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_channel_is_there_to_be_read() {
    let (server, team) = team().await;
    let others = [("member", ChannelRole::Member)];
    let channel = team.channel(ChatChannelKind::Public, &others).await;
    let id = &channel.id;
    let archived = team.archive(id, user("owner")).await.unwrap();
    assert!(archived.archive_time.is_some());
    assert_eq!(archived.version, channel.version + 1);
    // Once more changes nothing.
    assert_eq!(team.archive(id, user("owner")).await.unwrap(), archived);
    let closed = (Code::FailedPrecondition, "CHANNEL_ARCHIVED".to_owned());
    assert_eq!(why(team.join(id, "stranger").await), closed);
    let added = team
        .add(id, user("owner"), vec![member("x", ChannelRole::Member)])
        .await;
    assert_eq!(why(added), closed);
    let seen = team.get(id, user("owner")).await.unwrap();
    let left = [ChannelCapability::Leave, ChannelCapability::Archive];
    assert_eq!(seen.capabilities, left.map(i32::from));
    let list = |show_archived| {
        team.list(ListChannelsRequest {
            actor: user("owner"),
            show_archived,
            ..Default::default()
        })
    };
    assert!(list(false).await.is_empty());
    assert_eq!(names(&list(true).await), [channel.name.as_str()]);
    // Its name is free, and may be taken when it is to come back.
    let mut taker = team.new_channel("other", ChatChannelKind::Public);
    taker.name = channel.name.to_uppercase();
    let taker = team.try_create(taker).await.unwrap();
    let taken = (Code::AlreadyExists, "CHANNEL_NAME_TAKEN".to_owned());
    assert_eq!(why(team.unarchive(id, user("owner")).await), taken);
    team.archive(&taker.id, user("other")).await.unwrap();
    let back = team.unarchive(id, user("owner")).await.unwrap();
    assert_eq!(back.archive_time, None);
    team.join(id, "stranger").await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_who_open_the_same_direct_channel_at_once_get_one() {
    let (server, team) = team().await;
    let opened = join_all((0..50).map(|number| {
        let team = team.clone();
        async move {
            let (from, to) = if number % 2 == 0 {
                ("ann", "bob")
            } else {
                ("bob", "ann")
            };
            loop {
                let answer = team.direct(user(from), &[to]).await;
                // As every caller does, on a busy machine.
                if matches!(&answer, Err(status) if status.code() == Code::ResourceExhausted) {
                    continue;
                }
                return answer.unwrap();
            }
        }
    }))
    .await;
    let first = opened[0].channel.as_ref().unwrap();
    assert_eq!(first.kind(), ChatChannelKind::Direct);
    assert_eq!(first.user_ids, ["ann", "bob"]);
    assert_eq!((first.member_count, first.name.as_str()), (2, ""));
    for answer in &opened {
        assert_eq!(answer.channel.as_ref().unwrap().id, first.id);
    }
    assert_eq!(opened.iter().filter(|answer| answer.created).count(), 1);
    // Of others there are others: with oneself, of three, in whatever order.
    let own = team.direct(user("ann"), &[]).await.unwrap();
    assert_eq!(own.channel.unwrap().user_ids, ["ann"]);
    let three = team.direct(user("ann"), &["bob", "cas"]).await.unwrap();
    let three = three.channel.unwrap();
    assert_eq!(three.kind(), ChatChannelKind::Group);
    let again = team
        .direct(user("cas"), &["ann", "bob", "ann"])
        .await
        .unwrap();
    assert_eq!(
        (again.channel.unwrap().id, again.created),
        (three.id.clone(), false)
    );
    // They stay the same.
    assert_eq!(why(team.leave(&three.id, "ann").await), incapable());
    let added = team
        .add(
            &three.id,
            user("ann"),
            vec![member("dan", ChannelRole::Member)],
        )
        .await;
    assert_eq!(why(added), incapable());
    let refusal = refused(team.direct(nobody(), &["ann", "bob"]).await);
    assert!(refusal.names("actor"));
    let seventeen: Vec<_> = (0..16).map(|number| format!("user-{number}")).collect();
    let seventeen: Vec<_> = seventeen.iter().map(String::as_str).collect();
    let refusal = refused(team.direct(user("ann"), &seventeen).await);
    assert!(refusal.names("user_ids"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_and_go_and_come_back() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Public, &[]).await;
    let id = &channel.id;
    let own = channel.membership.unwrap();
    assert_eq!(
        (own.user_id.as_str(), own.role()),
        ("owner", ChannelRole::Owner)
    );
    let joined = team.join(id, "ann").await.unwrap();
    assert_eq!(joined.member_count, 2);
    let ann = joined.membership.unwrap();
    assert_eq!(team.join(id, "ann").await.unwrap().membership.unwrap(), ann);
    let left = team.leave(id, "ann").await.unwrap().unwrap();
    assert!(left.leave_time.is_some());
    assert_eq!(left.id, ann.id);
    assert_eq!(team.leave(id, "ann").await.unwrap(), None);
    let back = team.join(id, "ann").await.unwrap();
    assert_eq!(back.member_count, 2);
    let back = back.membership.unwrap();
    assert_eq!((&back.id, back.version), (&ann.id, ann.version + 2));
    // The only owner does not leave the others alone.
    let needed = (Code::FailedPrecondition, "CHANNEL_OWNER_NEEDED".to_owned());
    assert_eq!(why(team.leave(id, "owner").await), needed);
    let demoted = team
        .promote(id, "owner", "owner", ChannelRole::Member)
        .await;
    assert_eq!(why(demoted), needed);
    team.promote(id, "owner", "ann", ChannelRole::Owner)
        .await
        .unwrap();
    team.leave(id, "owner").await.unwrap().unwrap();
    team.leave(id, "ann").await.unwrap().unwrap();
    assert_eq!(team.get(id, user("ann")).await.unwrap().member_count, 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_added_is_listed_once_with_the_role_that_they_have() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Private, &[]).await;
    let id = &channel.id;
    let many: Vec<_> = (0..100)
        .map(|number| member(&format!("user-{number:03}"), ChannelRole::Member))
        .collect();
    let added = team.add(id, user("owner"), many.clone()).await.unwrap();
    assert_eq!(added.len(), 100);
    let again = vec![
        member("user-007", ChannelRole::Guest),
        member("new", ChannelRole::Guest),
    ];
    let again = team.add(id, user("owner"), again).await.unwrap();
    let roles: Vec<_> = again.iter().map(ChannelMember::role).collect();
    assert_eq!(roles, [ChannelRole::Member, ChannelRole::Guest]);
    let listed = team.members(id, 7).await;
    let ids: Vec<_> = listed
        .iter()
        .map(|member| member.user_id.as_str())
        .collect();
    let mut expected: Vec<_> = many.iter().map(|member| member.user_id.as_str()).collect();
    expected.extend(["new", "owner"]);
    expected.sort_unstable();
    assert_eq!(ids, expected);
    assert_eq!(team.get(id, user("owner")).await.unwrap().member_count, 102);
    let twice = vec![
        member("x", ChannelRole::Member),
        member("x", ChannelRole::Member),
    ];
    let refusal = refused(team.add(id, user("owner"), twice).await);
    assert!(refusal.names("members[1].user_id"), "{refusal:?}");
    let mut too_many = many;
    too_many.push(member("more", ChannelRole::Member));
    assert!(refused(team.add(id, user("owner"), too_many).await).names("members"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_name_is_taken_once_at_the_same_time() {
    let (server, team) = team().await;
    let made = join_all((0..8).map(|number| {
        let mut new = team.new_channel(&format!("user-{number}"), ChatChannelKind::Public);
        new.name = if number % 2 == 0 {
            "Kitchen"
        } else {
            "KITCHEN"
        }
        .to_owned();
        let team = team.clone();
        async move { team.try_create(new).await }
    }))
    .await;
    let taken = (Code::AlreadyExists, "CHANNEL_NAME_TAKEN".to_owned());
    let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1);
    for refused in refused {
        assert_eq!(why(refused), taken);
    }
    // Whether a private one has it, nobody is told.
    let mut private = team.new_channel("ann", ChatChannelKind::Private);
    private.name = "Kitchen".to_owned();
    team.try_create(private).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_made_once_for_a_request_id() {
    let (server, team) = team().await;
    let mut new = team.new_channel("owner", ChatChannelKind::Public);
    new.request_id = "once".to_owned();
    let made = team.try_create(new.clone()).await.unwrap();
    assert_eq!(team.try_create(new.clone()).await.unwrap(), made);
    new.topic = "Another".to_owned();
    let reused = (Code::AlreadyExists, "REQUEST_ID_REUSED".to_owned());
    assert_eq!(why(team.try_create(new).await), reused);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_changes_under_its_etag_only() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Public, &[]).await;
    let rename = UpdateChannelRequest {
        tenant: team.tenant.slug(),
        actor: user("owner"),
        channel_id: channel.id.clone(),
        name: Some("Bar".to_owned()),
        etag: channel.etag.clone(),
        ..Default::default()
    };
    let renamed = team.update(rename.clone()).await.unwrap();
    assert_eq!((renamed.name.as_str(), renamed.version), ("Bar", 2));
    let stale = (Code::Aborted, "ETAG_MISMATCH".to_owned());
    assert_eq!(why(team.update(rename.clone()).await), stale);
    // Nobody's joining or posting is an edit.
    team.join(&channel.id, "ann").await.unwrap();
    let again = UpdateChannelRequest {
        etag: renamed.etag.clone(),
        ..rename.clone()
    };
    assert_eq!(team.update(again).await.unwrap().version, 2);
    for (field, request) in [
        (
            "name",
            UpdateChannelRequest {
                name: Some(" ".to_owned()),
                ..rename.clone()
            },
        ),
        (
            "name",
            UpdateChannelRequest {
                name: Some("a\u{7}b".to_owned()),
                ..rename.clone()
            },
        ),
        (
            "topic",
            UpdateChannelRequest {
                topic: Some("x".repeat(1025)),
                ..rename.clone()
            },
        ),
        (
            "retention_days",
            UpdateChannelRequest {
                retention_days: Some(-1),
                ..rename.clone()
            },
        ),
    ] {
        assert!(refused(team.update(request).await).names(field), "{field}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_shown_to_their_user_alone() {
    let (server, team) = team().await;
    let others = [("member", ChannelRole::Member)];
    let channel = team.channel(ChatChannelKind::Private, &others).await;
    let quiet = UpdateChannelSettingsRequest {
        tenant: team.tenant.slug(),
        actor: user("member"),
        channel_id: channel.id.clone(),
        notification_level: NotificationLevel::None.into(),
        muted: Some(true),
        ..Default::default()
    };
    let mut chat = team.tenant.chat.clone();
    let set = chat.update_channel_settings(quiet.clone()).await.unwrap();
    let set = set.into_inner().member.unwrap();
    assert_eq!(
        (set.notification_level(), set.muted),
        (NotificationLevel::None, true)
    );
    let own = team.get(&channel.id, user("member")).await.unwrap();
    assert_eq!(own.membership.unwrap(), set);
    let listed = team.members(&channel.id, 50).await;
    let seen = listed
        .iter()
        .find(|other| other.user_id == "member")
        .unwrap();
    assert_eq!(
        (seen.notification_level(), seen.muted),
        (NotificationLevel::Unspecified, false)
    );
    let refused = chat
        .update_channel_settings(UpdateChannelSettingsRequest {
            actor: user("stranger"),
            ..quiet.clone()
        })
        .await;
    assert_eq!(why(refused), missing());
    let public = team.channel(ChatChannelKind::Public, &[]).await;
    let refused = chat
        .update_channel_settings(UpdateChannelSettingsRequest {
            actor: user("stranger"),
            channel_id: public.id,
            ..quiet
        })
        .await;
    let needed = "CHANNEL_MEMBERSHIP_NEEDED".to_owned();
    assert_eq!(why(refused), (Code::FailedPrecondition, needed));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_past_the_rules_is_on_record() {
    let (server, team) = team().await;
    let private = team.channel(ChatChannelKind::Private, &[]).await;
    let request = GetChannelRequest {
        tenant: team.tenant.slug(),
        unrestricted: true,
        channel_id: private.id.clone(),
        ..Default::default()
    };
    let mut chat = team.tenant.chat.clone();
    let seen = chat.get_channel(request).await.unwrap().into_inner();
    let seen = seen.channel.unwrap();
    let govern = i32::from(ChannelCapability::Govern);
    assert!(seen.capabilities.contains(&govern));
    let add = AddChannelMembersRequest {
        tenant: team.tenant.slug(),
        unrestricted: true,
        channel_id: private.id.clone(),
        members: vec![member("auditor", ChannelRole::Owner)],
        ..Default::default()
    };
    chat.add_channel_members(add).await.unwrap();
    // What is refused leaves nothing.
    let answer = chat
        .add_channel_members(AddChannelMembersRequest {
            tenant: team.tenant.slug(),
            unrestricted: true,
            channel_id: private.id.clone(),
            members: Vec::new(),
            ..Default::default()
        })
        .await;
    assert!(refused(answer).names("members"));
    let tables = Tables::of(&team.tenant).await;
    let sql = format!(
        "SELECT call, resource_id::text, actor_kind, caller FROM {}.audit_log ORDER BY id",
        tables.schema
    );
    let rows = tables.admin.query(&sql, &[]).await.unwrap();
    let calls: Vec<(String, String, String, String)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect();
    let entry = |call: &str| {
        let call = format!("/communication.v1.ChatService/{call}");
        let (kind, caller) = ("service".to_owned(), "local".to_owned());
        (call, private.id.clone(), kind, caller)
    };
    assert_eq!(calls, [entry("GetChannel"), entry("AddChannelMembers")]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_about_a_customer_goes_with_them() {
    let (server, team) = team().await;
    let conversation = team.tenant.conversation().await;
    let mut new = team.new_channel("owner", ChatChannelKind::Public);
    new.conversation_id = conversation.id.clone();
    new.topic = "The difficult Mr Canary".to_owned();
    new.request_id = "canary".to_owned();
    let channel = team.try_create(new.clone()).await.unwrap();
    let about = ListChannelsRequest {
        conversation_id: conversation.id.clone(),
        ..Default::default()
    };
    assert_eq!(team.list(about.clone()).await.len(), 1);
    crate::contacts::erase(&team.tenant, &conversation.contact_id).await;
    assert_eq!(why(team.get(&channel.id, user("owner")).await), missing());
    assert!(team.list(about).await.is_empty());
    let gone = (Code::FailedPrecondition, "ANSWER_ERASED".to_owned());
    assert_eq!(why(team.try_create(new.clone()).await), gone);
    new.request_id = String::new();
    assert_eq!(why(team.try_create(new).await), missing());
    let tables = Tables::of(&team.tenant).await;
    let sql = format!(
        "SELECT count(*) FROM {}.channels WHERE topic LIKE '%Canary%'",
        tables.schema
    );
    let left: i64 = tables.admin.query_one(&sql, &[]).await.unwrap().get(0);
    assert_eq!(left, 0);
    server.stop().await;
}
