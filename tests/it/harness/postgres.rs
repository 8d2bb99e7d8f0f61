//! The PostgreSQL of the tests: `TEST_DATABASE_URL`, or a throw-away one that the first test
//! starts and all others use.

use std::collections::BTreeMap;
use std::path::PathBuf;

use communication_service::database::private::{PrivateOptions, PrivateServer};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

static URL: OnceCell<String> = OnceCell::const_new();

/// Where the shared server keeps its data, and the tests their keys.
pub fn folder() -> PathBuf {
    let folder = std::env::var_os("TEST_POSTGRES_DIR").map_or_else(
        || std::env::temp_dir().join("communication-service-test"),
        PathBuf::from,
    );
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The address of the tests' database.
pub async fn database_url() -> &'static str {
    URL.get_or_init(async || {
        if let Ok(url) = std::env::var("TEST_DATABASE_URL") {
            return url;
        }
        let options = PrivateOptions {
            data_dir: folder(),
            bin_dir: None,
            fsync: false,
            max_connections: 400,
            keep_running: true,
        };
        PrivateServer::start(options)
            .await
            .expect("a PostgreSQL to test with")
            .url()
            .to_owned()
    })
    .await
}

/// A connection of the service's own account, to see what the wire cannot show.
pub async fn admin() -> Client {
    connect(database_url().await).await
}

/// A connection to a database of a test's own.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The content of every table of a schema, hashed.
pub async fn content(database: &Client, schema: &str) -> BTreeMap<String, String> {
    let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = $1";
    let mut hashes = BTreeMap::new();
    for row in database.query(tables, &[&schema]).await.unwrap() {
        let table: String = row.get(0);
        let hash = format!(
            "SELECT count(*) || ' rows ' || md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), ''))
             FROM \"{schema}\".\"{table}\" t"
        );
        let hash = database.query_one(&hash, &[]).await.unwrap().get(0);
        hashes.insert(table, hash);
    }
    assert!(!hashes.is_empty(), "schema {schema} has no tables");
    hashes
}
