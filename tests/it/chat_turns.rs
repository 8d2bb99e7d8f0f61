//! Many who post at the same time: some share a statement, and each gets an answer of their own.

use std::time::Duration;

use communication_service::pb::{ChannelRole, ChatChannelKind, ChatEntry, PostEntryRequest};
use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tonic::{Code, Status};

use crate::chat::{Team, team, why};
use crate::harness::{Tables, admin, eventually, user};

/// How many statements of a tenant that post are under way at a time.
const AT_ONCE: i64 = 4;
/// Those that wait for a lock, by `pg_stat_activity`.
const TURNS: &str = "wait_event_type = 'Lock' AND query LIKE 'WITH RECURSIVE many %'";
/// How long those who post have to get in line.
const ARRIVAL: Duration = Duration::from_secs(1);

type Posting = JoinHandle<Result<ChatEntry, Status>>;

impl Team {
    async fn channels(&self, count: usize) -> Vec<String> {
        let members = [("ann", ChannelRole::Member), ("bob", ChannelRole::Member)];
        let made = (0..count).map(|_| self.channel(ChatChannelKind::Private, &members));
        let made = join_all(made).await;
        made.into_iter().map(|channel| channel.id).collect()
    }

    /// Posts in the background.
    fn start(&self, request: PostEntryRequest) -> Posting {
        let team = self.clone();
        tokio::spawn(async move { team.try_post(request).await })
    }
}

/// Takes a lock, on a connection of its own: a transaction sees other sessions as they were at first.
async fn hold_up(lock: &str) -> Client {
    let holder = admin().await;
    holder.batch_execute("BEGIN").await.unwrap();
    holder.batch_execute(lock).await.unwrap();
    holder
}

/// Lets all who post wait.
async fn hold_all_up(tables: &Tables) -> Client {
    let schema = &tables.schema;
    let lock = format!("LOCK TABLE \"{schema}\".chat_entries IN ACCESS EXCLUSIVE MODE");
    hold_up(&lock).await
}

/// Waits until some wait for the database, and gives the others time to get in line.
async fn all_wait(tables: &Tables) {
    eventually("posts wait", async || tables.sessions(TURNS).await > 0).await;
    tokio::time::sleep(ARRIVAL).await;
    let waiting = tables.sessions(TURNS).await;
    assert!((1..=AT_ONCE).contains(&waiting), "{waiting} wait");
}

async fn let_go(holder: &Client) {
    holder.batch_execute("COMMIT").await.unwrap();
}

async fn done(posting: Posting) -> Result<ChatEntry, Status> {
    posting.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn posts_that_share_a_statement_get_answers_of_their_own() {
    let (server, team) = team().await;
    let tables = Tables::of(&team.tenant).await;
    let channels = team.channels(8).await;
    let archived = team.channels(1).await.remove(0);
    team.archive(&archived, user("owner")).await.unwrap();
    let holder = hold_all_up(&tables).await;
    let mut posting = Vec::new();
    for number in 0..40 {
        let author = if number % 3 == 0 { "ann" } else { "bob" };
        let channel = &channels[number % channels.len()];
        let mut new = team.new_entry(channel, author, &format!("This is number{number}."));
        if number % 2 == 0 {
            new.request_id = format!("request-{number}");
        }
        posting.push((number, author, new.clone(), team.start(new)));
    }
    let repeated: Vec<_> = posting
        .iter()
        .filter(|(number, ..)| number % 4 == 0)
        .map(|(number, _, new, _)| (*number, team.start(new.clone())))
        .collect();
    let missing = uuid::Uuid::now_v7().to_string();
    let refused = [
        (&channels[0], "eve", Code::NotFound),
        (&missing, "ann", Code::NotFound),
        (&archived, "ann", Code::FailedPrecondition),
    ]
    .map(|(channel, who, code)| (code, team.start(team.new_entry(channel, who, "Hello?"))));
    all_wait(&tables).await;
    let_go(&holder).await;
    let mut posted = Vec::new();
    for (number, author, new, posting) in posting {
        let entry = done(posting).await.unwrap();
        assert_eq!(
            (&entry.text, &entry.channel_id),
            (&new.text, &new.channel_id)
        );
        assert_eq!(entry.author, user(author));
        let seen = team.entry(&entry.id, user(author)).await.unwrap();
        assert_eq!(seen, entry);
        posted.push((number, entry));
    }
    for (number, posting) in repeated {
        let (_, first) = posted.iter().find(|(one, _)| *one == number).unwrap();
        assert_eq!(&done(posting).await.unwrap(), first);
    }
    for (code, posting) in refused {
        assert_eq!(why(done(posting).await).0, code);
    }
    for channel in &channels {
        let mut sequences: Vec<_> = posted
            .iter()
            .filter(|(_, entry)| &entry.channel_id == channel)
            .map(|(_, entry)| entry.sequence)
            .collect();
        sequences.sort_unstable();
        assert_eq!(sequences, [1, 2, 3, 4, 5]);
    }
    let whole = "SELECT count(*) FROM {schema}.chat_entries e
        JOIN {schema}.chat_entry_words w ON w.chat_entry_id = e.id
            AND w.words @@ to_tsquery('simple', rtrim(split_part(e.text, ' ', 3), '.'))
        JOIN {schema}.events v ON v.resource_id = e.id AND v.kind = 'chat_entry.created'
            AND v.actor_id = e.author_id AND v.correlation_id = e.correlation_id
            AND v.parent_id = e.channel_id AND v.sequence = e.sequence AND v.caller = e.caller";
    assert_eq!(tables.count(whole).await, 40);
    let calls = "SELECT count(DISTINCT correlation_id) FROM {schema}.chat_entries";
    assert_eq!(tables.count(calls).await, 40);
    let commits = "SELECT count(DISTINCT xmin::text) FROM {schema}.chat_entries";
    let commits = tables.count(commits).await;
    assert!(commits <= 25, "40 entries took {commits} transactions");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_is_held_up_holds_up_no_other() {
    let (server, team) = team().await;
    let tables = Tables::of(&team.tenant).await;
    let channels = team.channels(3).await;
    let lock = format!(
        "SELECT FROM \"{}\".channels WHERE id = '{}' FOR UPDATE",
        tables.schema, channels[0]
    );
    let holder = hold_up(&lock).await;
    let post = |number: usize| team.start(team.new_entry(&channels[0], "ann", &number.to_string()));
    let held_up: Vec<_> = (0..12).map(post).collect();
    eventually("posts wait for the channel", async || {
        tables.sessions("wait_event_type = 'Lock'").await > AT_ONCE
    })
    .await;
    for number in 0..20 {
        let channel = &channels[1 + number % 2];
        team.say(channel, "bob", "Meanwhile").await;
    }
    assert!(held_up.iter().all(|posting| !posting.is_finished()));
    let_go(&holder).await;
    let mut sequences = Vec::new();
    for posting in held_up {
        sequences.push(done(posting).await.unwrap().sequence);
    }
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=12).collect::<Vec<_>>());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_takes_no_other_along() {
    let (server, team) = team().await;
    let tables = Tables::of(&team.tenant).await;
    let channels = team.channels(8).await;
    let holder = hold_all_up(&tables).await;
    let post = |number: usize| {
        let channel = &channels[number % channels.len()];
        team.start(team.new_entry(channel, "ann", &format!("Entry {number}")))
    };
    let mut posting: Vec<_> = (0..32).map(post).collect();
    all_wait(&tables).await;
    let stays = posting.split_off(16);
    for gone in &posting {
        gone.abort();
    }
    let_go(&holder).await;
    let mut ids = Vec::new();
    for posting in stays {
        ids.push(done(posting).await.unwrap().id);
    }
    // Those whose turn it was may be there, too; whatever is there has its place, without a gap.
    let listed = "SELECT count(*) FROM {schema}.chat_entries";
    let there = tables.count(listed).await;
    assert!((16..=32).contains(&there), "{there} entries");
    let dense = "SELECT count(*) FROM {schema}.channels c WHERE c.last_sequence
        <> (SELECT count(*) FROM {schema}.chat_entries e WHERE e.channel_id = c.id)";
    assert_eq!(tables.count(dense).await, 0);
    for id in ids {
        team.entry(&id, user("ann")).await.unwrap();
    }
    server.stop().await;
}
