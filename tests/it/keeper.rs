//! Deliveries that are committed together: what stands in the way of one is not in the others' way.

use communication_service::pb::ChannelAccount;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::harness::{Tables, TestServer, Whatsapp, admin, eventually, sign};

const SECRET: &str = "a-secret-of-the-tenants-own";
/// How long it may take until a delivery waits, of the two seconds that it waits at most.
const SOON: std::time::Duration = std::time::Duration::from_millis(800);

/// Posts a person's message by the account's own app; returns the status.
async fn post(
    address: std::net::SocketAddr,
    account: &Whatsapp,
    connected: &ChannelAccount,
    person: usize,
) -> u16 {
    let body = account.text_of(person, &format!("{}.{person}", account.number), "Hello");
    let signature = sign(SECRET, body.as_bytes());
    let headers = [
        ("x-hub-signature-256", signature.as_str()),
        ("x-request-id", account.number.as_str()),
    ];
    let path = &connected.webhook_path;
    let answer = crate::harness::http(address, "POST", path, &headers, body.as_bytes()).await;
    answer.expect("an answer").0
}

/// How many statements wait for what a session has locked.
async fn blocked_by(watcher: &Client, session: i32) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))";
    watcher.query_one(sql, &[&session]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_cannot_be_kept_leaves_those_that_came_with_it() {
    let server = TestServer::start().await;
    for _ in 0..5 {
        if keep_beside_one_that_cannot_be(&server).await {
            return;
        }
    }
    panic!("the machine is too slow to wait for less than two seconds");
}

/// Tells whether it was done before those that have to wait gave up.
async fn keep_beside_one_that_cannot_be(server: &TestServer) -> bool {
    let (slow, gone, well) = (
        Whatsapp::new(server.tenant().await),
        Whatsapp::new(server.tenant().await),
        Whatsapp::new(server.tenant().await),
    );
    let of_slow = slow.connect_own(server, SECRET).await;
    let of_gone = gone.connect_own(server, SECRET).await;
    let of_well = well.connect_own(server, SECRET).await;

    // Whoever keeps a delivery of the first waits for its app; the others wait for them.
    let (locker, watcher) = (admin().await, admin().await);
    let session: i32 = (locker.query_one("SELECT pg_backend_pid()", &[]).await)
        .unwrap()
        .get(0);
    locker.batch_execute("BEGIN").await.unwrap();
    let lock = format!(
        "SELECT FROM directory.provider_apps
        WHERE id = (SELECT app_id FROM directory.channel_accounts WHERE id = '{}') FOR UPDATE",
        of_slow.id
    );
    locker.batch_execute(&lock).await.unwrap();
    let mut first = JoinSet::new();
    for person in 0..2 {
        let (address, slow, of_slow) = (server.http, slow.clone(), of_slow.clone());
        first.spawn(async move { post(address, &slow, &of_slow, person).await });
        let begun = std::time::Instant::now();
        while blocked_by(&watcher, session).await < i64::try_from(first.len()).unwrap() {
            if begun.elapsed() > SOON {
                return false;
            }
        }
    }
    let mut behind = JoinSet::new();
    for person in 0..10 {
        let (address, well, of_well) = (server.http, well.clone(), of_well.clone());
        behind.spawn(async move { post(address, &well, &of_well, person).await });
    }
    let (address, of_nobody) = (server.http, of_gone.clone());
    let none = tokio::spawn(async move { post(address, &gone, &of_nobody, 0).await });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    // The app that was believed is no more.
    let forget = format!(
        "WITH gone AS (
            DELETE FROM directory.channel_accounts WHERE id = '{}' RETURNING app_id
        )
        DELETE FROM directory.provider_apps WHERE id = (SELECT app_id FROM gone)",
        of_gone.id
    );
    watcher.batch_execute(&forget).await.unwrap();
    let in_time = blocked_by(&watcher, session).await == 2;
    locker.batch_execute("ROLLBACK").await.unwrap();
    if !in_time {
        return false;
    }

    while let Some(status) = first.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    while let Some(status) = behind.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    match none.await.unwrap() {
        503 => {}
        // It came when the app was gone already.
        403 => return false,
        other => panic!("{other}"),
    }
    let tables = Tables::of(&well.tenant).await;
    let kept = format!(
        "SELECT count(*) FROM directory.deliveries WHERE correlation_id = '{}'",
        well.number
    );
    assert_eq!(tables.count(&kept).await, 10);
    eventually("all are applied", async || {
        (
            slow.conversations().await.len(),
            well.conversations().await.len(),
        ) == (2, 10)
    })
    .await;
    true
}
