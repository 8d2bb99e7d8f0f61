//! The tables themselves.

use crate::harness::{TestServer, admin};

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
async fn one_index_alone_holds_the_time_of_the_last_message() {
    let server = TestServer::start().await;
    let schema = server.tenant().await.tenant.schema_name;
    let holding = "SELECT count(*) FROM pg_indexes
        WHERE schemaname = $1 AND indexdef LIKE '%last_message_at%'";
    let count: i64 = admin()
        .await
        .query_one(holding, &[&schema])
        .await
        .unwrap()
        .get(0);
    assert_eq!(count, 1);
}
