//! Measures the service side by side with pgbench, which runs the very same SQL over as many
//! connections without the service. All of it shares the machine: callers, service, PostgreSQL.
//!
//! `BENCH_ROUNDS` says how often each side has its turn, `BENCH_SECONDS` how long that takes,
//! `BENCH_PROGRAM` which build of the service is measured instead of this one. Arguments pick the
//! cases whose names contain one of them.

mod callers;
mod chat;
mod deliveries;
mod lists;
mod postgres;
mod process;
mod report;
mod search;
mod service;
mod statistics;
mod streams;
mod tenants;

use std::error::Error;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs};

use communication_service::pb;
use prost::Message;
use prost::bytes::Bytes;
use tonic::Code;

use callers::{Callers, Pick, Task};
use postgres::{Postgres, Script, script};
use process::{Meter, resident};
use report::{Bars, Round, median, verdict};
use service::Service;
use tenants::Surroundings;

/// Why a run ends early.
pub type Failure = Box<dyn Error + Send + Sync>;

const CALLERS: usize = 32;
/// How many conversations the one tenant has, each with `MESSAGES` messages.
pub const CONVERSATIONS: usize = 1000;
const MESSAGES: usize = 60;
const TENANT: &str = "bench";
const TEXT: &str = "Good morning! Your order left our house today and is with you by Friday.";
/// The words of the text, as the service writes them.
const WORDS: &str = "'good':1 'morning':2 'your':3 'order':4 'left':5 'our':6 'house':7 'today':8 'and':9 'is':10 'with':11 'you':12 'by':13 'friday':14";
const STARTS: usize = 5;
/// The names of the calls that are measured beside pgbench.
const NAMES: [&str; 4] = [
    "GetMessage, refused",
    "GetConversation",
    "ListMessages, 50 rows",
    "CreateMessage",
];

const CREATE_CONVERSATION: &str = "/communication.v1.InboxService/CreateConversation";
const GET_CONVERSATION: &str = "/communication.v1.InboxService/GetConversation";
const LIST_MESSAGES: &str = "/communication.v1.InboxService/ListMessages";
const CREATE_MESSAGE: &str = "/communication.v1.InboxService/CreateMessage";
const GET_MESSAGE: &str = "/communication.v1.InboxService/GetMessage";
const INITIALIZE_TENANT: &str = "/communication.v1.TenantAdminService/InitializeTenant";

/// The conversation that pgbench has drawn.
const DRAWN: &str = "('00000000-0000-7000-8000-' || lpad(:c::text, 12, '0'))::uuid";

/// A call to measure.
struct Case {
    name: &'static str,
    bars: Bars,
    task: Task,
    /// Its statement for pgbench, where it has one.
    script: Option<Script>,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // Not under the working copy: PostgreSQL runs as another account where we are root.
    let given = env::var_os("TEST_POSTGRES_DIR").map(PathBuf::from);
    let own = env::temp_dir().join(format!("communication-bench-{}", std::process::id()));
    let folder = given.as_ref().unwrap_or(&own);
    let keys = folder.join("service");
    fs::create_dir_all(&keys)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o711))?;
    let mut measured = Ok(());
    if NAMES.into_iter().any(is_wanted) {
        let postgres = Postgres::start(folder, true, 200).await?;
        measured = measure(&postgres, &keys).await;
        postgres.stop().await?;
    }
    if measured.is_ok() && tenants::NAMES.into_iter().any(is_wanted) {
        // A server of their own, which need not bring some hundred thousand files to the disk
        // when it stops: all that is measured there is reading.
        let own = folder.join("tenants");
        fs::create_dir_all(&own)?;
        let postgres = Postgres::start(&own, false, 700).await?;
        measured = measure_tenants(&postgres, &keys).await;
        postgres.stop().await?;
    }
    if measured.is_ok() && is_wanted(search::NAME) {
        let own = folder.join("search");
        fs::create_dir_all(&own)?;
        let postgres = Postgres::start(&own, false, 200).await?;
        measured = search::measure(&postgres, &keys).await;
        postgres.stop().await?;
    }
    if measured.is_ok() && is_wanted(deliveries::NAME) {
        measured = deliveries::measure(folder, &keys).await;
    }
    if measured.is_ok() && is_wanted(lists::NAME) {
        let own = folder.join("lists");
        fs::create_dir_all(&own)?;
        let postgres = Postgres::start(&own, false, 300).await?;
        measured = lists::measure(&postgres, &keys).await;
        postgres.stop().await?;
    }
    if measured.is_ok() && is_wanted(statistics::NAME) {
        let own = folder.join("statistics");
        fs::create_dir_all(&own)?;
        let postgres = Postgres::start(&own, false, 100).await?;
        measured = statistics::measure(&postgres, &keys).await;
        postgres.stop().await?;
    }
    if measured.is_ok() && is_wanted(streams::NAME) {
        let own = folder.join("events");
        fs::create_dir_all(&own)?;
        let postgres = Postgres::start(&own, true, 200).await?;
        measured = streams::measure(&postgres, &keys).await;
        postgres.stop().await?;
    }
    if measured.is_ok() && is_wanted(chat::NAME) {
        let own = folder.join("chat");
        fs::create_dir_all(&own)?;
        let postgres = Postgres::start(&own, true, 200).await?;
        measured = chat::measure(&postgres, &keys).await;
        postgres.stop().await?;
    }
    if given.is_none() {
        fs::remove_dir_all(own)?;
    }
    measured
}

async fn measure(postgres: &Postgres, folder: &Path) -> Result<(), Failure> {
    let rounds = setting("BENCH_ROUNDS", 3)?;
    let span = Duration::from_secs(setting("BENCH_SECONDS", 5)?);
    let token = service::token(folder).await?;
    let service = Service::start(folder, postgres.url(), &[("SQL_ECHO", "true")]).await?;
    let callers = Callers::connect(&service.address, &token).await?;
    fill(postgres, &callers).await?;
    let cases = cases(postgres, &service, &callers, folder).await?;
    service.stop().await?;

    let mut starts = Vec::new();
    for _ in 1..STARTS {
        let service = Service::start(folder, postgres.url(), &[]).await?;
        starts.push(service.ready_after.as_secs_f64());
        service.stop().await?;
    }
    let service = Service::start(folder, postgres.url(), &[]).await?;
    starts.push(service.ready_after.as_secs_f64());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = resident(service.pid)?;

    let callers = Callers::connect(&service.address, &token).await?;
    let meter = Meter {
        service: service.pid,
        postgres: postgres.pid,
    };
    let options = postgres.session_options().await?;
    println!("{CALLERS} callers, {rounds} rounds of {span:?} for each side, medians\n");
    println!("{}", report::HEAD);
    for case in cases.into_iter().filter(|case| is_wanted(case.name)) {
        let mut done = Vec::new();
        for _ in 0..rounds {
            let ours = callers.run(CALLERS, &case.task, span, meter).await?;
            let theirs = match &case.script {
                None => None,
                Some(script) => {
                    let clients = postgres.connections().await?;
                    let theirs = postgres.pgbench(script, &options, clients, span, meter);
                    Some(theirs.await?)
                }
            };
            done.push(Round { ours, theirs });
        }
        println!("{}", report::line(case.name, case.bars, &done));
    }
    let start = median(starts.into_iter());
    let (loaded, connections) = (resident(service.pid)?, postgres.connections().await?);
    println!("\n| | figure | bar |\n|---|--:|---|");
    let verdict_start = verdict(start < 1.0);
    println!("| start to ready, existing database | {start:.3} s | < 1 s {verdict_start} |");
    let verdict_idle = verdict(idle < 40.0);
    println!("| resident memory, idle after the start | {idle:.1} MiB | < 40 MiB {verdict_idle} |");
    println!("| the same after the load, with {connections} connections | {loaded:.1} MiB | |");
    service.stop().await
}

async fn measure_tenants(postgres: &Postgres, folder: &Path) -> Result<(), Failure> {
    let token = service::token(folder).await?;
    let service = Service::start(folder, postgres.url(), &[]).await?;
    let callers = Callers::connect(&service.address, &token).await?;
    fill(postgres, &callers).await?;
    service.stop().await?;
    let one = Task {
        path: GET_CONVERSATION,
        requests: Arc::new(requests(GET_CONVERSATION)),
        pick: Pick::Random,
        answer: Code::Ok,
    };
    let surroundings = Surroundings {
        postgres,
        folder,
        token: &token,
        rounds: setting("BENCH_ROUNDS", 3)?,
        span: Duration::from_secs(setting("BENCH_SECONDS", 5)?),
    };
    surroundings.measure(one).await
}

/// Tells whether the arguments ask for a case, or for none in particular.
fn is_wanted(name: &str) -> bool {
    // Cargo adds arguments of its own.
    let mut wanted = env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .peekable();
    wanted.peek().is_none() || wanted.any(|wanted| name.contains(&wanted))
}

fn setting<T: std::str::FromStr<Err: Into<Failure>>>(name: &str, default: T) -> Result<T, Failure> {
    env::var(name).map_or(Ok(default), |value| value.parse().map_err(Into::into))
}

/// Makes a tenant, and conversations that both sides can draw by number.
async fn fill(postgres: &Postgres, callers: &Callers) -> Result<(), Failure> {
    let tenant = pb::InitializeTenantRequest {
        tenant: TENANT.to_owned(),
        ..Default::default()
    };
    callers.call(INITIALIZE_TENANT, bytes(&tenant)).await?;
    for number in 1..=CONVERSATIONS {
        let request = pb::CreateConversationRequest {
            tenant: TENANT.to_owned(),
            channel: pb::Channel::Whatsapp.into(),
            contact_identifier: format!("+49{number:010}"),
            contact_name: format!("Customer {number}"),
            ..Default::default()
        };
        callers.call(CREATE_CONVERSATION, bytes(&request)).await?;
    }
    let sql = "SELECT schema_name FROM directory.tenants";
    let schema: String = postgres.admin.query_one(sql, &[]).await?.get(0);
    let drawn = DRAWN.replace(":c", "number");
    let sql = format!(
        "SET search_path = \"{schema}\";
        DELETE FROM conversation_changes;
        UPDATE inbox_conversations SET id = {drawn}, last_sequence = {MESSAGES}, status = 'replied';
        INSERT INTO inbox_messages (id, conversation_id, sequence, direction, type, text, status,
            actor_kind, actor_id, caller, correlation_id, metadata, created_at, updated_at)
        SELECT gen_random_uuid(), id, sequence, 'outbound', 'text', '{TEXT}', 'queued', 'service',
            'bench', 'bench', gen_random_uuid(), '{{}}', now(), now()
        FROM inbox_conversations, generate_series(1, {MESSAGES}) sequence;
        RESET search_path"
    );
    postgres.admin.batch_execute(&sql).await?;
    postgres.admin.batch_execute("VACUUM ANALYZE").await?;
    Ok(())
}

/// The calls to measure, each with the statement that the service has just sent for it. Reads come
/// first, over tables that do not grow yet.
async fn cases(
    postgres: &Postgres,
    service: &Service,
    callers: &Callers,
    folder: &Path,
) -> Result<Vec<Case>, Failure> {
    let sql = "SELECT number FROM directory.tenants";
    let tenant: i32 = postgres.admin.query_one(sql, &[]).await?.get(0);
    // Parameters, as they are for the service: constants would let the planner leave out what the
    // call does not use. pgbench knows no NULL.
    let variables = [
        ("after", "0"),
        ("rows", "51"),
        ("direction", "outbound"),
        ("type", "text"),
        ("text", TEXT),
        ("words", WORDS),
        ("metadata", "{}"),
        ("kind", "service"),
        ("bench", "bench"),
        ("tenant", &tenant.to_string()),
        ("none", "-"),
        ("nothing", "{}"),
        ("no", "false"),
    ]
    .map(|(name, value)| format!("--define={name}={value}"));
    let null = |kind: &str| format!("nullif(:none::text, '-')::{kind}");
    let (no_text, no_number, no_id) = (null("text"), null("float8"), null("uuid"));
    let no_bytes = null("bytea");
    let values = [
        ("conversation_id", DRAWN),
        ("after", ":after::bigint"),
        ("rows", ":rows::bigint"),
        ("shows_deleted", ":no::boolean"),
        ("id", "gen_random_uuid()"),
        ("direction", ":direction::text"),
        ("type_", ":type::text"),
        ("text", ":text::text"),
        ("words", ":words::text"),
        ("latitude", &no_number),
        ("longitude", &no_number),
        ("location_name", &no_text),
        ("location_address", &no_text),
        ("reply_to", &no_id),
        ("metadata", ":metadata::jsonb"),
        ("attachment_ids", ":nothing::uuid[]"),
        ("content_types", ":nothing::text"),
        ("request_id", &no_text),
        ("request_hash", &no_bytes),
        ("method", "''::text"),
        ("actor_kind", ":kind::text"),
        ("actor_id", ":bench::text"),
        ("caller", ":bench::text"),
        ("correlation_id", "gen_random_uuid()::text"),
        ("tenant_number", ":tenant::int"),
    ];
    let bars = |ratio, cpu| Bars { ratio, cpu };
    let wanted = [
        // Everything but the database: the credential is checked, the tenant looked up, the
        // request read, and its id, which is none, refused before a connection is taken.
        (GET_MESSAGE, bars(None, 30.0)),
        (GET_CONVERSATION, bars(Some(0.35), 60.0)),
        (LIST_MESSAGES, bars(Some(0.55), 80.0)),
        (CREATE_MESSAGE, bars(Some(0.9), 110.0)),
    ];
    let mut cases = Vec::new();
    for (number, (name, (path, bars))) in NAMES.into_iter().zip(wanted).enumerate() {
        let mut case = Case {
            name,
            bars,
            task: Task {
                path,
                requests: Arc::new(requests(path)),
                pick: Pick::Random,
                answer: Code::Ok,
            },
            script: None,
        };
        match callers.call(path, case.task.requests[0].clone()).await {
            Err(status) if bars.ratio.is_none() => case.task.answer = status.code(),
            answer => {
                answer?;
                let file = folder.join(format!("{number}.sql"));
                fs::write(&file, script(&service.last_statement()?, &values)?)?;
                case.script = Some(Script {
                    file,
                    variables: variables.to_vec(),
                });
            }
        }
        cases.push(case);
    }
    Ok(cases)
}

/// A request about each conversation.
fn requests(path: &str) -> Vec<Bytes> {
    let drawn = 1..=CONVERSATIONS;
    drawn.map(|number| request(path, number)).collect()
}

/// A request about a conversation.
fn request(path: &str, number: usize) -> Bytes {
    let tenant = TENANT.to_owned();
    let conversation_id = format!("00000000-0000-7000-8000-{number:012}");
    match path {
        GET_CONVERSATION => bytes(&pb::GetConversationRequest {
            tenant,
            conversation_id,
            ..Default::default()
        }),
        LIST_MESSAGES => bytes(&pb::ListMessagesRequest {
            tenant,
            conversation_id,
            page_size: 50,
            ..Default::default()
        }),
        CREATE_MESSAGE => bytes(&pb::CreateMessageRequest {
            tenant,
            conversation_id,
            text: TEXT.to_owned(),
            ..Default::default()
        }),
        _ => bytes(&pb::GetMessageRequest {
            tenant,
            message_id: "none".to_owned(),
        }),
    }
}

fn bytes(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}
