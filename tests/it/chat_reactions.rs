//! What the team makes of what was said: reactions and pins.

use communication_service::pb::{
    Actor, AddReactionRequest, ChannelRole, ChatChannelKind, ChatEntry, ChatReaction,
    ChatUserReaction, ListPinnedEntriesRequest, ListReactionsRequest, PinEntryRequest,
    RemoveReactionRequest, UnpinEntryRequest,
};
use futures_util::future::join_all;
use tonic::{Code, Status};

use crate::chat::{Team, incapable, member, missing, refused, team, why};
use crate::harness::{Tables, user};

impl Team {
    pub async fn react(
        &self,
        id: &str,
        who: Option<Actor>,
        emoji: &str,
    ) -> Result<ChatEntry, Status> {
        loop {
            let request = AddReactionRequest {
                tenant: self.tenant.slug(),
                actor: who.clone(),
                entry_id: id.to_owned(),
                emoji: emoji.to_owned(),
            };
            let answer = self.tenant.chat.clone().add_reaction(request).await;
            // As every caller does, on a busy machine.
            if matches!(&answer, Err(status) if status.code() == Code::ResourceExhausted) {
                continue;
            }
            return answer.map(|answer| answer.into_inner().entry.unwrap());
        }
    }

    async fn unreact(&self, id: &str, who: &str, emoji: &str) -> Result<ChatEntry, Status> {
        let request = RemoveReactionRequest {
            tenant: self.tenant.slug(),
            actor: user(who),
            entry_id: id.to_owned(),
            emoji: emoji.to_owned(),
        };
        let answer = self.tenant.chat.clone().remove_reaction(request).await;
        answer.map(|answer| answer.into_inner().entry.unwrap())
    }

    async fn try_reactions(
        &self,
        id: &str,
        who: &str,
        emoji: &str,
    ) -> Result<Vec<ChatUserReaction>, Status> {
        let mut all = Vec::new();
        let mut request = ListReactionsRequest {
            tenant: self.tenant.slug(),
            actor: user(who),
            entry_id: id.to_owned(),
            emoji: emoji.to_owned(),
            page_size: 7,
            ..Default::default()
        };
        loop {
            let mut chat = self.tenant.chat.clone();
            let page = chat.list_reactions(request.clone()).await?.into_inner();
            all.extend(page.reactions);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }

    async fn pin(&self, id: &str, who: Option<Actor>) -> Result<ChatEntry, Status> {
        let request = PinEntryRequest {
            tenant: self.tenant.slug(),
            actor: who,
            entry_id: id.to_owned(),
            ..Default::default()
        };
        let answer = self.tenant.chat.clone().pin_entry(request).await;
        answer.map(|answer| answer.into_inner().entry.unwrap())
    }

    async fn unpin(&self, id: &str, who: Option<Actor>) -> Result<ChatEntry, Status> {
        let request = UnpinEntryRequest {
            tenant: self.tenant.slug(),
            actor: who,
            entry_id: id.to_owned(),
            ..Default::default()
        };
        let answer = self.tenant.chat.clone().unpin_entry(request).await;
        answer.map(|answer| answer.into_inner().entry.unwrap())
    }

    async fn pins(&self, channel: &str, who: &str) -> Result<Vec<ChatEntry>, Status> {
        let mut all = Vec::new();
        let mut request = ListPinnedEntriesRequest {
            tenant: self.tenant.slug(),
            actor: user(who),
            channel_id: channel.to_owned(),
            page_size: 2,
            ..Default::default()
        };
        loop {
            let mut chat = self.tenant.chat.clone();
            let page = chat.list_pinned_entries(request.clone()).await?;
            let page = page.into_inner();
            all.extend(page.entries);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// The changed fields that the log tells of an entry, in order.
    async fn told_of(&self, id: &str) -> Vec<String> {
        let tables = Tables::of(&self.tenant).await;
        let sql = format!(
            "SELECT array_to_string(changed, ',') FROM {}.events
             WHERE kind = 'chat_entry.updated' AND resource_id = $1::text::uuid ORDER BY id",
            tables.schema
        );
        let rows = tables.admin.query(&sql, &[&id]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

fn kind(emoji: &str, count: i32, users: &[&str]) -> ChatReaction {
    ChatReaction {
        emoji: emoji.to_owned(),
        count,
        user_ids: users.iter().map(|&id| id.to_owned()).collect(),
    }
}

const MEMBERS: [(&str, ChannelRole); 3] = [
    ("ann", ChannelRole::Member),
    ("bob", ChannelRole::Member),
    ("guest", ChannelRole::Guest),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_user_reacts_once_with_a_kind_and_takes_it_back() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let entry = team.say(&channel.id, "ann", "Cake").await;
    let id = entry.id.as_str();
    assert!(entry.reactions.is_empty());
    let first = team.react(id, user("bob"), "\u{2764}").await.unwrap();
    let heart = "\u{2764}\u{fe0f}";
    assert_eq!(first.reactions, [kind(heart, 1, &["bob"])]);
    assert_eq!(
        (first.version, &first.etag),
        (entry.version + 1, &entry.etag)
    );
    // However it is written, it is there.
    assert_eq!(team.react(id, user("bob"), heart).await.unwrap(), first);
    team.react(id, user("guest"), ":cake_2:").await.unwrap();
    team.react(id, user("ann"), heart).await.unwrap();
    let all = team.react(id, user("bob"), ":cake_2:").await.unwrap();
    let kinds = [
        kind(heart, 2, &["bob", "ann"]),
        kind(":cake_2:", 2, &["guest", "bob"]),
    ];
    assert_eq!(all.reactions, kinds);
    assert_eq!(team.entry(id, user("ann")).await.unwrap(), all);
    let listed = team.try_reactions(id, "ann", "").await.unwrap();
    let listed: Vec<_> = listed
        .iter()
        .map(|one| (one.user_id.as_str(), one.emoji.as_str()))
        .collect();
    let order = [
        ("bob", heart),
        ("guest", ":cake_2:"),
        ("ann", heart),
        ("bob", ":cake_2:"),
    ];
    assert_eq!(listed, order);
    let hearts = team.try_reactions(id, "ann", "\u{2764}").await.unwrap();
    assert_eq!(hearts.len(), 2);
    // Who came first goes; the kind stays where it was.
    let left = team.unreact(id, "bob", heart).await.unwrap();
    let kinds = [
        kind(heart, 1, &["ann"]),
        kind(":cake_2:", 2, &["guest", "bob"]),
    ];
    assert_eq!(
        (&left.reactions[..], left.version),
        (&kinds[..], all.version + 1)
    );
    assert_eq!(team.unreact(id, "bob", heart).await.unwrap(), left);
    let last = team.unreact(id, "ann", "\u{2764}").await.unwrap();
    assert_eq!(last.reactions, kinds[1..]);
    assert_eq!(team.told_of(id).await, ["reactions"; 6]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_users_react_at_once_and_none_is_lost() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Private, &[]).await;
    let users: Vec<_> = (0..50).map(|number| format!("user-{number:02}")).collect();
    let members = users.iter().map(|id| member(id, ChannelRole::Member));
    team.add(&channel.id, user("owner"), members.collect())
        .await
        .unwrap();
    let entry = team.say(&channel.id, "owner", "Who comes?").await;
    join_all(users.iter().map(|id| async {
        team.react(&entry.id, user(id), "👍").await.unwrap();
        team.react(&entry.id, user(id), "🎉").await.unwrap();
        team.react(&entry.id, user(id), "👍").await.unwrap();
    }))
    .await;
    let seen = team.entry(&entry.id, user("owner")).await.unwrap();
    assert_eq!(seen.version, entry.version + 100);
    assert_eq!(seen.reactions.len(), 2);
    let listed = team.try_reactions(&entry.id, "owner", "").await.unwrap();
    assert_eq!(listed.len(), 100);
    for kind in &seen.reactions {
        let with = listed.iter().filter(|one| one.emoji == kind.emoji);
        let with: Vec<_> = with.map(|one| one.user_id.clone()).collect();
        assert_eq!((kind.count, with.len()), (50, 50));
        assert_eq!(kind.user_ids, with[..10]);
    }
    join_all(users[1..].iter().map(|id| async {
        while let Err(status) = team.unreact(&entry.id, id, "👍").await {
            assert_eq!(status.code(), Code::ResourceExhausted);
        }
    }))
    .await;
    let seen = team.entry(&entry.id, user("owner")).await.unwrap();
    let thumbs = seen.reactions.iter().find(|kind| kind.emoji == "👍");
    assert_eq!(thumbs, Some(&kind("👍", 1, &[&users[0]])));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_post_does_not_react() {
    let (server, team) = team().await;
    let public = team.channel(ChatChannelKind::Public, &MEMBERS).await;
    let private = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let entry = team.say(&public.id, "ann", "For all").await;
    let secret = team.say(&private.id, "ann", "For us").await;
    let stranger = user("stranger");
    assert_eq!(
        why(team.react(&entry.id, stranger.clone(), "👍").await),
        incapable()
    );
    assert_eq!(why(team.react(&secret.id, stranger, "👍").await), missing());
    assert_eq!(
        why(team.unreact(&entry.id, "stranger", "👍").await),
        incapable()
    );
    assert_eq!(
        why(team.unreact(&secret.id, "stranger", "👍").await),
        missing()
    );
    assert_eq!(
        why(team.try_reactions(&secret.id, "stranger", "").await),
        missing()
    );
    assert!(
        team.try_reactions(&entry.id, "stranger", "")
            .await
            .unwrap()
            .is_empty()
    );
    let no_user = refused(team.react(&entry.id, None, "👍").await);
    assert_eq!(no_user.fields.keys().collect::<Vec<_>>(), ["actor"]);
    for emoji in ["", "👍👍", "thumbs", ":Thumbs:", "1"] {
        let refusal = refused(team.react(&entry.id, user("ann"), emoji).await);
        assert_eq!(
            refusal.fields.keys().collect::<Vec<_>>(),
            ["emoji"],
            "{emoji}"
        );
    }
    team.archive(&public.id, user("owner")).await.unwrap();
    let archived = (Code::FailedPrecondition, "CHANNEL_ARCHIVED".to_owned());
    assert_eq!(
        why(team.react(&entry.id, user("ann"), "👍").await),
        archived
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_has_fifty_kinds_of_reactions_and_a_deleted_one_none() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let entry = team.say(&channel.id, "ann", "Cake").await;
    for number in 0..50 {
        let name = format!(":cake_{number}:");
        team.react(&entry.id, user("bob"), &name).await.unwrap();
    }
    let refusal = refused(team.react(&entry.id, user("ann"), "👍").await);
    assert_eq!(refusal.code, Code::FailedPrecondition);
    assert_eq!(refusal.reason, "CHAT_REACTION_LIMIT");
    assert_eq!(refusal.metadata["limit"], "50");
    let full = team
        .react(&entry.id, user("ann"), ":cake_7:")
        .await
        .unwrap();
    assert_eq!(full.reactions.len(), 50);
    assert_eq!(full.reactions[7], kind(":cake_7:", 2, &["bob", "ann"]));
    let left = team.delete(&entry.id, "ann").await.unwrap();
    assert!(left.reactions.is_empty());
    assert_eq!(
        why(team.react(&entry.id, user("ann"), ":cake_7:").await),
        missing()
    );
    assert_eq!(
        why(team.unreact(&entry.id, "ann", ":cake_7:").await),
        missing()
    );
    assert_eq!(
        why(team.try_reactions(&entry.id, "ann", "").await),
        missing()
    );
    let tables = Tables::of(&team.tenant).await;
    assert_eq!(
        tables
            .count("SELECT count(*) FROM {schema}.chat_reactions")
            .await,
        0
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pins_are_kept_in_view_until_they_are_taken_off_or_deleted() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let mut entries = Vec::new();
    for number in 1..=5 {
        entries.push(team.say(&channel.id, "ann", &number.to_string()).await);
    }
    assert_eq!(
        why(team.pin(&entries[0].id, user("guest")).await),
        incapable()
    );
    assert_eq!(
        why(team.pin(&entries[0].id, user("stranger")).await),
        missing()
    );
    assert_eq!(
        why(team.unpin(&entries[0].id, user("stranger")).await),
        missing()
    );
    assert_eq!(why(team.pins(&channel.id, "stranger").await), missing());
    for place in [2, 0, 4] {
        let pinned = team.pin(&entries[place].id, user("bob")).await.unwrap();
        assert!(pinned.pin_time.is_some());
        assert_eq!(pinned.pinner, user("bob"));
        assert_eq!(pinned.version, entries[place].version + 1);
        let again = team.pin(&entries[place].id, user("ann")).await.unwrap();
        assert_eq!(again, pinned);
    }
    let pins = team.pins(&channel.id, "guest").await.unwrap();
    let texts: Vec<_> = pins.iter().map(|entry| entry.text.as_str()).collect();
    assert_eq!(texts, ["5", "1", "3"]);
    let free = team.unpin(&entries[2].id, user("ann")).await.unwrap();
    assert_eq!((free.pin_time, free.pinner.as_ref()), (None, None));
    assert_eq!(team.unpin(&entries[2].id, user("ann")).await.unwrap(), free);
    assert_eq!(team.told_of(&free.id).await, ["pin_time"; 2]);
    let left = team.delete(&entries[4].id, "owner").await.unwrap();
    assert_eq!((left.pin_time, left.pinner), (None, None));
    assert_eq!(why(team.pin(&left.id, user("ann")).await), missing());
    let pins = team.pins(&channel.id, "guest").await.unwrap();
    assert_eq!(pins.len(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_has_a_hundred_pins_however_many_pin_at_once() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    for number in 0..97 {
        let entry = team.say(&channel.id, "ann", &number.to_string()).await;
        team.pin(&entry.id, user("ann")).await.unwrap();
    }
    let mut more = Vec::new();
    for number in 97..105 {
        more.push(team.say(&channel.id, "ann", &number.to_string()).await);
    }
    let answers = join_all(more.iter().map(|entry| team.pin(&entry.id, user("bob")))).await;
    let (pinned, refusals): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((pinned.len(), refusals.len()), (3, 5));
    for refusal in refusals {
        let refusal = refused(refusal);
        assert_eq!(refusal.code, Code::FailedPrecondition);
        assert_eq!(refusal.reason, "CHAT_PIN_LIMIT");
        assert_eq!(refusal.metadata["limit"], "100");
    }
    assert_eq!(team.pins(&channel.id, "ann").await.unwrap().len(), 100);
    server.stop().await;
}
