//! The tables themselves.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use crate::harness::{Folder, TestServer, admin, connect, durable};

#[tokio::test(flavor = "multi_thread")]
async fn every_foreign_key_has_an_index() {
    let server = TestServer::start().await;
    let schema = server.tenant().await.tenant.schema_name;
    let bare = "SELECT f.conname::text FROM pg_constraint f
        WHERE f.contype = 'f' AND f.connamespace IN ($1::text::regnamespace, 'directory'::regnamespace)
            AND NOT EXISTS (
                SELECT FROM pg_index i
                WHERE i.indrelid = f.conrelid AND i.indkey[0] = f.conkey[1]
                    -- A partial index serves if it leaves out nothing but NULL.
                    AND (i.indpred IS NULL
                        OR pg_get_expr(i.indpred, i.indrelid) ~ '^\\(\\w+ IS NOT NULL\\)$'))";
    let rows = admin().await.query(bare, &[&schema]).await.unwrap();
    let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert!(names.is_empty(), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_time_has_a_time_zone() {
    let server = TestServer::start().await;
    let schema = server.tenant().await.tenant.schema_name;
    let bare = "SELECT table_name || '.' || column_name FROM information_schema.columns
        WHERE table_schema IN ($1, 'directory') AND table_name <> '__diesel_schema_migrations'
            AND data_type = 'timestamp without time zone'";
    let rows = admin().await.query(bare, &[&schema]).await.unwrap();
    let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert!(names.is_empty(), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_moves_its_conversation_in_no_more_indexes_than_these() {
    let server = TestServer::start().await;
    let schema = server.tenant().await.tenant.schema_name;
    // All others have few rows, or rows that no message comes to.
    let of_all = "SELECT indexname::text FROM pg_indexes
        WHERE schemaname = $1 AND tablename = 'inbox_conversations'
            AND (indexdef NOT LIKE '% WHERE %' OR indexdef LIKE '% WHERE (deleted_at IS NULL)')
        ORDER BY indexname";
    let rows = admin().await.query(of_all, &[&schema]).await.unwrap();
    let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let known = [
        "inbox_conversations_channel_idx",
        "inbox_conversations_contact_identity_id_idx",
        "inbox_conversations_number_key",
        "inbox_conversations_pkey",
        "inbox_conversations_priority_idx",
        "inbox_conversations_status_last_message_at_idx",
        "inbox_conversations_status_number_idx",
        "inbox_conversations_updated_at_idx",
    ];
    assert_eq!(names, known);
}

/// The SQL of the tenants' migrations, or of the directory's, by name.
pub fn migrations(of: &str, file: &str) -> BTreeMap<String, String> {
    let folder = format!("{}/migrations/{of}", env!("CARGO_MANIFEST_DIR"));
    let folders = std::fs::read_dir(folder).unwrap();
    folders
        .map(|entry| {
            let entry = entry.unwrap();
            let sql = std::fs::read_to_string(entry.path().join(file)).unwrap();
            (entry.file_name().into_string().unwrap(), sql)
        })
        .collect()
}

/// What a schema is made of, in words that do not name it.
async fn described(database: &Client, schema: &str) -> Vec<String> {
    let all = "SELECT replace(line, $1 || '.', '') FROM (
            SELECT format('%s.%s %s %s %s', table_name, column_name, data_type, is_nullable, column_default)
            FROM information_schema.columns WHERE table_schema = $1
            UNION ALL
            SELECT format('%s %s', conname, pg_get_constraintdef(oid))
            FROM pg_constraint WHERE connamespace = $1::text::regnamespace
            UNION ALL
            SELECT indexdef FROM pg_indexes WHERE schemaname = $1
            UNION ALL
            SELECT format('%s %s %s', sequencename, increment_by, cache_size)
            FROM pg_sequences WHERE schemaname = $1
        ) described (line) WHERE line NOT LIKE '%diesel%' ORDER BY 1";
    let rows = database.query(all, &[&schema]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn run(database: &Client, steps: impl IntoIterator<Item = String>) {
    for step in steps {
        database.batch_execute(&step).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn up_down_and_up_again_leaves_the_schema_of_a_new_tenant() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await.tenant.schema_name;
    let scratch = format!("scratch_{}", uuid::Uuid::now_v7().simple());
    let database = admin().await;
    let path = format!("CREATE SCHEMA {scratch}; SET search_path = {scratch}");
    database.batch_execute(&path).await.unwrap();
    run(&database, migrations("tenant", "up.sql").into_values()).await;
    let fresh = described(&database, &tenant).await;
    assert!(fresh.len() > 100);
    assert_eq!(described(&database, &scratch).await, fresh);
    let down = migrations("tenant", "down.sql").into_values().rev();
    run(&database, down).await;
    assert_eq!(described(&database, &scratch).await, Vec::<String>::new());
    run(&database, migrations("tenant", "up.sql").into_values()).await;
    assert_eq!(described(&database, &scratch).await, fresh);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_goes_up_down_and_up_again() {
    let folder = Folder::new();
    let postgres = durable(&folder).await;
    let database = connect(postgres.url()).await;
    run(&database, migrations("directory", "up.sql").into_values()).await;
    let fresh = described(&database, "directory").await;
    assert!(fresh.len() > 30);
    let down = migrations("directory", "down.sql").into_values().rev();
    run(&database, down).await;
    assert_eq!(
        described(&database, "directory").await,
        Vec::<String>::new()
    );
    run(&database, migrations("directory", "up.sql").into_values()).await;
    assert_eq!(described(&database, "directory").await, fresh);
    postgres.stop().await.unwrap();
}
