//! What was kept long enough goes by itself, and nothing else does.

use communication_service::pb::DeleteTenantRequest;
use tokio_postgres::Client;

use crate::harness::{Folder, TestServer, TestTenant, connect, durable, eventually};

/// A server for which it is later than it is.
pub async fn later(url: &str, by: &str) -> TestServer {
    let url = format!("{url}?options=-c%20communication.clock_offset%3D{by}");
    TestServer::start_with(|config| config.database_url = Some(url)).await
}

/// How many tenants, and how many request ids of one, there are.
async fn kept(database: &Client, schema: &str) -> (i64, i64) {
    let count = format!(
        "SELECT (SELECT count(*) FROM directory.tenants), (SELECT count(*) FROM \"{schema}\".requests)"
    );
    let row = database.query_one(&count, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

/// Waits until every tenant was taken on by the clock of a server that is so many hours ahead.
pub async fn cleaned(database: &Client, hours: i32) {
    let unclean = "SELECT count(*) FROM directory.tenants
        WHERE cleaned_at < now() + make_interval(hours => $1) - interval '1 hour'";
    eventually("the janitor has been everywhere", async || {
        let row = database.query_one(unclean, &[&hours]).await.unwrap();
        row.get::<_, i64>(0) == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn request_ids_go_after_seven_days_and_deleted_tenants_at_their_purge_time() {
    let folder = Folder::new();
    let postgres = durable(&folder).await;
    let (url, database) = (postgres.url(), connect(postgres.url()).await);
    let server = later(url, "0s").await;
    let tenant = TestTenant::new(&server, server.initialize("acme").await);
    let gone = TestTenant::new(&server, server.initialize("gone").await);
    gone.conversation().await;
    let schema = tenant.tenant.schema_name.clone();
    for id in ["first", "second"] {
        let mut request = tenant.new_conversation();
        request.request_id = id.to_owned();
        tenant.create(request).await;
    }
    let delete = DeleteTenantRequest {
        tenant: gone.slug(),
        ..Default::default()
    };
    server.tenant_admin().delete_tenant(delete).await.unwrap();
    server.stop().await;

    // An hour before it is time, then an hour after, by two servers at once.
    let server = later(url, "167hours").await;
    cleaned(&database, 167).await;
    assert_eq!(kept(&database, &schema).await, (2, 2));
    server.stop().await;
    let (one, other) = tokio::join!(later(url, "169hours"), later(url, "169hours"));
    cleaned(&database, 169).await;
    eventually("the request ids are gone", async || {
        kept(&database, &schema).await == (2, 0)
    })
    .await;
    one.stop().await;
    other.stop().await;

    let server = later(url, "719hours").await;
    cleaned(&database, 719).await;
    assert_eq!(kept(&database, &schema).await, (2, 0));
    server.stop().await;
    let (one, other) = tokio::join!(later(url, "721hours"), later(url, "721hours"));
    eventually("the deleted tenant is gone", async || {
        kept(&database, &schema).await == (1, 0)
    })
    .await;
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = $1";
    let left = database
        .query_one(schemas, &[&gone.tenant.schema_name])
        .await;
    assert_eq!(left.unwrap().get::<_, i64>(0), 0);
    one.stop().await;
    other.stop().await;
    postgres.stop().await.unwrap();
}
