//! What a database must have before there can be tenants: the directory, its role, the right key.

use aws_lc_rs::rand;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _};
use uuid::Uuid;

use super::schema_name::SchemaName;
use super::tenant::Isolation;
use crate::database::dial::{DialError, Dialer};
use crate::database::migration;
use crate::error::Error;
use crate::hex;
use crate::master_key::{Sealer, place};
use crate::schema::directory::installation;

/// The first key of every advisory lock of ours; the second is a tenant's number.
pub const LOCK_CLASS: i32 = 0x434f_4d4d;
/// The oldest PostgreSQL that has what our SQL uses.
const OLDEST: i32 = 140_000;
/// What the key check seals.
const KEY_CHECK: &[u8] = b"the right master key";

/// Why a database cannot be a home of tenants.
#[derive(Debug, thiserror::Error)]
pub enum InstallationError {
    /// It cannot be reached.
    #[error("the database cannot be used")]
    Dial(#[from] DialError),
    /// A statement failed.
    #[error("the directory cannot be prepared")]
    Query(#[from] diesel::result::Error),
    /// A migration failed.
    #[error("the directory cannot be prepared")]
    Migration(#[source] Error),
    /// The server is too old.
    #[error("PostgreSQL {0} is too old, version 14 or newer is needed")]
    TooOld(i32),
    /// Commits do not wait for the disk.
    #[error(
        "`synchronous_commit` is off: acknowledged messages would be lost in a crash; turn it on, or set COMM_ALLOW_ASYNC_COMMIT=1 to accept that"
    )]
    AsyncCommit,
    /// The database was set up with another master key.
    #[error(
        "the master key is not the one that this database was set up with; name the right file in COMM_MASTER_KEY_FILE"
    )]
    WrongKey,
}

/// A database that is ready for tenants.
pub struct Installation {
    /// Tells it from other databases.
    pub id: Uuid,
    /// What keeps tenants apart here.
    pub isolation: Isolation,
    /// Logs in as who may read and write the directory.
    pub directory: Dialer,
    /// The server's version, as it says it.
    pub server_version: String,
}

#[derive(QueryableByName)]
struct Server {
    #[diesel(sql_type = Integer)]
    version: i32,
    #[diesel(sql_type = Text)]
    version_text: String,
    #[diesel(sql_type = Text)]
    synchronous_commit: String,
    #[diesel(sql_type = Bool)]
    can_create_roles: bool,
}

/// Prepares the database that `service` logs in to: idempotent, and safe from several nodes at
/// once.
///
/// # Errors
/// The database cannot be reached, is not fit, or belongs to another master key.
pub async fn prepare(
    service: &Dialer,
    sealer: &Sealer,
    allow_async_commit: bool,
) -> Result<Installation, InstallationError> {
    let mut conn = service.dial(()).await?.conn;
    let server: Server = diesel::sql_query(
        "SELECT current_setting('server_version_num')::int AS version,
                current_setting('server_version') AS version_text,
                current_setting('synchronous_commit') AS synchronous_commit,
                rolcreaterole OR rolsuper AS can_create_roles
         FROM pg_roles WHERE rolname = current_user",
    )
    .get_result(&mut conn)
    .await?;
    if server.version < OLDEST {
        return Err(InstallationError::TooOld(server.version / 10_000));
    }
    if server.synchronous_commit == "off" && !allow_async_commit {
        return Err(InstallationError::AsyncCommit);
    }
    diesel::sql_query("SELECT pg_advisory_lock($1, 0)")
        .bind::<Integer, _>(LOCK_CLASS)
        .execute(&mut conn)
        .await?;
    // The second start hears that the schema is there; nobody else has to. A change of a table that
    // other nodes use gives up rather than let all of their calls queue behind it.
    conn.batch_execute(
        "SET client_min_messages = warning;
         SET lock_timeout = '5s';
         CREATE SCHEMA IF NOT EXISTS directory;
         SET search_path = directory",
    )
    .await?;
    // The lock is the connection's own and ends with it.
    let mut conn = migration::run(conn, migration::DIRECTORY)
        .await
        .map_err(InstallationError::Migration)?;
    let isolation = if server.can_create_roles {
        Isolation::Role
    } else {
        Isolation::SearchPath
    };
    let (id, role, password) = installation_row(&mut conn, sealer).await?;
    let directory = match isolation {
        Isolation::SearchPath => service.clone(),
        Isolation::Role => {
            ensure_directory_role(&mut conn, &role, &password).await?;
            service.login(&role, &password)
        }
    };
    Ok(Installation {
        id,
        isolation,
        directory,
        server_version: server.version_text,
    })
}

/// Reads the installation's id, role and password, and makes both if this database is new.
async fn installation_row(
    conn: &mut AsyncPgConnection,
    sealer: &Sealer,
) -> Result<(Uuid, String, String), InstallationError> {
    let columns = (
        installation::id,
        installation::key_check,
        installation::role_name,
        installation::role_password,
    );
    let row: Option<(Uuid, Vec<u8>, String, Vec<u8>)> = installation::table
        .select(columns)
        .first(conn)
        .await
        .optional()?;
    if let Some((id, check, role, sealed)) = row {
        let opened = sealer.open(place(id, "key_check"), &check);
        if opened.as_deref() != Some(KEY_CHECK) {
            return Err(InstallationError::WrongKey);
        }
        let password = sealer
            .open(place(id, "role_password"), &sealed)
            .and_then(|password| String::from_utf8(password).ok())
            .ok_or(InstallationError::WrongKey)?;
        return Ok((id, role, password));
    }
    let id = Uuid::now_v7();
    let role = format!("communication_directory_{}", id.simple());
    let password = new_password().map_err(InstallationError::Migration)?;
    let seal = |what, plain: &[u8]| {
        sealer
            .seal(place(id, what), plain.to_vec())
            .map_err(InstallationError::Migration)
    };
    diesel::insert_into(installation::table)
        .values((
            installation::id.eq(id),
            installation::key_check.eq(seal("key_check", KEY_CHECK)?),
            installation::role_name.eq(&role),
            installation::role_password.eq(seal("role_password", password.as_bytes())?),
        ))
        .execute(conn)
        .await?;
    Ok((id, role, password))
}

async fn ensure_directory_role(
    conn: &mut AsyncPgConnection,
    role: &str,
    password: &str,
) -> Result<(), InstallationError> {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    let found: Count = diesel::sql_query("SELECT count(*) FROM pg_roles WHERE rolname = $1")
        .bind::<Text, _>(role)
        .get_result(conn)
        .await?;
    if found.count > 0 {
        return Ok(());
    }
    // The defaults are for the tables of later migrations. In one transaction with the role, so
    // that a role that is there has its rights.
    conn.batch_execute(&format!(
        "BEGIN;
         {}
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA directory TO \"{role}\";
         REVOKE ALL ON directory.__diesel_schema_migrations FROM \"{role}\";
         ALTER DEFAULT PRIVILEGES IN SCHEMA directory
             GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO \"{role}\";
         COMMIT",
        create_role(role, password, "directory")
    ))
    .await?;
    Ok(())
}

/// The SQL that makes a role which can log in, sees one schema, and waits for nothing for ever.
/// The password goes in as its SCRAM verifier: statements end up in logs.
pub fn create_role(role: &str, password: &str, schema: &str) -> String {
    let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
    format!(
        "CREATE ROLE \"{role}\" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '{verifier}';
         ALTER ROLE \"{role}\" SET search_path = \"{schema}\";
         ALTER ROLE \"{role}\" SET statement_timeout = '30s';
         ALTER ROLE \"{role}\" SET lock_timeout = '10s';
         ALTER ROLE \"{role}\" SET idle_in_transaction_session_timeout = '30s';
         ALTER ROLE \"{role}\" SET jit = off;
         GRANT \"{role}\" TO CURRENT_USER;"
    )
}

/// What `create_role` sets on a role, as start-up options for a database without roles.
pub fn session_options(schema: &SchemaName) -> String {
    format!(
        "-c search_path={schema} -c statement_timeout=30s -c lock_timeout=10s -c idle_in_transaction_session_timeout=30s -c jit=off"
    )
}

/// Makes a password that nobody has to remember.
pub fn new_password() -> Result<String, Error> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| Error::internal("no random numbers"))?;
    Ok(hex::digits(&bytes))
}

/// Draws a number that nobody has to keep secret.
pub fn random() -> Result<u64, Error> {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).map_err(|_| Error::internal("no random numbers"))?;
    Ok(u64::from_be_bytes(bytes))
}
