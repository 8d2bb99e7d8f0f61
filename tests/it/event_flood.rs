//! Readers of the event log that come and go, beside writers that roll back, dawdle and overtake each
//! other, while the servers and the database are killed: each reader has heard everything, once, in the log's order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use communication_service::database::private::PrivateServer;
use communication_service::pb::event_service_client::EventServiceClient;
use communication_service::pb::subscribe_request::Start;
use communication_service::pb::subscribe_response::Frame;
use communication_service::pb::{GetHeadRequest, SubscribeRequest};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};
use tonic::transport::Channel;

use crate::harness::{Folder, Service, TestTenant, connect, decoded, durable, within};

/// The type of the events that writers write.
const WRITTEN: &str = "test.written";

/// How much happens.
pub struct Flood {
    /// So many events at least.
    pub events: usize,
    /// By so many writers.
    pub writers: usize,
    /// For so many readers.
    pub readers: usize,
    /// And a server is killed so often meanwhile, and the database after every other time.
    pub kills: usize,
}

/// Events in their order, of which no more is kept than tells one order from another.
pub struct Heard {
    /// How many.
    pub count: usize,
    order: Context,
}

impl Heard {
    fn new() -> Self {
        Self {
            count: 0,
            order: Context::new(&SHA256),
        }
    }

    fn add(&mut self, id: &str) {
        self.count += 1;
        self.order.update(id.as_bytes());
    }

    /// What tells them from others.
    pub fn end(self) -> (usize, Vec<u8>) {
        (self.count, self.order.finish().as_ref().to_vec())
    }
}

/// One transaction of a writer: it draws under the lock, as every writer does, and each tenth takes it
/// back, each twentieth takes its time.
fn transaction(schema: &str, tenant: i32, writer: usize, turn: usize) -> (String, bool) {
    let rolls_back = turn % 10 == 7;
    let sleep = if turn % 20 == 3 {
        "SELECT pg_sleep(0.02);"
    } else {
        ""
    };
    let end = if rolls_back { "ROLLBACK" } else { "COMMIT" };
    let sql = format!(
        "BEGIN;
        SELECT pg_advisory_xact_lock_shared(1129270605, {tenant});
        INSERT INTO {schema}.events (id, event_id, kind, resource_kind, resource_id, sequence,
            version, changed, actor_kind, actor_id, caller, correlation_id, at)
        VALUES (nextval('{schema}.events_id_seq'), gen_random_uuid(), '{WRITTEN}', 'test',
            gen_random_uuid(), {turn}, 1, '{{}}', 'service', 'writer-{writer}', 'test', 'flood',
            now());
        {sleep}
        {end}"
    );
    (sql, rolls_back)
}

/// Two servers on a database of their own, each of which is killed in its turn.
pub struct Pair {
    folder: Folder,
    /// The database.
    pub database: PrivateServer,
    services: [Service; 2],
    /// The tenant.
    pub tenant: TestTenant,
    channels: watch::Sender<[Channel; 2]>,
}

impl Pair {
    /// Starts both, and makes a tenant.
    pub async fn start() -> Self {
        let folder = Folder::new();
        let database = durable(&folder).await;
        let start = async || Service::start(&folder, database.url()).await;
        let services = [start().await, start().await];
        let tenant = services[0].tenant("acme").await;
        let channels = [services[0].channel.clone(), services[1].channel.clone()];
        Self {
            folder,
            database,
            services,
            tenant,
            channels: watch::channel(channels).0,
        }
    }

    /// How to reach them, as it changes.
    pub fn channels(&self) -> watch::Receiver<[Channel; 2]> {
        self.channels.subscribe()
    }

    /// Where the log ends.
    pub async fn head(&self) -> String {
        let head = GetHeadRequest {
            tenant: self.tenant.slug(),
        };
        let mut events = EventServiceClient::new(self.services[0].channel.clone());
        events.get_head(head).await.unwrap().into_inner().token
    }

    /// Kills one of them, the other the next time, and the database each second time.
    pub async fn kill(&mut self, turn: usize) {
        let url = self.database.url();
        let next = Service::start(&self.folder, url).await;
        let killed = std::mem::replace(&mut self.services[turn % 2], next);
        killed.kill().await;
        let next = self.services[turn % 2].channel.clone();
        self.channels
            .send_modify(|channels| channels[turn % 2] = next);
        if turn.is_multiple_of(2) {
            crash(url).await;
        }
    }

    /// The ids of all events of some types, in the order of the log.
    pub async fn logged(&self, types: &[&str]) -> Heard {
        let sql = format!(
            "SELECT event_id::text FROM {}.events WHERE kind = ANY ($1) ORDER BY id",
            self.tenant.tenant.schema_name
        );
        let mut log = Heard::new();
        let admin = reconnect(self.database.url()).await;
        for row in admin.query(&sql, &[&types]).await.unwrap() {
            log.add(row.get(0));
        }
        log
    }

    /// Ends them.
    pub async fn stop(self) {
        for service in self.services {
            service.kill().await;
        }
        self.database.stop().await.unwrap();
    }
}

/// Reads from whichever server is there, a few frames at a time, until it has heard as much as was
/// written in the end.
pub async fn read(
    mut servers: watch::Receiver<[Channel; 2]>,
    types: Vec<String>,
    mut token: String,
    reader: usize,
    expected: watch::Receiver<Option<usize>>,
) -> (usize, Vec<u8>) {
    let mut heard = Heard::new();
    for visit in reader.. {
        if expected.borrow().is_some_and(|count| heard.count >= count) {
            break;
        }
        let channel = servers.borrow_and_update()[visit % 2].clone();
        let request = SubscribeRequest {
            tenant: "acme".to_owned(),
            start: Some(Start::Token(token.clone())),
            types: types.clone(),
            ..Default::default()
        };
        let Ok(stream) = EventServiceClient::new(channel).subscribe(request).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let mut stream = stream.into_inner();
        for _ in 0..1 + visit % 7 {
            let next = tokio::time::timeout(Duration::from_millis(500), stream.message()).await;
            let Ok(Ok(Some(frame))) = next else { break };
            match frame.frame {
                // Its token is kept together with what it brought.
                Some(Frame::Batch(batch)) => {
                    decoded(&batch.events)
                        .iter()
                        .for_each(|event| heard.add(&event.id));
                    token = batch.token;
                }
                Some(Frame::Checkpoint(checkpoint)) => token = checkpoint.token,
                Some(Frame::Hello(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    heard.end()
}

/// Connects as soon as the database is there.
pub async fn reconnect(url: &str) -> Client {
    loop {
        if let Ok((client, connection)) = tokio_postgres::connect(url, NoTls).await {
            tokio::spawn(connection);
            return client;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Has the database crash: where one of its processes is killed, it ends all of them, and starts anew
/// from what it has written down.
async fn crash(url: &str) {
    let client = reconnect(url).await;
    let pid = client.query_one("SELECT pg_backend_pid()", &[]).await;
    let pid: i32 = pid.unwrap().get(0);
    let mut kill = Command::new("kill");
    let killed = kill.args(["-9", &pid.to_string()]).status().await;
    assert!(killed.unwrap().success());
    let ended = client.query_one("SELECT 1", &[]).await;
    assert!(ended.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_come_back_hear_everything_once_whatever_writers_and_kills_do() {
    flood(Flood {
        events: 50_000,
        writers: 24,
        readers: 12,
        kills: 5,
    })
    .await;
}

/// Floods the log, and compares what each reader has heard with what is there in the end.
pub async fn flood(load: Flood) {
    let mut pair = Pair::start().await;
    let head = pair.head().await;
    let admin = connect(pair.database.url()).await;
    let sql = "SELECT number FROM directory.tenants WHERE slug = 'acme'";
    let number: i32 = admin.query_one(sql, &[]).await.unwrap().get(0);

    let (tell, expected) = watch::channel(None);
    let mut readers = JoinSet::new();
    for reader in 0..load.readers {
        readers.spawn(read(
            pair.channels(),
            vec![WRITTEN.to_owned()],
            head.clone(),
            reader,
            expected.clone(),
        ));
    }
    let written = Arc::new(AtomicUsize::new(0));
    let doubtful = Arc::new(AtomicUsize::new(0));
    let is_enough = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..load.writers {
        let url = pair.database.url().to_owned();
        let (written, doubtful) = (written.clone(), doubtful.clone());
        let is_enough = is_enough.clone();
        let schema = pair.tenant.tenant.schema_name.clone();
        writers.spawn(async move {
            let mut client = reconnect(&url).await;
            for turn in 0.. {
                if is_enough.load(Ordering::Relaxed) {
                    return;
                }
                let (sql, rolls_back) = transaction(&schema, number, writer, turn);
                match client.batch_execute(&sql).await {
                    Ok(()) => written.fetch_add(usize::from(!rolls_back), Ordering::Relaxed),
                    // Whether it was committed, only the database knows.
                    Err(_) => {
                        client = reconnect(&url).await;
                        doubtful.fetch_add(usize::from(!rolls_back), Ordering::Relaxed)
                    }
                };
            }
        });
    }
    for kill in 1..=load.kills {
        let part = load.events * kill / (load.kills + 1);
        within(Duration::from_secs(600), "much is written", async || {
            written.load(Ordering::Relaxed) >= part
        })
        .await;
        pair.kill(kill).await;
    }
    within(Duration::from_secs(600), "all is written", async || {
        written.load(Ordering::Relaxed) >= load.events
    })
    .await;
    is_enough.store(true, Ordering::Relaxed);
    while writers.join_next().await.transpose().unwrap().is_some() {}

    let log = pair.logged(&[WRITTEN]).await;
    let known = written.load(Ordering::Relaxed);
    assert!((known..=known + doubtful.load(Ordering::Relaxed)).contains(&log.count));
    tell.send_replace(Some(log.count));
    let log = log.end();
    let reading = async {
        while let Some(heard) = readers.join_next().await {
            assert_eq!(heard.unwrap(), log);
        }
    };
    // Whoever has missed one never has enough.
    let patience = Duration::from_secs(60 + u64::try_from(load.events / 1_000).unwrap());
    let read = tokio::time::timeout(patience, reading).await;
    read.expect("everything is heard");
    println!(
        "{} events, each heard once by {} readers",
        log.0, load.readers
    );
    pair.stop().await;
}
