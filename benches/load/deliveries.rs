//! Deliveries of WhatsApp: posted over HTTP, committed, answered, applied.
//!
//! One tenant beside pgbench, which runs the statements that one delivery takes; then a crowd of
//! tenants at a steady rate, and one body with a thousand messages.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use communication_service::pb;
use communication_service::pb::connect_channel_account_request::Settings;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hdrhistogram::Histogram;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::callers::{Callers, Outcome};
use crate::postgres::{Postgres, Script, filled};
use crate::process::Meter;
use crate::report::{self, Bars, Round, verdict};
use crate::service::Service;
use crate::{
    CONVERSATIONS, Failure, INITIALIZE_TENANT, LIST_MESSAGES, TENANT, TEXT, WORDS, bytes, service,
    setting,
};

/// The name that the arguments of a run can ask for.
pub const NAME: &str = "deliveries";

const CONNECT: &str = "/communication.v1.TenantAdminService/ConnectChannelAccount";
const LIST_CONVERSATIONS: &str = "/communication.v1.InboxService/ListConversations";
const SECRET: &str = "b6f1c2a94e7d4b0f8a3c5d1e9f70812a";
const POSTERS: usize = 32;
const WARM_UP: Duration = Duration::from_secs(1);
/// How many deliveries a tenant gets before it is measured: PostgreSQL plans the first five anew.
const WARM_UP_EACH: usize = 8;
/// What a delivery has to reach beside pgbench, and the CPU that it may take, in microseconds.
const BARS: Bars = Bars {
    ratio: Some(0.6),
    cpu: 250.0,
};
const TENANTS: usize = 1000;
/// How many deliveries come in a second for all tenants together.
const RATE: u32 = 300;
/// How long that goes on.
const STEADY: Duration = Duration::from_secs(20);
/// How many tenants have their connections open, and how many deliveries come in a second for all of
/// them while it is measured how soon they are listed.
const FEW: (usize, u32) = (20, 100);
/// Of how many deliveries of the few one is looked for behind its answer.
const LOOKED_FOR: usize = 5;
const PATIENCE: Duration = Duration::from_secs(300);
/// Under which pgbench keeps its deliveries.
const LEASE: &str = "01890000-0000-7000-8000-000000000000";
/// How often the database is asked whether all is applied.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// Words of the statements that a delivery takes, in their order. A third one ends those of 20 ms
/// together, and is left out beside pgbench.
const STATEMENTS: [&str; 2] = [
    "INSERT INTO directory.deliveries",
    "INSERT INTO provider_events",
];

/// Measures all of it, each on a PostgreSQL of its own.
pub async fn measure(folder: &Path, keys: &Path) -> Result<(), Failure> {
    let of_one = folder.join("deliveries");
    fs::create_dir_all(&of_one)?;
    let postgres = Postgres::start(&of_one, true, 200).await?;
    beside_pgbench(&postgres, keys).await?;
    postgres.stop().await?;
    let of_many = folder.join("crowd");
    fs::create_dir_all(&of_many)?;
    // It is made without waiting for the disk, and measured with.
    let postgres = Postgres::start(&of_many, false, 200).await?;
    let accounts = make_tenants(&postgres, keys).await?;
    postgres.stop().await?;
    let postgres = Postgres::start(&of_many, true, 200).await?;
    steady(&postgres, keys, &accounts).await?;
    visible(&postgres, keys, &accounts).await?;
    postgres.stop().await
}

/// What a delivery of one message takes, beside its statements alone.
async fn beside_pgbench(postgres: &Postgres, folder: &Path) -> Result<(), Failure> {
    let rounds: usize = setting("BENCH_ROUNDS", 3)?;
    let span = Duration::from_secs(setting("BENCH_SECONDS", 5)?);
    let token = service::token(folder).await?;
    let number = "418203377100456";
    let service = Service::start(folder, postgres.url(), &[("SQL_ECHO", "true")]).await?;
    let callers = Callers::connect(&service.address, &token).await?;
    make_tenant(&callers, TENANT).await?;
    connect(&callers, TENANT, number).await?;
    let poster = Poster::new(&service);
    // Everybody has written before.
    for customer in 1..=CONVERSATIONS {
        poster.post(&delivery(number, customer, 1)).await?;
    }
    until_applied(postgres).await?;
    poster.post(&delivery(number, 1, 1)).await?;
    until_applied(postgres).await?;
    let script = script(postgres, &service, folder, number).await?;
    service.stop().await?;
    postgres.admin.batch_execute("VACUUM ANALYZE").await?;

    let service = Service::start(folder, postgres.url(), &[]).await?;
    let poster = Poster::new(&service);
    let meter = Meter {
        service: service.pid,
        postgres: postgres.pid,
    };
    let options = postgres.session_options().await?;
    println!("\n{POSTERS} posters, {rounds} rounds of {span:?} for each side, medians\n");
    println!("{}", report::HEAD);
    let mut done = Vec::new();
    for _ in 0..rounds {
        let ours = poster.run(postgres, number, span, meter).await?;
        let clients = postgres.clients().await?;
        let theirs = postgres.pgbench(&script, &options, clients, span, meter);
        let theirs = Some(theirs.await?);
        // Nobody ends those that pgbench has kept.
        let dropped = format!("DELETE FROM directory.deliveries WHERE lease = '{LEASE}'");
        postgres.admin.batch_execute(&dropped).await?;
        postgres.admin.batch_execute("VACUUM ANALYZE").await?;
        done.push(Round { ours, theirs });
    }
    println!(
        "{}",
        report::line("WhatsApp delivery, applied", BARS, &done)
    );

    let people = 50;
    let begun = Instant::now();
    poster.post(&delivery(number, people, 1000)).await?;
    let answered = begun.elapsed();
    until_applied(postgres).await?;
    let took = begun.elapsed().as_secs_f64();
    let reached = verdict(took <= 5.0);
    println!("\n| one body | figure | bar |\n|---|--:|---|");
    println!(
        "| 1,000 messages of {people} people, answered after {:.0} ms, applied | {took:.2} s | ≤ 5 s {reached} |",
        answered.as_secs_f64() * 1e3
    );
    service.stop().await
}

/// The statements of one delivery, as pgbench runs them.
async fn script(
    postgres: &Postgres,
    service: &Service,
    folder: &Path,
    number: &str,
) -> Result<Script, Failure> {
    let sql = "SELECT a.id::text, a.app_id::text, t.number
        FROM directory.channel_accounts a JOIN directory.tenants t ON t.id = a.tenant_id";
    let row = postgres.admin.query_one(sql, &[]).await?;
    let (account, app, tenant): (String, String, i32) = (row.get(0), row.get(1), row.get(2));
    let sealed = vec![0x5a; delivery(number, 1, 1).len() + 28];
    let sealed: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
    let variables = [
        ("account", account.as_str()),
        ("app", &app),
        ("provider", "meta"),
        ("channel", "whatsapp"),
        ("headers", r#"{"content-type": "application/json"}"#),
        ("body", &format!("\\x{sealed}")),
        ("lease", LEASE),
        ("key", number),
        ("direction", "inbound"),
        ("type", "text"),
        ("text", TEXT),
        ("words", WORDS),
        ("metadata", "{}"),
        ("kind", "service"),
        ("tenant", &tenant.to_string()),
        ("none", "-"),
        ("no", "false"),
        ("name", "Customer"),
    ]
    .map(|(name, value)| format!("--define={name}={value}"));
    let null = |kind: &str| format!("nullif(:none::text, '-')::{kind}");
    let (no_text, no_number, no_id) = (null("text"), null("float8"), null("uuid"));
    let no_json = null("jsonb");
    let (person, message) = (
        "ARRAY['+49' || lpad(:c::text, 10, '0')]",
        "('wamid.' || :r::text)",
    );
    let none = "ARRAY[nullif(:none::text, '-')::uuid]";
    let kept = [
        ("ids", "ARRAY[gen_random_uuid()]"),
        ("app_ids", "ARRAY[:app::uuid]"),
        ("providers", "ARRAY[:provider::text]"),
        ("account_ids", none),
        ("route_prefixes", "ARRAY[''::text]"),
        ("channels", "ARRAY[:channel::text]"),
        ("headers", "ARRAY[:headers::jsonb]"),
        ("bodies", "ARRAY[:body::bytea]"),
        ("correlation_ids", "ARRAY[gen_random_uuid()::text]"),
        ("leases", "ARRAY[:lease::uuid]"),
        ("lease_seconds", "600::float8"),
        ("asked_numbers", "ARRAY[0]"),
        ("asked_channels", "ARRAY[:channel::text]"),
        ("asked_keys", "ARRAY[:key::text]"),
        ("asked_apps", none),
        ("asked_accounts", none),
    ];
    let received = [
        ("id", "gen_random_uuid()"),
        ("conversation_id", &no_id),
        ("account", ":account::uuid"),
        ("provider_id", message),
        ("identifiers", person),
        ("name", ":name::text"),
        ("thread_key", "''::text"),
        ("delivery_id", "gen_random_uuid()"),
        ("direction", ":direction::text"),
        ("type_", ":type::text"),
        ("text", ":text::text"),
        ("words", ":words::text"),
        ("latitude", &no_number),
        ("longitude", &no_number),
        ("location_name", &no_text),
        ("location_address", &no_text),
        ("reply_to", &no_text),
        ("metadata", ":metadata::jsonb"),
        ("attachments", &no_json),
        ("quiet", ":no::boolean"),
        ("leaves_closed", ":no::boolean"),
        ("provider_at", "now()"),
        ("actor_kind", ":kind::text"),
        ("actor_id", ":channel::text"),
        ("caller", ":channel::text"),
        ("correlation_id", "gen_random_uuid()::text"),
        ("tenant_number", ":tenant::int"),
    ];
    let values: [&[(&str, &str)]; 2] = [&kept, &received];
    let mut text =
        format!("\\set c random(1, {CONVERSATIONS})\n\\set r random(1, 1000000000000000)\n");
    let statements = service.statements(&STATEMENTS)?;
    for (statement, values) in statements.iter().zip(values) {
        text.push_str(&filled(statement, values)?);
        text.push_str(";\n");
    }
    let file = folder.join("deliveries.sql");
    fs::write(&file, text)?;
    Ok(Script {
        file,
        variables: variables.to_vec(),
    })
}

/// Posts a delivery for each account, so that PostgreSQL and the service know every tenant.
async fn meet(postgres: &Postgres, poster: &Poster, numbers: &[String]) -> Result<(), Failure> {
    for (turn, number) in numbers.iter().enumerate() {
        poster.post(&delivery(number, turn % 7 + 1, 1)).await?;
    }
    until_applied(postgres).await
}

/// Does something so many times a second, whether what was begun before is done or not; returns how
/// often. Each gets its number, and when it was due.
async fn at_rate<F>(rate: u32, begin: impl Fn(usize, Instant) -> F) -> Result<usize, Failure>
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let begun = Instant::now();
    let mut running = Vec::new();
    for turn in 0.. {
        let due = begun + Duration::from_secs(1) * turn / rate;
        if due.duration_since(begun) >= STEADY {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        running.push(tokio::spawn(begin(usize::try_from(turn)?, due)));
    }
    let count = running.len();
    for one in running {
        one.await??;
    }
    Ok(count)
}

/// Many tenants at a steady rate.
async fn steady(postgres: &Postgres, folder: &Path, numbers: &[String]) -> Result<(), Failure> {
    let service = Service::start(folder, postgres.url(), &[]).await?;
    let poster = Poster::new(&service);
    meet(postgres, &poster, numbers).await?;
    let meter = Meter {
        service: service.pid,
        postgres: postgres.pid,
    };
    let answers = Arc::new(Mutex::new(Histogram::<u64>::new(3)?));
    let (begun, before) = (Instant::now(), meter.read()?);
    let count = at_rate(RATE, |turn, due| {
        let (poster, answers) = (poster.clone(), answers.clone());
        // In no order that a cache could follow.
        let number = numbers[turn * 383 % numbers.len()].clone();
        async move {
            poster.post(&delivery(&number, turn % 7 + 1, 1)).await?;
            let micros = u64::try_from(due.elapsed().as_micros())?;
            answers.lock().await.record(micros)?;
            Ok(())
        }
    });
    let count = count.await? as f64;
    let connections = postgres.clients().await?;
    until_applied(postgres).await?;
    let took = begun.elapsed().as_secs_f64();
    let cpu = meter.since(before)?;
    service.stop().await?;
    let answers = answers.lock().await;
    let [p50, p99] = [0.5, 0.99].map(|part| answers.value_at_quantile(part) as f64 / 1e3);
    println!("\n| {RATE} deliveries a second, {TENANTS} tenants | figure | bar |\n|---|--:|---|");
    println!("| the answer, p50 | {p50:.1} ms | |");
    let reached = verdict(p99 < 250.0);
    println!("| the answer, p99 | {p99:.1} ms | < 250 ms {reached} |");
    println!("| all {count} applied | {took:.1} s | |");
    let [ours, theirs] = [cpu.service, cpu.postgres].map(|cpu| cpu.as_secs_f64() * 1e6 / count);
    println!("| CPU for each: the service / PostgreSQL | {ours:.0} µs / {theirs:.0} µs | |");
    println!("| connections | {connections} | |");
    Ok(())
}

/// How soon a delivery is listed behind its answer, where no connection has to be opened for it.
async fn visible(postgres: &Postgres, folder: &Path, numbers: &[String]) -> Result<(), Failure> {
    let (few, rate) = FEW;
    let numbers = numbers.get(..few).unwrap_or(numbers);
    let token = service::token(folder).await?;
    let service = Service::start(folder, postgres.url(), &[]).await?;
    let callers = Arc::new(Callers::connect(&service.address, &token).await?);
    let poster = Poster::new(&service);
    for _ in 0..WARM_UP_EACH {
        meet(postgres, &poster, numbers).await?;
    }
    let visible = Arc::new(Mutex::new(Histogram::<u64>::new(3)?));
    let posting = at_rate(rate, |turn, _| {
        let tenant = turn * 7 % numbers.len();
        let (poster, callers, visible) = (poster.clone(), callers.clone(), visible.clone());
        let number = numbers[tenant].clone();
        async move {
            let body = delivery(&number, turn % 7 + 1, 1);
            poster.post(&body).await?;
            if turn % LOOKED_FOR == 0 {
                let answered = Instant::now();
                until_visible(&callers, &format!("tenant-{tenant}"), &body).await?;
                let micros = u64::try_from(answered.elapsed().as_micros())?;
                visible.lock().await.record(micros)?;
            }
            Ok(())
        }
    });
    posting.await?;
    service.stop().await?;
    let visible = visible.lock().await;
    let [p50, p95] = [0.5, 0.95].map(|part| visible.value_at_quantile(part) as f64 / 1e3);
    println!("\n| {rate} deliveries a second, {few} tenants | figure | bar |\n|---|--:|---|");
    println!("| from the answer to `ListMessages`, p50 | {p50:.1} ms | |");
    let reached = verdict(p95 <= 50.0);
    println!("| from the answer to `ListMessages`, p95 | {p95:.1} ms | ≤ 50 ms {reached} |");
    Ok(())
}

/// Waits until the last message of a body is shown.
async fn until_visible(callers: &Callers, tenant: &str, body: &[u8]) -> Result<(), Failure> {
    let body: serde_json::Value = serde_json::from_slice(body)?;
    let message = &body["entry"][0]["changes"][0]["value"]["messages"][0];
    let said = message["text"]["body"].as_str().unwrap_or_default();
    let from = format!("+{}", message["from"].as_str().unwrap_or_default());
    let conversations = bytes(&pb::ListConversationsRequest {
        tenant: tenant.to_owned(),
        ..Default::default()
    });
    let begun = Instant::now();
    let mut conversation = None;
    while begun.elapsed() < PATIENCE {
        if conversation.is_none() {
            let answer = callers
                .call(LIST_CONVERSATIONS, conversations.clone())
                .await;
            // Asking must not end the run: whoever is refused asks again.
            let Ok(answer) = answer else { continue };
            let listed = pb::ListConversationsResponse::decode(answer)?.conversations;
            let found = listed
                .into_iter()
                .find(|one| one.contact_identifier == from);
            conversation = found.map(|one| one.id);
        }
        if let Some(conversation_id) = &conversation {
            let messages = bytes(&pb::ListMessagesRequest {
                tenant: tenant.to_owned(),
                conversation_id: conversation_id.clone(),
                page_size: 50,
                order_by: "sequence desc".to_owned(),
                ..Default::default()
            });
            let Ok(answer) = callers.call(LIST_MESSAGES, messages).await else {
                continue;
            };
            let listed = pb::ListMessagesResponse::decode(answer)?.messages;
            if listed.iter().any(|message| message.text == said) {
                return Ok(());
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Err(format!("a message to {tenant} is not shown").into())
}

/// Makes the tenants, each with an account; returns their numbers.
async fn make_tenants(postgres: &Postgres, folder: &Path) -> Result<Vec<String>, Failure> {
    let token = service::token(folder).await?;
    let service = Service::start(folder, postgres.url(), &[]).await?;
    let callers = Callers::connect(&service.address, &token).await?;
    let callers = &callers;
    let made = stream::iter(0..TENANTS)
        .map(async |turn| {
            let (tenant, number) = (format!("tenant-{turn}"), format!("4182{turn:06}"));
            make_tenant(callers, &tenant).await?;
            connect(callers, &tenant, &number).await?;
            Ok::<_, Failure>(number)
        })
        .buffered(4);
    let numbers = made.try_collect().await?;
    service.stop().await?;
    Ok(numbers)
}

async fn make_tenant(callers: &Callers, tenant: &str) -> Result<(), Failure> {
    let request = pb::InitializeTenantRequest {
        tenant: tenant.to_owned(),
        ..Default::default()
    };
    callers.call(INITIALIZE_TENANT, bytes(&request)).await?;
    Ok(())
}

async fn connect(callers: &Callers, tenant: &str, number: &str) -> Result<(), Failure> {
    let request = pb::ConnectChannelAccountRequest {
        tenant: tenant.to_owned(),
        name: "Support".to_owned(),
        settings: Some(Settings::Whatsapp(pb::WhatsappSettings {
            phone_number_id: number.to_owned(),
            app_id: "1".to_owned(),
            ..Default::default()
        })),
        whatsapp_secrets: Some(pb::WhatsappSecrets {
            app_secret: SECRET.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    callers.call(CONNECT, bytes(&request)).await?;
    Ok(())
}

/// A body with so many messages, of customers in turn from one on; of one alone, if there is one.
fn delivery(number: &str, customers: usize, messages: usize) -> Vec<u8> {
    static MESSAGE: AtomicU64 = AtomicU64::new(1);
    let mut said = Vec::with_capacity(messages);
    let mut people = Vec::new();
    for turn in 0..messages {
        let customer = match messages {
            1 => customers,
            _ => turn % customers + 1,
        };
        let from = format!("49{customer:010}");
        if people.len() < customers || messages == 1 {
            people.push(serde_json::json!({
                "profile": {"name": format!("Customer {customer}")}, "wa_id": from,
            }));
        }
        let id = MESSAGE.fetch_add(1, Ordering::Relaxed);
        said.push(serde_json::json!({
            "from": from,
            "id": format!("wamid.{}.{id}", std::process::id()),
            "timestamp": "1773480000",
            "type": "text",
            "text": {"body": format!("{TEXT} {id}")},
        }));
    }
    let body = serde_json::json!({"object": "whatsapp_business_account", "entry": [{
        "id": "1",
        "changes": [{"field": "messages", "value": {
            "messaging_product": "whatsapp",
            "metadata": {"display_phone_number": "1", "phone_number_id": number},
            "contacts": people,
            "messages": said,
        }}],
    }]});
    body.to_string().into_bytes()
}

/// Waits until all deliveries are applied.
async fn until_applied(postgres: &Postgres) -> Result<(), Failure> {
    let begun = Instant::now();
    let sql = "SELECT count(*) FROM directory.deliveries WHERE due_at IS NOT NULL";
    loop {
        let waiting: i64 = postgres.admin.query_one(sql, &[]).await?.get(0);
        if waiting == 0 {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("{waiting} deliveries are not applied").into());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Posts as Meta does, over connections that are kept.
#[derive(Clone)]
struct Poster {
    http: String,
    key: hmac::Key,
    idle: Arc<Mutex<Vec<TcpStream>>>,
}

impl Poster {
    fn new(service: &Service) -> Self {
        Self {
            http: service.http.clone(),
            key: hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()),
            idle: Arc::default(),
        }
    }

    /// Posts a body, and waits for the answer, which is 200.
    async fn post(&self, body: &[u8]) -> Result<(), Failure> {
        // The service may have closed one that was idle for long.
        let idle = self.idle.lock().await.pop();
        if let Some(stream) = idle
            && self.post_over(stream, body).await.is_ok()
        {
            return Ok(());
        }
        let stream = TcpStream::connect(&self.http).await?;
        stream.set_nodelay(true)?;
        self.post_over(stream, body).await
    }

    async fn post_over(&self, mut stream: TcpStream, body: &[u8]) -> Result<(), Failure> {
        let digest = hmac::sign(&self.key, body);
        let signature: String = (digest.as_ref().iter())
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let head = format!(
            "POST /webhooks/whatsapp HTTP/1.1\r\nhost: localhost\r\n\
            content-type: application/json\r\nx-hub-signature-256: sha256={signature}\r\n\
            content-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).await?;
        let mut answer = Vec::with_capacity(512);
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err("the service does not answer".into());
            }
        }
        let is_empty = String::from_utf8_lossy(&answer).contains("content-length: 0\r\n");
        if !answer.starts_with(b"HTTP/1.1 200 ") || !is_empty {
            let answer = String::from_utf8_lossy(&answer);
            return Err(format!("the service answers {answer}").into());
        }
        self.idle.lock().await.push(stream);
        Ok(())
    }

    /// Posts for a while, and waits until all of it is applied.
    async fn run(
        &self,
        postgres: &Postgres,
        number: &str,
        span: Duration,
        meter: Meter,
    ) -> Result<Outcome, Failure> {
        self.post_for(number, WARM_UP).await?;
        until_applied(postgres).await?;
        let (begun, before) = (Instant::now(), meter.read()?);
        let latency = self.post_for(number, span).await?;
        until_applied(postgres).await?;
        Ok(Outcome {
            latency,
            took: begun.elapsed(),
            cpu: meter.since(before)?,
        })
    }

    async fn post_for(&self, number: &str, span: Duration) -> Result<Histogram<u64>, Failure> {
        let stopped = Arc::new(AtomicBool::new(false));
        let mut running = Vec::new();
        for turn in 0..POSTERS {
            let (poster, number, stopped) = (self.clone(), number.to_owned(), stopped.clone());
            running.push(tokio::spawn(async move {
                let mut latency = Histogram::<u64>::new(3)?;
                let mut customer = turn;
                while !stopped.load(Ordering::Relaxed) {
                    customer = (customer + 389) % CONVERSATIONS;
                    let body = delivery(&number, customer + 1, 1);
                    let begun = Instant::now();
                    poster.post(&body).await?;
                    latency.record(u64::try_from(begun.elapsed().as_micros())?)?;
                }
                Ok::<_, Failure>(latency)
            }));
        }
        tokio::time::sleep(span).await;
        stopped.store(true, Ordering::Relaxed);
        let mut all = Histogram::new(3)?;
        for poster in running {
            all.add(&poster.await??)?;
        }
        Ok(all)
    }
}
