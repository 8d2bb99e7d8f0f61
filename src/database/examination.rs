//! What a PostgreSQL is like, for who wants to run the service on it.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Double, Integer, Text};
use diesel_async::RunQueryDsl;

use super::dial::Dialer;
use crate::error::Error;

/// A server and a database, as the service's account sees them.
#[derive(Debug, QueryableByName)]
pub struct Examination {
    /// The version as a number: 150018.
    #[diesel(sql_type = Integer)]
    pub version: i32,
    /// The version as the server says it.
    #[diesel(sql_type = Text)]
    pub version_text: String,
    /// The account.
    #[diesel(sql_type = Text)]
    pub account: String,
    /// Whether the account may do everything, which it need not.
    #[diesel(sql_type = Bool)]
    pub is_superuser: bool,
    /// Whether the account may make roles.
    #[diesel(sql_type = Bool)]
    pub can_create_roles: bool,
    /// Whether the account may make schemas.
    #[diesel(sql_type = Bool)]
    pub can_create_schemas: bool,
    /// Whether a commit waits for the disk.
    #[diesel(sql_type = Text)]
    pub synchronous_commit: String,
    /// Whether the disk is waited for at all.
    #[diesel(sql_type = Text)]
    pub fsync: String,
    /// The language of messages.
    #[diesel(sql_type = Text)]
    pub lc_messages: String,
    /// How many connections there may be, without those kept for superusers.
    #[diesel(sql_type = Integer)]
    pub connections: i32,
    /// How many of them others have.
    #[diesel(sql_type = BigInt)]
    pub connections_taken: i64,
    /// The server's clock, in seconds since 1970.
    #[diesel(sql_type = Double)]
    pub clock: f64,
    /// Whether everybody may make temporary tables.
    #[diesel(sql_type = Bool)]
    pub public_temp: bool,
    /// Whether everybody may make things in the schema `public`.
    #[diesel(sql_type = Bool)]
    pub public_create: bool,
    /// How many tables everybody may read.
    #[diesel(sql_type = BigInt)]
    pub public_tables: i64,
    /// Whether the service has been at home here before.
    #[diesel(sql_type = Bool)]
    pub has_directory: bool,
}

/// What the directory holds.
#[derive(Debug, QueryableByName)]
pub struct Holdings {
    /// How many tenants.
    #[diesel(sql_type = BigInt)]
    pub tenants: i64,
    /// How many of them have an older schema than this version makes.
    #[diesel(sql_type = BigInt)]
    pub older: i64,
    /// How many are kept apart by the search path alone.
    #[diesel(sql_type = BigInt)]
    pub without_role: i64,
}

/// Looks at a server, without changing anything.
///
/// # Errors
/// It cannot be reached, or does not answer.
pub async fn examine(dialer: &Dialer) -> Result<Examination, Error> {
    let unavailable = |error| Error::Unavailable(Box::new(error));
    let mut conn = dialer.dial(()).await.map_err(unavailable)?.conn;
    let examination = diesel::sql_query(
        "SELECT current_setting('server_version_num')::int AS version,
            current_setting('server_version') AS version_text,
            current_user::text AS account,
            r.rolsuper AS is_superuser,
            r.rolcreaterole OR r.rolsuper AS can_create_roles,
            has_database_privilege(current_database(), 'CREATE') AS can_create_schemas,
            current_setting('synchronous_commit') AS synchronous_commit,
            current_setting('fsync') AS fsync,
            current_setting('lc_messages') AS lc_messages,
            current_setting('max_connections')::int
                - current_setting('superuser_reserved_connections')::int AS connections,
            (SELECT count(*) FROM pg_stat_activity
                WHERE backend_type = 'client backend'
                    AND application_name <> 'communication-service') AS connections_taken,
            extract(epoch FROM clock_timestamp())::float8 AS clock,
            has_database_privilege('public', current_database(), 'TEMP') AS public_temp,
            coalesce((SELECT has_schema_privilege('public', oid, 'CREATE')
                FROM pg_namespace WHERE nspname = 'public'), false) AS public_create,
            (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
                    AND n.nspname NOT IN ('pg_catalog', 'information_schema')
                    AND has_schema_privilege('public', n.oid, 'USAGE')
                    AND has_table_privilege('public', c.oid, 'SELECT')) AS public_tables,
            to_regclass('directory.tenants') IS NOT NULL AS has_directory
        FROM pg_roles r WHERE r.rolname = current_user",
    );
    Ok(examination.get_result(&mut conn).await?)
}

/// Counts what the directory holds; `newest` is the schema version that this service makes.
///
/// # Errors
/// The server cannot be reached, or does not answer.
pub async fn count(dialer: &Dialer, newest: &str) -> Result<Holdings, Error> {
    let unavailable = |error| Error::Unavailable(Box::new(error));
    let mut conn = dialer.dial(()).await.map_err(unavailable)?.conn;
    let holdings = diesel::sql_query(
        "SELECT count(*) AS tenants, count(*) FILTER (WHERE schema_version < $1) AS older,
            count(*) FILTER (WHERE isolation = 'search_path') AS without_role
        FROM directory.tenants",
    )
    .bind::<Text, _>(newest);
    Ok(holdings.get_result(&mut conn).await?)
}
