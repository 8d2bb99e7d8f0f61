//! The team's chat: an entry posted, beside pgbench with the same statement; what the event log costs
//! one busy tenant; and a mention of everyone in a very large channel.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use communication_service::pb;
use pb::actor::Kind;
use prost::bytes::Bytes;
use tonic::Code;

use crate::callers::{Callers, Pick, Task};
use crate::postgres::{Postgres, Script, script};
use crate::process::Meter;
use crate::report::{self, Bars, Round, median, verdict};
use crate::service::{self, Service};
use crate::{
    CALLERS, CONVERSATIONS, DRAWN, Failure, INITIALIZE_TENANT, TENANT, TEXT, WORDS, bytes, setting,
};

/// What the arguments call it.
pub const NAME: &str = "chat";

/// The call that is measured.
pub const POST_ENTRY: &str = "/communication.v1.ChatService/PostEntry";
/// Who posts.
const AUTHOR: &str = "bench";
/// How many members the large channel has, and its number.
const MEMBERS: usize = 100_000;
const LARGE: usize = 0;
/// How many entries each channel has before. In an empty tenant, PostgreSQL plans the checks of foreign
/// keys as for an empty table, and keeps that until it has counted anew.
const ENTRIES: usize = 20;
/// How many milliseconds a mention of everyone may take there.
const LOUD: f64 = 15.0;

/// Measures entries, and prints what they reach.
pub async fn measure(postgres: &Postgres, folder: &Path) -> Result<(), Failure> {
    let token = service::token(folder).await?;
    let service = Service::start(folder, postgres.url(), &[("SQL_ECHO", "true")]).await?;
    let callers = Callers::connect(&service.address, &token).await?;
    fill(postgres, &callers).await?;
    callers.call(POST_ENTRY, entry(1, false)).await?;
    let statement = service.last_statement()?;
    service.stop().await?;
    let scripts = Scripts::write(postgres, folder, &statement).await?;

    let service = Service::start(folder, postgres.url(), &[]).await?;
    let callers = Callers::connect(&service.address, &token).await?;
    let meter = Meter {
        service: service.pid,
        postgres: postgres.pid,
    };
    let rounds = setting("BENCH_ROUNDS", 3)?;
    let span = Duration::from_secs(setting("BENCH_SECONDS", 5)?);
    let options = postgres.session_options().await?;
    let task = Task {
        path: POST_ENTRY,
        requests: Arc::new(
            (1..=CONVERSATIONS)
                .map(|number| entry(number, false))
                .collect(),
        ),
        pick: Pick::Random,
        answer: Code::Ok,
    };
    let (mut done, mut without) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let ours = callers.run(CALLERS, &task, span, meter).await?;
        let clients = postgres.connections().await?;
        let theirs = postgres.pgbench(&scripts.logged, &options, clients, span, meter);
        let theirs = Some(theirs.await?);
        let silent = postgres.pgbench(&scripts.silent, &options, clients, span, meter);
        without.push(silent.await?.rate);
        done.push(Round { ours, theirs });
    }
    println!("\n{CALLERS} callers, {rounds} rounds of {span:?} for each side, medians\n");
    println!("{}", report::HEAD);
    let bars = Bars {
        ratio: Some(0.9),
        cpu: 130.0,
    };
    println!("{}", report::line("PostEntry", bars, &done));
    println!("\n| chat | figure | bar |\n|---|--:|---|");
    let with = median(
        done.iter()
            .filter_map(|round| Some(round.theirs.as_ref()?.rate)),
    );
    let without = median(without.into_iter());
    println!(
        "| entries of one tenant, with the event log / without it, by pgbench | {with:.0}/s / {without:.0}/s, {:.2} | ≥ 0.8 {} |",
        with / without,
        verdict(with / without >= 0.8)
    );
    let loud = Task {
        requests: Arc::new(vec![entry(LARGE, true)]),
        ..task
    };
    let mut slowest = Vec::new();
    for _ in 0..rounds {
        let outcome = callers.run(1, &loud, span, meter).await?;
        let micros = outcome.latency.value_at_quantile(0.99);
        slowest.push(Duration::from_micros(micros).as_secs_f64() * 1e3);
    }
    let slowest = median(slowest.into_iter());
    println!(
        "| a mention of everyone in a channel of {MEMBERS} members, p99 | {slowest:.1} ms | < {LOUD} ms {} |",
        verdict(slowest < LOUD)
    );
    service.stop().await
}

/// An entry of the channel with a number.
fn entry(number: usize, everyone: bool) -> Bytes {
    let kind = Some(Kind::UserId(AUTHOR.to_owned()));
    let mentions = everyone.then(|| pb::ChatMentions {
        everyone,
        ..Default::default()
    });
    bytes(&pb::PostEntryRequest {
        tenant: TENANT.to_owned(),
        actor: Some(pb::Actor { kind }),
        channel_id: format!("00000000-0000-7000-8000-{number:012}"),
        text: TEXT.to_owned(),
        mentions,
        ..Default::default()
    })
}

/// Makes a tenant, and channels that both sides can draw by number.
async fn fill(postgres: &Postgres, callers: &Callers) -> Result<(), Failure> {
    let tenant = pb::InitializeTenantRequest {
        tenant: TENANT.to_owned(),
        ..Default::default()
    };
    callers.call(INITIALIZE_TENANT, bytes(&tenant)).await?;
    let sql = "SELECT schema_name FROM directory.tenants";
    let schema: String = postgres.admin.query_one(sql, &[]).await?.get(0);
    let drawn = DRAWN.replace(":c", "number");
    let large = DRAWN.replace(":c", &LARGE.to_string());
    let sql = format!(
        "SET search_path = \"{schema}\";
        INSERT INTO channels (id, kind, name, name_key, topic, metadata, user_ids, posting_policy,
            broadcast_policy, invite_policy, retention_days, member_count, actor_kind, actor_id,
            caller, correlation_id, created_at, updated_at)
        SELECT {drawn}, 'private', number, number, '', '{{}}', '{{}}', 'members', 'members', 'members',
            0, 1, 'user', '{AUTHOR}', 'bench', 'bench', now(), now()
        FROM generate_series({LARGE}, {CONVERSATIONS}) number;
        INSERT INTO channel_members (id, channel_id, user_id, role, joined_sequence, read_sequence,
            joined_at, updated_at)
        SELECT gen_random_uuid(), id, '{AUTHOR}', 'owner', 0, 0, now(), now() FROM channels
        UNION ALL
        SELECT gen_random_uuid(), {large}, 'user-' || number, 'member', 0, 0, now(), now()
        FROM generate_series(2, {MEMBERS}) number;
        UPDATE channels SET member_count = {MEMBERS} WHERE id = {large};
        INSERT INTO chat_entries (id, channel_id, sequence, type, text, metadata, mentioned_user_ids,
            mentions_everyone, mentions_here, author_kind, author_id, caller, correlation_id,
            created_at, updated_at)
        SELECT gen_random_uuid(), id, number, 'message', '{TEXT}', '{{}}', '{{}}', false, false, 'user',
            '{AUTHOR}', 'bench', 'bench', now(), now()
        FROM channels, generate_series(1, {ENTRIES}) number;
        INSERT INTO chat_entry_words (chat_entry_id, created_at, words)
        SELECT id, created_at, $${WORDS}$$::tsvector FROM chat_entries;
        UPDATE channels SET last_sequence = {ENTRIES}, last_entry_at = now();
        RESET search_path"
    );
    postgres.admin.batch_execute(&sql).await?;
    postgres.admin.batch_execute("VACUUM ANALYZE").await?;
    Ok(())
}

/// The statement of the service for pgbench, as it is and without the log.
struct Scripts {
    logged: Script,
    silent: Script,
}

impl Scripts {
    async fn write(postgres: &Postgres, folder: &Path, statement: &str) -> Result<Self, Failure> {
        let sql = "SELECT number FROM directory.tenants";
        let tenant: i32 = postgres.admin.query_one(sql, &[]).await?.get(0);
        // Parameters, as they are for the service; pgbench knows no NULL.
        let variables = [
            ("type", "message"),
            ("text", TEXT),
            ("words", WORDS),
            ("metadata", "{}"),
            ("kind", "user"),
            ("bench", AUTHOR),
            ("tenant", &tenant.to_string()),
            ("none", "-"),
            ("no", "false"),
        ]
        .map(|(name, value)| format!("--define={name}={value}"));
        let one = |value: &str| format!("ARRAY[{value}]");
        let null = |kind: &str| one(&format!("nullif(:none::text, '-')::{kind}"));
        // The statement is for several entries: here, as for one who posts alone, it has one.
        let values = [
            ("id", one("gen_random_uuid()")),
            ("channel_id", one(DRAWN)),
            ("user_id", one(":bench::text")),
            ("type_", one(":type::text")),
            ("text", one(":text::text")),
            ("words", one(":words::text")),
            ("metadata", one(":metadata::jsonb")),
            ("mentions_here", one(":no::boolean")),
            ("broadcasts", one(":no::boolean")),
            ("request_id", null("text")),
            ("request_hash", null("bytea")),
            ("method", one("''::text")),
            ("actor_kind", one(":kind::text")),
            ("actor_id", one(":bench::text")),
            ("caller", one(":bench::text")),
            ("correlation_id", one("gen_random_uuid()::text")),
            ("tenant_number", one(":tenant::int")),
        ];
        let write = |name: &str, statement: &str| -> Result<Script, Failure> {
            let file = folder.join(name);
            fs::write(
                &file,
                script(
                    statement,
                    &values
                        .each_ref()
                        .map(|(name, value)| (*name, value.as_str())),
                )?,
            )?;
            Ok(Script {
                file,
                variables: variables.to_vec(),
            })
        };
        Ok(Self {
            logged: write("entry.sql", statement)?,
            silent: write("silent.sql", &without_log(statement)?)?,
        })
    }
}

/// A statement without what appends its events.
fn without_log(statement: &str) -> Result<String, Failure> {
    let parts = statement.split_once(", ordered AS MATERIALIZED");
    let parts = parts.and_then(|(before, rest)| {
        let (_, after) = rest.split_once("RETURNING id, resource_id, at\n        )")?;
        Some(format!("{before}{after}"))
    });
    parts.ok_or_else(|| format!("appends no events:\n{statement}").into())
}
