//! Makes tenants: role, schema and tables in one transaction.

use std::sync::Arc;
use std::time::Duration;

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::{BigInt, Text};
use diesel_async::{
    AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _, TransactionManager,
};
use tokio::sync::Semaphore;

use super::backfill;
use super::installation::{create_role, new_password};
use super::schema_name::{SchemaName, Slug};
use super::tenant::{Isolation, State, Tenant, Unclean};
use crate::database::dial::Dialer;
use crate::database::migration;
use crate::error::{Chain, Conflict, Error, Existing, Precondition};
use crate::ids::TenantId;
use crate::master_key::{Sealer, place};
use crate::schema::directory::{installation, tenants};

/// How many connections of the service's own account may be open at once.
pub const CONNECTIONS: usize = 2;

/// How long a change waits for another one of the same tenant.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// How many rows are removed in one transaction.
const STEP: usize = 1_000;
/// How long a migration waits for a table: whoever comes after it waits that long too.
const MIGRATION_LOCK_TIMEOUT: Duration = Duration::from_millis(500);

pub(super) type Transactions = <AsyncPgConnection as AsyncConnection>::TransactionManager;

/// Makes tenants, with the service's own account.
pub struct Provisioner {
    service: Dialer,
    isolation: Isolation,
    sealer: Sealer,
    connections: Arc<Semaphore>,
    newest: String,
}

impl Provisioner {
    /// Makes tenants in the database that `service` logs in to.
    ///
    /// # Errors
    /// The migrations of this binary are not in order.
    pub fn new(service: Dialer, isolation: Isolation, sealer: Sealer) -> Result<Self, Error> {
        Ok(Self {
            service,
            isolation,
            sealer,
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
            newest: migration::newest(&migration::TENANT)?,
        })
    }

    /// The schema version that tenants get.
    pub fn newest(&self) -> &str {
        &self.newest
    }

    /// Returns the tenant, complete, and whether this call made it. A tenant that was left half
    /// way is finished; one of an older version is migrated.
    ///
    /// # Errors
    /// The tenant has another schema, or the schema is somebody else's.
    pub async fn initialize(
        &self,
        slug: &Slug,
        schema: Option<&SchemaName>,
    ) -> Result<(Tenant, bool), Error> {
        let mut conn = self.conn().await?;
        self.claim(&mut conn, slug, schema).await?;

        begin(&mut conn, LOCK_TIMEOUT).await?;
        // Whoever comes at the same time waits here and finds the work done.
        let tenant: Tenant = tenants::table
            .filter(tenants::slug.eq(slug.as_str()))
            .select(Tenant::as_select())
            .for_no_key_update()
            .first(&mut conn)
            .await
            .optional()?
            // Purged a moment ago.
            .ok_or(Error::Aborted(Conflict::Transaction))?;
        if tenant.state == State::Deleted {
            let deleted = Precondition::TenantDeleted(tenant.slug);
            return Err(Error::FailedPrecondition(deleted));
        }
        if let Some(schema) = schema
            && schema.as_str() != tenant.schema_name
        {
            let existing = Existing::Tenant {
                slug: tenant.slug,
                schema_name: tenant.schema_name,
            };
            return Err(Error::AlreadyExists(existing));
        }
        if tenant.schema_version >= self.newest {
            return Ok((tenant, false));
        }
        let new = !tenant.is_built();
        if !new {
            // Somebody uses its tables: they shall not wait behind this.
            let give_way = MIGRATION_LOCK_TIMEOUT.as_millis();
            conn.batch_execute(&format!("SET LOCAL lock_timeout = {give_way}"))
                .await?;
        }
        // What is not committed is undone when the connection drops.
        let mut conn = self.build(conn, &tenant, new).await?;
        let tenant = self.finish(&mut conn, &tenant).await?;
        Transactions::commit_transaction(&mut conn).await?;
        Ok((tenant, new))
    }

    /// Migrates a tenant, unless it has the newest version or is still being made; `None` where
    /// there is no such tenant.
    ///
    /// # Errors
    /// The migration failed, or gave way to who used the tenant's tables.
    pub async fn migrate(&self, id: TenantId) -> Result<Option<Tenant>, Error> {
        let mut conn = self.conn().await?;
        begin(&mut conn, MIGRATION_LOCK_TIMEOUT).await?;
        let tenant: Option<Tenant> = tenants::table
            .find(id)
            .select(Tenant::as_select())
            .for_no_key_update()
            .first(&mut conn)
            .await
            .optional()?;
        match tenant {
            Some(tenant) if tenant.is_built() && tenant.schema_version < self.newest => {
                let mut conn = self.build(conn, &tenant, false).await?;
                let tenant = self.finish(&mut conn, &tenant).await?;
                Transactions::commit_transaction(&mut conn).await?;
                Ok(Some(tenant))
            }
            tenant => Ok(tenant),
        }
    }

    /// Forgets what tenants have kept long enough, in small steps: see `KEPT`; and adds what a
    /// migration left to be added. The service's own account does it, so that a tenant in nobody's use needs no connection of its own.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn forget(&self, schemas: &[Unclean]) -> Result<(), Error> {
        let mut conn = self.conn().await?;
        for schema in schemas {
            let schema = SchemaName::parse("schema_name", &schema.schema_name)?;
            for kept in &KEPT {
                // One tenant whose table is locked keeps the others from nothing.
                if let Err(error) = forget_one(&mut conn, &schema, kept).await {
                    Transactions::rollback_transaction(&mut conn).await?;
                    tracing::warn!(error = %Chain(&error), %schema, table = kept.table, "old rows could not be removed");
                }
            }
            if let Err(error) = backfill::run(&mut conn, &schema).await {
                Transactions::rollback_transaction(&mut conn).await?;
                tracing::warn!(error = %Chain(&error), %schema, "old messages could not be indexed");
            }
        }
        Ok(())
    }

    /// Opens the password of a tenant's role.
    ///
    /// # Errors
    /// It was sealed by another key, or for another tenant.
    pub fn password(&self, tenant: &Tenant) -> Result<String, Error> {
        let sealed = tenant.role_password.as_deref().unwrap_or_default();
        self.sealer
            .open(place(tenant.id.0, "role_password"), sealed)
            .and_then(|password| String::from_utf8(password).ok())
            .ok_or_else(|| Error::internal("the password of a tenant's role cannot be opened"))
    }

    /// Begins a transaction in the schema of a tenant.
    ///
    /// # Errors
    /// The tenant is not what it was when it was read.
    pub async fn begin_in(&self, tenant: &Tenant) -> Result<AsyncPgConnection, Error> {
        let mut conn = self.conn().await?;
        begin(&mut conn, LOCK_TIMEOUT).await?;
        use_schema(&mut conn, tenant).await?;
        // What was known of it may be old.
        match hold(&mut conn, tenant).await? {
            Some(State::Active) => Ok(conn),
            _ => Err(Error::Aborted(Conflict::Transaction)),
        }
    }

    pub(super) async fn conn(&self) -> Result<AsyncPgConnection, Error> {
        let permit = self
            .connections
            .clone()
            .acquire_owned()
            .await
            .map_err(Error::internal)?;
        let session = self.service.dial(permit).await;
        Ok(session
            .map_err(|error| Error::Unavailable(error.into()))?
            .conn)
    }

    /// Names the tenant in the directory if it is new, committed at once, so that calls find it
    /// on its way instead of missing.
    async fn claim(
        &self,
        conn: &mut AsyncPgConnection,
        slug: &Slug,
        schema: Option<&SchemaName>,
    ) -> Result<(), Error> {
        // Each attempt to insert draws a number, of which there are only so many.
        let named: i64 = tenants::table
            .filter(tenants::slug.eq(slug.as_str()))
            .count()
            .get_result(conn)
            .await?;
        if named > 0 {
            return Ok(());
        }
        let id = TenantId::new();
        let schema = schema.cloned().unwrap_or_else(|| SchemaName::of(id));
        let credentials = match self.isolation {
            Isolation::SearchPath => None,
            Isolation::Role => {
                let password = new_password()?.into_bytes();
                let sealed = self.sealer.seal(place(id.0, "role_password"), password)?;
                Some((format!("communication_tenant_{}", id.0.simple()), sealed))
            }
        };
        let (role_name, role_password) = credentials.unzip();
        let claimed = diesel::insert_into(tenants::table)
            .values((
                tenants::id.eq(id),
                tenants::slug.eq(slug.as_str()),
                tenants::schema_name.eq(schema.as_str()),
                tenants::role_name.eq(role_name),
                tenants::role_password.eq(role_password),
                tenants::isolation.eq(self.isolation),
                tenants::state.eq(State::Provisioning),
            ))
            .on_conflict(tenants::slug)
            .do_nothing()
            .execute(conn)
            .await;
        match claimed {
            Ok(_) => Ok(()),
            Err(DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, violation))
                if violation.constraint_name() == Some("tenants_schema_name_key") =>
            {
                // The one who has it may be this very tenant, named by somebody a moment earlier.
                let owner: Option<String> = tenants::table
                    .filter(tenants::schema_name.eq(schema.as_str()))
                    .select(tenants::slug)
                    .first(conn)
                    .await
                    .optional()?;
                if owner.as_deref() == Some(slug.as_str()) {
                    return Ok(());
                }
                Err(Error::AlreadyExists(Existing::Schema(
                    schema.as_str().to_owned(),
                )))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes what the tenant lacks: everything when it is `new`, migrations otherwise.
    async fn build(
        &self,
        mut conn: AsyncPgConnection,
        tenant: &Tenant,
        new: bool,
    ) -> Result<AsyncPgConnection, Error> {
        let schema = SchemaName::parse("schema_name", &tenant.schema_name)?;
        if new {
            if schema_exists(&mut conn, &schema).await? {
                Transactions::rollback_transaction(&mut conn).await?;
                diesel::delete(tenants::table)
                    .filter(tenants::id.eq(tenant.id))
                    .filter(tenants::state.eq(State::Provisioning))
                    .execute(&mut conn)
                    .await?;
                return Err(Error::AlreadyExists(Existing::Schema(
                    tenant.schema_name.clone(),
                )));
            }
            if let Some(role) = &tenant.role_name {
                let password = self.password(tenant)?;
                // SCRAM is slow on purpose; not on a thread that serves calls.
                let (role, name) = (role.clone(), tenant.schema_name.clone());
                let sql = tokio::task::spawn_blocking(move || create_role(&role, &password, &name))
                    .await
                    .map_err(Error::internal)?;
                conn.batch_execute(&sql).await?;
            }
            conn.batch_execute(&format!("CREATE SCHEMA {schema}"))
                .await?;
        }
        conn.batch_execute(&format!("SET LOCAL search_path = {schema}"))
            .await?;
        let mut conn = migration::run(conn, migration::TENANT).await?;
        if let Some(role) = &tenant.role_name {
            conn.batch_execute(&grants(&schema, role)).await?;
        }
        Ok(conn)
    }

    async fn finish(&self, conn: &mut AsyncPgConnection, tenant: &Tenant) -> Result<Tenant, Error> {
        let state = match tenant.state {
            State::Provisioning => State::Active,
            state @ (State::Active | State::Suspended | State::Deleted) => state,
        };
        // What a migration left to be added can be added two minutes later.
        let cleaned_at = match tenant.state {
            State::Provisioning => "cleaned_at",
            State::Active | State::Suspended | State::Deleted => {
                "directory.now() - interval '58 minutes'"
            }
        };
        let epoch = next_epoch(conn).await?;
        let tenant = diesel::update(tenants::table)
            .filter(tenants::id.eq(tenant.id))
            .set((
                tenants::state.eq(state),
                tenants::schema_version.eq(&self.newest),
                tenants::epoch.eq(epoch),
                tenants::updated_at.eq(diesel::dsl::sql("directory.now()")),
                tenants::cleaned_at.eq(diesel::dsl::sql(cleaned_at)),
            ))
            .returning(Tenant::as_returning())
            .get_result(conn)
            .await?;
        Ok(tenant)
    }
}

/// Makes the schema of a tenant that of the open transaction.
pub(super) async fn use_schema(conn: &mut AsyncPgConnection, tenant: &Tenant) -> Result<(), Error> {
    let schema = SchemaName::parse("schema_name", &tenant.schema_name)?;
    conn.batch_execute(&format!("SET LOCAL search_path = {schema}"))
        .await?;
    Ok(())
}

/// Lets a tenant stay where it stands until the open transaction ends; tells where that is, if there
/// is such a tenant.
pub(super) async fn hold(
    conn: &mut AsyncPgConnection,
    tenant: &Tenant,
) -> Result<Option<State>, Error> {
    let state = tenants::table
        .find(tenant.id)
        .select(tenants::state)
        .for_share();
    Ok(state.first(conn).await.optional()?)
}

/// Begins a transaction that gives up where it has to wait for longer than `lock_timeout`. What it
/// did is undone when the connection drops before the commit.
pub(super) async fn begin(
    conn: &mut AsyncPgConnection,
    lock_timeout: Duration,
) -> Result<(), Error> {
    Transactions::begin_transaction(conn).await?;
    let lock_timeout = lock_timeout.as_millis();
    // Of a node that has frozen in the middle, nothing stays locked for long.
    conn.batch_execute(&format!(
        "SET LOCAL lock_timeout = {lock_timeout};
         SET LOCAL idle_in_transaction_session_timeout = '10s'"
    ))
    .await?;
    Ok(())
}

/// Draws the epoch of a change of the directory. Its row stays locked until the commit, so this
/// comes last.
pub(super) async fn next_epoch(conn: &mut AsyncPgConnection) -> Result<i64, Error> {
    Ok(diesel::update(installation::table)
        .set(installation::epoch.eq(installation::epoch + 1))
        .returning(installation::epoch)
        .get_result(conn)
        .await?)
}

/// What is kept for a time only.
struct Kept {
    table: &'static str,
    key: &'static str,
    condition: &'static str,
}

const KEPT: [Kept; 6] = [
    Kept {
        table: "requests",
        key: "caller, method, request_id",
        condition: "created_at < directory.now() - interval '7 days'",
    },
    // Providers send a receipt again for 7 days at most.
    Kept {
        table: "provider_events",
        key: "channel_account_id, provider_id, kind, occurrence",
        condition: "kind = 'receipt' AND created_at < directory.now() - interval '30 days'",
    },
    Kept {
        table: "parked_receipts",
        key: "channel_account_id, provider_id, status",
        condition: "created_at < directory.now() - interval '7 days'",
    },
    Kept {
        table: "message_amendments",
        key: "channel_account_id, provider_id, kind, occurrence",
        condition: "created_at < directory.now() - interval '30 days'",
    },
    // From the oldest on, so that what is left has no gap: one that is old has to stay as the place
    // behind which the others come. What was not counted yet stays, too.
    Kept {
        table: "events",
        key: "id",
        condition: "id <= (SELECT min(position) FROM statistics_folds) AND id IN (
            SELECT id FROM (
                SELECT id, lead(at) OVER by_id IS NOT NULL AS is_followed,
                    max(at) OVER (by_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING) AS latest
                FROM (SELECT id, at FROM events ORDER BY id LIMIT 1001) oldest
                WINDOW by_id AS (ORDER BY id)
            ) e
            WHERE is_followed AND latest < directory.now() - interval '7 days'
        ) ORDER BY id",
    },
    // A thread goes as a whole, some time after its newest reply: who replies meanwhile holds its root,
    // and it is looked at again.
    Kept {
        table: "chat_entries",
        key: "id",
        condition: "thread_root_id IS NULL
            AND channel_id IN (SELECT id FROM channels WHERE retention_days > 0)
            AND coalesce(last_reply_at, created_at) < directory.now() - (
                SELECT make_interval(days => c.retention_days) FROM channels c
                WHERE c.id = chat_entries.channel_id
            ) FOR UPDATE",
    },
];

async fn forget_one(
    conn: &mut AsyncPgConnection,
    schema: &SchemaName,
    kept: &Kept,
) -> Result<(), Error> {
    let Kept {
        table,
        key,
        condition,
    } = kept;
    let forget = format!(
        "DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {condition} LIMIT {STEP})"
    );
    loop {
        begin(conn, LOCK_TIMEOUT).await?;
        conn.batch_execute(&format!("SET LOCAL search_path = {schema}"))
            .await?;
        let forgotten = diesel::sql_query(&forget).execute(conn).await?;
        Transactions::commit_transaction(conn).await?;
        if forgotten < STEP {
            return Ok(());
        }
    }
}

/// What a tenant's role may do in its schema: read and write rows, but neither change nor forget
/// what happened, or was done past the rules.
fn grants(schema: &SchemaName, role: &str) -> String {
    format!(
        "GRANT USAGE ON SCHEMA {schema} TO \"{role}\";
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO \"{role}\";
         REVOKE UPDATE, DELETE ON {schema}.events, {schema}.audit_log FROM \"{role}\";
         REVOKE ALL ON {schema}.__diesel_schema_migrations FROM \"{role}\";
         GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO \"{role}\""
    )
}

async fn schema_exists(conn: &mut AsyncPgConnection, schema: &SchemaName) -> Result<bool, Error> {
    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    let found: Count = diesel::sql_query("SELECT count(*) FROM pg_namespace WHERE nspname = $1")
        .bind::<Text, _>(schema.as_str())
        .get_result(conn)
        .await?;
    Ok(found.count > 0)
}
