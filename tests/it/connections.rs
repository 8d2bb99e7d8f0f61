//! Database connections: never more than allowed, none kept for nothing, none left behind by who
//! went away, and none that reaches beyond its tenant.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio::task::JoinSet;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::harness::{Tables, TestServer, TestTenant, admin, database_url, eventually, exchange};

/// A server whose sessions bear a name that no other server's bear, and that name.
async fn named_server(idle_seconds: u64, budget: u16) -> (TestServer, String) {
    let name = format!("test-{}", Uuid::now_v7().simple());
    let url = database_url().await;
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}application_name={name}");
    let server = TestServer::start_with(|config| {
        config.database_url = Some(url);
        config.db_connections = budget;
        config.db_idle_seconds = idle_seconds;
    })
    .await;
    (server, name)
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_tenants_at_random_never_open_more_than_the_budget() {
    use_at_random(60, 21).await;
}

/// Makes tenants and calls them at random, under a budget of connections.
pub async fn use_at_random(count: usize, budget: u16) {
    const CALLERS: usize = 30;
    let calls = count / 5;
    let (server, name) = named_server(300, budget).await;
    let admin = admin().await;
    let done = AtomicBool::new(false);
    let sampling = async {
        let mut most = 0;
        let mut roles = BTreeSet::new();
        let sample = "SELECT usename::text FROM pg_stat_activity
            WHERE application_name IN ($1, $1 || ' hints')";
        while !done.load(Ordering::Relaxed) {
            let rows = admin.query(sample, &[&name]).await.unwrap();
            most = most.max(rows.len());
            // A session that is just beginning has no role yet.
            roles.extend(
                rows.iter()
                    .filter_map(|row| row.get::<_, Option<String>>(0)),
            );
        }
        (most, roles.len())
    };
    let calling = async {
        let made = futures_util::stream::iter(0..count).map(|_| async {
            let tenant = server.tenant().await;
            let conversation = tenant.conversation().await;
            (tenant, conversation)
        });
        // Two are made at a time: of sixty that wait in line, the last would beside other tests wait
        // for longer than a call may take.
        let tenants: Vec<_> = made.buffer_unordered(8).collect().await;
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let tenants = tenants.clone();
            callers.spawn(async move {
                let mut chosen = caller;
                for _ in 0..calls {
                    chosen = (chosen * 1_103 + 12_345 + caller) % 65_536;
                    let (tenant, conversation) = &tenants[chosen % tenants.len()];
                    tenant.reply(conversation, "Hello").await;
                }
            });
        }
        callers.join_all().await;
        let mut stored = 0;
        for (tenant, conversation) in &tenants {
            stored += tenant.get(conversation).await.last_sequence;
        }
        done.store(true, Ordering::Relaxed);
        stored
    };
    let ((most, roles), stored) = tokio::join!(sampling, calling);
    assert_eq!(stored, i64::try_from(CALLERS * calls).unwrap());
    let budget = usize::from(budget);
    assert!(most <= budget, "{most} connections at once");
    let rarely = "the tenants never used what they may";
    assert!(most >= budget * 7 / 10, "{rarely}: {most}");
    assert!(roles > count / 2, "the sampler saw {roles} roles only");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_tenant_has_no_connections() {
    let (server, name) = named_server(1, 20).await;
    let tenant = server.tenant().await;
    let tables = Tables::of(&tenant).await;
    let conversation = tenant.conversation().await;
    let calls = (0..8).map(|_| tenant.reply(&conversation, "Hello"));
    futures_util::future::join_all(calls).await;
    let ours = format!("application_name = '{name}'");
    assert!(tables.sessions(&ours).await > 0);
    eventually("all of the tenant's connections are closed", async || {
        tables.sessions(&ours).await == 0
    })
    .await;
    assert_eq!(tenant.reply(&conversation, "Hello").await.sequence, 9);
}

/// Locks a conversation's row from outside, as a slow writer would, until the connection that
/// comes back says otherwise.
async fn lock_row(tenant: &TestTenant, conversation_id: &str) -> Tables {
    let holder = Tables::of(tenant).await;
    let lock = format!(
        "BEGIN; SELECT FROM {}.inbox_conversations WHERE id = '{conversation_id}' FOR UPDATE",
        holder.schema
    );
    holder.admin.batch_execute(&lock).await.unwrap();
    holder
}

/// Waits until sessions of the tenant wait for a lock, and returns their processes.
async fn waiting_for_a_lock(tables: &Tables, at_least: usize) -> Vec<i32> {
    let query = "SELECT pid FROM pg_stat_activity
        WHERE usename = $1::text AND state = 'active' AND wait_event_type = 'Lock'";
    let mut found = Vec::new();
    eventually("the calls wait for the row", async || {
        let rows = tables.admin.query(query, &[&tables.role]).await.unwrap();
        found = rows.iter().map(|row| row.get::<_, i32>(0)).collect();
        found.len() >= at_least
    })
    .await;
    found
}

/// The processes end although what they waited for is not free, and nothing of them stays.
async fn are_gone(tables: &Tables, processes: &[i32]) {
    let since = Instant::now();
    let left = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY ($1)";
    eventually("the sessions of who has gone have ended", async || {
        let row = tables.admin.query_one(left, &[&processes]).await.unwrap();
        row.get::<_, i64>(0) == 0
    })
    .await;
    eventually("nothing waits for the row", async || {
        tables.sessions("wait_event_type = 'Lock'").await == 0
    })
    .await;
    // PostgreSQL's own limit for a lock, 10 s, would end them too.
    assert!(since.elapsed() < Duration::from_secs(5));
    let halfway = "state LIKE 'idle in transaction%'";
    assert_eq!(tables.sessions(halfway).await, 0);
}

/// After all that, the tenant works, and nothing of the calls that were given up was written.
async fn works_as_if_nothing_had_happened(tenant: &TestTenant, tables: &Tables, id: &str) {
    let conversation = communication_service::pb::Conversation {
        id: id.to_owned(),
        ..Default::default()
    };
    let calls = (0..20).map(|_| tenant.reply(&conversation, "Afterwards"));
    futures_util::future::join_all(calls).await;
    let messages = tenant.messages(&conversation).await;
    let kept: Vec<_> = messages
        .iter()
        .map(|message| (message.sequence, message.text.as_str()))
        .collect();
    let expected: Vec<_> = (1..=20).map(|sequence| (sequence, "Afterwards")).collect();
    assert_eq!(kept, expected);
    let created = "SELECT count(*) FROM {schema}.events WHERE kind = 'message.created'";
    assert_eq!(tables.count(created).await, 20);
    let halfway = "state LIKE 'idle in transaction%'";
    assert_eq!(tables.sessions(halfway).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_who_leave_take_their_statements_with_them() {
    let (server, _) = named_server(300, 20).await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    let tables = Tables::of(&tenant).await;
    let holder = lock_row(&tenant, &conversation.id).await;

    let mut calls = JoinSet::new();
    for call in 0..20 {
        let request = tenant.new_message(&conversation, &format!("Never {call}"));
        let mut inbox = tenant.inbox.clone();
        calls.spawn(async move { inbox.create_message(request).await.map(drop) });
    }
    // Of twenty connections, thirteen are for tenants.
    let waiting = waiting_for_a_lock(&tables, 13).await;
    calls.shutdown().await;
    are_gone(&tables, &waiting).await;

    holder.admin.batch_execute("ROLLBACK").await.unwrap();
    works_as_if_nothing_had_happened(&tenant, &tables, &conversation.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_the_statement_too() {
    let (server, _) = named_server(300, 20).await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    let tables = Tables::of(&tenant).await;
    let holder = lock_row(&tenant, &conversation.id).await;

    // By REST: a client of gRPC has a clock of its own, which may be the first to speak.
    let path = format!("/api/v1/tenants/{}/messages", tenant.slug());
    let mut calls = JoinSet::new();
    for call in 0..20 {
        let (address, path) = (server.http, path.clone());
        let body = format!(
            r#"{{"conversation_id":"{}","direction":"outbound","type":"text","text":"Never {call}"}}"#,
            conversation.id
        );
        calls.spawn(async move {
            let timeout = if call < 10 { "200m" } else { "1200m" };
            let headers = [
                ("content-type", "application/json"),
                ("grpc-timeout", timeout),
            ];
            exchange(address, "POST", &path, &headers, body.as_bytes()).await
        });
    }
    let waiting = waiting_for_a_lock(&tables, 1).await;
    for answer in calls.join_all().await {
        let answer = answer.expect("an answer while the row is locked");
        assert_eq!(answer.status, 504, "{answer:?}");
        assert!(answer.body.contains("DEADLINE_EXCEEDED"), "{answer:?}");
    }
    are_gone(&tables, &waiting).await;

    holder.admin.batch_execute("ROLLBACK").await.unwrap();
    works_as_if_nothing_had_happened(&tenant, &tables, &conversation.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_role_reaches_its_own_rows_and_nothing_else() {
    let server = TestServer::start().await;
    let (tenant, other) = (server.tenant().await, server.tenant().await);
    tenant.reply(&tenant.conversation().await, "Mine").await;
    other.reply(&other.conversation().await, "Theirs").await;
    let tables = Tables::of(&tenant).await;
    let (own, other) = (&tables.schema, Tables::of(&other).await.schema);
    let role = format!("SET ROLE \"{}\"", tables.role);
    tables.admin.batch_execute(&role).await.unwrap();

    let allowed = [
        format!("SELECT FROM {own}.inbox_messages"),
        format!("UPDATE {own}.inbox_messages SET text = 'Changed'"),
        format!("DELETE FROM {own}.mentions"),
        format!("SELECT nextval('{own}.events_id_seq')"),
        "SELECT directory.now()".to_owned(),
    ];
    for statement in allowed {
        let done = tables.admin.batch_execute(&statement).await;
        assert!(done.is_ok(), "{statement}: {done:?}");
    }
    let refused = [
        format!("SELECT FROM {other}.inbox_messages"),
        format!("INSERT INTO {other}.contacts (id) VALUES (gen_random_uuid())"),
        format!("UPDATE {other}.inbox_messages SET text = 'Changed'"),
        format!("DELETE FROM {other}.mentions"),
        format!("SELECT nextval('{other}.events_id_seq')"),
        format!("CREATE TABLE {other}.made ()"),
        "SELECT FROM directory.tenants".to_owned(),
        "UPDATE directory.tenants SET state = 'provisioning'".to_owned(),
        "SELECT FROM directory.installation".to_owned(),
        "CREATE TABLE directory.made ()".to_owned(),
        format!("CREATE TABLE {own}.made ()"),
        format!("UPDATE {own}.events SET kind = 'forged'"),
        format!("DELETE FROM {own}.events"),
        format!("TRUNCATE {own}.events"),
        format!("ALTER TABLE {own}.inbox_messages ADD COLUMN more text"),
        format!("DROP TABLE {own}.inbox_messages"),
        format!("SELECT FROM {own}.__diesel_schema_migrations"),
        format!("SELECT setval('{own}.events_id_seq', 1)"),
        "CREATE SCHEMA made".to_owned(),
        "CREATE ROLE made".to_owned(),
    ];
    for statement in refused {
        let error = match tables.admin.batch_execute(&statement).await {
            Ok(()) => panic!("done: {statement}"),
            Err(error) => error,
        };
        let code = error.code();
        assert_eq!(
            code,
            Some(&SqlState::INSUFFICIENT_PRIVILEGE),
            "{statement}: {error}"
        );
    }
}
