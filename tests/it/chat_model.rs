//! What is unread, against a model of it in plain Rust: random posts, replies, edits, deletions, marks,
//! comings and goings, and the passing of time, and every count compared.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use communication_service::pb::{
    ChannelRole, ChatChannelKind, ChatEntry, ChatMentions, EditEntryRequest, PostEntryRequest,
    UpdateChannelRequest,
};
use futures_util::future::join_all;
use tokio_postgres::Client;
use tonic::Request;

use crate::chat::Team;
use crate::harness::{Folder, TestTenant, connect, durable, eventually, user};
use crate::janitor::{cleaned, later};
use crate::model::{Dice, seed};

const USERS: [&str; 6] = ["owner", "ann", "bob", "cas", "dan", "eve"];
/// How long the entries of the first channel are kept, and how much time passes at once.
const KEPT_DAYS: i64 = 2;
const PASSING_DAYS: i64 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_steps_at_random_leave_the_counts_that_the_model_says() {
    compare(Course {
        first: seed(),
        teams: 8,
        times: 4,
        steps: 320,
        all_after: 1,
    })
    .await;
}

#[derive(Debug, Default)]
struct Channel {
    last: i64,
    is_kept_for_a_time: bool,
    members: BTreeMap<&'static str, Member>,
    /// The version of the mark of who was a member before.
    past: BTreeMap<&'static str, i64>,
    entries: BTreeMap<i64, Entry>,
}

#[derive(Debug, Clone)]
struct Member {
    joined: i64,
    read: i64,
    version: i64,
}

#[derive(Debug, Clone)]
struct Entry {
    id: String,
    author: &'static str,
    root: Option<i64>,
    mentions: BTreeSet<&'static str>,
    everyone: bool,
    is_deleted: bool,
    /// The day on which it was posted, or last replied to.
    day: i64,
    follows: BTreeMap<&'static str, Follow>,
}

#[derive(Debug, Clone)]
struct Follow {
    following: bool,
    read: i64,
    version: i64,
}

impl Channel {
    /// Whether an entry that is behind a mark is unread for a user.
    fn is_unread(entry: &Entry, who: &str) -> bool {
        !entry.is_deleted && entry.author != who
    }

    fn mentions(entry: &Entry, who: &str) -> bool {
        entry.everyone || entry.mentions.contains(who)
    }

    /// Entries, mentions and threads that are unread.
    fn counts(&self, who: &'static str) -> Option<(i32, i32, i32)> {
        let member = self.members.get(who)?;
        let mark = member.read.max(member.joined);
        let unread: Vec<_> = self
            .entries
            .range(mark + 1..)
            .map(|(_, entry)| entry)
            .filter(|entry| entry.root.is_none() && Self::is_unread(entry, who))
            .collect();
        let mentions = unread.iter().filter(|entry| Self::mentions(entry, who));
        let threads = self
            .threads(who)
            .into_iter()
            .filter(|(_, unread, _)| *unread > 0);
        Some((
            i32::try_from(unread.len()).unwrap(),
            i32::try_from(mentions.count()).unwrap(),
            i32::try_from(threads.count()).unwrap(),
        ))
    }

    /// The threads that a member follows, with what is unread in them and how often it mentions them.
    fn threads(&self, who: &'static str) -> Vec<(String, i32, i32)> {
        let Some(member) = self.members.get(who) else {
            return Vec::new();
        };
        let mut threads = BTreeMap::new();
        for (sequence, root) in &self.entries {
            if let Some(follow) = root.follows.get(who).filter(|follow| follow.following) {
                let mark = follow.read.max(member.joined);
                threads.insert(*sequence, (mark, (root.id.clone(), 0, 0)));
            }
        }
        for (sequence, entry) in &self.entries {
            let thread = entry.root.and_then(|root| threads.get_mut(&root));
            if let Some((mark, (_, unread, mentions))) = thread
                && *sequence > *mark
                && Self::is_unread(entry, who)
            {
                *unread += 1;
                *mentions += i32::from(Self::mentions(entry, who));
            }
        }
        threads.into_values().map(|(_, thread)| thread).collect()
    }

    /// Adds an entry, and lets follow its thread who does from then on.
    fn post(&mut self, entry: Entry) {
        self.last += 1;
        let sequence = self.last;
        if let Some(root) = entry.root.and_then(|root| self.entries.get_mut(&root)) {
            root.day = entry.day;
            let asker = root.author;
            let mut follow =
                |who: &'static str, read: i64, comes_back: bool| match root.follows.get_mut(who) {
                    None => {
                        let new = Follow {
                            following: true,
                            read,
                            version: 1,
                        };
                        root.follows.insert(who, new);
                    }
                    Some(known) if !known.following && comes_back => {
                        known.following = true;
                        known.read = read;
                        known.version += 1;
                    }
                    Some(_) => {}
                };
            // Who writes, or is named, follows by that alone, whoever asked.
            follow(entry.author, sequence, true);
            for who in entry.mentions.iter().filter(|who| **who != entry.author) {
                follow(who, sequence - 1, true);
            }
            follow(asker, entry.root.unwrap(), false);
        }
        self.entries.insert(sequence, entry);
    }

    /// Lets go of what is too old on a day.
    fn age(&mut self, today: i64) {
        if !self.is_kept_for_a_time {
            return;
        }
        let old: BTreeSet<i64> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.root.is_none() && entry.day < today - KEPT_DAYS)
            .map(|(sequence, _)| *sequence)
            .collect();
        self.entries.retain(|sequence, entry| {
            !old.contains(sequence) && entry.root.is_none_or(|root| !old.contains(&root))
        });
    }
}

/// A team, and the model of it.
struct Run {
    team: Team,
    seed: u64,
    dice: Dice,
    ids: Vec<String>,
    channels: Vec<Channel>,
    today: i64,
    /// What was done, newest last.
    done: Vec<String>,
}

impl Run {
    async fn new(tenant: TestTenant, seed: u64) -> Self {
        let team = Team { tenant };
        let (mut ids, mut channels) = (Vec::new(), Vec::new());
        for number in 0..3 {
            let made = team
                .channel(ChatChannelKind::Public, &[("ann", ChannelRole::Member)])
                .await;
            if number == 0 {
                let mut chat = team.tenant.chat.clone();
                let keep = UpdateChannelRequest {
                    tenant: team.tenant.slug(),
                    actor: user("owner"),
                    channel_id: made.id.clone(),
                    retention_days: Some(i32::try_from(KEPT_DAYS).unwrap()),
                    ..Default::default()
                };
                chat.update_channel(keep).await.unwrap();
            }
            let new = Member {
                joined: 0,
                read: 0,
                version: 1,
            };
            channels.push(Channel {
                is_kept_for_a_time: number == 0,
                members: [("owner", new.clone()), ("ann", new)].into(),
                ..Channel::default()
            });
            ids.push(made.id);
        }
        Self {
            team,
            seed,
            dice: Dice::new(seed),
            ids,
            channels,
            today: 0,
            done: Vec::new(),
        }
    }

    /// Posts on the day that it is.
    async fn post(&self, request: PostEntryRequest) -> ChatEntry {
        let offset = (self.today * 86_400).to_string();
        let mut request = Request::new(request);
        let metadata = request.metadata_mut();
        metadata.insert("x-clock-offset", offset.parse().unwrap());
        let answer = self.team.tenant.chat.clone().post_entry(request).await;
        answer.unwrap().into_inner().entry.unwrap()
    }

    /// Says something, in a thread or not, mentioning some or all.
    async fn say(&mut self, at: usize, is_reply: bool) {
        let channel = &self.channels[at];
        let members: Vec<_> = channel.members.keys().copied().collect();
        let author = self.dice.pick(&members).unwrap();
        let is_root = |(_, entry): &(&i64, &Entry)| entry.root.is_none() && !entry.is_deleted;
        let roots: Vec<_> = channel.entries.iter().filter(is_root).collect();
        // The newest are talked about most.
        let newest: Vec<_> = roots
            .iter()
            .rev()
            .take(6)
            .map(|(sequence, _)| **sequence)
            .collect();
        let root = self.dice.pick(&newest).filter(|_| is_reply);
        let mut mentions = BTreeSet::new();
        for _ in 0..self.dice.below(3) {
            mentions.insert(USERS[self.dice.below(USERS.len())]);
        }
        let everyone = self.dice.below(5) == 0;
        let request = PostEntryRequest {
            thread_root_id: root
                .map(|root| channel.entries[&root].id.clone())
                .unwrap_or_default(),
            mentions: Some(ChatMentions {
                user_ids: mentions.iter().map(|&who| who.to_owned()).collect(),
                everyone,
                here: false,
            }),
            ..self.team.new_entry(&self.ids[at], author, "Said")
        };
        let posted = self.post(request).await;
        self.done.push(format!(
            "{author} says {} in {at}, under {root:?}",
            posted.sequence
        ));
        let channel = &mut self.channels[at];
        channel.post(Entry {
            id: posted.id,
            author,
            root,
            mentions,
            everyone,
            is_deleted: false,
            day: self.today,
            follows: BTreeMap::new(),
        });
        assert_eq!(channel.last, posted.sequence);
    }

    async fn step(&mut self) {
        let at = self.dice.below(self.channels.len());
        let who = USERS[self.dice.below(USERS.len())];
        let id = self.ids[at].clone();
        let last = self.channels[at].last;
        let sequence =
            1 + i64::try_from(self.dice.below(usize::try_from(last + 3).unwrap())).unwrap();
        let kind = self.dice.below(100);
        let is_there = |(_, entry): &(&i64, &Entry)| !entry.is_deleted;
        let entries = &self.channels[at].entries;
        let there: Vec<i64> = entries.iter().filter(is_there).map(|(it, _)| *it).collect();
        let followed: Vec<i64> = entries
            .iter()
            .filter(|(_, entry)| {
                entry
                    .follows
                    .get(who)
                    .is_some_and(|follow| follow.following)
            })
            .map(|(it, _)| *it)
            .collect();
        let is_member = self.channels[at].members.contains_key(who);
        match kind {
            0..30 => self.say(at, false).await,
            30..50 => self.say(at, true).await,
            50..56 => {
                if let Some(edited) = self.dice.pick(&there) {
                    self.edit(at, edited).await;
                }
            }
            56..62 => {
                if let Some(deleted) = self.dice.pick(&there) {
                    let entry = self.channels[at].entries.get_mut(&deleted).unwrap();
                    entry.is_deleted = true;
                    let id = entry.id.clone();
                    self.team.delete(&id, "owner").await.unwrap();
                    self.done.push(format!("{deleted} is deleted in {at}"));
                }
            }
            62..74 if is_member => {
                let member = self.channels[at].members.get_mut(who).unwrap();
                let version = [0, member.version, member.version - 1][self.dice.below(3)];
                if version == 0 || version >= member.version {
                    member.read = member.read.max(sequence.min(last));
                }
                let marked = self.team.read(&id, who, sequence, version).await.unwrap();
                assert_eq!(
                    (marked.read_sequence, marked.read_version),
                    (member.read, member.version)
                );
                self.done.push(format!(
                    "{who} reads {at} to {sequence} by version {version}"
                ));
            }
            74..80 if is_member => {
                let member = self.channels[at].members.get_mut(who).unwrap();
                member.read = member.read.min(sequence - 1);
                member.version += 1;
                let marked = self.team.unread(&id, who, sequence).await.unwrap();
                assert_eq!(
                    (marked.read_sequence, marked.read_version),
                    (member.read, member.version)
                );
                self.done
                    .push(format!("{who} marks {at} unread from {sequence}"));
            }
            80..88 if is_member => {
                if let Some(root) = self.dice.pick(&followed) {
                    self.mark_thread(at, root, who, sequence).await;
                }
            }
            88..92 if is_member => {
                let is_root = |it: &i64| self.channels[at].entries[it].root.is_none();
                let roots: Vec<_> = there.into_iter().filter(is_root).collect();
                if let Some(root) = self.dice.pick(&roots) {
                    self.follow(at, root, who).await;
                }
            }
            92..96 if is_member && who != "owner" => {
                self.team.leave(&id, who).await.unwrap().unwrap();
                let gone = self.channels[at].members.remove(who).unwrap();
                self.channels[at].past.insert(who, gone.version);
                self.done.push(format!("{who} leaves {at}"));
            }
            _ if !is_member => {
                self.team.join(&id, who).await.unwrap();
                let channel = &mut self.channels[at];
                let version = channel.past.get(who).map_or(1, |version| version + 1);
                let new = Member {
                    joined: last,
                    read: last,
                    version,
                };
                channel.members.insert(who, new);
                self.done.push(format!("{who} joins {at}"));
            }
            _ => {}
        }
    }

    async fn edit(&mut self, at: usize, edited: i64) {
        let mentioned = USERS[self.dice.below(USERS.len())];
        let channel = &self.channels[at];
        // Who has left cannot edit.
        if !channel
            .members
            .contains_key(channel.entries[&edited].author)
        {
            return;
        }
        let entry = self.channels[at].entries.get_mut(&edited).unwrap();
        entry.mentions = [mentioned].into();
        entry.everyone = false;
        let request = EditEntryRequest {
            actor: user(entry.author),
            entry_id: entry.id.clone(),
            mentions: Some(ChatMentions {
                user_ids: vec![mentioned.to_owned()],
                ..Default::default()
            }),
            ..Default::default()
        };
        self.team.edit(request).await.unwrap();
        self.done
            .push(format!("{edited} in {at} mentions {mentioned}"));
    }

    async fn mark_thread(&mut self, at: usize, root: i64, who: &'static str, sequence: i64) {
        let channel = &mut self.channels[at];
        let replies = channel
            .entries
            .iter()
            .filter(|(_, entry)| entry.root == Some(root));
        let last = replies.map(|(it, _)| *it).max().unwrap_or(root).max(root);
        let entry = channel.entries.get_mut(&root).unwrap();
        let id = entry.id.clone();
        let follow = entry.follows.get_mut(who).unwrap();
        let marked = if self.dice.below(3) == 0 {
            follow.read = follow.read.min(sequence - 1);
            follow.version += 1;
            self.team.unread_thread(&id, who, sequence).await.unwrap()
        } else {
            let version = [0, follow.version, follow.version - 1][self.dice.below(3)];
            if version == 0 || version >= follow.version {
                follow.read = follow.read.max(sequence.min(last));
            }
            self.team
                .read_thread(&id, who, sequence, version)
                .await
                .unwrap()
        };
        let known = (follow.read, follow.version);
        assert_eq!((marked.read_sequence, marked.read_version), known);
        self.done.push(format!(
            "{who} marks the thread of {root} in {at} at {sequence}"
        ));
    }

    async fn follow(&mut self, at: usize, root: i64, who: &'static str) {
        let channel = &mut self.channels[at];
        let replies = channel
            .entries
            .iter()
            .filter(|(_, entry)| entry.root == Some(root));
        let last = replies.map(|(it, _)| *it).max().unwrap_or(root).max(root);
        let entry = channel.entries.get_mut(&root).unwrap();
        let id = entry.id.clone();
        if self.dice.below(2) == 0 {
            self.team.unfollow(&id, who).await.unwrap();
            if let Some(follow) = entry.follows.get_mut(who) {
                follow.following = false;
            }
            self.done.push(format!("{who} unfollows {root} in {at}"));
            return;
        }
        self.team.follow(&id, who).await.unwrap();
        let new = Follow {
            following: true,
            read: last,
            version: 1,
        };
        let follow = entry.follows.entry(who).or_insert(new);
        if !follow.following {
            follow.following = true;
            follow.read = last;
            follow.version += 1;
        }
        self.done.push(format!("{who} follows {root} in {at}"));
    }

    /// Waits until nothing is left in the database that is too old at a time: a tenant is marked as taken
    /// on before that is done.
    async fn is_aged(&self, database: &Client, hours: i32) {
        let schema = &self.team.tenant.tenant.schema_name;
        let sql = format!(
            "SELECT count(*) FROM \"{schema}\".chat_entries e JOIN \"{schema}\".channels c ON c.id = e.channel_id
            WHERE c.retention_days > 0 AND e.thread_root_id IS NULL
                AND coalesce(e.last_reply_at, e.created_at)
                    < now() + make_interval(hours => $1, days => -c.retention_days)"
        );
        eventually("what is old has gone", async || {
            let row = database.query_one(&sql, &[&hours]).await.unwrap();
            row.get::<_, i64>(0) == 0
        })
        .await;
    }

    /// Compares what a user is told with what the model says, of the threads those that are unread, or all.
    async fn check(&self, who: &'static str, all: bool) {
        let told = self.team.counts(who).await;
        let story = || {
            self.done
                .iter()
                .rev()
                .take(25)
                .rev()
                .cloned()
                .collect::<Vec<_>>()
                .join("\n")
        };
        for (at, channel) in self.channels.iter().enumerate() {
            let told = told.get(&self.ids[at]);
            let told = told.map(|it| (it.unread_count, it.mention_count, it.unread_thread_count));
            let counts = channel.counts(who);
            assert_eq!(
                told,
                counts,
                "{who} in {at}, seed {}, after\n{}",
                self.seed,
                story()
            );
        }
        let threads = self
            .channels
            .iter()
            .flat_map(|channel| channel.threads(who));
        let threads = threads.filter(|(_, unread, _)| all || *unread > 0);
        let threads: BTreeSet<_> = threads.collect();
        let told = self.team.threads(who, !all).await.into_iter();
        let told: BTreeSet<_> = told
            .map(|it| (it.root.unwrap().id, it.unread_count, it.mention_count))
            .collect();
        assert_eq!(
            told,
            threads,
            "{who}, seed {}, after\n{}",
            self.seed,
            story()
        );
    }
}

/// What teams go through.
pub struct Course {
    /// The seed of the first of them; each other has the next.
    pub first: u64,
    /// How many there are.
    pub teams: u64,
    /// How many times there are, between which days pass.
    pub times: i64,
    /// How many steps each makes in each of them.
    pub steps: usize,
    /// After how many all threads are compared, and not only those that are unread.
    pub all_after: usize,
}

/// Runs teams through a course, and compares what they are told after each step.
pub async fn compare(course: Course) {
    let Course {
        first,
        teams,
        times,
        steps,
        all_after,
    } = course;
    let folder = Folder::new();
    let postgres = durable(&folder).await;
    let (url, database) = (postgres.url().to_owned(), connect(postgres.url()).await);
    let server = later(&url, "0s").await;
    let mut runs = Vec::new();
    for seed in first..first + teams {
        let tenant = TestTenant::new(&server, server.initialize(&format!("team-{seed}")).await);
        runs.push(Run::new(tenant, seed).await);
    }
    let began = Instant::now();
    for time in 0..times {
        let today = time * PASSING_DAYS;
        let hours = i32::try_from(today * 24).unwrap();
        // It takes out what is old by then, beside nobody.
        let keeper = later(&url, &format!("{hours}h")).await;
        cleaned(&database, hours).await;
        for run in &runs {
            run.is_aged(&database, hours).await;
        }
        keeper.stop().await;
        let going = runs.into_iter().map(async |mut run| {
            run.today = today;
            for channel in &mut run.channels {
                channel.age(today);
            }
            for who in USERS {
                run.check(who, true).await;
            }
            for step in 0..steps {
                run.step().await;
                let who = USERS[run.dice.below(USERS.len())];
                run.check(who, step % all_after == 0).await;
            }
            for who in USERS {
                run.check(who, true).await;
            }
            run
        });
        runs = join_all(going).await;
        let done = teams * u64::try_from(steps).unwrap() * u64::try_from(time + 1).unwrap();
        eprintln!("{done} steps, {:.0?}", began.elapsed());
    }
    let old: usize = runs.iter().map(|run| run.channels[0].entries.len()).sum();
    let said: i64 = runs.iter().map(|run| run.channels[0].last).sum();
    assert!(i64::try_from(old).unwrap() < said, "something was let go");
    server.stop().await;
    postgres.stop().await.unwrap();
}
