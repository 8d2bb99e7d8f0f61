//! What lists read of tables that are full: their pages, and not the tables.
//!
//! What a call has read is what PostgreSQL counts for it: the rows of sequential scans and the
//! entries of indexes. A conversation of a page takes three entries, its own, its identity's and
//! its contact's; each status that is asked for is a page of its own, of which the list is made.

use std::collections::BTreeMap;

use communication_service::pb::{
    Actor, Channel, ConversationStatus, GetChatActivityRequest, GetUnreadCountsRequest,
    ListAgentsRequest, ListConversationActivitiesRequest, ListConversationMergesRequest,
    ListConversationsRequest, ListEntriesRequest, ListMentionsRequest, ListMessagesRequest,
    ListThreadsRequest, MarkConversationReadRequest, Priority, actor,
};
use prost_types::Timestamp;
use tokio::sync::Mutex;
use tonic::{Code, Response, Status};

use crate::harness::{Tables, TestServer, TestTenant, eventually, user};

/// How many conversations there are, one each minute up to now: every other one is archived, the
/// others have all statuses in turn.
const CONVERSATIONS: i64 = 20_000;
/// More calls than PostgreSQL plans for their values: what comes after is planned for any.
const CALLS: i64 = 7;
/// The most that a page may read: what its statuses have, twice over and a little.
const MOST: i64 = 2_000;
/// The most where many pass, in an order for which their filter has no index: the order is read until
/// enough have passed.
const MOST_OF_MANY: i64 = 6_000;
/// The most where the longest waiting are asked for by something that many have: all who wait, or all
/// who have it, whichever PostgreSQL takes for fewer, or both.
const MOST_OF_WAITING: i64 = 12_000;

/// Few, and so old that who walks down from the newest meets all others first.
fn is_rare(n: i64) -> bool {
    (51..=70).contains(&n)
}

fn is_unassigned(n: i64) -> bool {
    (81..=100).contains(&n)
}

fn is_archived(n: i64) -> bool {
    n % 2 == 0
}

/// Whose customer waits: some of those that are at work.
fn waits(n: i64) -> bool {
    n % 8 == 1
}

const FILL: &str = "
    INSERT INTO channel_accounts (id, channel, name, is_default) VALUES
        ('00000000-0000-7000-8000-000000000001', 'whatsapp', 'busy', true),
        ('00000000-0000-7000-8000-000000000002', 'instagram', 'quiet', true);
    INSERT INTO contacts (id, name)
    SELECT ('00000000-0000-7001-8000-' || lpad(n::text, 12, '0'))::uuid, 'Customer ' || n
    FROM generate_series(1, {n}) n;
    INSERT INTO contact_identities (id, contact_id, channel_account_id, value)
    SELECT ('00000000-0000-7002-8000-' || lpad(n::text, 12, '0'))::uuid,
        ('00000000-0000-7001-8000-' || lpad(n::text, 12, '0'))::uuid,
        ('00000000-0000-7000-8000-00000000000' || CASE WHEN n BETWEEN 51 AND 70 THEN 2 ELSE 1 END)::uuid,
        'customer-' || n
    FROM generate_series(1, {n}) n;
    INSERT INTO inbox_conversations (id, number, contact_identity_id, channel, thread_key, status,
        priority, subject, metadata, last_sequence, last_message_at, created_at, updated_at,
        archived_at, assignee_id, team_id, qualified_at, qualified_by_kind, qualified_by_id, labels,
        snoozed_until, waiting_since, last_inbound_sequence, read_sequence)
    SELECT ('00000000-0000-7003-8000-' || lpad(n::text, 12, '0'))::uuid, n,
        ('00000000-0000-7002-8000-' || lpad(n::text, 12, '0'))::uuid,
        CASE WHEN is_rare THEN 'instagram' ELSE 'whatsapp' END, '',
        CASE WHEN n % 2 = 0 THEN 'archived'
            ELSE (ARRAY['new', 'open', 'replied', 'qualified'])[1 + n / 2 % 4] END,
        CASE WHEN is_rare THEN 'urgent' ELSE 'normal' END, '', '{}', 5, at, at,
        CASE WHEN is_rare THEN directory.now() ELSE at END, CASE WHEN n % 2 = 0 THEN at END,
        CASE WHEN is_rare THEN 'rare' WHEN n NOT BETWEEN 81 AND 100 THEN 'agent-' || n % 41 END,
        CASE WHEN is_rare THEN 'rare' ELSE 'team-' || n % 7 END, CASE WHEN is_rare THEN at END,
        CASE WHEN is_rare THEN 'user' END, CASE WHEN is_rare THEN 'rare' END,
        CASE WHEN is_rare THEN '{rare}' WHEN n % 3 = 0 THEN '{common}' ELSE '{}' END::text[],
        CASE WHEN is_rare AND n % 2 = 1 THEN directory.now() + interval '1 day' END,
        CASE WHEN n % 8 = 1 THEN at END, 5, CASE WHEN is_rare THEN 4 ELSE 5 END
    FROM (
        SELECT n, n BETWEEN 51 AND 70 AS is_rare,
            directory.now() - ({n} - n + 1) * interval '1 minute' AS at
        FROM generate_series(1, {n}) n
    ) n;
    ANALYZE channel_accounts, contacts, contact_identities, inbox_conversations";

/// A conversation with a long history, beside the others with a little, and with an archived one
/// for each of the many that were merged into it.
const FILL_HISTORY: &str = "
    INSERT INTO inbox_messages (id, conversation_id, sequence, direction, type, text, actor_kind,
        actor_id, caller, correlation_id, metadata, created_at, updated_at)
    SELECT ('00000000-0000-7004-8000-' || lpad(n::text, 12, '0'))::uuid,
        ('00000000-0000-7003-8000-' || lpad(CASE WHEN n % 5 = 0 THEN 1 ELSE 2 + n % 19998 END::text, 12, '0'))::uuid,
        n, 'inbound', 'text', 'text', 'service', 'test', 'test', '', '{}', at, at
    FROM (SELECT n, directory.now() - (100001 - n) * interval '1 second' AS at FROM generate_series(1, 100000) n) n;
    UPDATE inbox_conversations SET last_sequence = 100000, last_inbound_sequence = 100000
    WHERE number = 1;
    INSERT INTO conversation_changes (id, conversation_id, kind, rule, changed, actor_kind, actor_id,
        caller, correlation_id, at, old_status, status, priority, labels, was_qualified, is_qualified,
        was_unread, is_unread, was_waiting, is_waiting, episode, episode_started_at, is_first_response)
    SELECT n, ('00000000-0000-7003-8000-' || lpad(CASE WHEN n % 5 = 0 THEN 1 ELSE 2 + n % 19998 END::text, 12, '0'))::uuid,
        'updated', '', '{subject}', 'service', 'test', 'test', '', directory.now(), 'open', 'open',
        'normal', '{}', false, false, false, false, false, false, 1, directory.now(), false
    FROM generate_series(1, 40000) n;
    SELECT setval('events_id_seq', 40000);
    INSERT INTO conversation_merges (id, source_conversation_id, target_conversation_id,
        source_status, actor_kind, actor_id, created_at)
    SELECT ('00000000-0000-7005-8000-' || lpad(n::text, 12, '0'))::uuid,
        ('00000000-0000-7003-8000-' || lpad((2 * n)::text, 12, '0'))::uuid,
        ('00000000-0000-7003-8000-' || lpad(CASE WHEN n % 2 = 0 THEN 1 ELSE 2 * n - 1 END::text, 12, '0'))::uuid,
        'open', 'service', 'test', directory.now()
    FROM generate_series(1, 9999) n;
    INSERT INTO agents (id, user_id, is_available)
    SELECT gen_random_uuid(), 'agent-' || n, n % 2 = 0 FROM generate_series(0, 9999) n;
    ANALYZE inbox_messages, conversation_changes, conversation_merges, agents";

/// A word of all messages, and one of a few; a subject of every third conversation, and one of a
/// few.
const FILL_WORDS: &str = "
    INSERT INTO inbox_message_words (message_id, number, created_at, words)
    SELECT m.id, nextval('inbox_message_words_number_seq'), m.created_at,
        (quote_literal('.v' || m.conversation_id) || ' often:1'
            || CASE WHEN m.sequence BETWEEN 101 AND 119 THEN ' seldom:2' ELSE '' END)::tsvector
    FROM inbox_messages m;
    INSERT INTO conversation_words (word, conversation_id)
    SELECT CASE WHEN number BETWEEN 51 AND 70 THEN 'quarterly' ELSE 'daily' END, id
    FROM inbox_conversations WHERE number % 3 = 0;
    INSERT INTO contact_words (word, contact_id)
    SELECT w, id FROM contacts, unnest(ARRAY['customer', substr(name, 10)]) w;
    ANALYZE inbox_message_words, conversation_words, contact_words";

/// Channels of a team, one of them with a long history; the reader is in few of them. One entry comes each
/// minute; to some of the long history others reply, yesterday.
const FILL_CHAT: &str = "
    INSERT INTO channels (id, kind, name, name_key, topic, metadata, user_ids, posting_policy,
        broadcast_policy, invite_policy, retention_days, member_count, actor_kind, actor_id, caller,
        correlation_id, created_at, updated_at)
    SELECT ('00000000-0000-7006-8000-' || lpad(n::text, 12, '0'))::uuid, 'private', n, n, '', '{}', '{}',
        'members', 'members', 'members', 0, 1, 'user', 'author-0', 'test', 'test', directory.now(),
        directory.now()
    FROM generate_series(1, 5000) n;
    INSERT INTO channel_members (id, channel_id, user_id, role, joined_sequence, read_sequence, joined_at,
        updated_at)
    SELECT gen_random_uuid(), c.id, CASE WHEN c.name::int > 20 THEN 'user-' || c.name ELSE 'reader' END, 'member', 0,
        0, directory.now(), directory.now()
    FROM channels c;
    INSERT INTO chat_entries (id, channel_id, sequence, type, text, metadata, mentioned_user_ids,
        mentions_everyone, mentions_here, author_kind, author_id, caller, correlation_id, created_at,
        updated_at)
    SELECT ('00000000-0000-7007-8000-' || lpad(n::text, 12, '0'))::uuid,
        ('00000000-0000-7006-8000-' || lpad(channel::text, 12, '0'))::uuid,
        row_number() OVER (PARTITION BY channel ORDER BY n), 'message', 'text', '{}',
        CASE WHEN n % 10 = 0 THEN '{reader}' ELSE '{}' END::text[], false, false, 'user',
        'author-' || n % 40, 'test', 'test', at, at
    FROM (
        SELECT n, CASE WHEN n % 5 = 0 THEN 1 ELSE 2 + n % 4999 END AS channel,
            directory.now() - (40001 - n) * interval '1 minute' AS at
        FROM generate_series(1, 40000) n
    ) n;
    INSERT INTO mentions (chat_entry_id, user_id, channel_id, sequence, created_at)
    SELECT id, 'reader', channel_id, sequence, created_at FROM chat_entries WHERE mentioned_user_ids <> '{}';
    INSERT INTO chat_entries (id, channel_id, sequence, thread_root_id, type, text, metadata,
        mentioned_user_ids, mentions_everyone, mentions_here, author_kind, author_id, caller, correlation_id,
        created_at, updated_at)
    SELECT gen_random_uuid(), r.channel_id, 10000 + n * 100 + r.sequence / 100, r.id, 'message', 'text', '{}',
        '{}', false, false, 'user', 'author-' || n % 40, 'test', 'test', directory.now() - interval '1 day',
        directory.now()
    FROM chat_entries r, generate_series(1, 100) n
    WHERE r.channel_id = '00000000-0000-7006-8000-000000000001' AND r.sequence % 100 = 0;
    INSERT INTO thread_follows (id, chat_entry_id, user_id, channel_id, following, read_sequence, updated_at)
    SELECT gen_random_uuid(), r.id, CASE n WHEN 1 THEN 'reader' ELSE 'user-' || n END, r.channel_id, true, 0,
        directory.now()
    FROM chat_entries r, generate_series(1, 100) n
    WHERE r.channel_id = '00000000-0000-7006-8000-000000000001' AND r.sequence % 100 = 0;
    UPDATE channels c SET last_sequence = e.sequence
    FROM (SELECT channel_id, max(sequence) AS sequence FROM chat_entries GROUP BY 1) e WHERE c.id = e.channel_id;
    ANALYZE channels, channel_members, chat_entries, mentions, thread_follows";

/// A tenant with full tables.
struct Full {
    _server: TestServer,
    tenant: TestTenant,
    tables: Tables,
    /// A little before now, in seconds.
    lately: i64,
    /// What was read until now.
    counted: Mutex<BTreeMap<String, i64>>,
}

impl Full {
    async fn new(fills: &[&str]) -> Self {
        let server = TestServer::start().await;
        let tenant = server.tenant().await;
        let filling = Tables::of(&tenant).await;
        let path = format!("SET search_path = \"{}\"", filling.schema);
        filling.admin.batch_execute(&path).await.unwrap();
        for fill in fills {
            let fill = fill.replace("{n}", &CONVERSATIONS.to_string());
            filling.admin.batch_execute(&fill).await.unwrap();
        }
        let lately = "SELECT extract(epoch FROM directory.now())::bigint - 30";
        let lately = filling.count(lately).await;
        // What a session has counted is told at its end at the latest.
        let pid = filling.count("SELECT pg_backend_pid()::bigint").await;
        drop(filling);
        let tables = Tables::of(&tenant).await;
        let left = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
        eventually("the session that filled has ended", async || {
            tables.count(&left).await == 0
        })
        .await;
        let full = Self {
            _server: server,
            tenant,
            tables,
            lately,
            counted: Mutex::default(),
        };
        *full.counted.lock().await = full.read().await;
        full
    }

    /// Tells how many rows of tables and entries of indexes were read until now.
    async fn read(&self) -> BTreeMap<String, i64> {
        let role = &self.tables.role;
        let end = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{role}'"
        );
        self.tables.count(&end).await;
        eventually("the sessions have ended", async || {
            self.tables.sessions("true").await == 0
        })
        .await;
        let read = "SELECT relname::text, seq_tup_read FROM pg_stat_user_tables
            WHERE schemaname = $1 AND relname ~ '^(inbox|contact|conversation|agent|channel|chat|mention)'
            UNION ALL
            SELECT indexrelname::text, idx_tup_read FROM pg_stat_user_indexes
            WHERE schemaname = $1 AND relname ~ '^(inbox|contact|conversation|agent|channel|chat|mention)'";
        let read = self.tables.admin.query(read, &[&self.tables.schema]).await;
        let read = read.unwrap().into_iter();
        read.map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Makes a call so often that tells how many pages it has read, each of which reads no more
    /// than it may.
    async fn reads(&self, name: &str, times: i64, most: i64, call: impl AsyncFn() -> i64) {
        let mut reads = Vec::new();
        // Once suffices, unless the tenant's janitor or its statistics read meanwhile.
        for _ in 0..3 {
            let mut pages = 0;
            for _ in 0..times {
                pages += call().await;
            }
            let after = self.read().await;
            let mut counted = self.counted.lock().await;
            let read = after
                .iter()
                .map(|(of, after)| (of.clone(), (after - counted[of]) / pages))
                .filter(|(_, read)| *read > 0)
                .collect::<BTreeMap<_, _>>();
            *counted = after;
            assert!(!read.is_empty(), "{name}: nothing was counted");
            if read.values().sum::<i64>() <= most {
                return;
            }
            reads.push(read);
        }
        panic!("{name}: for one page, with no more than {most}, were read {reads:#?}");
    }

    async fn conversations(&self, request: &ListConversationsRequest) -> (Vec<i64>, String) {
        let mut inbox = self.tenant.inbox.clone();
        let answer = patient(async || inbox.list_conversations(request.clone()).await).await;
        let numbers = answer.conversations.iter().map(|found| found.number);
        (numbers.collect(), answer.next_page_token)
    }

    /// Reads two pages of a list, which are what they should be, and counts what they read.
    async fn list(&self, case: &Case, order: &Order, statuses: &Statuses) {
        let name = format!("{}, {}, {}", case.name, order.name, statuses.name);
        let mut request = ListConversationsRequest {
            tenant: self.tenant.slug(),
            order_by: order.name.to_owned(),
            statuses: statuses.wanted.iter().copied().map(Into::into).collect(),
            ..Default::default()
        };
        (case.ask)(&mut request, self.lately);
        let mut expected: Vec<_> = (1..=CONVERSATIONS)
            .filter(|n| (statuses.holds)(*n) && (case.holds)(*n))
            .filter(|n| order.name != WAITING || waits(*n))
            .collect();
        expected.sort_by_key(|n| (order.key)(*n));
        let expected: Vec<_> = expected.chunks(50).collect();
        let most = match (case.many, order.name) {
            (true, WAITING) => MOST_OF_WAITING,
            (true, _) => MOST_OF_MANY,
            (false, _) => MOST,
        };
        // Without a filter the prepared plan is kept.
        let times = if case.name == "all" { CALLS } else { 1 };
        self.reads(&name, times, most, async || {
            let mut request = request.clone();
            let (first, token) = self.conversations(&request).await;
            assert_eq!(first, *expected.first().unwrap_or(&&[][..]), "{name}");
            assert_eq!(token.is_empty(), expected.len() < 2, "{name}");
            if token.is_empty() {
                return 1;
            }
            request.page_token = token;
            let (second, token) = self.conversations(&request).await;
            assert_eq!(second, expected[1], "{name}");
            assert_eq!(token.is_empty(), expected.len() < 3, "{name}");
            2
        })
        .await;
    }
}

/// Makes a call again if it met a session that had just been ended.
async fn patient<T>(mut call: impl AsyncFnMut() -> Result<Response<T>, Status>) -> T {
    loop {
        match call().await {
            Err(status) if status.code() == Code::Unavailable => {}
            answer => return answer.unwrap().into_inner(),
        }
    }
}

/// A filter.
struct Case {
    name: &'static str,
    ask: fn(&mut ListConversationsRequest, i64),
    /// Which conversations it lets pass.
    holds: fn(i64) -> bool,
    /// Whether those are many.
    many: bool,
}

const fn case(
    name: &'static str,
    many: bool,
    ask: fn(&mut ListConversationsRequest, i64),
    holds: fn(i64) -> bool,
) -> Case {
    Case {
        name,
        ask,
        holds,
        many,
    }
}

const CASES: [Case; 23] = [
    case("all", false, |_, _| {}, |_| true),
    case(
        "channel",
        false,
        |r, _| r.channels = vec![Channel::Instagram.into()],
        is_rare,
    ),
    case(
        "two channels",
        false,
        |r, _| r.channels = vec![Channel::Whatsapp.into(), Channel::Instagram.into()],
        |_| true,
    ),
    case(
        "account",
        false,
        |r, _| r.channel_account_id = "00000000-0000-7000-8000-000000000002".to_owned(),
        is_rare,
    ),
    case(
        "busy account",
        true,
        |r, _| r.channel_account_id = "00000000-0000-7000-8000-000000000001".to_owned(),
        |n| !is_rare(n),
    ),
    case(
        "contact",
        false,
        |r, _| r.contact_id = "00000000-0000-7001-8000-000000000057".to_owned(),
        |n| n == 57,
    ),
    case(
        "updated since",
        false,
        |r, lately| {
            r.updated_since_time = Some(Timestamp {
                seconds: lately,
                nanos: 0,
            });
        },
        is_rare,
    ),
    case(
        "assignee",
        false,
        |r, _| r.assignee_id = "rare".to_owned(),
        is_rare,
    ),
    case(
        "busy assignee",
        true,
        |r, _| r.assignee_id = "agent-7".to_owned(),
        |n| n % 41 == 7 && !is_rare(n) && !is_unassigned(n),
    ),
    case("team", false, |r, _| r.team_id = "rare".to_owned(), is_rare),
    case(
        "busy team",
        true,
        |r, _| r.team_id = "team-2".to_owned(),
        |n| n % 7 == 2 && !is_rare(n),
    ),
    case(
        "unassigned",
        false,
        |r, _| r.unassigned = Some(true),
        is_unassigned,
    ),
    case(
        "assigned",
        false,
        |r, _| r.unassigned = Some(false),
        |n| !is_unassigned(n),
    ),
    case(
        "label",
        false,
        |r, _| r.labels = vec!["rare".to_owned()],
        is_rare,
    ),
    case(
        "common label",
        true,
        |r, _| r.labels = vec!["common".to_owned()],
        |n| n % 3 == 0 && !is_rare(n),
    ),
    case(
        "urgent",
        false,
        |r, _| r.priorities = vec![Priority::Urgent.into()],
        is_rare,
    ),
    case(
        "urgent or high",
        false,
        |r, _| r.priorities = vec![Priority::Urgent.into(), Priority::High.into()],
        is_rare,
    ),
    case("qualified", false, |r, _| r.qualified = Some(true), is_rare),
    case(
        "snoozed",
        false,
        |r, _| r.snoozed = Some(true),
        |n| is_rare(n) && !is_archived(n),
    ),
    case("unread", false, |r, _| r.unread = Some(true), is_rare),
    case(
        "none of the rare states",
        false,
        |r, _| (r.qualified, r.snoozed, r.unread) = (Some(false), Some(false), Some(false)),
        |n| !is_rare(n),
    ),
    case(
        "unread of a busy assignee",
        false,
        |r, _| (r.assignee_id, r.unread) = ("agent-7".to_owned(), Some(true)),
        |_| false,
    ),
    case(
        "unassigned of a busy team on a channel",
        false,
        |r, _| {
            r.team_id = "team-2".to_owned();
            r.unassigned = Some(true);
            r.channels = vec![Channel::Whatsapp.into()];
        },
        |n| is_unassigned(n) && n % 7 == 2,
    ),
];

const WAITING: &str = "waiting_since_time";

struct Order {
    name: &'static str,
    key: fn(i64) -> (bool, i64),
}

const ORDERS: [Order; 5] = [
    Order {
        name: "last_message_time desc",
        key: |n| (false, -n),
    },
    Order {
        name: "create_time desc",
        key: |n| (false, -n),
    },
    Order {
        name: "create_time",
        key: |n| (false, n),
    },
    Order {
        name: "priority desc",
        key: |n| (!is_rare(n), n),
    },
    Order {
        name: WAITING,
        key: |n| (false, n),
    },
];

struct Statuses {
    name: &'static str,
    wanted: &'static [ConversationStatus],
    holds: fn(i64) -> bool,
}

const STATUSES: [Statuses; 3] = [
    Statuses {
        name: "at work",
        wanted: &[],
        holds: |n| !is_archived(n),
    },
    Statuses {
        name: "archived",
        wanted: &[ConversationStatus::Archived],
        holds: is_archived,
    },
    Statuses {
        name: "open and archived",
        wanted: &[ConversationStatus::Open, ConversationStatus::Archived],
        holds: |n| is_archived(n) || n / 2 % 4 == 1,
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_conversations_read_no_more_than_their_pages() {
    let full = Full::new(&[FILL]).await;
    for case in &CASES {
        for (order, kinds) in ORDERS.iter().zip([3, 2, 1, 1, 1]) {
            for statuses in &STATUSES[..kinds] {
                full.list(case, order, statuses).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_text_is_found_in_is_listed_in_every_order_however_often_it_is_found() {
    /// A text, whether it is found often, and in which conversations.
    type Text = (&'static str, bool, fn(i64) -> bool);
    fn says_seldom(n: i64) -> bool {
        n == 1 || (101..=119).any(|message| message % 5 > 0 && n == 2 + message % 19_998)
    }
    let full = Full::new(&[FILL, FILL_HISTORY, FILL_WORDS]).await;
    // By what was said, by whom it is with, and by its subject; each seldom and often.
    let texts: [Text; 8] = [
        ("seldom", false, says_seldom),
        ("often", true, |_| true),
        ("\"often seldom\"", false, says_seldom),
        ("1999", false, |n| {
            n == 1999 || (19_990..20_000).contains(&n)
        }),
        ("custom 1", true, |n| n.to_string().starts_with('1')),
        ("quarter", false, |n| is_rare(n) && n % 3 == 0),
        ("daily", true, |n| !is_rare(n) && n % 3 == 0),
        ("nowhere", false, |_| false),
    ];
    for (text, often, holds) in texts {
        for order in &ORDERS {
            let name = format!("{text}, {}", order.name);
            let mut request = ListConversationsRequest {
                tenant: full.tenant.slug(),
                order_by: order.name.to_owned(),
                text: text.to_owned(),
                ..Default::default()
            };
            let mut expected: Vec<_> = (1..=CONVERSATIONS)
                .filter(|n| !is_archived(*n) && holds(*n))
                .filter(|n| order.name != WAITING || waits(*n))
                .collect();
            expected.sort_by_key(|n| (order.key)(*n));
            let mut expected = expected.chunks(50);
            for _ in 0..2 {
                let (page, token) = full.conversations(&request).await;
                assert_eq!(page, expected.next().unwrap_or_default(), "{name}");
                request.page_token = token;
                if request.page_token.is_empty() {
                    assert_eq!(expected.len(), 0, "{name}");
                    break;
                }
            }
            request.page_token.clear();
            if !often {
                full.reads(&name, 1, MOST, async || {
                    full.conversations(&request).await;
                    1
                })
                .await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_one_conversation_and_of_agents_read_no_more_than_their_pages() {
    let full = Full::new(&[FILL, FILL_HISTORY]).await;
    let id = "00000000-0000-7003-8000-000000000001".to_owned();
    let tenant = full.tenant.slug();
    let inbox = || full.tenant.inbox.clone();

    for (order_by, around) in [
        ("sequence", ""),
        ("sequence desc", ""),
        ("sequence", "00000000-0000-7004-8000-000000050000"),
    ] {
        let mut request = ListMessagesRequest {
            tenant: tenant.clone(),
            conversation_id: id.clone(),
            order_by: order_by.to_owned(),
            around_message_id: around.to_owned(),
            ..Default::default()
        };
        let page = async || patient(async || inbox().list_messages(request.clone()).await).await;
        let first = page().await;
        full.reads("messages", CALLS, 200, async || {
            assert_eq!(page().await.messages, first.messages);
            1
        })
        .await;
        assert_eq!(first.messages.len(), 50);
        request.page_token = first.next_page_token;
        let page = async || patient(async || inbox().list_messages(request.clone()).await).await;
        full.reads("more messages", CALLS, 200, async || {
            assert_eq!(page().await.messages.len(), 50);
            1
        })
        .await;
    }

    let request = ListConversationActivitiesRequest {
        tenant: tenant.clone(),
        conversation_id: id.clone(),
        ..Default::default()
    };
    full.reads("activities", CALLS, 100, async || {
        let mut request = request.clone();
        for _ in 0..2 {
            let call = async || inbox().list_conversation_activities(request.clone()).await;
            let page = patient(call).await;
            assert_eq!(page.activities.len(), 50);
            request.page_token = page.next_page_token;
        }
        2
    })
    .await;

    // Of the one that many were merged into, and of one that was merged itself.
    for (conversation, merges, pages) in [(1, 50, 2), (19_996, 1, 1)] {
        let request = ListConversationMergesRequest {
            tenant: tenant.clone(),
            conversation_id: format!("00000000-0000-7003-8000-{conversation:012}"),
            ..Default::default()
        };
        full.reads("merges", CALLS, 300, async || {
            let mut request = request.clone();
            for _ in 0..pages {
                let call = async || inbox().list_conversation_merges(request.clone()).await;
                let page = patient(call).await;
                assert_eq!(page.merges.len(), merges);
                request.page_token = page.next_page_token;
            }
            pages
        })
        .await;
    }

    for available in [None, Some(true), Some(false)] {
        let request = ListAgentsRequest {
            tenant: tenant.clone(),
            available,
            ..Default::default()
        };
        // Beside the agents, the conversations at work of the few who have some.
        full.reads("agents", CALLS, 1_000, async || {
            let mut request = request.clone();
            for _ in 0..2 {
                let page = patient(async || inbox().list_agents(request.clone()).await).await;
                assert_eq!(page.agents.len(), 50);
                request.page_token = page.next_page_token;
            }
            2
        })
        .await;
    }

    let reader = Some(Actor {
        kind: Some(actor::Kind::UserId("reader".to_owned())),
    });
    let request = MarkConversationReadRequest {
        tenant: tenant.clone(),
        actor: reader.clone(),
        conversation_id: id,
        sequence: 5,
    };
    // What is unread is counted to a thousand.
    full.reads("what is unread", CALLS, 1_200, async || {
        let call = async || inbox().mark_conversation_read(request.clone()).await;
        let marked = patient(call).await.conversation.unwrap();
        assert_eq!(marked.unread_count, Some(1_000));
        1
    })
    .await;
    let request = ListConversationsRequest {
        tenant,
        actor: reader,
        order_by: "create_time".to_owned(),
        ..Default::default()
    };
    let most = MOST + 1_000;
    full.reads("what is unread of a page", CALLS, most, async || {
        assert_eq!(full.conversations(&request).await.0.len(), 50);
        1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_team_has_said_is_read_by_the_page_and_the_range() {
    let full = Full::new(&[FILL_CHAT]).await;
    let (tenant, reader) = (full.tenant.slug(), user("reader"));
    let chat = || full.tenant.chat.clone();
    for order_by in ["sequence", "sequence desc"] {
        let request = ListEntriesRequest {
            tenant: tenant.clone(),
            actor: reader.clone(),
            channel_id: "00000000-0000-7006-8000-000000000001".to_owned(),
            order_by: order_by.to_owned(),
            ..Default::default()
        };
        full.reads("entries", CALLS, 200, async || {
            let mut request = request.clone();
            for _ in 0..2 {
                let page = patient(async || chat().list_entries(request.clone()).await).await;
                assert_eq!(page.entries.len(), 50);
                request.page_token = page.next_page_token;
            }
            2
        })
        .await;
    }
    let request = ListMentionsRequest {
        tenant: tenant.clone(),
        actor: reader.clone(),
        ..Default::default()
    };
    full.reads("mentions", CALLS, 400, async || {
        let mut request = request.clone();
        for _ in 0..2 {
            let page = patient(async || chat().list_mentions(request.clone()).await).await;
            assert_eq!(page.entries.len(), 50);
            request.page_token = page.next_page_token;
        }
        2
    })
    .await;
    // Entries and mentions are counted to a thousand in each channel.
    let request = GetUnreadCountsRequest {
        tenant: tenant.clone(),
        actor: reader.clone(),
        ..Default::default()
    };
    full.reads("what is unread", CALLS, 4_000, async || {
        let counts = patient(async || chat().get_unread_counts(request.clone()).await).await;
        assert_eq!(counts.channels.len(), 20);
        let busy = counts.channels.iter().find(|count| count.unread_capped);
        let busy = busy.unwrap();
        assert!(busy.mention_capped);
        assert_eq!(busy.unread_thread_count, 80);
        1
    })
    .await;
    let request = ListThreadsRequest {
        tenant: tenant.clone(),
        actor: reader,
        ..Default::default()
    };
    // All that is followed, and of each thread of the page what is unread there.
    full.reads("threads", CALLS, 11_500, async || {
        let page = patient(async || chat().list_threads(request.clone()).await).await;
        assert!(page.threads.iter().all(|thread| thread.unread_count == 100));
        assert_eq!(page.threads.len(), 50);
        1
    })
    .await;
    // Of ten hours, with a step for each author; all channels are looked at, since all are asked for.
    let request = GetChatActivityRequest {
        tenant,
        unrestricted: true,
        start_time: Some(Timestamp {
            seconds: full.lately - 36_000,
            nanos: 0,
        }),
        end_time: Some(Timestamp {
            seconds: full.lately,
            nanos: 0,
        }),
        ..Default::default()
    };
    full.reads("activity", CALLS, 6_800, async || {
        let page = patient(async || chat().get_chat_activity(request.clone()).await).await;
        assert_eq!(page.activities.len(), 40);
        let entries = page.activities.iter().map(|it| it.entry_count);
        assert_eq!(entries.sum::<i64>(), 600);
        1
    })
    .await;
}
