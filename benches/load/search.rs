//! Search: a million messages of one tenant, beside 200 tenants that are small.
//!
//! `BENCH_MESSAGES` says how many there are instead.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use communication_service::pb;
use futures_util::{SinkExt as _, StreamExt as _, TryStreamExt as _, stream};
use prost::bytes::Bytes;
use prost_types::Timestamp;
use tonic::Code;
use uuid::Uuid;

use crate::callers::{Callers, Pick, Task};
use crate::postgres::{BUILD_INDEXES, DROP_INDEXES, Postgres};
use crate::process::Meter;
use crate::report::verdict;
use crate::service::Service;
use crate::{
    CREATE_CONVERSATION, CREATE_MESSAGE, Failure, INITIALIZE_TENANT, TENANT, bytes, fill, setting,
};

/// The name that the arguments of a run can ask for.
pub const NAME: &str = "search";

const SEARCH_MESSAGES: &str = "/communication.v1.InboxService/SearchMessages";
const SMALL_TENANTS: usize = 200;
/// How many search at once.
const CALLERS: usize = 2;
const VOCABULARY: usize = 60_000;
const CHARACTERS: u64 = 3_000;
/// The bar: 95 of 100 searches are answered in so many milliseconds.
const BAR: f64 = 50.0;

/// Numbers by chance, the same in each run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A rank below a limit as Zipf has it: each rank as often as its inverse says.
    fn rank(&mut self, limit: f64) -> usize {
        let part = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        ((limit + 2.7).powf(part) * 2.7f64.powf(1.0 - part) - 2.7) as usize
    }
}

/// The word of a rank: the commoner, the shorter.
fn word(rank: usize) -> String {
    const SYLLABLES: [&str; 16] = [
        "ka", "lo", "mi", "ren", "tu", "sa", "no", "ber", "di", "fu", "gra", "hel", "jo", "kan",
        "lem", "os",
    ];
    let mut word = String::new();
    let mut rest = rank + 16;
    while rest > 0 {
        word.push_str(SYLLABLES[rest % 16]);
        rest /= 16;
    }
    word
}

/// The Han character of a rank.
fn character(rank: usize) -> char {
    char::from_u32(0x4e00 + u32::try_from(rank).unwrap_or_default()).unwrap_or('一')
}

/// Measures.
pub async fn measure(postgres: &Postgres, folder: &Path) -> Result<(), Failure> {
    let token = crate::service::token(folder).await?;
    let service = Service::start(folder, postgres.url(), &[]).await?;
    let callers = Callers::connect(&service.address, &token).await?;
    fill(postgres, &callers).await?;
    let messages = setting("BENCH_MESSAGES", 1_000_000)?;
    let begun = Instant::now();
    load(postgres, messages).await?;
    eprintln!("filled after {:.0?}", begun.elapsed());
    let small = stream::iter(0..SMALL_TENANTS).map(|number| small_tenant(&callers, number));
    small.buffered(4).try_collect::<Vec<()>>().await?;

    let span = Duration::from_secs(setting("BENCH_SECONDS", 5)?);
    let meter = Meter {
        service: service.pid,
        postgres: postgres.pid,
    };
    println!(
        "\n| SearchMessages, {messages} messages, {CALLERS} callers | searches/s | CPU of the service | of PostgreSQL | p50 | p95 | bar |\n|---|--:|--:|--:|--:|--:|---|"
    );
    let sql = "SELECT extract(epoch FROM directory.now())::bigint";
    let now: i64 = postgres.admin.query_one(sql, &[]).await?.get(0);
    for (name, requests) in cases(now) {
        let task = Task {
            path: SEARCH_MESSAGES,
            requests: Arc::new(requests),
            pick: Pick::Random,
            answer: Code::Ok,
        };
        let done = callers.run(CALLERS, &task, span, meter).await?;
        let calls = done.latency.len() as f64;
        let [p50, p95] = [0.5, 0.95].map(|part| done.latency.value_at_quantile(part) as f64 / 1e3);
        let rate = calls / done.took.as_secs_f64();
        let cpu = |time: Duration| time.as_secs_f64() * 1e3 / calls;
        let reached = verdict(p95 < BAR);
        println!(
            "| {name} | {rate:.0} | {:.1} ms | {:.1} ms | {p50:.1} ms | {p95:.1} ms | < {BAR} ms {reached} |",
            cpu(done.cpu.service),
            cpu(done.cpu.postgres),
        );
    }
    service.stop().await
}

/// Stores the messages beside those that `fill` has made, as the service does: 5 % in Han, the
/// others 10 words long on average, of a vocabulary as Zipf has it.
async fn load(postgres: &Postgres, messages: usize) -> Result<(), Failure> {
    let admin = &postgres.admin;
    let sql = "SELECT schema_name FROM directory.tenants WHERE slug = $1";
    let schema: String = admin.query_one(sql, &[&TENANT]).await?.get(0);
    let begin = format!(
        "SET search_path = \"{schema}\";
         CREATE TEMP TABLE given (n bigint, text text, words text)"
    );
    admin.batch_execute(&begin).await?;
    let mut rows = Box::pin(admin.copy_in("COPY given FROM STDIN").await?);
    let mut chance = Chance(0x2026_1124_5eed_0001);
    let mut batch = String::new();
    for number in 0..messages {
        let length = 1 + (chance.next() % 20) as usize;
        let (mut text, mut words) = (String::new(), String::new());
        if number % 20 == 0 {
            let han: Vec<_> = (0..length + 2)
                .map(|_| character(chance.rank(CHARACTERS as f64)))
                .collect();
            text.extend(&han);
            for (place, character) in han.iter().enumerate() {
                write!(words, "'{character}':{} ", place + 1)?;
            }
            for (place, pair) in han.windows(2).enumerate() {
                write!(words, "'{}{}':{} ", pair[0], pair[1], place + 1)?;
            }
        } else {
            for place in 1..=length {
                let word = word(chance.rank(VOCABULARY as f64));
                write!(text, "{word} ")?;
                write!(words, "'{word}':{place} ")?;
            }
        }
        writeln!(batch, "{number}\t{text}\t{words}")?;
        if batch.len() > 1 << 20 {
            rows.send(Bytes::from(std::mem::take(&mut batch))).await?;
        }
    }
    rows.send(Bytes::from(batch)).await?;
    rows.close().await?;
    // Two years up to now, 1,000 conversations; every tenth message is a note.
    let store = format!(
        "CREATE TEMP TABLE new AS
         SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0')
                 || '7001' || '8000' || lpad(n::text, 12, '0'))::uuid AS id,
             ('00000000-0000-7000-8000-' || lpad((1 + n * 7919 % 1000)::text, 12, '0'))::uuid AS conversation_id,
             1000 + n AS sequence,
             CASE WHEN n % 10 = 0 THEN 'internal' ELSE 'inbound' END AS direction, text, words,
             'agent-' || n * 31 % 40 AS actor_id,
             at AS created_at
         FROM given, make_interval(secs => ({messages} - n) * 63) AS ago,
             LATERAL (SELECT directory.now() - ago AS at) stored;
         INSERT INTO inbox_messages (id, conversation_id, sequence, direction, type, text,
             actor_kind, actor_id, caller, correlation_id, metadata, created_at, updated_at)
         SELECT id, conversation_id, sequence, direction, 'text', text, 'user', actor_id, 'bench',
             '', '{{}}', created_at, created_at FROM new ORDER BY sequence;
         INSERT INTO inbox_message_words (message_id, number, created_at, words)
         SELECT n.id, n.number, n.created_at, array_to_tsvector(ARRAY['.a' || (n.number >> 12),
             '.b' || (n.number >> 17), '.c' || c.channel, '.d' || n.direction, '.e' || day,
             '.f' || (day >> 5), '.g' || (day >> 10), '.k' || c.contact_identity_id,
             '.n' || k.channel_account_id, '.ttext', '.v' || n.conversation_id,
             '.wuser ' || n.actor_id]) || n.words::tsvector
         FROM (
             SELECT *, nextval('inbox_message_words_number_seq') AS number,
                 floor(extract(epoch FROM created_at) / 86400)::int AS day
             FROM (SELECT * FROM new ORDER BY sequence) new
         ) n
         JOIN inbox_conversations c ON c.id = n.conversation_id
         JOIN contact_identities k ON k.id = c.contact_identity_id
         ORDER BY n.number;
         UPDATE inbox_conversations SET last_sequence = 2000000;
         DROP TABLE new; DROP TABLE given"
    );
    for step in [DROP_INDEXES, &store, BUILD_INDEXES, "RESET search_path"] {
        admin.batch_execute(step).await?;
    }
    admin.batch_execute("VACUUM ANALYZE").await?;
    Ok(())
}

/// A tenant with one conversation of a few messages.
async fn small_tenant(callers: &Callers, number: usize) -> Result<(), Failure> {
    use prost::Message as _;
    let tenant = format!("small-{number}");
    let request = pb::InitializeTenantRequest {
        tenant: tenant.clone(),
        ..Default::default()
    };
    callers.call(INITIALIZE_TENANT, bytes(&request)).await?;
    let request = pb::CreateConversationRequest {
        tenant: tenant.clone(),
        channel: pb::Channel::Whatsapp.into(),
        contact_identifier: "+490000000001".to_owned(),
        ..Default::default()
    };
    let answer = callers.call(CREATE_CONVERSATION, bytes(&request)).await?;
    let answer = pb::CreateConversationResponse::decode(answer)?;
    let conversation = answer.conversation.ok_or("no conversation was made")?;
    for rank in 0..5 {
        let request = pb::CreateMessageRequest {
            tenant: tenant.clone(),
            conversation_id: conversation.id.clone(),
            text: word(rank),
            ..Default::default()
        };
        callers.call(CREATE_MESSAGE, bytes(&request)).await?;
    }
    Ok(())
}

/// What is searched for at a time, 50 different each.
fn cases(now: i64) -> Vec<(&'static str, Vec<Bytes>)> {
    let plain = |_: &mut pb::SearchMessagesRequest| {};
    let two = |one: usize, other: usize| format!("{} {}", word(one), word(other));
    let han = |ranks: &[usize]| -> String { ranks.iter().map(|rank| character(*rank)).collect() };
    let cases = vec![
        ("commonest words", each(|n| word(n % 5), plain)),
        ("common words", each(|n| word(20 + n), plain)),
        ("medium words", each(|n| word(500 + 20 * n), plain)),
        ("rare words", each(|n| word(20_000 + 500 * n), plain)),
        ("words of no message", each(|n| format!("zz{n}"), plain)),
        (
            "two of the commonest",
            each(|n| two(n % 4, n % 4 + 1), plain),
        ),
        (
            "a common and a medium one",
            each(|n| two(n % 10, 500 + 20 * n), plain),
        ),
        (
            "a common and a rare one",
            each(|n| two(n % 10, 20_000 + 500 * n), plain),
        ),
        (
            "three common ones",
            each(|n| format!("{} {}", two(n % 10, 12), word(20 + n)), plain),
        ),
        (
            "phrases of two common ones",
            each(|n| format!("\"{}\"", two(n % 10, 10 + n % 7)), plain),
        ),
        (
            "phrases of three of the commonest",
            each(
                |n| format!("\"{} {}\"", two(n % 3, n % 3 + 1), word(n % 2)),
                plain,
            ),
        ),
        ("two Han characters", each(|n| han(&[n % 10, n]), plain)),
        (
            "four Han characters",
            each(|n| han(&[n % 5, 1, 2, n % 3]), plain),
        ),
        ("one Han character", each(|n| han(&[n]), plain)),
        (
            "beginnings of two letters",
            each(|n| format!("{}*", &word(n)[..2]), plain),
        ),
        (
            "beginnings of four letters",
            each(|n| format!("{}*", &word(300 + n)[..4]), plain),
        ),
        (
            "a common word excluded",
            each(|n| format!("{} -{}", word(20 + n), word(0)), plain),
        ),
        (
            "common words in one conversation",
            each(
                |n| word(n % 10),
                |r| {
                    let number = 1 + Uuid::new_v4().as_u128() % 1000;
                    r.conversation_id = format!("00000000-0000-7000-8000-{number:012}");
                },
            ),
        ),
        (
            "medium words in notes",
            each(
                |n| word(500 + 20 * n),
                |r| r.directions = vec![pb::MessageDirection::Internal.into()],
            ),
        ),
        (
            "common words by one agent",
            each(
                |n| word(n % 10),
                |r| {
                    let kind = Some(pb::actor::Kind::UserId("agent-7".to_owned()));
                    r.author = Some(pb::Actor { kind });
                },
            ),
        ),
        (
            "common words, a month of last year",
            each(
                |n| word(n % 10),
                |r| (r.start_time, r.end_time) = days(now, 430, 400),
            ),
        ),
        (
            "rare words, the last week",
            each(
                |n| word(20_000 + 500 * n),
                |r| (r.start_time, _) = days(now, 7, 0),
            ),
        ),
        (
            "commonest words, older than a year",
            each(|n| word(n % 5), |r| (_, r.end_time) = days(now, 0, 365)),
        ),
    ];
    cases
}

fn each(
    query: impl Fn(usize) -> String,
    change: impl Fn(&mut pb::SearchMessagesRequest),
) -> Vec<Bytes> {
    let request = |number| {
        let mut request = pb::SearchMessagesRequest {
            tenant: TENANT.to_owned(),
            query: query(number),
            ..Default::default()
        };
        change(&mut request);
        bytes(&request)
    };
    (0..50).map(request).collect()
}

/// From so many days before a second until so many.
fn days(now: i64, from: i64, until: i64) -> (Option<Timestamp>, Option<Timestamp>) {
    let ago = |days: i64| {
        let seconds = now - days * 86_400;
        Some(Timestamp { seconds, nanos: 0 })
    };
    (ago(from), ago(until))
}
