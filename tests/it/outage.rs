//! Webhooks at a steady rate while the database goes away, and while one tenant is locked: what was
//! said to be taken is there, once, and nobody waits for another's tenant.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use tokio_postgres::Client;

use crate::harness::{Folder, Relay, Service, Whatsapp, connect, durable, http_get, within};

/// How much comes in.
pub struct Flood {
    /// For so many tenants.
    pub tenants: usize,
    /// So many a second.
    pub rate: u32,
    /// For so long in calm, and as long again for each of what goes wrong.
    pub seconds: u32,
}

/// A webhook, and what became of it.
struct Posted {
    number: usize,
    begun: Instant,
    took: Duration,
    status: Option<u16>,
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_outlast_an_outage_and_a_locked_tenant() {
    let flood = Flood {
        tenants: 12,
        rate: 60,
        seconds: 3,
    };
    outlast(flood).await;
}

/// A webhook of a number, for a tenant and a person that it chooses.
fn webhook(accounts: &[Whatsapp], number: usize) -> (&Whatsapp, String) {
    let account = &accounts[number * 383 % accounts.len()];
    let (id, says) = (number.to_string(), format!("<{number}>"));
    let body = account.text_of(number % 7, &id, &says);
    (account, body)
}

async fn post(account: Whatsapp, http: SocketAddr, number: usize, body: String) -> Posted {
    let begun = Instant::now();
    let status = account.post_to(http, body.as_bytes()).await;
    Posted {
        number,
        begun,
        took: begun.elapsed(),
        status,
    }
}

/// Posts webhooks of the next numbers, whether the answers come in time or not.
async fn post_for(
    accounts: &[Whatsapp],
    http: SocketAddr,
    next: &mut usize,
    flood: &Flood,
) -> Vec<Posted> {
    let begun = Instant::now();
    let mut running = Vec::new();
    for turn in 0..flood.rate * flood.seconds {
        let due = begun + Duration::from_secs(1) * turn / flood.rate;
        tokio::time::sleep_until(due.into()).await;
        let (account, body) = webhook(accounts, *next);
        running.push(tokio::spawn(post(account.clone(), http, *next, body)));
        *next += 1;
    }
    let mut all = Vec::new();
    for posted in running {
        all.push(posted.await.unwrap());
    }
    all
}

fn all_taken(all: &[Posted]) {
    let refused: Vec<_> = (all.iter())
        .filter(|posted| posted.status != Some(200))
        .map(|posted| (posted.number, posted.status, posted.took))
        .collect();
    assert_eq!(refused, []);
}

async fn waiting(admin: &Client) -> usize {
    let sql = "SELECT count(*) FROM directory.deliveries WHERE due_at IS NOT NULL";
    let waiting: i64 = admin.query_one(sql, &[]).await.unwrap().get(0);
    usize::try_from(waiting).unwrap()
}

async fn make_account(service: &Service, number: usize) -> Whatsapp {
    let account = Whatsapp::new(service.tenant(&format!("tenant-{number}")).await);
    account.connect_by(&service.channel).await;
    account
}

/// Posts webhooks in calm, through an outage of the database, and beside a locked tenant; counts
/// them in the end.
pub async fn outlast(flood: Flood) {
    let folder = Folder::new();
    let database = durable(&folder).await;
    let relay = Relay::start(database.url()).await;
    let url = relay.url(database.url());
    let settings = [("COMM_DB_CONNECTIONS", "60")];
    let service = Service::start_with(&folder.0, &url, &settings).await;
    let accounts: Vec<_> = stream::iter(0..flood.tenants)
        .map(|number| make_account(&service, number))
        .buffered(4)
        .collect()
        .await;
    let mut next = 0;

    // Every tenant has been met.
    for _ in 0..flood.tenants {
        let (account, body) = webhook(&accounts, next);
        let posted = post(account.clone(), service.http, next, body).await;
        all_taken(&[posted]);
        next += 1;
    }
    let calm = post_for(&accounts, service.http, &mut next, &flood).await;
    all_taken(&calm);
    let mut took: Vec<_> = calm.iter().map(|posted| posted.took).collect();
    took.sort_unstable();
    let [p50, p99] = [50, 99].map(|percent| took[took.len() * percent / 100]);
    println!("answered in calm: p50 {p50:?}, p99 {p99:?}");

    let outage = async {
        tokio::time::sleep(Duration::from_secs(1) * flood.seconds / 3).await;
        relay.lose_database();
        database.stop().await.unwrap();
        Instant::now()
    };
    let (mut met, away) =
        tokio::join!(post_for(&accounts, service.http, &mut next, &flood), outage);
    met.extend(post_for(&accounts, service.http, &mut next, &flood).await);
    let during: Vec<_> = met.iter().filter(|posted| posted.begun >= away).collect();
    assert!(during.len() >= met.len() / 2, "{}", during.len());
    for posted in during {
        assert_eq!(posted.status, Some(503), "{}", posted.number);
        assert!(posted.took < Duration::from_secs(5), "{:?}", posted.took);
    }
    let database = durable(&folder).await;
    relay.find_database(database.url());
    let admin = connect(database.url()).await;
    within(Duration::from_secs(10), "ready again", async || {
        http_get(service.http, "/ready", &[]).await.0 == 200
    })
    .await;
    // As if the time of the leases from before had passed.
    let later = "UPDATE directory.deliveries SET due_at = directory.now()
        WHERE due_at IS NOT NULL";
    admin.batch_execute(later).await.unwrap();
    // The provider sends again what was not taken.
    let mut again = 0;
    for posted in met.iter().filter(|posted| posted.status != Some(200)) {
        let (account, body) = webhook(&accounts, posted.number);
        let posted = post(account.clone(), service.http, posted.number, body).await;
        all_taken(&[posted]);
        again += 1;
    }
    println!("sent again after the outage: {again}");
    within(Duration::from_secs(300), "all is applied", async || {
        waiting(&admin).await == 0
    })
    .await;

    let locked = &accounts[0];
    let holder = connect(database.url()).await;
    let lock = format!(
        "BEGIN; LOCK TABLE {}.inbox_messages IN ACCESS EXCLUSIVE MODE",
        locked.tenant.tenant.schema_name
    );
    holder.batch_execute(&lock).await.unwrap();
    let beside = post_for(&accounts, service.http, &mut next, &flood).await;
    all_taken(&beside);
    let of_locked = (beside.iter())
        .filter(|posted| webhook(&accounts, posted.number).0.number == locked.number)
        .count();
    assert!(of_locked > 0);
    within(
        Duration::from_secs(300),
        "all others are applied",
        async || waiting(&admin).await == of_locked,
    )
    .await;
    holder.batch_execute("COMMIT").await.unwrap();
    within(
        Duration::from_secs(300),
        "the locked one is, too",
        async || waiting(&admin).await == 0,
    )
    .await;

    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for account in &accounts {
        let texts = format!(
            "SELECT text FROM {}.inbox_messages",
            account.tenant.tenant.schema_name
        );
        for row in admin.query(&texts, &[]).await.unwrap() {
            let text: String = row.get(0);
            let number = text.split(' ').next().unwrap().to_owned();
            *seen.entry(number).or_default() += 1;
        }
    }
    let expected = (0..next).map(|number| (format!("<{number}>"), 1));
    assert_eq!(seen, expected.collect());
    let in_quarantine = "SELECT count(*) FROM directory.quarantine";
    let row = admin.query_one(in_quarantine, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
    println!("{next} webhooks, each there once");
    service.kill().await;
    database.stop().await.unwrap();
}
