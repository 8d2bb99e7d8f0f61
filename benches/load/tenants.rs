//! Many tenants: as fast as one, and within the budget of connections.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use communication_service::pb;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hdrhistogram::Histogram;
use prost::Message as _;
use prost::bytes::Bytes;
use tonic::Code;

use crate::callers::{Callers, Outcome, Pick, Task};
use crate::postgres::Postgres;
use crate::process::{Meter, resident};
use crate::report::{median, verdict};
use crate::service::Service;
use crate::{CREATE_CONVERSATION, Failure, GET_CONVERSATION, INITIALIZE_TENANT, bytes};

/// The names that the arguments of a run can ask for.
pub const NAMES: [&str; 2] = ["500 tenants", "1,000 tenants"];

const TENANTS: usize = 1000;
/// How many call the tenants that are kept warm, so that each of `KEPT_WARM` has one connection:
/// each caller has tenants of its own.
const CALLERS: usize = 8;
const KEPT_WARM: usize = 63 * CALLERS;
/// Connections of the service for other things than tenants, and a few to spare.
const OTHER: usize = 16;
const BUDGET: usize = 60;
/// Tenants that are called before memory is looked at for the first time.
const FIRST: usize = 100;
/// How many call all tenants at random.
const CROWD: usize = 32;
const PATIENCE: Duration = Duration::from_secs(30);

/// A run's surroundings.
pub struct Surroundings<'a> {
    /// The database.
    pub postgres: &'a Postgres,
    /// The service's data folder.
    pub folder: &'a Path,
    /// The callers' credential.
    pub token: &'a str,
    /// How often each side has its turn.
    pub rounds: usize,
    /// How long a turn takes.
    pub span: Duration,
}

impl Surroundings<'_> {
    /// Makes the tenants and measures; `one` reads from one tenant alone.
    pub async fn measure(&self, one: Task) -> Result<(), Failure> {
        let requests = self.make_tenants().await?;
        println!("\n| {TENANTS} tenants | figure | bar |\n|---|--:|---|");
        self.warm(one, &requests[..KEPT_WARM]).await?;
        self.cold(&requests).await?;
        self.crowded(requests).await
    }

    async fn start(&self, settings: &[(&str, &str)]) -> Result<(Service, Callers), Failure> {
        let service = Service::start(self.folder, self.postgres.url(), settings).await?;
        let callers = Callers::connect(&service.address, self.token).await?;
        Ok((service, callers))
    }

    /// Makes tenants with one conversation each; returns the request that reads it.
    async fn make_tenants(&self) -> Result<Vec<Bytes>, Failure> {
        let (service, callers) = self.start(&[]).await?;
        let made = stream::iter(0..TENANTS)
            .map(|number| make_tenant(&callers, format!("tenant-{number}")))
            .buffered(4);
        let requests = made.try_collect().await?;
        service.stop().await?;
        Ok(requests)
    }

    /// Tenants that have a connection each, against one tenant with as many as it has callers.
    async fn warm(&self, one: Task, requests: &[Bytes]) -> Result<(), Failure> {
        let budget = (KEPT_WARM + OTHER).to_string();
        let (service, callers) = self.start(&[("COMM_DB_CONNECTIONS", &budget)]).await?;
        let meter = self.meter(&service);
        // PostgreSQL plans a statement anew the first five times that a connection runs it.
        for request in requests.iter().cycle().take(8 * requests.len()) {
            callers.call(GET_CONVERSATION, request.clone()).await?;
        }
        let many = Task {
            requests: Arc::new(requests.to_vec()),
            pick: Pick::Apart,
            ..one.clone()
        };
        let (mut of_one, mut of_many) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            for (task, outcomes) in [(&one, &mut of_one), (&many, &mut of_many)] {
                outcomes.push(callers.run(CALLERS, task, self.span, meter).await?);
            }
        }
        let connections = self.postgres.connections().await?;
        service.stop().await?;
        let mut rates = Vec::new();
        for (who, outcomes) in [
            ("one tenant".to_owned(), of_one),
            (
                format!("{KEPT_WARM} tenants, with {connections} connections in all"),
                of_many,
            ),
        ] {
            let figure = |of: &dyn Fn(&Outcome, f64) -> f64| {
                let figures = outcomes.iter();
                median(figures.map(|outcome| of(outcome, outcome.latency.len() as f64)))
            };
            let rate = figure(&|outcome, calls| calls / outcome.took.as_secs_f64());
            let ours = figure(&|outcome, calls| outcome.cpu.service.as_secs_f64() * 1e6 / calls);
            let theirs = figure(&|outcome, calls| outcome.cpu.postgres.as_secs_f64() * 1e6 / calls);
            println!(
                "| GetConversation, {CALLERS} callers of {who} | {rate:.0}/s; CPU {ours:.0} µs, of PostgreSQL {theirs:.0} µs | |"
            );
            rates.push(rate);
        }
        let ratio = rates[1] / rates[0];
        let reached = verdict(ratio >= 0.9);
        println!("| ratio | {ratio:.2} | ≥ 0.9 {reached} |");
        Ok(())
    }

    /// The first call to each tenant, and what a tenant takes when it is left alone again.
    async fn cold(&self, requests: &[Bytes]) -> Result<(), Failure> {
        let (service, callers) = self.start(&[("COMM_DB_IDLE_SECONDS", "1")]).await?;
        let (first, others) = requests.split_at(FIRST);
        for request in first {
            callers.call(GET_CONVERSATION, request.clone()).await?;
        }
        self.until_all_is_idle().await?;
        let before = resident(service.pid)?;
        let mut latency = Histogram::<u64>::new(3)?;
        for request in others {
            let begun = Instant::now();
            callers.call(GET_CONVERSATION, request.clone()).await?;
            latency.record(u64::try_from(begun.elapsed().as_micros())?)?;
        }
        self.until_all_is_idle().await?;
        let kib = (resident(service.pid)? - before) * 1024.0 / others.len() as f64;
        service.stop().await?;
        let [p50, p99] = [0.5, 0.99].map(|part| latency.value_at_quantile(part) as f64 / 1e3);
        let reached = verdict(p99 <= 100.0);
        println!("| first call to a tenant, p50 | {p50:.1} ms | |");
        println!("| first call to a tenant, p99 | {p99:.1} ms | ≤ 100 ms {reached} |");
        let reached = verdict(kib <= 16.0);
        println!("| memory for each idle tenant | {kib:.1} KiB | ≤ 16 KiB {reached} |");
        Ok(())
    }

    /// All tenants at random, with far fewer connections than tenants.
    async fn crowded(&self, requests: Vec<Bytes>) -> Result<(), Failure> {
        let budget = BUDGET.to_string();
        let (service, callers) = self.start(&[("COMM_DB_CONNECTIONS", &budget)]).await?;
        let task = Task {
            path: GET_CONVERSATION,
            requests: Arc::new(requests),
            pick: Pick::Random,
            // A refusal would end the run.
            answer: Code::Ok,
        };
        let meter = self.meter(&service);
        let span = self.span * 2;
        let mut most = 0;
        let mut running = std::pin::pin!(callers.run(CROWD, &task, span, meter));
        let outcome = loop {
            tokio::select! {
                outcome = &mut running => break outcome?,
                () = tokio::time::sleep(Duration::from_millis(10)) => {
                    most = most.max(self.postgres.clients().await?);
                }
            }
        };
        service.stop().await?;
        let calls = outcome.latency.len() as f64;
        let rate = calls / outcome.took.as_secs_f64();
        let [p50, p99, longest] =
            [0.5, 0.99, 1.0].map(|part| outcome.latency.value_at_quantile(part) as f64 / 1e3);
        println!(
            "| GetConversation, {CROWD} callers at random, a budget of {BUDGET} | {rate:.0}/s | |"
        );
        let reached = verdict(most <= BUDGET);
        println!("| the most connections at once | {most} | ≤ {BUDGET} {reached} |");
        println!("| p50, p99 | {p50:.1} ms, {p99:.1} ms | |");
        let reached = verdict(longest <= 2000.0);
        println!("| the longest wait, none refused | {longest:.0} ms | ≤ 2,000 ms {reached} |");
        Ok(())
    }

    fn meter(&self, service: &Service) -> Meter {
        Meter {
            service: service.pid,
            postgres: self.postgres.pid,
        }
    }

    async fn until_all_is_idle(&self) -> Result<(), Failure> {
        let begun = Instant::now();
        while self.postgres.connections().await? > 0 {
            if begun.elapsed() > PATIENCE {
                return Err("idle connections are not closed".into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

async fn make_tenant(callers: &Callers, tenant: String) -> Result<Bytes, Failure> {
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
    Ok(bytes(&pb::GetConversationRequest {
        tenant,
        conversation_id: conversation.id,
        ..Default::default()
    }))
}
