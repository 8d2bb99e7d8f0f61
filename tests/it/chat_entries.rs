//! What the team says: in order, once, to whom it may be said, and counted as it was read.

use std::collections::BTreeMap;

use communication_service::pb::{
    Actor, ChannelCapability, ChannelMember, ChannelRole, ChatChannelKind, ChatChannelPolicy,
    ChatEntry, ChatEntryRevision, ChatEntryType, ChatMentions, ChatThreadFollow,
    DeleteEntryRequest, EditEntryRequest, FollowThreadRequest, FollowedThread, GetEntryRequest,
    GetUnreadCountsRequest, ListEntriesRequest, ListEntryRevisionsRequest, ListThreadsRequest,
    MarkChannelReadRequest, MarkChannelUnreadRequest, MarkThreadReadRequest,
    MarkThreadUnreadRequest, PostEntryRequest, UnfollowThreadRequest, UnreadCount, actor,
};
use futures_util::future::join_all;
use tonic::{Code, Status};

use crate::chat::{Team, incapable, member, missing, refused, team, why};
use crate::harness::{Tables, user};

/// Some mentions of users.
pub fn mentioning(users: &[&str]) -> Option<ChatMentions> {
    Some(ChatMentions {
        user_ids: users.iter().map(|&id| id.to_owned()).collect(),
        ..Default::default()
    })
}

fn everyone() -> Option<ChatMentions> {
    Some(ChatMentions {
        everyone: true,
        ..Default::default()
    })
}

impl Team {
    pub fn new_entry(&self, channel: &str, author: &str, text: &str) -> PostEntryRequest {
        PostEntryRequest {
            tenant: self.tenant.slug(),
            actor: user(author),
            channel_id: channel.to_owned(),
            text: text.to_owned(),
            ..Default::default()
        }
    }

    pub async fn try_post(&self, request: PostEntryRequest) -> Result<ChatEntry, Status> {
        loop {
            let mut chat = self.tenant.chat.clone();
            let answer = chat.post_entry(request.clone()).await;
            // As every caller does, on a busy machine.
            if matches!(&answer, Err(status) if status.code() == Code::ResourceExhausted) {
                continue;
            }
            return answer.map(|answer| answer.into_inner().entry.unwrap());
        }
    }

    pub async fn say(&self, channel: &str, author: &str, text: &str) -> ChatEntry {
        let request = self.new_entry(channel, author, text);
        self.try_post(request).await.unwrap()
    }

    pub async fn reply(&self, root: &ChatEntry, author: &str, text: &str) -> ChatEntry {
        let request = PostEntryRequest {
            thread_root_id: root.id.clone(),
            ..self.new_entry(&root.channel_id, author, text)
        };
        self.try_post(request).await.unwrap()
    }

    pub async fn entry(&self, id: &str, who: Option<Actor>) -> Result<ChatEntry, Status> {
        let request = GetEntryRequest {
            tenant: self.tenant.slug(),
            actor: who,
            entry_id: id.to_owned(),
            ..Default::default()
        };
        let answer = self.tenant.chat.clone().get_entry(request).await;
        answer.map(|answer| answer.into_inner().entry.unwrap())
    }

    pub async fn entries(&self, request: ListEntriesRequest) -> Vec<ChatEntry> {
        let mut all = Vec::new();
        let mut request = ListEntriesRequest {
            tenant: self.tenant.slug(),
            ..request
        };
        loop {
            let mut chat = self.tenant.chat.clone();
            let page = chat.list_entries(request.clone()).await.unwrap();
            let page = page.into_inner();
            all.extend(page.entries);
            if page.next_page_token.is_empty() {
                return all;
            }
            request.page_token = page.next_page_token;
        }
    }

    pub async fn edit(&self, request: EditEntryRequest) -> Result<ChatEntry, Status> {
        let request = EditEntryRequest {
            tenant: self.tenant.slug(),
            ..request
        };
        let answer = self.tenant.chat.clone().edit_entry(request).await;
        answer.map(|answer| answer.into_inner().entry.unwrap())
    }

    pub async fn delete(&self, id: &str, who: &str) -> Result<ChatEntry, Status> {
        let request = DeleteEntryRequest {
            tenant: self.tenant.slug(),
            actor: user(who),
            entry_id: id.to_owned(),
            ..Default::default()
        };
        let answer = self.tenant.chat.clone().delete_entry(request).await;
        answer.map(|answer| answer.into_inner().entry.unwrap())
    }

    async fn revisions(&self, id: &str) -> Vec<ChatEntryRevision> {
        let request = ListEntryRevisionsRequest {
            tenant: self.tenant.slug(),
            actor: user("owner"),
            entry_id: id.to_owned(),
            ..Default::default()
        };
        let answer = self.tenant.chat.clone().list_entry_revisions(request).await;
        answer.unwrap().into_inner().revisions
    }

    pub async fn read(
        &self,
        channel: &str,
        who: &str,
        sequence: i64,
        read_version: i64,
    ) -> Result<ChannelMember, Status> {
        let request = MarkChannelReadRequest {
            tenant: self.tenant.slug(),
            actor: user(who),
            channel_id: channel.to_owned(),
            sequence,
            read_version,
        };
        let answer = self.tenant.chat.clone().mark_channel_read(request).await;
        answer.map(|answer| answer.into_inner().member.unwrap())
    }

    pub async fn unread(
        &self,
        channel: &str,
        who: &str,
        sequence: i64,
    ) -> Result<ChannelMember, Status> {
        let request = MarkChannelUnreadRequest {
            tenant: self.tenant.slug(),
            actor: user(who),
            channel_id: channel.to_owned(),
            sequence,
        };
        let answer = self.tenant.chat.clone().mark_channel_unread(request).await;
        answer.map(|answer| answer.into_inner().member.unwrap())
    }

    pub async fn counts(&self, who: &str) -> BTreeMap<String, UnreadCount> {
        let request = GetUnreadCountsRequest {
            tenant: self.tenant.slug(),
            actor: user(who),
            ..Default::default()
        };
        let answer = self.tenant.chat.clone().get_unread_counts(request).await;
        let counts = answer.unwrap().into_inner().channels.into_iter();
        counts
            .map(|count| (count.channel_id.clone(), count))
            .collect()
    }

    /// How many entries, mentions and threads are unread in a channel.
    async fn count(&self, channel: &str, who: &str) -> (i32, i32, i32) {
        let counts = self.counts(who).await;
        let count = &counts[channel];
        (
            count.unread_count,
            count.mention_count,
            count.unread_thread_count,
        )
    }

    pub async fn follow(&self, root: &str, who: &str) -> Result<ChatThreadFollow, Status> {
        let request = FollowThreadRequest {
            tenant: self.tenant.slug(),
            actor: user(who),
            entry_id: root.to_owned(),
        };
        let answer = self.tenant.chat.clone().follow_thread(request).await;
        answer.map(|answer| answer.into_inner().follow.unwrap())
    }

    pub async fn unfollow(
        &self,
        root: &str,
        who: &str,
    ) -> Result<Option<ChatThreadFollow>, Status> {
        let request = UnfollowThreadRequest {
            tenant: self.tenant.slug(),
            actor: user(who),
            entry_id: root.to_owned(),
        };
        let answer = self.tenant.chat.clone().unfollow_thread(request).await;
        answer.map(|answer| answer.into_inner().follow)
    }

    pub async fn read_thread(
        &self,
        root: &str,
        who: &str,
        sequence: i64,
        read_version: i64,
    ) -> Result<ChatThreadFollow, Status> {
        let request = MarkThreadReadRequest {
            tenant: self.tenant.slug(),
            actor: user(who),
            entry_id: root.to_owned(),
            sequence,
            read_version,
        };
        let answer = self.tenant.chat.clone().mark_thread_read(request).await;
        answer.map(|answer| answer.into_inner().follow.unwrap())
    }

    pub async fn unread_thread(
        &self,
        root: &str,
        who: &str,
        sequence: i64,
    ) -> Result<ChatThreadFollow, Status> {
        let request = MarkThreadUnreadRequest {
            tenant: self.tenant.slug(),
            actor: user(who),
            entry_id: root.to_owned(),
            sequence,
        };
        let answer = self.tenant.chat.clone().mark_thread_unread(request).await;
        answer.map(|answer| answer.into_inner().follow.unwrap())
    }

    pub async fn threads(&self, who: &str, unread: bool) -> Vec<FollowedThread> {
        let mut all = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListThreadsRequest {
                tenant: self.tenant.slug(),
                actor: user(who),
                unread,
                page_size: 20,
                page_token,
                ..Default::default()
            };
            let mut chat = self.tenant.chat.clone();
            let page = chat.list_threads(request).await.unwrap().into_inner();
            all.extend(page.threads);
            if page.next_page_token.is_empty() {
                return all;
            }
            page_token = page.next_page_token;
        }
    }
}

fn texts(entries: &[ChatEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.text.as_str()).collect()
}

const MEMBERS: [(&str, ChannelRole); 3] = [
    ("ann", ChannelRole::Member),
    ("bob", ChannelRole::Member),
    ("cas", ChannelRole::Member),
];

#[tokio::test(flavor = "multi_thread")]
async fn who_posts_at_once_gets_sequences_without_gap_in_the_order_of_the_log() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let posted = join_all((0..16).map(|writer| {
        let (team, id) = (team.clone(), channel.id.clone());
        async move {
            let author = ["owner", "ann", "bob", "cas"][writer % 4];
            let mut posted = Vec::new();
            for number in 0..20 {
                posted.push(team.say(&id, author, &format!("{writer} {number}")).await);
            }
            posted
        }
    }))
    .await;
    for own in &posted {
        assert!(own.is_sorted_by_key(|entry| entry.sequence));
    }
    let mut all: Vec<_> = posted.into_iter().flatten().collect();
    all.sort_by_key(|entry| entry.sequence);
    let sequences: Vec<_> = all.iter().map(|entry| entry.sequence).collect();
    assert_eq!(sequences, (1..=320).collect::<Vec<_>>());
    let listed = team
        .entries(ListEntriesRequest {
            actor: user("ann"),
            channel_id: channel.id.clone(),
            page_size: 33,
            ..Default::default()
        })
        .await;
    assert_eq!(listed, all);
    let tables = Tables::of(&team.tenant).await;
    let sql = format!(
        "SELECT sequence FROM {}.events WHERE kind = 'chat_entry.created' ORDER BY id",
        tables.schema
    );
    let rows = tables.admin.query(&sql, &[]).await.unwrap();
    let logged: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(logged, sequences);
    let seen = team.get(&channel.id, user("ann")).await.unwrap();
    assert_eq!((seen.last_sequence, seen.version), (320, 1));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_is_posted_once_for_a_request_id() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let mut new = team.new_entry(&channel.id, "ann", "Once");
    new.request_id = "once".to_owned();
    let posted = join_all((0..20).map(|_| team.try_post(new.clone()))).await;
    let first = posted[0].as_ref().unwrap();
    for other in &posted {
        assert_eq!(other.as_ref().unwrap(), first);
    }
    let seen = team.get(&channel.id, user("ann")).await.unwrap();
    assert_eq!(seen.last_sequence, 1);
    // The first answer is given whatever has become of the channel since.
    team.archive(&channel.id, user("owner")).await.unwrap();
    assert_eq!(team.try_post(new.clone()).await.unwrap(), *first);
    let closed = (Code::FailedPrecondition, "CHANNEL_ARCHIVED".to_owned());
    let late = team.new_entry(&channel.id, "ann", "Late");
    assert_eq!(why(team.try_post(late).await), closed);
    new.text = "Twice".to_owned();
    let reused = (Code::AlreadyExists, "REQUEST_ID_REUSED".to_owned());
    assert_eq!(why(team.try_post(new).await), reused);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_post_and_mention_everyone_is_what_the_capabilities_say() {
    let (server, team) = team().await;
    let others = [
        ("moderator", ChannelRole::Moderator),
        ("member", ChannelRole::Member),
        ("guest", ChannelRole::Guest),
    ];
    let bot = || {
        let kind = Some(actor::Kind::BotId("bot".to_owned()));
        Some(Actor { kind })
    };
    let policies = [ChatChannelPolicy::Members, ChatChannelPolicy::Moderators];
    for kind in [ChatChannelKind::Public, ChatChannelKind::Private] {
        for (posting, broadcast) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let mut new = team.new_channel("owner", kind);
            new.posting_policy = policies[posting].into();
            new.broadcast_policy = policies[broadcast].into();
            new.members = others.iter().map(|(id, role)| member(id, *role)).collect();
            let channel = team.try_create(new).await.unwrap();
            for who in [
                user("owner"),
                user("moderator"),
                user("member"),
                user("guest"),
                user("stranger"),
                bot(),
                None,
            ] {
                let seen = team.get(&channel.id, who.clone()).await;
                let case = format!("{who:?} in {kind:?} {posting} {broadcast}");
                let mut entry = team.new_entry(&channel.id, "", "Hello");
                entry.actor = who;
                let mut loud = entry.clone();
                loud.mentions = everyone();
                let mut here = entry.clone();
                here.mentions = Some(ChatMentions {
                    here: true,
                    ..Default::default()
                });
                let posted = team.try_post(entry).await;
                let loud = team.try_post(loud).await;
                let here = team.try_post(here).await;
                let Ok(seen) = seen else {
                    for answer in [posted, loud, here] {
                        assert_eq!(why(answer), missing(), "{case}");
                    }
                    continue;
                };
                let may = |capability: ChannelCapability| {
                    seen.capabilities.contains(&i32::from(capability))
                };
                let may_post = may(ChannelCapability::Post);
                let may_broadcast = may(ChannelCapability::Broadcast);
                for (answer, may) in [
                    (posted, may_post),
                    (loud, may_broadcast),
                    (here, may_broadcast),
                ] {
                    assert_eq!(answer.is_ok(), may, "{case}: {answer:?}");
                    if let Err(refused) = answer {
                        assert_eq!(why(Err::<(), _>(refused)), incapable(), "{case}");
                    }
                }
            }
        }
    }
    // Past the rules, and on record.
    let private = team.channel(ChatChannelKind::Private, &[]).await;
    let mut entry = team.new_entry(&private.id, "", "From above");
    (entry.actor, entry.unrestricted) = (None, true);
    team.try_post(entry).await.unwrap();
    let tables = Tables::of(&team.tenant).await;
    let sql = format!("SELECT call FROM {}.audit_log", tables.schema);
    let rows = tables.admin.query(&sql, &[]).await.unwrap();
    let calls: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(calls, ["/communication.v1.ChatService/PostEntry"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_taken_out_has_the_last_word_before_that() {
    let (server, team) = team().await;
    for round in 0..10 {
        let channel = team.channel(ChatChannelKind::Private, &MEMBERS).await;
        let posting = join_all((0..8).map(|number| {
            let (team, id) = (team.clone(), channel.id.clone());
            async move {
                let mut posted = 0;
                loop {
                    let entry = team.new_entry(&id, "ann", &format!("{number}"));
                    match team.try_post(entry).await {
                        Ok(_) => posted += 1,
                        Err(refused) => {
                            assert_eq!(why(Err::<(), _>(refused)), missing());
                            return posted;
                        }
                    }
                }
            }
        }));
        let removing = async {
            tokio::time::sleep(std::time::Duration::from_millis(5 + round)).await;
            team.remove(&channel.id, "owner", "ann").await.unwrap()
        };
        let (posted, removed) = tokio::join!(posting, removing);
        assert!(removed.is_some());
        let tables = Tables::of(&team.tenant).await;
        let sql = format!(
            "SELECT kind FROM {}.events WHERE parent_id = '{}' AND actor_id IN ('ann', 'owner')
                AND kind <> 'channel_member.created' ORDER BY id DESC",
            tables.schema, channel.id
        );
        let rows = tables.admin.query(&sql, &[]).await.unwrap();
        let kinds: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(kinds[0], "channel_member.deleted");
        assert_eq!(kinds.len() - 1, posted.iter().sum::<usize>());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_are_of_one_thread_of_their_own_channel() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let other = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let root = team.say(&channel.id, "ann", "Root").await;
    let elsewhere = team.say(&other.id, "ann", "Elsewhere").await;
    let reply = team.reply(&root, "bob", "Reply").await;
    assert_eq!((&reply.thread_root_id, reply.sequence), (&root.id, 2));
    for wrong in [&elsewhere.id, &reply.id, &uuid::Uuid::now_v7().to_string()] {
        let mut new = team.new_entry(&channel.id, "bob", "Wrong");
        new.thread_root_id = wrong.clone();
        assert_eq!(why(team.try_post(new).await), missing());
    }
    let second = team.reply(&root, "cas", "Second").await;
    let thread = team
        .entry(&root.id, user("ann"))
        .await
        .unwrap()
        .thread
        .unwrap();
    assert_eq!(
        (thread.reply_count, thread.last_reply_sequence),
        (2, second.sequence)
    );
    assert_eq!(thread.last_reply_time, second.create_time);
    team.delete(&reply.id, "bob").await.unwrap();
    let now = team.entry(&root.id, user("ann")).await.unwrap();
    assert_eq!(now.thread.as_ref().unwrap().reply_count, 1);
    assert_eq!(now.version, root.version + 3);
    let list = |request: ListEntriesRequest| {
        team.entries(ListEntriesRequest {
            actor: user("cas"),
            channel_id: channel.id.clone(),
            ..request
        })
    };
    let of_thread = ListEntriesRequest {
        thread_root_id: root.id.clone(),
        ..Default::default()
    };
    assert_eq!(texts(&list(of_thread.clone()).await), ["Second"]);
    let with_deleted = ListEntriesRequest {
        show_deleted: true,
        order_by: "sequence desc".to_owned(),
        page_size: 1,
        ..of_thread
    };
    assert_eq!(texts(&list(with_deleted).await), ["Second", ""]);
    let roots = ListEntriesRequest {
        roots_only: true,
        ..Default::default()
    };
    assert_eq!(texts(&list(roots).await), ["Root"]);
    // A deleted root keeps its replies, and gets no more.
    team.delete(&root.id, "ann").await.unwrap();
    let mut new = team.new_entry(&channel.id, "bob", "Too late");
    new.thread_root_id = root.id.clone();
    assert_eq!(why(team.try_post(new).await), missing());
    assert_eq!(
        texts(&list(ListEntriesRequest::default()).await),
        ["Second"]
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_begins_around_an_entry_and_goes_both_ways() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let mut said = Vec::new();
    for number in 1..=20 {
        said.push(team.say(&channel.id, "ann", &number.to_string()).await);
    }
    let mut chat = team.tenant.chat.clone();
    let around = ListEntriesRequest {
        tenant: team.tenant.slug(),
        actor: user("bob"),
        channel_id: channel.id.clone(),
        around_entry_id: said[9].id.clone(),
        page_size: 4,
        ..Default::default()
    };
    let page = chat
        .list_entries(around.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(texts(&page.entries), ["8", "9", "10", "11"]);
    let back = ListEntriesRequest {
        around_entry_id: String::new(),
        order_by: "sequence desc".to_owned(),
        ..around.clone()
    };
    let all = team.entries(back).await;
    assert_eq!(all.len(), 20);
    assert!(all.is_sorted_by_key(|entry| -entry.sequence));
    let unknown = ListEntriesRequest {
        around_entry_id: uuid::Uuid::now_v7().to_string(),
        ..around
    };
    assert_eq!(why(chat.list_entries(unknown).await), missing());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_the_authors_and_keeps_what_was_said() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let entry = team.say(&channel.id, "ann", "First").await;
    let edit = |who: &str, text: &str| EditEntryRequest {
        actor: user(who),
        entry_id: entry.id.clone(),
        text: Some(text.to_owned()),
        ..Default::default()
    };
    let other = (Code::FailedPrecondition, "CHAT_ENTRY_NOT_OWN".to_owned());
    assert_eq!(why(team.edit(edit("owner", "Mine")).await), other);
    assert_eq!(why(team.edit(edit("stranger", "Mine")).await), missing());
    let second = team
        .edit(EditEntryRequest {
            etag: entry.etag.clone(),
            mentions: mentioning(&["bob", "bob"]),
            ..edit("ann", "Second")
        })
        .await
        .unwrap();
    assert_eq!(
        (second.text.as_str(), second.edit_count, second.version),
        ("Second", 1, 2)
    );
    assert_eq!(second.mentions.as_ref().unwrap().user_ids, ["bob"]);
    assert!(second.edit_time.is_some() && second.sequence == entry.sequence);
    let stale = (Code::Aborted, "ETAG_MISMATCH".to_owned());
    let again = EditEntryRequest {
        etag: entry.etag.clone(),
        ..edit("ann", "Third")
    };
    assert_eq!(why(team.edit(again).await), stale);
    team.edit(edit("ann", "Third")).await.unwrap();
    // What changes nothing is no edit.
    assert_eq!(team.edit(edit("ann", "Third")).await.unwrap().version, 3);
    let revisions = team.revisions(&entry.id).await;
    let said: Vec<_> = revisions
        .iter()
        .map(|it| (it.number, it.text.as_str()))
        .collect();
    assert_eq!(said, [(2, "Second"), (1, "First")]);
    assert!(refused(team.edit(edit("ann", "")).await).names("text"));
    // A mention by edit is counted, once, and no more when it is taken back.
    assert_eq!(team.count(&channel.id, "bob").await, (1, 1, 0));
    let unmentioned = EditEntryRequest {
        text: None,
        mentions: Some(ChatMentions::default()),
        ..edit("ann", "")
    };
    team.edit(unmentioned).await.unwrap();
    assert_eq!(team.count(&channel.id, "bob").await, (1, 0, 0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_entry_leaves_its_place_and_nothing_of_what_it_said() {
    let (server, team) = team().await;
    let others = [
        ("moderator", ChannelRole::Moderator),
        ("ann", ChannelRole::Member),
    ];
    let channel = team.channel(ChatChannelKind::Private, &others).await;
    let mut new = team.new_entry(&channel.id, "ann", "The canary sings");
    new.request_id = "canary".to_owned();
    new.mentions = mentioning(&["owner"]);
    let entry = team.try_post(new.clone()).await.unwrap();
    let edit = EditEntryRequest {
        actor: user("ann"),
        entry_id: entry.id.clone(),
        text: Some("The canary sang".to_owned()),
        ..Default::default()
    };
    team.edit(edit.clone()).await.unwrap();
    let own = team.say(&channel.id, "owner", "Mine").await;
    assert_eq!(why(team.delete(&own.id, "ann").await), incapable());
    assert_eq!(why(team.delete(&own.id, "stranger").await), missing());
    let left = team.delete(&entry.id, "moderator").await.unwrap();
    assert!(left.delete_time.is_some());
    assert_eq!(
        (left.text.as_str(), left.sequence, &left.mentions),
        ("", 1, &None)
    );
    assert_eq!(team.delete(&entry.id, "moderator").await.unwrap(), left);
    assert_eq!(team.entry(&entry.id, user("ann")).await.unwrap(), left);
    assert_eq!(why(team.edit(edit).await), missing());
    assert!(team.revisions(&entry.id).await.is_empty());
    assert_eq!(team.count(&channel.id, "owner").await, (0, 0, 0));
    let gone = (Code::FailedPrecondition, "ANSWER_ERASED".to_owned());
    assert_eq!(why(team.try_post(new).await), gone);
    let tables = Tables::of(&team.tenant).await;
    for table in ["chat_entries", "chat_entry_revisions", "requests", "events"] {
        let sql = format!(
            "SELECT count(*) FROM {}.{table} t WHERE t::text ILIKE '%canary s%'",
            tables.schema
        );
        let found: i64 = tables.admin.query_one(&sql, &[]).await.unwrap().get(0);
        assert_eq!(found, 0, "{table}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_is_what_others_said_since_one_came_and_behind_the_mark() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Public, &MEMBERS).await;
    let id = &channel.id;
    let mut said = Vec::new();
    for number in 1..=5 {
        said.push(team.say(id, "ann", &number.to_string()).await);
    }
    let mut system = team.new_entry(id, "", "A build failed");
    (system.actor, system.r#type) = (None, ChatEntryType::System.into());
    team.try_post(system).await.unwrap();
    team.reply(&said[0], "ann", "In a thread").await;
    assert_eq!(team.count(id, "bob").await, (5, 0, 0));
    assert_eq!(team.count(id, "ann").await, (0, 0, 0));
    // Who comes later has nothing to catch up with, whatever they mark.
    team.join(id, "dan").await.unwrap();
    assert_eq!(team.count(id, "dan").await, (0, 0, 0));
    team.unread(id, "dan", 1).await.unwrap();
    assert_eq!(team.count(id, "dan").await, (0, 0, 0));
    // The mark goes up, not down, and not past the end.
    let marked = team.read(id, "bob", 3, 0).await.unwrap();
    assert_eq!((marked.read_sequence, marked.read_version), (3, 1));
    assert_eq!(team.count(id, "bob").await, (2, 0, 0));
    assert_eq!(team.read(id, "bob", 2, 0).await.unwrap(), marked);
    let end = team.read(id, "bob", 1000, 1).await.unwrap();
    assert_eq!(end.read_sequence, 7);
    team.delete(&said[3].id, "ann").await.unwrap();
    // Back from the second on: what was on its way from before is no news.
    let back = team.unread(id, "bob", 2).await.unwrap();
    assert_eq!((back.read_sequence, back.read_version), (1, 2));
    assert_eq!(team.count(id, "bob").await, (3, 0, 0));
    assert_eq!(team.read(id, "bob", 0, 1).await.unwrap(), back);
    assert_eq!(team.count(id, "bob").await, (3, 0, 0));
    assert_eq!(team.read(id, "bob", 0, 2).await.unwrap().read_sequence, 7);
    assert_eq!(team.count(id, "bob").await, (0, 0, 0));
    // Mentions: of oneself by name or with everyone, once for each entry, and not by oneself.
    let mut both = team.new_entry(id, "ann", "All, and Bob");
    both.mentions = Some(ChatMentions {
        user_ids: vec!["bob".to_owned(), "ann".to_owned()],
        everyone: true,
        here: true,
    });
    team.try_post(both).await.unwrap();
    let mut here = team.new_entry(id, "ann", "Who is here");
    here.mentions = Some(ChatMentions {
        here: true,
        ..Default::default()
    });
    team.try_post(here).await.unwrap();
    assert_eq!(team.count(id, "bob").await, (2, 1, 0));
    assert_eq!(team.count(id, "ann").await, (0, 0, 0));
    // Who leaves has no counts, and comes back to none.
    team.leave(id, "bob").await.unwrap();
    assert!(!team.counts("bob").await.contains_key(id));
    team.join(id, "bob").await.unwrap();
    assert_eq!(team.count(id, "bob").await, (0, 0, 0));
    assert_eq!(why(team.read(id, "stranger", 0, 0).await), {
        let needed = "CHANNEL_MEMBERSHIP_NEEDED".to_owned();
        (Code::FailedPrecondition, needed)
    });
    assert!(refused(team.unread(id, "bob", 0).await).names("sequence"));
    assert!(refused(team.read(id, "bob", -1, 0).await).names("sequence"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_exact_to_999_and_capped_beyond() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let tables = Tables::of(&team.tenant).await;
    let fill = |from: i32, to: i32| {
        format!(
            "INSERT INTO {0}.chat_entries (id, channel_id, sequence, type, text, metadata,
                mentioned_user_ids, mentions_everyone, mentions_here, author_kind, author_id, caller,
                correlation_id, created_at, updated_at)
            SELECT gen_random_uuid(), '{1}', n, 'message', 'x', '{{}}', '{{}}', true, false, 'user',
                'ann', 'test', 'test', now(), now() FROM generate_series({from}, {to}) n;
            INSERT INTO {0}.mentions (chat_entry_id, user_id, channel_id, sequence)
            SELECT id, '', channel_id, sequence FROM {0}.chat_entries WHERE sequence >= {from};
            UPDATE {0}.channels SET last_sequence = {to};",
            tables.schema, channel.id
        )
    };
    tables.admin.batch_execute(&fill(1, 999)).await.unwrap();
    let exact = team.counts("bob").await.remove(&channel.id).unwrap();
    assert_eq!((exact.unread_count, exact.unread_capped), (999, false));
    assert_eq!((exact.mention_count, exact.mention_capped), (999, false));
    tables.admin.batch_execute(&fill(1000, 1000)).await.unwrap();
    let over = team.counts("bob").await.remove(&channel.id).unwrap();
    assert_eq!((over.unread_count, over.unread_capped), (999, true));
    assert_eq!((over.mention_count, over.mention_capped), (999, true));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_count_for_who_follows_them() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let id = &channel.id;
    let root = team.say(id, "ann", "Who comes?").await;
    assert!(team.threads("ann", false).await.is_empty());
    let mut loud = team.new_entry(id, "bob", "Me, and all of you");
    loud.thread_root_id = root.id.clone();
    loud.mentions = everyone();
    let first = team.try_post(loud).await.unwrap();
    // Who asked follows, and who posts; not everyone.
    assert_eq!(team.count(id, "ann").await, (0, 0, 1));
    assert_eq!(team.count(id, "bob").await, (1, 0, 0));
    assert_eq!(team.count(id, "cas").await, (1, 0, 0));
    assert!(team.threads("cas", false).await.is_empty());
    let of_ann = team.threads("ann", true).await;
    assert_eq!((of_ann[0].unread_count, of_ann[0].mention_count), (1, 1));
    assert_eq!(of_ann[0].root.as_ref().unwrap().id, root.id);
    assert!(team.threads("bob", true).await.is_empty());
    let of_bob = team.threads("bob", false).await;
    let follow = of_bob[0].follow.as_ref().unwrap();
    assert_eq!(
        (follow.read_sequence, follow.following),
        (first.sequence, true)
    );
    // So does who is mentioned by name, from that on.
    let mut named = team.new_entry(id, "ann", "And Cas?");
    named.thread_root_id = root.id.clone();
    named.mentions = mentioning(&["cas"]);
    let named = team.try_post(named).await.unwrap();
    assert_eq!(team.count(id, "cas").await, (1, 0, 1));
    let of_cas = team.threads("cas", true).await;
    assert_eq!((of_cas[0].unread_count, of_cas[0].mention_count), (1, 1));
    // Read, unread, and an old version of the mark.
    let read = team.read_thread(&root.id, "cas", 0, 0).await.unwrap();
    assert_eq!(read.read_sequence, named.sequence);
    assert_eq!(team.count(id, "cas").await, (1, 0, 0));
    let back = team
        .unread_thread(&root.id, "cas", first.sequence)
        .await
        .unwrap();
    assert_eq!(
        (back.read_sequence, back.read_version),
        (first.sequence - 1, 2)
    );
    assert_eq!(team.threads("cas", true).await[0].unread_count, 2);
    assert_eq!(team.read_thread(&root.id, "cas", 0, 1).await.unwrap(), back);
    // Who stops hears no more, unless they post or are named.
    team.unfollow(&root.id, "ann").await.unwrap().unwrap();
    assert_eq!(team.count(id, "ann").await, (0, 0, 0));
    team.reply(&root, "bob", "Nobody?").await;
    assert_eq!(team.count(id, "ann").await, (0, 0, 0));
    let mut named = team.new_entry(id, "bob", "Ann?");
    named.thread_root_id = root.id.clone();
    named.mentions = mentioning(&["ann"]);
    team.try_post(named).await.unwrap();
    assert_eq!(team.count(id, "ann").await, (0, 0, 1));
    assert_eq!(team.threads("ann", true).await[0].unread_count, 1);
    let unfollowed = team.unfollow(&root.id, "owner").await.unwrap();
    assert_eq!(unfollowed, None);
    let not = (
        Code::FailedPrecondition,
        "CHAT_THREAD_NOT_FOLLOWED".to_owned(),
    );
    assert_eq!(why(team.read_thread(&root.id, "owner", 0, 0).await), not);
    let followed = team.follow(&root.id, "owner").await.unwrap();
    assert!(followed.following);
    assert_eq!(team.count(id, "owner").await, (1, 0, 0));
    assert_eq!(team.follow(&root.id, "owner").await.unwrap(), followed);
    assert!(refused(team.follow(&first.id, "owner").await).names("entry_id"));
    assert_eq!(why(team.follow(&root.id, "stranger").await), missing());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mention_of_everyone_is_one_row_however_many_they_are() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Public, &MEMBERS).await;
    let tables = Tables::of(&team.tenant).await;
    let schema = &tables.schema;
    let fill = format!(
        "INSERT INTO {schema}.channel_members (id, channel_id, user_id, role, joined_sequence,
            read_sequence, joined_at, updated_at)
        SELECT gen_random_uuid(), '{}', 'user-' || n, 'member', 0, 0, now(), now()
        FROM generate_series(1, 5000) n;
        UPDATE {schema}.channels SET member_count = member_count + 5000;",
        channel.id
    );
    tables.admin.batch_execute(&fill).await.unwrap();
    let written = async || {
        let sql = format!(
            "SELECT (SELECT count(*) FROM {schema}.mentions) + (SELECT count(*) FROM {schema}.events)
                + (SELECT sum(version) FROM {schema}.channel_members)::bigint
                + (SELECT count(*) FROM {schema}.thread_follows)"
        );
        let row = tables.admin.query_one(&sql, &[]).await.unwrap();
        row.get::<_, i64>(0)
    };
    let before = written().await;
    let mut loud = team.new_entry(&channel.id, "ann", "All hands");
    loud.mentions = everyone();
    team.try_post(loud).await.unwrap();
    // The mention, and the event.
    assert_eq!(written().await - before, 2);
    assert_eq!(team.count(&channel.id, "user-4711").await, (1, 1, 0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_cannot_be_is_refused_by_the_field() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let good = team.new_entry(&channel.id, "ann", "Good");
    let many: Vec<_> = (0..51).map(|number| format!("user-{number}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    for (field, request) in [
        (
            "text",
            PostEntryRequest {
                text: String::new(),
                ..good.clone()
            },
        ),
        (
            "text",
            PostEntryRequest {
                text: "x".repeat(64 * 1024 + 1),
                ..good.clone()
            },
        ),
        (
            "text",
            PostEntryRequest {
                text: "a\0b".to_owned(),
                ..good.clone()
            },
        ),
        (
            "channel_id",
            PostEntryRequest {
                channel_id: "no".to_owned(),
                ..good.clone()
            },
        ),
        (
            "thread_root_id",
            PostEntryRequest {
                thread_root_id: "no".to_owned(),
                ..good.clone()
            },
        ),
        (
            "mentions.user_ids",
            PostEntryRequest {
                mentions: mentioning(&many),
                ..good.clone()
            },
        ),
        (
            "mentions.user_ids[0]",
            PostEntryRequest {
                mentions: mentioning(&[""]),
                ..good.clone()
            },
        ),
        (
            "type",
            PostEntryRequest {
                r#type: ChatEntryType::System.into(),
                ..good.clone()
            },
        ),
        (
            "type",
            PostEntryRequest {
                r#type: 77,
                ..good.clone()
            },
        ),
    ] {
        assert!(
            refused(team.try_post(request).await).names(field),
            "{field}"
        );
    }
    assert_eq!(
        team.get(&channel.id, user("ann"))
            .await
            .unwrap()
            .last_sequence,
        0
    );
    server.stop().await;
}
