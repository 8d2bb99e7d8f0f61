//! How a change enters the event log: in the statement that makes it, and in commit-safe order.
//!
//! Identities become visible out of order, so each writer takes its tenant's shared advisory lock
//! before it draws one: a reader that has seen those locks end has seen all that came before. The
//! lock comes after the row that orders the change is locked, or writers to one conversation
//! would hold it while they wait for each other.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{self, Array, Nullable, Timestamptz};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::database::statement::statement;
use crate::error::Error;
use crate::tenant::TenantConn;

/// CTEs that append the rows of a CTE `changes`, which must select from the update of the row that
/// orders them: `kind`, `resource_kind`, `resource_id`, `parent_id`, `sequence`, `version`,
/// `changed`. Who did it comes from `input`.
///
/// Where `input` has many rows, `each` takes that whose `id` is the `resource_id` of the change.
///
/// The lock is a column of a materialized CTE that the insert reads, so no identity is drawn
/// before it is held.
macro_rules! append_events {
    () => {
        $crate::event::log::append_events!(@ ", input")
    };
    (each) => {
        $crate::event::log::append_events!(@ " JOIN input ON input.id = o.resource_id")
    };
    (@ $input:literal) => {
        concat!("
        , ordered AS MATERIALIZED (
            SELECT o.*, pg_advisory_xact_lock_shared(1129270605, input.tenant_number)
            FROM changes o", $input, "
        ), appended AS (
            INSERT INTO events (id, event_id, kind, resource_kind, resource_id, parent_id, sequence,
                version, changed, actor_kind, actor_id, caller, correlation_id, at)
            SELECT nextval('events_id_seq'), gen_random_uuid(), o.kind, o.resource_kind, o.resource_id,
                o.parent_id, o.sequence, o.version, o.changed, input.actor_kind, input.actor_id,
                input.caller, input.correlation_id, directory.now()
            FROM ordered o", $input, "
            RETURNING id, resource_id, at
        )")
    };
}

pub(crate) use append_events;

/// A change of one resource.
#[derive(Debug)]
pub struct Change<'a> {
    /// What happened: `conversation.created`.
    pub kind: &'a str,
    /// To what: `conversation`.
    pub resource_kind: &'a str,
    /// To which.
    pub resource_id: Uuid,
    /// What that is in.
    pub parent_id: Option<Uuid>,
    /// Its place there.
    pub sequence: Option<i64>,
    /// Its version after the change.
    pub version: i64,
    /// The fields that changed.
    pub changed: Vec<&'a str>,
}

statement! {
    /// Appends one change.
    Append<'a> -> Timestamptz {
        kind: &'a str => sql_types::Text,
        resource_kind: &'a str => sql_types::Text,
        resource_id: Uuid => sql_types::Uuid,
        parent_id: Option<Uuid> => Nullable<sql_types::Uuid>,
        sequence: Option<i64> => Nullable<sql_types::BigInt>,
        version: i64 => sql_types::BigInt,
        changed: Vec<&'a str> => Array<sql_types::Text>,
        actor_kind: &'a str => sql_types::Text,
        actor_id: &'a str => sql_types::Text,
        caller: &'a str => sql_types::Text,
        correlation_id: &'a str => sql_types::Text,
        tenant_number: i32 => sql_types::Integer,
    }
    concat!("
        , changes AS (
            SELECT kind, resource_kind, resource_id, parent_id, sequence, version, changed
            FROM input
        )", append_events!(), "
        SELECT at FROM appended")
}

/// Appends a change that an earlier statement of the open transaction made. It comes last in its
/// transaction, because it holds up the readers of the log until the commit.
pub async fn append(conn: &mut TenantConn, change: Change<'_>) -> Result<(), Error> {
    let facts = conn.facts().clone();
    let statement = Append {
        kind: change.kind,
        resource_kind: change.resource_kind,
        resource_id: change.resource_id,
        parent_id: change.parent_id,
        sequence: change.sequence,
        version: change.version,
        changed: change.changed,
        actor_kind: facts.actor.kind(),
        actor_id: facts.actor.id(),
        caller: &facts.caller.service,
        correlation_id: &facts.correlation_id,
        tenant_number: conn.tenant_number(),
        life: std::marker::PhantomData,
    };
    let _: DateTime<Utc> = statement.get_result(conn).await?;
    Ok(())
}

/// How long those who write while the log is read may take to end.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often is looked whether they have.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Who holds the lock of a tenant with a number: from where, and which.
macro_rules! holders {
    () => {
        "FROM pg_locks
         WHERE locktype = 'advisory' AND objsubid = 2 AND granted
             AND classid = 1129270605 AND objid = $1::oid
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    };
}

/// Returns a position of the log up to which everything is final: whatever was to be written
/// there, can be seen by every later statement or never comes. `None` while somebody who writes
/// takes too long.
///
/// It takes two statements, which must not be in a transaction: the first looks at the last number that
/// was drawn and, only then, at who holds the lock that numbers are drawn under, until those have ended;
/// what is read after that sees all that they have committed.
///
/// # Errors
/// The database cannot be asked.
pub async fn settled(conn: &mut TenantConn) -> Result<Option<i64>, Error> {
    // Neither a sequence nor the locks are read by the statement's snapshot. The aggregate needs the last
    // number, so that it cannot be made before that is there.
    let begun = concat!(
        "SELECT s.last, w.writers
         FROM (SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS last FROM events_id_seq) s
         CROSS JOIN LATERAL (
             SELECT array_agg(virtualtransaction) FILTER (WHERE s.last >= 0) AS writers ",
        holders!(),
        ") w"
    );
    let number = i64::from(conn.tenant_number());
    let begun = diesel::sql_query(begun).bind::<sql_types::BigInt, _>(number);
    let Settled { last, writers } = begun.get_result(conn).await?;
    let mut writers = writers.unwrap_or_default();
    let deadline = Instant::now() + PATIENCE;
    while !writers.is_empty() {
        if Instant::now() > deadline {
            return Ok(None);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        let left = self::writers(conn).await?;
        writers.retain(|writer| left.contains(writer));
    }
    Ok(Some(last))
}

/// The end of the sequence, and who may have drawn up to it.
#[derive(QueryableByName)]
struct Settled {
    #[diesel(sql_type = sql_types::BigInt)]
    last: i64,
    #[diesel(sql_type = Nullable<Array<sql_types::Text>>)]
    writers: Option<Vec<String>>,
}

/// A transaction that may have drawn numbers.
#[derive(QueryableByName)]
struct Writer {
    #[diesel(sql_type = sql_types::Text)]
    virtual_transaction: String,
}

async fn writers(conn: &mut TenantConn) -> Result<Vec<String>, Error> {
    let number = i64::from(conn.tenant_number());
    let holders = diesel::sql_query(concat!(
        "SELECT virtualtransaction AS virtual_transaction ",
        holders!()
    ))
    .bind::<sql_types::BigInt, _>(number);
    let holders: Vec<Writer> = holders.load(conn).await?;
    Ok(holders
        .into_iter()
        .map(|holder| holder.virtual_transaction)
        .collect())
}
