//! Streams of events: how soon a change is in a reader's hand, what many readers cost, how they come
//! back.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use communication_service::pb;
use hdrhistogram::Histogram;
use pb::actor::Kind;
use pb::subscribe_request::Start;
use pb::subscribe_response::Frame;
use prost::Message as _;
use prost::bytes::Bytes;
use tokio::task::JoinSet;

use crate::callers::{Callers, Pick, Stream, Task};
use crate::postgres::Postgres;
use crate::process::{Meter, resident};
use crate::report::{median, verdict};
use crate::service::{self, Service};
use crate::{CALLERS, CREATE_MESSAGE, Failure, TENANT, bytes, fill, requests, setting};

/// What the arguments call it.
pub const NAME: &str = "events";

/// How many events are missed and read again.
const MISSED: usize = 10_000;
/// How many readers a tenant has.
const READERS: usize = 1_000;
/// Over how many connections.
const CONNECTIONS: usize = 10;
/// How many of them read nothing, each on a connection of its own.
const STALLED: usize = 100;
/// How many events a second they hear.
const EVENTS: u64 = 100;
/// How many tenants there are whose readers come back at once, and how many each has.
const TENANTS: usize = 100;
/// How many users a tenant has: one for each connection that its readers come back by.
const USERS: usize = TENANTS;
/// How many events they have missed, at most.
const OLD: usize = 1_000;
/// How long a server does what it has to do after its start, and how long readers rest.
const SETTLED: Duration = Duration::from_secs(5);
const REST: Duration = Duration::from_secs(10);
/// How many bytes a connection takes that nobody reads from, and one whose readers read.
const NARROW: u32 = 65_535;
const WIDE: u32 = 4 * 1024 * 1024;
const CREATE_CHANNEL: &str = "/communication.v1.ChatService/CreateChannel";
/// How long readers may take in all.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures streams, and prints what they reach.
pub async fn measure(postgres: &Postgres, folder: &Path) -> Result<(), Failure> {
    let token = service::token(folder).await?;
    let service = Service::start(folder, postgres.url(), &[]).await?;
    let callers = Callers::connect(&service.address, &token).await?;
    fill(postgres, &callers).await?;
    let run = Run {
        postgres,
        token: &token,
        callers: &callers,
        service: &service,
        span: Duration::from_secs(setting("BENCH_SECONDS", 5)?),
        rounds: setting("BENCH_ROUNDS", 3)?,
    };
    println!("\n| events | figure | bar |\n|---|--:|---|");
    run.to_hand().await?;
    run.replayed().await?;
    run.many(0).await?;
    run.many(STALLED).await?;
    let mut tokens = Vec::new();
    for number in 0..TENANTS {
        tokens.push(run.tenant_with_tokens(number).await?);
    }
    service.stop().await?;
    return_at_once(postgres, folder, &token, &tokens).await
}

/// A token of one user, and how many events come behind it.
type Missed = (String, usize);

/// The readers of many tenants come back to a server that has just started.
async fn return_at_once(
    postgres: &Postgres,
    folder: &Path,
    token: &str,
    tokens: &[Vec<Missed>],
) -> Result<(), Failure> {
    let service = Service::start(folder, postgres.url(), &[("SQL_ECHO", "true")]).await?;
    tokio::time::sleep(SETTLED).await;
    let mut connections = Vec::new();
    for _ in 0..TENANTS {
        connections.push(Callers::connect_once(&service.address, token, WIDE).await?);
    }
    let meter = Meter {
        service: service.pid,
        postgres: postgres.pid,
    };
    let asked = service.sent()?;
    let (begun, used) = (Instant::now(), meter.read()?);
    let mut readers = JoinSet::new();
    for (connection, callers) in connections.iter().enumerate() {
        for (tenant, tokens) in tokens.iter().enumerate() {
            let (token, missed) = tokens[(connection + tenant) % tokens.len()].clone();
            let callers = callers.clone();
            readers.spawn(async move {
                let start = Some(Start::Token(token));
                let request = subscribe(&format!("many-{tenant}"), connection, start);
                let mut stream = callers.subscribe_patiently(&request).await?;
                hear(&mut stream, missed).await?;
                Ok::<_, Failure>(stream)
            });
        }
    }
    let mut live = Vec::new();
    while let Some(reader) = readers.join_next().await {
        live.push(reader??);
    }
    let took = begun.elapsed().as_secs_f64();
    let used = meter.since(used)?.service.as_secs_f64();
    let asked = service.sent()? - asked;
    let streams = live.len();
    println!(
        "| {streams} readers of {TENANTS} tenants come back, up to {OLD} events old, to a server that has just started | {took:.1} s, {used:.1} s of CPU | ≤ 5 s {} |",
        verdict(took <= 5.0)
    );
    let rate = asked as f64 / took.max(5.0);
    println!(
        "| statements for that | {asked}, {rate:.0}/s over 5 s | < 200/s {} |",
        verdict(rate < 200.0)
    );
    let asked = service.sent()?;
    tokio::time::sleep(REST).await;
    let rate = (service.sent()? - asked) as f64 / REST.as_secs_f64();
    println!(
        "| the same while they hear nothing new | {rate:.0}/s | < 200/s {} |",
        verdict(rate < 200.0)
    );
    service.stop().await
}

struct Run<'a> {
    postgres: &'a Postgres,
    token: &'a str,
    callers: &'a Callers,
    service: &'a Service,
    span: Duration,
    rounds: usize,
}

/// A user with a number, who acts.
fn user(number: usize) -> Option<pb::Actor> {
    let kind = Some(Kind::UserId(format!("user-{number}")));
    Some(pb::Actor { kind })
}

fn subscribe(tenant: &str, who: usize, start: Option<Start>) -> pb::SubscribeRequest {
    pb::SubscribeRequest {
        tenant: tenant.to_owned(),
        actor: user(who),
        start,
        ..Default::default()
    }
}

/// Reads a frame.
async fn frame(stream: &mut Stream) -> Result<Frame, Failure> {
    let next = tokio::time::timeout(PATIENCE, stream.message()).await??;
    let next = pb::SubscribeResponse::decode(next.ok_or("the stream has ended")?)?;
    next.frame.ok_or_else(|| "an unknown frame".into())
}

/// Reads the greeting, and events until there were so many; returns the last token.
async fn hear(stream: &mut Stream, events: usize) -> Result<String, Failure> {
    let (mut heard, mut token) = (0, String::new());
    while heard < events || token.is_empty() {
        token = match frame(stream).await? {
            Frame::Hello(hello) => hello.head_token,
            Frame::Batch(batch) => {
                heard += batch.events.len();
                batch.token
            }
            Frame::Checkpoint(checkpoint) => checkpoint.token,
            Frame::AccessGained(gained) => gained.token,
            other => return Err(format!("{other:?}").into()),
        };
    }
    Ok(token)
}

fn decoded(events: &[Bytes]) -> Result<Vec<pb::Event>, Failure> {
    let events = events.iter().cloned();
    let events: Result<_, _> = events.map(pb::Event::decode).collect();
    Ok(events?)
}

/// How long ago an event happened, in microseconds.
#[expect(
    clippy::disallowed_methods,
    reason = "what the database's clock says is compared with this machine's, which is the same"
)]
fn since(event: &pb::Event) -> u64 {
    let at = event.event_time.unwrap_or_default();
    let at = Duration::new(at.seconds.unsigned_abs(), at.nanos.unsigned_abs());
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let passed = now.unwrap_or_default().saturating_sub(at);
    u64::try_from(passed.as_micros()).unwrap_or(u64::MAX)
}

/// p50 and p99 of microseconds, in milliseconds.
fn quantiles(latency: &Histogram<u64>) -> [f64; 2] {
    [0.5, 0.99].map(|part| latency.value_at_quantile(part) as f64 / 1e3)
}

impl Run<'_> {
    fn meter(&self) -> Meter {
        Meter {
            service: self.service.pid,
            postgres: self.postgres.pid,
        }
    }

    fn writing(&self) -> Task {
        Task {
            path: CREATE_MESSAGE,
            requests: Arc::new(requests(CREATE_MESSAGE)),
            pick: Pick::Apart,
            answer: tonic::Code::Ok,
        }
    }

    async fn head(&self, tenant: &str) -> Result<String, Failure> {
        let request = pb::GetHeadRequest {
            tenant: tenant.to_owned(),
        };
        let path = "/communication.v1.EventService/GetHead";
        let answer = self.callers.call(path, bytes(&request)).await?;
        Ok(pb::GetHeadResponse::decode(answer)?.token)
    }

    /// Writes at an even rate, for a while; returns how long each call took, in microseconds.
    async fn write_evenly(
        &self,
        each_second: f64,
        span: Duration,
    ) -> Result<Histogram<u64>, Failure> {
        let requests = requests(CREATE_MESSAGE);
        let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / each_second));
        let (begun, mut calls) = (Instant::now(), JoinSet::new());
        let mut count = 0;
        while begun.elapsed() < span {
            tick.tick().await;
            let request = requests[count % requests.len()].clone();
            let callers = self.callers.clone();
            calls.spawn(async move {
                let begun = Instant::now();
                callers.call(CREATE_MESSAGE, request).await?;
                Ok::<_, Failure>(u64::try_from(begun.elapsed().as_micros())?)
            });
            count += 1;
        }
        let mut latency = Histogram::new(3)?;
        while let Some(call) = calls.join_next().await {
            latency.record(call??)?;
        }
        Ok(latency)
    }

    /// From the statement that makes a change to a reader's hand, at half of what the machine writes.
    async fn to_hand(&self) -> Result<(), Failure> {
        let (writing, meter) = (self.writing(), self.meter());
        let full = self.callers.run(CALLERS, &writing, self.span, meter);
        let full = full.await?;
        let half = full.latency.len() as f64 / full.took.as_secs_f64() / 2.0;
        let mut rounds = Vec::new();
        for _ in 0..self.rounds {
            rounds.push(self.hear_beside(half).await?);
        }
        let middle = |of: fn(&[f64; 4]) -> f64| median(rounds.iter().map(of));
        let [write50, write99] = [middle(|round| round[0]), middle(|round| round[1])];
        println!(
            "| {half:.0} writes/s, half of what it can: p50, p99 of the calls | {write50:.1} ms, {write99:.1} ms | |"
        );
        let [p50, p99] = [middle(|round| round[2]), middle(|round| round[3])];
        println!(
            "| from the statement to a reader's hand beside them: p50, p99 | {p50:.1} ms, {p99:.1} ms | ≤ 10 ms, ≤ 50 ms {} |",
            verdict(p50 <= 10.0 && p99 <= 50.0)
        );
        Ok(())
    }

    /// Writes for a while, and hears of it; returns p50 and p99 of the calls and of what was heard.
    async fn hear_beside(&self, each_second: f64) -> Result<[f64; 4], Failure> {
        let mut stream = self.callers.subscribe(&subscribe(TENANT, 0, None)).await?;
        hear(&mut stream, 0).await?;
        let hearing = async {
            let mut latency = Histogram::<u64>::new(3)?;
            let begun = Instant::now();
            while begun.elapsed() < self.span {
                if let Frame::Batch(batch) = frame(&mut stream).await? {
                    for event in decoded(&batch.events)? {
                        latency.record(since(&event))?;
                    }
                }
            }
            Ok::<_, Failure>(latency)
        };
        let span = self.span + Duration::from_secs(1);
        let writing = self.write_evenly(each_second, span);
        let (latency, writes) = tokio::try_join!(hearing, writing)?;
        let ([write50, write99], [p50, p99]) = (quantiles(&writes), quantiles(&latency));
        Ok([write50, write99, p50, p99])
    }

    /// Events that were missed, read from the log.
    async fn replayed(&self) -> Result<(), Failure> {
        let from = self.head(TENANT).await?;
        let (writing, mut written) = (self.writing(), 0);
        while written < MISSED {
            let more = self.callers.run(CALLERS, &writing, self.span, self.meter());
            written += usize::try_from(more.await?.latency.len())?;
        }
        let mut took = Vec::new();
        for _ in 0..5 {
            let begun = Instant::now();
            let start = Some(Start::Token(from.clone()));
            let mut stream = self.callers.subscribe(&subscribe(TENANT, 0, start)).await?;
            hear(&mut stream, MISSED).await?;
            took.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        let took = median(took.into_iter());
        let good = verdict(took <= 250.0);
        println!("| {MISSED} missed events | {took:.0} ms | ≤ 250 ms {good} |");
        Ok(())
    }

    /// Many readers of one tenant, some of whom take nothing.
    async fn many(&self, stalled: usize) -> Result<(), Failure> {
        let before = resident(self.service.pid)?;
        let request = subscribe(TENANT, 0, None);
        let mut held = Vec::new();
        for _ in 0..stalled {
            let alone = Callers::connect_once(&self.service.address, self.token, NARROW).await?;
            // It is open, and nothing is read from it.
            held.push((alone.subscribe(&request).await?, alone));
        }
        let heard = Arc::new(AtomicUsize::new(0));
        let slowest = Arc::new(AtomicU64::new(0));
        let mut readers = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let callers = Callers::connect_once(&self.service.address, self.token, WIDE).await?;
            for _ in 0..(READERS - stalled) / CONNECTIONS {
                let mut stream = callers.subscribe(&request).await?;
                hear(&mut stream, 0).await?;
                let (heard, slowest) = (heard.clone(), slowest.clone());
                readers.spawn(async move {
                    let mut latency = Histogram::<u64>::new(2)?;
                    loop {
                        let frame = frame(&mut stream).await?;
                        let Frame::Batch(batch) = frame else {
                            continue;
                        };
                        for event in decoded(&batch.events)? {
                            latency.record(since(&event))?;
                            slowest.fetch_max(since(&event), Ordering::Relaxed);
                            // The end has no text of its own.
                            if event.r#type == "conversation.created" {
                                return Ok::<_, Failure>(latency);
                            }
                        }
                        heard.fetch_add(batch.events.len(), Ordering::Relaxed);
                    }
                });
            }
        }
        let (meter, begun) = (self.meter(), Instant::now());
        let used = meter.read()?;
        let span = self.span * 3;
        let written = self.write_evenly(EVENTS as f64, span).await?.len();
        let (took, used) = (begun.elapsed(), meter.since(used)?);
        let more = resident(self.service.pid)? - before;
        let last = pb::CreateConversationRequest {
            tenant: TENANT.to_owned(),
            channel: pb::Channel::Email.into(),
            contact_identifier: format!("end-{stalled}@example.com"),
            ..Default::default()
        };
        self.callers
            .call(crate::CREATE_CONVERSATION, bytes(&last))
            .await?;
        let mut latency = Histogram::<u64>::new(2)?;
        while let Some(reader) = readers.join_next().await {
            latency.add(reader??)?;
        }
        let cores = used.service.as_secs_f64() / took.as_secs_f64();
        let [p50, p99] = quantiles(&latency);
        let readers = READERS - stalled;
        println!(
            "| {readers} readers of one tenant, {written} writes at {EVENTS}/s, and {stalled} who take nothing: the service's CPU | {cores:.2} cores | ≤ 1 core {} |",
            verdict(cores <= 1.0)
        );
        println!("| the readers who read: p50, p99 | {p50:.1} ms, {p99:.1} ms | |");
        println!(
            "| memory of all these streams | {more:.1} MiB | ≤ 64 MiB {} |",
            verdict(more <= 64.0)
        );
        Ok(())
    }

    /// Makes a tenant with a log; returns tokens of it.
    async fn tenant_with_tokens(&self, number: usize) -> Result<Vec<Missed>, Failure> {
        let tenant = format!("many-{number}");
        let request = pb::InitializeTenantRequest {
            tenant: tenant.clone(),
            ..Default::default()
        };
        let path = crate::INITIALIZE_TENANT;
        self.callers.call(path, bytes(&request)).await?;
        let request = pb::CreateConversationRequest {
            tenant: tenant.clone(),
            channel: pb::Channel::Whatsapp.into(),
            contact_identifier: "+490000000001".to_owned(),
            first_message: crate::TEXT.to_owned(),
            ..Default::default()
        };
        let path = crate::CREATE_CONVERSATION;
        self.callers.call(path, bytes(&request)).await?;
        // Everybody who listens is in a private channel, of which half of the events are.
        let members = (1..USERS).map(|number| pb::NewChannelMember {
            user_id: format!("user-{number}"),
            ..Default::default()
        });
        let request = pb::CreateChannelRequest {
            tenant: tenant.clone(),
            actor: user(0),
            kind: pb::ChatChannelKind::Private.into(),
            name: "Everybody".to_owned(),
            members: members.collect(),
            ..Default::default()
        };
        let made = self.callers.call(CREATE_CHANNEL, bytes(&request)).await?;
        let channel = pb::CreateChannelResponse::decode(made)?.channel;
        let request = pb::PostEntryRequest {
            tenant: tenant.clone(),
            actor: user(0),
            channel_id: channel.unwrap_or_default().id,
            text: crate::TEXT.to_owned(),
            ..Default::default()
        };
        let path = crate::chat::POST_ENTRY;
        self.callers.call(path, bytes(&request)).await?;
        let sql = "SELECT schema_name FROM directory.tenants WHERE slug = $1";
        let schema: String = self.postgres.admin.query_one(sql, &[&tenant]).await?.get(0);
        let more = format!(
            "INSERT INTO \"{schema}\".events
            SELECT nextval('\"{schema}\".events_id_seq'), gen_random_uuid(), it.kind || '.updated', it.kind,
                it.id, it.parent, it.sequence, 1, '{{}}', 'service', 'bench', 'bench', 'bench', now()
            FROM generate_series(1, {OLD}) number, LATERAL (
                SELECT 'message' AS kind, id, conversation_id AS parent, sequence
                FROM \"{schema}\".inbox_messages WHERE number % 2 = 0
                UNION ALL
                SELECT 'chat_entry', id, channel_id, sequence
                FROM \"{schema}\".chat_entries WHERE number % 2 = 1
            ) it
            ORDER BY number"
        );
        self.postgres.admin.batch_execute(&more).await?;
        let count = format!("SELECT count(*) FROM \"{schema}\".events WHERE id > 0");
        let count: i64 = self.postgres.admin.query_one(&count, &[]).await?.get(0);
        let start = Some(Start::Earliest(true));
        let mut stream = self
            .callers
            .subscribe(&subscribe(&tenant, 0, start))
            .await?;
        let (mut left, mut tokens) = (usize::try_from(count)?, Vec::new());
        while left > 0 {
            if let Frame::Batch(batch) = frame(&mut stream).await? {
                left -= batch.events.len();
                if left <= OLD {
                    tokens.push((batch.token, left));
                }
            }
        }
        Ok(tokens)
    }
}
