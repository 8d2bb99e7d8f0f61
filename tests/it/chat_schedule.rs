//! Entries of the team's chat that are to be posted at a time.

use communication_service::pb::{
    ChannelRole, ChatChannelKind, ChatEntry, ChatMentions, DeleteScheduledEntryRequest,
    GetScheduledEntryRequest, ListScheduledEntriesRequest, PostEntryRequest, ScheduledEntry,
    UpdateScheduledEntryRequest,
};
use prost_types::Timestamp;
use tonic::{Code, Status};

use crate::chat::{Team, incapable, member, missing, refused, team, why};
use crate::chat_entries::mentioning;
use crate::harness::{Tables, TestServer, eventually, now, user};

const MEMBERS: [(&str, ChannelRole); 2] =
    [("ann", ChannelRole::Member), ("bob", ChannelRole::Guest)];

/// So many seconds from now.
fn in_seconds(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp {
        seconds: i64::try_from(now()).unwrap() + seconds,
        nanos: 0,
    })
}

impl Team {
    pub fn later(&self, channel: &str, author: &str, text: &str) -> PostEntryRequest {
        PostEntryRequest {
            send_time: in_seconds(3600),
            ..self.new_entry(channel, author, text)
        }
    }

    pub async fn schedule(&self, request: PostEntryRequest) -> Result<ScheduledEntry, Status> {
        let answer = self.tenant.chat.clone().post_entry(request).await?;
        let answer = answer.into_inner();
        assert_eq!(answer.entry, None);
        Ok(answer.scheduled_entry.unwrap())
    }

    async fn scheduled(&self, id: &str, who: &str) -> Result<ScheduledEntry, Status> {
        let request = GetScheduledEntryRequest {
            tenant: self.tenant.slug(),
            actor: user(who),
            scheduled_entry_id: id.to_owned(),
        };
        let answer = self.tenant.chat.clone().get_scheduled_entry(request).await;
        answer.map(|answer| answer.into_inner().scheduled_entry.unwrap())
    }

    fn change(&self, scheduled: &ScheduledEntry, who: &str) -> UpdateScheduledEntryRequest {
        UpdateScheduledEntryRequest {
            tenant: self.tenant.slug(),
            actor: user(who),
            scheduled_entry_id: scheduled.id.clone(),
            ..Default::default()
        }
    }

    async fn reschedule(
        &self,
        request: UpdateScheduledEntryRequest,
    ) -> Result<ScheduledEntry, Status> {
        let mut chat = self.tenant.chat.clone();
        let answer = chat.update_scheduled_entry(request).await;
        answer.map(|answer| answer.into_inner().scheduled_entry.unwrap())
    }

    /// Makes the time of an entry be over.
    pub async fn bring_forward(&self, scheduled: &ScheduledEntry, who: &str) {
        let mut due = self.change(scheduled, who);
        due.send_time = in_seconds(-1);
        self.reschedule(due).await.unwrap();
    }

    async fn give_up(
        &self,
        scheduled: &ScheduledEntry,
        who: &str,
        allow_missing: bool,
    ) -> Result<(), Status> {
        let request = DeleteScheduledEntryRequest {
            tenant: self.tenant.slug(),
            actor: user(who),
            scheduled_entry_id: scheduled.id.clone(),
            allow_missing,
            ..Default::default()
        };
        let mut chat = self.tenant.chat.clone();
        chat.delete_scheduled_entry(request).await.map(drop)
    }

    async fn all_scheduled(&self, who: &str, channel: &str) -> Vec<ScheduledEntry> {
        let mut all = Vec::new();
        let mut request = ListScheduledEntriesRequest {
            tenant: self.tenant.slug(),
            actor: user(who),
            channel_id: channel.to_owned(),
            page_size: 1,
            ..Default::default()
        };
        loop {
            let mut chat = self.tenant.chat.clone();
            let page = chat.list_scheduled_entries(request.clone()).await;
            let page = page.unwrap().into_inner();
            all.extend(page.scheduled_entries);
            if page.next_page_token.is_empty() {
                return all;
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Waits until an entry is posted.
    pub async fn posted(&self, scheduled: &ScheduledEntry) -> ChatEntry {
        let tables = Tables::of(&self.tenant).await;
        eventually("it is posted", async || {
            tables.hear().await;
            self.entry(&scheduled.id, user("owner")).await.is_ok()
        })
        .await;
        self.entry(&scheduled.id, user("owner")).await.unwrap()
    }

    /// Waits until an entry could not be posted.
    async fn failed(&self, scheduled: &ScheduledEntry, who: &str) -> ScheduledEntry {
        let tables = Tables::of(&self.tenant).await;
        eventually("it has failed", async || {
            tables.hear().await;
            let scheduled = self.scheduled(&scheduled.id, who).await.unwrap();
            !scheduled.failure_reason.is_empty()
        })
        .await;
        self.scheduled(&scheduled.id, who).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_entry_is_posted_at_its_time_by_who_wrote_it() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let root = team.say(&channel.id, "owner", "Where?").await;
    let file = team.store("ann", "map").await;
    let mut request = team.later(&channel.id, "ann", "Here");
    request.send_time = in_seconds(2);
    request.request_id = "once".to_owned();
    request.thread_root_id.clone_from(&root.id);
    request.mentions = mentioning(&["owner"]);
    request.attachment_ids = vec![file.id.clone()];
    let scheduled = team.schedule(request.clone()).await.unwrap();
    assert_eq!(scheduled.text, "Here");
    assert_eq!(scheduled.send_time, request.send_time);
    assert_eq!(scheduled.mentions, request.mentions);
    assert_eq!(scheduled.attachment_ids, request.attachment_ids);
    assert_eq!(scheduled.author, user("ann"));
    assert_eq!(team.schedule(request.clone()).await.unwrap(), scheduled);
    let found = team.scheduled(&scheduled.id, "ann").await.unwrap();
    assert_eq!(found, scheduled);
    // Until then it has no effect.
    let seen = team.get(&channel.id, user("ann")).await.unwrap();
    assert_eq!(seen.last_sequence, 1);

    let entry = team.posted(&scheduled).await;
    assert_eq!((entry.text.as_str(), entry.sequence), ("Here", 2));
    assert_eq!(
        (&entry.author, &entry.caller),
        (&scheduled.author, &scheduled.caller)
    );
    assert_eq!(entry.thread_root_id, root.id);
    assert_eq!(entry.mentions, scheduled.mentions);
    assert_eq!(entry.attachments[0].id, file.id);
    assert!(entry.create_time.unwrap().seconds >= scheduled.send_time.unwrap().seconds);
    assert_eq!(why(team.scheduled(&scheduled.id, "ann").await), missing());
    let tables = Tables::of(&team.tenant).await;
    let kinds = "SELECT count(*) FROM {schema}.events WHERE kind LIKE 'scheduled_entry.%'";
    assert_eq!(tables.count(kinds).await, 2);
    // What the request answered goes with the entry.
    team.delete(&entry.id, "ann").await.unwrap();
    let erased = (Code::FailedPrecondition, "ANSWER_ERASED".to_owned());
    assert_eq!(why(team.schedule(request).await), erased);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_entry_is_its_authors_to_see_to_change_and_to_give_up() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Public, &MEMBERS).await;
    let request = team.later(&channel.id, "ann", "At eight");
    let scheduled = team.schedule(request).await.unwrap();
    let mut change = team.change(&scheduled, "ann");
    change.text = Some("At nine".to_owned());
    change.mentions = mentioning(&["bob"]);
    for who in ["owner", "bob", "stranger"] {
        assert_eq!(why(team.scheduled(&scheduled.id, who).await), missing());
        let by_other = UpdateScheduledEntryRequest {
            actor: user(who),
            ..change.clone()
        };
        assert_eq!(why(team.reschedule(by_other).await), missing());
        assert_eq!(why(team.give_up(&scheduled, who, false).await), missing());
        team.give_up(&scheduled, who, true).await.unwrap();
        assert_eq!(team.all_scheduled(who, "").await, []);
    }
    change.etag = "\"9\"".to_owned();
    let stale = (Code::Aborted, "ETAG_MISMATCH".to_owned());
    assert_eq!(why(team.reschedule(change.clone()).await), stale);
    change.etag.clone_from(&scheduled.etag);
    let changed = team.reschedule(change).await.unwrap();
    assert_eq!((changed.text.as_str(), changed.version), ("At nine", 2));
    assert_eq!(changed.mentions, mentioning(&["bob"]));
    assert_eq!(changed.send_time, scheduled.send_time);
    let same = team.change(&scheduled, "ann");
    assert_eq!(team.reschedule(same).await.unwrap(), changed);
    let mut empty = team.change(&scheduled, "ann");
    empty.text = Some(String::new());
    assert!(refused(team.reschedule(empty).await).names("text"));
    let mut far = team.change(&scheduled, "ann");
    far.send_time = in_seconds(400 * 86_400);
    assert!(refused(team.reschedule(far).await).names("send_time"));

    team.give_up(&scheduled, "ann", false).await.unwrap();
    assert_eq!(why(team.give_up(&scheduled, "ann", false).await), missing());
    team.give_up(&scheduled, "ann", true).await.unwrap();
    let tables = Tables::of(&team.tenant).await;
    let left = "SELECT count(*) FROM {schema}.scheduled_entries";
    assert_eq!(tables.count(left).await, 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_post_by_then_does_not_and_learns_why() {
    let (server, team) = team().await;
    let private = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let public = team.channel(ChatChannelKind::Public, &MEMBERS).await;
    let mut both = Vec::new();
    for channel in [&private, &public] {
        let request = team.later(&channel.id, "ann", "One last thing");
        both.push(team.schedule(request).await.unwrap());
        team.remove(&channel.id, "owner", "ann").await.unwrap();
    }
    for (scheduled, reason) in both
        .iter()
        .zip(["RESOURCE_NOT_FOUND", "CHANNEL_CAPABILITY_MISSING"])
    {
        team.bring_forward(scheduled, "ann").await;
        let failed = team.failed(scheduled, "ann").await;
        assert_eq!(failed.failure_reason, reason);
        assert_ne!(failed.failure_message, "");
        assert_eq!(
            team.all_scheduled("ann", &failed.channel_id).await,
            [failed]
        );
        assert_eq!(
            why(team.entry(&scheduled.id, user("owner")).await),
            missing()
        );
    }
    // A failed one stays until it is changed, also when it could be posted again.
    let back = vec![member("ann", ChannelRole::Member)];
    team.add(&private.id, user("owner"), back).await.unwrap();
    let mut again = team.change(&both[0], "ann");
    again.text = Some("Back again".to_owned());
    let retried = team.reschedule(again).await.unwrap();
    assert_eq!((retried.failure_reason.as_str(), retried.version), ("", 4));
    let entry = team.posted(&retried).await;
    assert_eq!((entry.text.as_str(), entry.sequence), ("Back again", 1));
    team.give_up(&both[1], "ann", false).await.unwrap();
    let seen = team.get(&public.id, user("owner")).await.unwrap();
    assert_eq!(seen.last_sequence, 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_posted_now_is_refused_when_it_is_scheduled() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let other = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let good = team.later(&channel.id, "bob", "Hello");
    for who in ["stranger", "nobody"] {
        let stranger = team.later(&channel.id, who, "Hello");
        assert_eq!(why(team.schedule(stranger).await), missing());
    }
    let loud = PostEntryRequest {
        mentions: Some(ChatMentions {
            everyone: true,
            ..Default::default()
        }),
        ..good.clone()
    };
    assert_eq!(why(team.schedule(loud).await), incapable());
    let root = team.say(&other.id, "owner", "Elsewhere").await;
    let elsewhere = PostEntryRequest {
        thread_root_id: root.id,
        ..good.clone()
    };
    assert_eq!(why(team.schedule(elsewhere).await), missing());
    let file = team.store("ann", "own").await;
    let with_file = PostEntryRequest {
        attachment_ids: vec![file.id],
        ..good.clone()
    };
    assert_eq!(why(team.schedule(with_file).await), missing());
    let far = PostEntryRequest {
        send_time: in_seconds(400 * 86_400),
        ..good.clone()
    };
    let unrestricted = PostEntryRequest {
        actor: None,
        unrestricted: true,
        ..good
    };
    for request in [far, unrestricted] {
        assert!(refused(team.schedule(request).await).names("send_time"));
    }
    let tables = Tables::of(&team.tenant).await;
    let left = "SELECT count(*) FROM {schema}.scheduled_entries";
    assert_eq!(tables.count(left).await, 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_entries_that_are_due_together_are_posted_once_each() {
    let (server, team) = team().await;
    let mut channels = Vec::new();
    for _ in 0..4 {
        channels.push(team.channel(ChatChannelKind::Public, &MEMBERS).await);
    }
    let at = in_seconds(2);
    for number in 0..40 {
        let mut request = team.later(&channels[number % 4].id, "ann", &format!("{number}"));
        request.send_time = at;
        team.schedule(request).await.unwrap();
    }
    // A second server hears the same alarms, and so does who comes after one that has stopped.
    let second = TestServer::start().await;
    let third = TestServer::start().await;
    let stopped = tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
        third.stop().await;
    });
    let tables = Tables::of(&team.tenant).await;
    eventually("all are posted", async || {
        tables.hear().await;
        let left = "SELECT count(*) FROM {schema}.scheduled_entries";
        tables.count(left).await == 0
    })
    .await;
    let posted = "SELECT count(*) FROM {schema}.chat_entries";
    assert_eq!(tables.count(posted).await, 40);
    let texts = "SELECT count(DISTINCT text) FROM {schema}.chat_entries";
    assert_eq!(tables.count(texts).await, 40);
    for channel in &channels {
        let seen = team.get(&channel.id, user("owner")).await.unwrap();
        assert_eq!(seen.last_sequence, 10);
    }
    stopped.await.unwrap();
    second.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scheduled_entries_are_listed_by_their_time_and_go_with_their_channel() {
    let (server, team) = team().await;
    let conversation = team.tenant.conversation().await;
    let mut tied = team.new_channel("ann", ChatChannelKind::Public);
    tied.conversation_id.clone_from(&conversation.id);
    let tied = team.try_create(tied).await.unwrap();
    let other = team.channel(ChatChannelKind::Public, &MEMBERS).await;
    let file = team.store("ann", "canary").await;
    for (seconds, channel) in [(500, &tied), (300, &other), (300, &tied), (400, &tied)] {
        let mut request = team.later(&channel.id, "ann", &format!("{seconds}"));
        request.send_time = in_seconds(seconds);
        if seconds == 400 {
            request.attachment_ids = vec![file.id.clone()];
        }
        team.schedule(request).await.unwrap();
    }
    let listed = async |channel: &str| {
        let all = team.all_scheduled("ann", channel).await;
        all.into_iter().map(|it| it.text).collect::<Vec<_>>()
    };
    assert_eq!(listed("").await, ["300", "300", "400", "500"]);
    assert_eq!(listed(&tied.id).await, ["300", "400", "500"]);
    crate::contacts::erase(&team.tenant, &conversation.contact_id).await;
    assert_eq!(listed("").await, ["300"]);
    let tables = Tables::of(&team.tenant).await;
    let left = "SELECT count(*) FROM {schema}.attachments a WHERE a::text LIKE '%canary%'";
    assert_eq!(tables.count(left).await, 0);
    server.stop().await;
}
