//! What the team has said is found again, by those who may see it.

use communication_service::pb::{
    Actor, ChannelRole, ChatChannelKind, ChatEntry, ChatEntryMatch, ChatMentions, EditEntryRequest,
    ListMentionsRequest, PostEntryRequest, SearchEntriesRequest,
};
use prost_types::Timestamp;
use tonic::{Request, Status};

use crate::chat::{Team, missing, refused, team, why};
use crate::chat_entries::mentioning;
use crate::harness::{Tables, user};

impl Team {
    fn looking_for(&self, who: Option<Actor>, query: &str) -> SearchEntriesRequest {
        SearchEntriesRequest {
            tenant: self.tenant.slug(),
            actor: who,
            query: query.to_owned(),
            page_size: 2,
            ..Default::default()
        }
    }

    async fn search(&self, request: SearchEntriesRequest) -> Result<Vec<ChatEntryMatch>, Status> {
        let mut all = Vec::new();
        let mut request = request;
        loop {
            let mut chat = self.tenant.chat.clone();
            let page = chat.search_entries(request.clone()).await?.into_inner();
            all.extend(page.matches);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// The texts of what somebody finds.
    async fn finds(&self, who: &str, query: &str) -> Vec<String> {
        texts(
            self.search(self.looking_for(user(who), query))
                .await
                .unwrap(),
        )
    }

    /// Says something to some users, or to everyone where they are none.
    async fn tell(&self, channel: &str, root: &str, users: &[&str], text: &str) -> ChatEntry {
        let mentions = ChatMentions {
            everyone: users.is_empty(),
            ..mentioning(users).unwrap()
        };
        let request = PostEntryRequest {
            thread_root_id: root.to_owned(),
            mentions: Some(mentions),
            ..self.new_entry(channel, "ann", text)
        };
        self.try_post(request).await.unwrap()
    }

    async fn mentions(&self, request: ListMentionsRequest) -> Result<Vec<String>, Status> {
        let mut all = Vec::new();
        let mut request = ListMentionsRequest {
            tenant: self.tenant.slug(),
            page_size: 2,
            ..request
        };
        loop {
            let mut chat = self.tenant.chat.clone();
            let page = chat.list_mentions(request.clone()).await?.into_inner();
            all.extend(page.entries.into_iter().map(|entry| entry.text));
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }

    async fn mentions_of(&self, who: &str, unread: bool) -> Vec<String> {
        let request = ListMentionsRequest {
            actor: user(who),
            unread,
            ..Default::default()
        };
        self.mentions(request).await.unwrap()
    }

    /// Posts an entry some days ago.
    async fn say_ago(&self, days: i64, request: PostEntryRequest) -> ChatEntry {
        let mut chat = self.tenant.chat.clone();
        let answer = chat.post_entry(ago(days, request)).await.unwrap();
        answer.into_inner().entry.unwrap()
    }
}

fn ago<T>(days: i64, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let offset = format!("-{}", days * 24 * 60 * 60);
    let metadata = request.metadata_mut();
    metadata.insert("x-clock-offset", offset.parse().unwrap());
    request
}

fn texts(matches: Vec<ChatEntryMatch>) -> Vec<String> {
    let entries = matches.into_iter().map(|found| found.entry.unwrap());
    entries.map(|entry| entry.text).collect()
}

const MEMBERS: [(&str, ChannelRole); 2] =
    [("ann", ChannelRole::Member), ("bob", ChannelRole::Guest)];

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_found_by_their_words_in_any_language() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let said = [
        "Der Kunde wohnt in der Straße nach Zürich",
        "退款单已经处理",
        "Позвоните клиенту завтра",
        "The refund for me@example.com is late \u{1f389}",
        "The late refund",
    ];
    for text in said {
        team.say(&channel.id, "ann", text).await;
    }
    for (query, found) in [
        ("STRASSE", vec![said[0]]),
        ("zurich", vec![said[0]]),
        ("退款", vec![said[1]]),
        ("КЛИЕНТУ", vec![said[2]]),
        ("refund late", vec![said[4], said[3]]),
        ("\"late refund\"", vec![said[4]]),
        ("refund -\"late refund\"", vec![said[3]]),
        ("me@example.com", vec![said[3]]),
        ("ref*", vec![said[4], said[3]]),
        ("\u{1f389}", vec![said[3]]),
        ("private", vec![]),
        ("' | .kpublic", vec![]),
    ] {
        assert_eq!(team.finds("bob", query).await, found, "{query}");
    }
    let request = team.looking_for(user("ann"), "late");
    let found = team.search(request).await.unwrap();
    let shown: Vec<_> = found[0]
        .snippet
        .iter()
        .map(|part| (part.text.as_str(), part.is_match))
        .collect();
    assert_eq!(shown, [("The ", false), ("late", true), (" refund", false)]);
    for query in ["", "-only", &"a ".repeat(33), &"a".repeat(501)] {
        let refusal = refused(team.search(team.looking_for(user("ann"), query)).await);
        assert_eq!(
            refusal.fields.keys().collect::<Vec<_>>(),
            ["query"],
            "{query}"
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_finds_what_they_may_not_see() {
    let (server, team) = team().await;
    let public = team.channel(ChatChannelKind::Public, &MEMBERS).await;
    let private = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let direct = team.direct(user("ann"), &["owner"]).await.unwrap();
    let direct = direct.channel.unwrap().id;
    team.say(&public.id, "ann", "Cake for all").await;
    let root = team.say(&private.id, "ann", "Cake for us").await;
    team.say(&direct, "ann", "Cake for you").await;
    let (all, us, you) = ("Cake for all", "Cake for us", "Cake for you");
    assert_eq!(team.finds("owner", "cake").await, [you, us, all]);
    assert_eq!(team.finds("bob", "cake").await, [us, all]);
    assert_eq!(team.finds("stranger", "cake").await, [all]);
    let by_service = team.search(team.looking_for(None, "cake")).await.unwrap();
    assert_eq!(texts(by_service), [all]);
    let of = |channel: &str, who: &str| SearchEntriesRequest {
        channel_id: channel.to_owned(),
        ..team.looking_for(user(who), "cake")
    };
    assert_eq!(
        texts(team.search(of(&private.id, "bob")).await.unwrap()),
        [us]
    );
    assert_eq!(
        texts(team.search(of(&public.id, "stranger")).await.unwrap()),
        [all]
    );
    assert_eq!(
        why(team.search(of(&private.id, "stranger")).await),
        missing()
    );
    assert_eq!(why(team.search(of(&direct, "bob")).await), missing());
    let thread = SearchEntriesRequest {
        thread_root_id: root.id.clone(),
        ..team.looking_for(user("stranger"), "cake")
    };
    assert_eq!(why(team.search(thread).await), missing());
    team.remove(&private.id, "owner", "bob").await.unwrap();
    assert_eq!(team.finds("bob", "cake").await, [all]);
    let unrestricted = SearchEntriesRequest {
        unrestricted: true,
        ..team.looking_for(None, "cake")
    };
    assert_eq!(
        texts(team.search(unrestricted).await.unwrap()),
        [you, us, all]
    );
    let tables = Tables::of(&team.tenant).await;
    let noted = "SELECT count(*) FROM {schema}.audit_log WHERE call LIKE '%SearchEntries'";
    // Two pages.
    assert_eq!(tables.count(noted).await, 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_is_found_by_what_it_says_now_and_a_deleted_one_never() {
    let (server, team) = team().await;
    let channel = team.channel(ChatChannelKind::Private, &MEMBERS).await;
    let entry = team.say(&channel.id, "ann", "Plum cake").await;
    let edit = EditEntryRequest {
        actor: user("ann"),
        entry_id: entry.id.clone(),
        text: Some("Apple cake".to_owned()),
        ..Default::default()
    };
    team.edit(edit).await.unwrap();
    assert!(team.finds("bob", "plum").await.is_empty());
    assert_eq!(team.finds("bob", "apple").await, ["Apple cake"]);
    team.delete(&entry.id, "ann").await.unwrap();
    assert!(team.finds("bob", "cake").await.is_empty());
    let tables = Tables::of(&team.tenant).await;
    let kept = "SELECT count(*) FROM {schema}.chat_entry_words";
    assert_eq!(tables.count(kept).await, 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_goes_back_over_years_and_is_filtered_by_time_author_and_thread() {
    let (server, team) = team().await;
    let mut new = team.new_channel("owner", ChatChannelKind::Private);
    new.members = MEMBERS
        .map(|(id, role)| crate::chat::member(id, role))
        .into();
    let mut chat = team.tenant.chat.clone();
    let made = chat.create_channel(ago(2_000, new)).await.unwrap();
    let channel = made.into_inner().channel.unwrap();
    let days = [2_000, 1_999, 1_500, 400, 399, 100, 33, 32, 31, 1];
    let mut said = Vec::new();
    for (place, day) in days.into_iter().enumerate() {
        let author = ["ann", "bob"][place % 2];
        let text = format!("Cake of {day} days ago");
        let entry = team.new_entry(&channel.id, author, &text);
        said.push(team.say_ago(day, entry).await);
    }
    let root = said[9].clone();
    said.push(team.reply(&root, "bob", "Cake of today").await);
    let newest_first = |entries: &[ChatEntry]| -> Vec<String> {
        let texts = entries.iter().rev().map(|entry| entry.text.clone());
        texts.collect()
    };
    assert_eq!(team.finds("ann", "cake").await, newest_first(&said));
    assert_eq!(team.finds("ann", "1999").await, [said[1].text.as_str()]);
    let base = || team.looking_for(user("ann"), "cake");
    let time = |entry: &ChatEntry| -> Option<Timestamp> { entry.create_time };
    let between = SearchEntriesRequest {
        start_time: time(&said[2]),
        end_time: time(&said[7]),
        ..base()
    };
    assert_eq!(
        texts(team.search(between).await.unwrap()),
        newest_first(&said[2..7])
    );
    let by_bob = SearchEntriesRequest {
        author_user_id: "bob".to_owned(),
        end_time: time(&said[6]),
        ..base()
    };
    let found = texts(team.search(by_bob).await.unwrap());
    assert_eq!(
        found,
        [5, 3, 1].map(|place: usize| said[place].text.clone())
    );
    let replies = SearchEntriesRequest {
        thread_root_id: root.id.clone(),
        ..base()
    };
    assert_eq!(
        texts(team.search(replies).await.unwrap()),
        ["Cake of today"]
    );
    let nowhere = SearchEntriesRequest {
        start_time: time(&said[7]),
        end_time: time(&said[2]),
        ..base()
    };
    assert!(team.search(nowhere).await.unwrap().is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mentions_are_listed_where_one_is_a_member_and_since_one_came() {
    let (server, team) = team().await;
    let private = team.channel(ChatChannelKind::Private, &MEMBERS).await.id;
    let public = team.channel(ChatChannelKind::Public, &MEMBERS).await.id;
    team.tell(&private, "", &["bob"], "Bob").await;
    team.tell(&public, "", &[], "Everyone").await;
    let both = team.tell(&private, "", &["bob"], "Only Bob yet").await;
    let edit = EditEntryRequest {
        actor: user("ann"),
        entry_id: both.id,
        text: Some("Bob and everyone".to_owned()),
        mentions: Some(ChatMentions {
            everyone: true,
            ..mentioning(&["bob"]).unwrap()
        }),
        ..Default::default()
    };
    team.edit(edit).await.unwrap();
    let deleted = team.tell(&private, "", &["bob"], "Forget it").await;
    team.delete(&deleted.id, "ann").await.unwrap();
    team.tell(&private, "", &["owner"], "Somebody else").await;
    let root = team.say(&private, "owner", "Who comes?").await.id;
    team.tell(&private, &root, &["bob"], "Bob, in a thread")
        .await;
    let all = ["Bob, in a thread", "Bob and everyone", "Everyone", "Bob"];
    assert_eq!(team.mentions_of("bob", false).await, all);
    assert_eq!(team.mentions_of("bob", true).await, all);
    // Not what one says oneself.
    assert!(team.mentions_of("ann", false).await.is_empty());
    let here = ListMentionsRequest {
        actor: user("bob"),
        channel_id: public.clone(),
        ..Default::default()
    };
    assert_eq!(team.mentions(here).await.unwrap(), ["Everyone"]);
    team.read(&private, "bob", 0, 0).await.unwrap();
    let unread = ["Bob, in a thread", "Everyone"];
    assert_eq!(team.mentions_of("bob", true).await, unread);
    team.read_thread(&root, "bob", 0, 0).await.unwrap();
    assert_eq!(team.mentions_of("bob", true).await, ["Everyone"]);
    assert_eq!(team.mentions_of("bob", false).await, all);
    // Who comes later hears what comes later.
    assert!(team.mentions_of("cas", false).await.is_empty());
    team.join(&public, "cas").await.unwrap();
    assert!(team.mentions_of("cas", false).await.is_empty());
    team.tell(&public, "", &[], "And Cas").await;
    assert_eq!(team.mentions_of("cas", true).await, ["And Cas"]);
    team.archive(&public, user("owner")).await.unwrap();
    assert!(team.mentions_of("cas", true).await.is_empty());
    assert_eq!(team.mentions_of("cas", false).await, ["And Cas"]);
    team.remove(&private, "owner", "bob").await.unwrap();
    assert_eq!(
        team.mentions_of("bob", false).await,
        ["And Cas", "Everyone"]
    );
    let by_nobody = refused(team.mentions(ListMentionsRequest::default()).await);
    assert_eq!(by_nobody.fields.keys().collect::<Vec<_>>(), ["actor"]);
    server.stop().await;
}
