//! Lists: one tenant of a million messages beside 200 that are small. Each call is made to the large
//! one and to a small one in turn, so that whatever else the machine does slows both.
//!
//! `BENCH_MESSAGES` says how many there are instead.

use std::path::Path;
use std::time::Instant;

use communication_service::pb;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hdrhistogram::Histogram;
use prost::bytes::Bytes;
use prost_types::Timestamp;

use crate::callers::Callers;
use crate::postgres::{BUILD_INDEXES, DROP_INDEXES, Postgres};
use crate::report::verdict;
use crate::service::Service;
use crate::{Failure, INITIALIZE_TENANT, LIST_MESSAGES, TENANT, bytes, service, setting};

/// The name that the arguments of a run can ask for.
pub const NAME: &str = "lists";

const LIST_CONVERSATIONS: &str = "/communication.v1.InboxService/ListConversations";
const LIST_ACTIVITIES: &str = "/communication.v1.InboxService/ListConversationActivities";
const LIST_CONTACTS: &str = "/communication.v1.InboxService/ListContacts";
const SEARCH_MESSAGES: &str = "/communication.v1.InboxService/SearchMessages";
const SMALL_TENANTS: usize = 200;
/// Messages of each conversation of the large tenant.
const MESSAGES_OF_LARGE: usize = 20;
const CONVERSATIONS_OF_SMALL: usize = 200;
const MESSAGES_OF_SMALL: usize = 5;
const PAGE: i32 = 20;
/// How often each call is made to either, and how often before that.
const ROUNDS: usize = 200;
const WARM_UP: usize = 20;
/// The bar: 95 of 100 pages come in so many milliseconds,
const BAR: f64 = 50.0;
/// and the large tenant's take no longer than so many times a small one's, and a millisecond,
const FLAT: f64 = 1.5;
/// but for these. The filters of the first three have no index in that order: the more pass, the more is
/// read. A search for what all have ranks the newest few thousand, and a small tenant has fewer.
const NOT_FLAT: [&str; 4] = [
    "of an agent, create_time desc",
    "urgent",
    "with a label",
    "SearchMessages, a word of all",
];

/// A year of conversations of `{agents}` agents in 2 teams on 2 accounts. Every other one is
/// archived, the others have all statuses in turn; some are unread, labelled, urgent, unassigned.
const STORY: &str = "
    INSERT INTO channel_accounts (id, channel, name, is_default) VALUES
        ('00000000-0000-7000-8000-000000000000', 'whatsapp', 'busy', true),
        ('00000000-0000-7000-8000-000000000001', 'email', 'quiet', true);
    INSERT INTO contacts (id, name, name_folded)
    SELECT ('00000000-0000-7001-8000-' || lpad(n::text, 12, '0'))::uuid, 'Customer ' || n,
        'customer ' || n
    FROM generate_series(1, {n}) n;
    INSERT INTO contact_identities (id, contact_id, channel_account_id, value)
    SELECT ('00000000-0000-7002-8000-' || lpad(n::text, 12, '0'))::uuid,
        ('00000000-0000-7001-8000-' || lpad(n::text, 12, '0'))::uuid,
        ('00000000-0000-7000-8000-00000000000' || (n % 5 = 0)::integer)::uuid, n::text
    FROM generate_series(1, {n}) n;
    CREATE TEMP TABLE story AS
    SELECT n, directory.now() - interval '1 year' + n * (interval '364 days' / {n}) AS at
    FROM generate_series(1, {n}) n;
    INSERT INTO inbox_conversations (id, number, contact_identity_id, channel, thread_key, status,
        priority, subject, metadata, last_sequence, last_message_at, created_at, updated_at,
        archived_at, assignee_id, team_id, qualified_at, qualified_by_kind, qualified_by_id, labels,
        waiting_since, last_inbound_sequence, read_sequence)
    SELECT ('00000000-0000-7003-8000-' || lpad(n::text, 12, '0'))::uuid, n,
        ('00000000-0000-7002-8000-' || lpad(n::text, 12, '0'))::uuid,
        CASE n % 5 WHEN 0 THEN 'email' ELSE 'whatsapp' END, '',
        CASE n % 2 WHEN 0 THEN 'archived'
            ELSE (ARRAY['new', 'open', 'replied', 'qualified'])[1 + n / 2 % 4] END,
        CASE n % 11 WHEN 0 THEN 'urgent' ELSE 'normal' END, '', '{}', {m}, at, at, at,
        CASE n % 2 WHEN 0 THEN at END,
        CASE n % 7 WHEN 0 THEN NULL ELSE 'agent-' || n / 7 % {agents} END, 'team-' || n / 3 % 2,
        CASE n % 13 WHEN 0 THEN at END, CASE n % 13 WHEN 0 THEN 'user' END,
        CASE n % 13 WHEN 0 THEN 'agent-0' END, CASE n % 40 WHEN 0 THEN '{vip}' ELSE '{}' END::text[],
        CASE n % 8 WHEN 1 THEN at END, {m}, {m} - (n % 5 = 2 OR n % 5 = 3)::integer
    FROM story;
    INSERT INTO inbox_messages (id, conversation_id, sequence, direction, type, text, status,
        actor_kind, actor_id, caller, correlation_id, metadata, created_at, updated_at)
    SELECT ('00000000-0000-7004-8000-' || lpad((n * {m} + k)::text, 12, '0'))::uuid,
        ('00000000-0000-7003-8000-' || lpad(n::text, 12, '0'))::uuid, k,
        CASE k % 2 WHEN 0 THEN 'inbound' ELSE 'outbound' END, 'text',
        'good morning order' || (n * {m} + k) * 7919::bigint % 1000 || ' name' || (n * {m} + k) * 7919::bigint % 60000,
        CASE k % 2 WHEN 1 THEN 'read' END, CASE k % 2 WHEN 0 THEN 'service' ELSE 'user' END,
        CASE k % 2 WHEN 0 THEN 'bench' ELSE 'agent-' || n / 7 % {agents} END, 'bench', 'bench', '{}',
        at, at
    FROM story, generate_series(1, {m}) k ORDER BY n, k;
    INSERT INTO inbox_message_words (message_id, number, created_at, words)
    SELECT m.id, m.number, m.created_at, array_to_tsvector(ARRAY['.a' || (m.number >> 12),
        '.b' || (m.number >> 17), '.c' || c.channel, '.d' || m.direction, '.e' || m.day,
        '.f' || (m.day >> 5), '.g' || (m.day >> 10), '.k' || c.contact_identity_id,
        '.n' || k.channel_account_id, '.ttext', '.v' || c.id, '.w' || m.actor_kind || ' ' || m.actor_id
    ]) || to_tsvector('simple', m.text)
    FROM (
        SELECT m.*, nextval('inbox_message_words_number_seq') AS number,
            floor(extract(epoch FROM created_at) / 86400)::integer AS day
        FROM (SELECT * FROM inbox_messages ORDER BY id) m
    ) m
    JOIN inbox_conversations c ON c.id = m.conversation_id
    JOIN contact_identities k ON k.id = c.contact_identity_id;
    INSERT INTO conversation_changes (id, conversation_id, kind, rule, changed, actor_kind, actor_id,
        caller, correlation_id, at, old_status, status, priority, labels, was_qualified, is_qualified,
        was_unread, is_unread, was_waiting, is_waiting, episode, episode_started_at, is_first_response)
    SELECT n * 5 + k, ('00000000-0000-7003-8000-' || lpad(n::text, 12, '0'))::uuid, 'updated', '',
        '{subject}', 'user', 'agent-0', 'bench', 'bench', at, 'open', 'open', 'normal', '{}', false,
        false, false, false, false, false, 1, at, false
    FROM story, generate_series(0, 4) k;
    INSERT INTO contact_words (word, contact_id) SELECT number::text, id
    FROM (SELECT row_number() OVER (ORDER BY id) AS number, id FROM contacts) c;
    -- What is there is not for the statistics to count.
    SELECT setval('events_id_seq', {n} * 5 + 5);
    UPDATE statistics_folds SET position = {n} * 5 + 5;
    DROP TABLE story";

/// How large a tenant is.
#[derive(Debug, Clone, Copy)]
struct Size {
    conversations: usize,
    messages: usize,
    agents: usize,
}

/// Encodes a request for a tenant of a size, the next of many.
type Asking = dyn Fn(&str, Size, usize) -> Bytes;

/// A call to measure.
struct Case {
    name: &'static str,
    path: &'static str,
    /// The request about a tenant of that size, different each time.
    request: Box<Asking>,
}

fn conversations(
    name: &'static str,
    ask: impl Fn(&mut pb::ListConversationsRequest, Size, usize) + 'static,
) -> Case {
    let request = move |tenant: &str, size: Size, round: usize| {
        let mut request = pb::ListConversationsRequest {
            tenant: tenant.to_owned(),
            page_size: PAGE,
            ..Default::default()
        };
        ask(&mut request, size, round);
        bytes(&request)
    };
    Case {
        name,
        path: LIST_CONVERSATIONS,
        request: Box::new(request),
    }
}

/// The conversation of a round.
fn conversation(size: Size, round: usize) -> usize {
    1 + round * 7919 % size.conversations
}

fn conversation_id(size: Size, round: usize) -> String {
    let number = conversation(size, round);
    format!("00000000-0000-7003-8000-{number:012}")
}

fn messages(name: &'static str, order_by: &'static str, around: bool) -> Case {
    let request = move |tenant: &str, size: Size, round: usize| {
        let number = conversation(size, round) * size.messages + size.messages / 2;
        bytes(&pb::ListMessagesRequest {
            tenant: tenant.to_owned(),
            conversation_id: conversation_id(size, round),
            order_by: order_by.to_owned(),
            around_message_id: if around {
                format!("00000000-0000-7004-8000-{number:012}")
            } else {
                String::new()
            },
            page_size: 5,
            ..Default::default()
        })
    };
    Case {
        name,
        path: LIST_MESSAGES,
        request: Box::new(request),
    }
}

fn search(name: &'static str, query: fn(Size, usize) -> String) -> Case {
    let request = move |tenant: &str, size: Size, round: usize| {
        bytes(&pb::SearchMessagesRequest {
            tenant: tenant.to_owned(),
            query: query(size, round),
            page_size: PAGE,
            ..Default::default()
        })
    };
    Case {
        name,
        path: SEARCH_MESSAGES,
        request: Box::new(request),
    }
}

fn cases(now: i64) -> Vec<Case> {
    use pb::ConversationStatus::Archived;
    let plain = |_: &mut pb::ListConversationsRequest, _: Size, _: usize| {};
    let ordered = |order: &'static str| {
        move |r: &mut pb::ListConversationsRequest, _: Size, _: usize| {
            r.order_by = order.to_owned();
        }
    };
    let user = |id: String| {
        Some(pb::Actor {
            kind: Some(pb::actor::Kind::UserId(id)),
        })
    };
    vec![
        conversations("ListConversations", plain),
        conversations("the same, with what a user has not read", move |r, _, n| {
            r.actor = user(format!("agent-{}", n % 5));
        }),
        conversations("create_time desc", ordered("create_time desc")),
        conversations("create_time", ordered("create_time")),
        conversations("priority desc", ordered("priority desc")),
        conversations("waiting_since_time", ordered("waiting_since_time")),
        conversations("archived", |r, _, _| r.statuses = vec![Archived.into()]),
        conversations("of an agent", |r, size, n| {
            r.assignee_id = format!("agent-{}", n % size.agents);
        }),
        conversations("of an agent, archived", |r, size, n| {
            r.assignee_id = format!("agent-{}", n % size.agents);
            r.statuses = vec![Archived.into()];
        }),
        conversations("of an agent, create_time desc", |r, size, n| {
            r.assignee_id = format!("agent-{}", n % size.agents);
            r.order_by = "create_time desc".to_owned();
        }),
        conversations("of a team", |r, _, n| r.team_id = format!("team-{}", n % 2)),
        conversations("unassigned", |r, _, _| r.unassigned = Some(true)),
        conversations("unread", |r, _, _| r.unread = Some(true)),
        conversations("unread of an agent", |r, size, n| {
            r.assignee_id = format!("agent-{}", n % size.agents);
            r.unread = Some(true);
        }),
        conversations("qualified", |r, _, _| r.qualified = Some(true)),
        conversations("urgent", |r, _, _| {
            r.priorities = vec![pb::Priority::Urgent.into()];
        }),
        conversations("with a label", |r, _, _| r.labels = vec!["vip".to_owned()]),
        conversations("of a channel", |r, _, _| {
            r.channels = vec![pb::Channel::Email.into()];
        }),
        conversations("of an account", |r, _, _| {
            r.channel_account_id = "00000000-0000-7000-8000-000000000001".to_owned();
        }),
        conversations("of a contact", |r, size, n| {
            let number = conversation(size, n);
            r.contact_id = format!("00000000-0000-7001-8000-{number:012}");
        }),
        conversations("updated in the last two days", move |r, _, _| {
            r.updated_since_time = Some(Timestamp {
                seconds: now - 2 * 86_400,
                nanos: 0,
            });
        }),
        conversations("with a word of all messages", |r, _, _| {
            r.text = "morning".to_owned()
        }),
        conversations("with a word of a thousandth", |r, _, n| {
            r.text = format!("order{}", n * 31 % 1000);
        }),
        conversations("with a name", |r, size, n| {
            r.text = conversation(size, n).to_string();
        }),
        messages("ListMessages, the oldest", "sequence", false),
        messages("ListMessages, the newest", "sequence desc", false),
        messages("ListMessages, around one", "sequence", true),
        Case {
            name: "ListConversationActivities",
            path: LIST_ACTIVITIES,
            request: Box::new(|tenant, size, round| {
                bytes(&pb::ListConversationActivitiesRequest {
                    tenant: tenant.to_owned(),
                    conversation_id: conversation_id(size, round),
                    page_size: PAGE,
                    ..Default::default()
                })
            }),
        },
        Case {
            name: "ListContacts",
            path: LIST_CONTACTS,
            request: Box::new(|tenant, _, _| {
                bytes(&pb::ListContactsRequest {
                    tenant: tenant.to_owned(),
                    page_size: PAGE,
                    ..Default::default()
                })
            }),
        },
        search("SearchMessages, a word of all", |_, _| "morning".to_owned()),
        search("SearchMessages, a word of a thousandth", |_, n| {
            format!("order{}", n * 31 % 1000)
        }),
        search("SearchMessages, a rare word", |size, n| {
            let number = conversation(size, n) * size.messages + 1;
            format!("name{}", number * 7919 % 60_000)
        }),
        search("SearchMessages, two words", |_, n| {
            format!("good order{}", n * 31 % 1000)
        }),
    ]
}

/// Fills the tenants, and measures.
pub async fn measure(postgres: &Postgres, folder: &Path) -> Result<(), Failure> {
    let messages: usize = setting("BENCH_MESSAGES", 1_000_000)?;
    let token = service::token(folder).await?;
    let service = Service::start(folder, postgres.url(), &[]).await?;
    let callers = Callers::connect(&service.address, &token).await?;
    let begun = Instant::now();
    let initialize = |number: usize| {
        let tenant = pb::InitializeTenantRequest {
            tenant: name(number),
            ..Default::default()
        };
        callers.call(INITIALIZE_TENANT, bytes(&tenant))
    };
    let made = stream::iter(0..=SMALL_TENANTS).map(initialize);
    made.buffered(4).try_collect::<Vec<_>>().await?;
    let large = Size {
        conversations: messages / MESSAGES_OF_LARGE,
        messages: MESSAGES_OF_LARGE,
        agents: 50,
    };
    let small = Size {
        conversations: CONVERSATIONS_OF_SMALL,
        messages: MESSAGES_OF_SMALL,
        agents: 3,
    };
    fill(postgres, TENANT, large).await?;
    for number in 1..=SMALL_TENANTS {
        fill(postgres, &name(number), small).await?;
    }
    postgres.admin.batch_execute("VACUUM ANALYZE").await?;
    eprintln!("filled after {:.0?}", begun.elapsed());

    println!(
        "\n{messages} messages of {} conversations; {SMALL_TENANTS} tenants of {} messages of {} conversations\n",
        large.conversations,
        small.conversations * small.messages,
        small.conversations
    );
    println!(
        "| pages of {PAGE} | small, p50 | large, p50 | bar | small, p95 | large, p95 | bar |\n|---|--:|--:|---|--:|--:|---|"
    );
    let now = "SELECT extract(epoch FROM now())::bigint";
    let now: i64 = postgres.admin.query_one(now, &[]).await?.get(0);
    for case in cases(now) {
        let mut histograms = [Histogram::<u64>::new(3)?, Histogram::<u64>::new(3)?];
        for round in 0..ROUNDS + WARM_UP {
            let tenants = [(name(1), small), (TENANT.to_owned(), large)];
            for ((tenant, size), histogram) in tenants.into_iter().zip(&mut histograms) {
                let request = (case.request)(&tenant, size, round);
                let begun = Instant::now();
                callers.call(case.path, request).await?;
                if round >= WARM_UP {
                    histogram.record(u64::try_from(begun.elapsed().as_micros())?)?;
                }
            }
        }
        let at = |part| {
            histograms
                .each_ref()
                .map(|histogram| histogram.value_at_quantile(part) as f64 / 1e3)
        };
        let ([small50, large50], [small95, large95]) = (at(0.5), at(0.95));
        let flat = FLAT * small50 + 1.0;
        let flat = match case.name {
            name if NOT_FLAT.contains(&name) => "–".to_owned(),
            _ => format!("≤ {flat:.1} {}", verdict(large50 <= flat)),
        };
        println!(
            "| {} | {small50:.1} ms | {large50:.1} ms | {flat} | {small95:.1} ms | {large95:.1} ms | < {BAR} {} |",
            case.name,
            verdict(large95 < BAR),
        );
    }
    service.stop().await
}

/// The large tenant's name, or that of a small one.
fn name(number: usize) -> String {
    match number {
        0 => TENANT.to_owned(),
        number => format!("small-{number}"),
    }
}

async fn fill(postgres: &Postgres, tenant: &str, size: Size) -> Result<(), Failure> {
    let admin = &postgres.admin;
    let sql = "SELECT schema_name FROM directory.tenants WHERE slug = $1";
    let schema: String = admin.query_one(sql, &[&tenant]).await?.get(0);
    let path = format!("SET search_path = \"{schema}\", pg_catalog");
    admin.batch_execute(&path).await?;
    let story = STORY
        .replace("{n}", &size.conversations.to_string())
        .replace("{m}", &size.messages.to_string())
        .replace("{agents}", &size.agents.to_string());
    let steps = match tenant {
        TENANT => [DROP_INDEXES, &story, BUILD_INDEXES],
        _ => ["", &story, ""],
    };
    for step in steps {
        admin.batch_execute(step).await?;
    }
    admin.batch_execute("RESET search_path").await?;
    Ok(())
}
