//! A connection on loan from a pool, which knows whether it can go back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use deadpool::managed::Object;
use diesel::ConnectionResult;
use diesel::QueryResult;
use diesel::connection::{CacheSize, Instrumentation, TransactionManagerStatus};
use diesel::query_builder::{AsQuery, QueryFragment, QueryId};
use diesel_async::{
    AsyncConnection, AsyncConnectionCore, AsyncPgConnection, SimpleAsyncConnection,
    TransactionManager as _,
};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, TryStreamExt as _, stream};

use super::pool::{Manager, TenantPool};
use crate::database::dial::Session;
use crate::error::Error;

type Transactions = <AsyncPgConnection as AsyncConnection>::TransactionManager;

/// How many uses it takes until a connection is no new one: PostgreSQL plans a statement five times
/// anew before it keeps a plan.
pub const NEW: usize = 6;

/// A connection on loan. Dropped while a statement runs or a transaction is open, it is closed
/// instead of being handed to the next caller.
pub struct PooledConn {
    // `None` only while being dropped.
    session: Option<Object<Manager>>,
    pool: Arc<TenantPool>,
    busy: Arc<AtomicBool>,
}

impl PooledConn {
    /// Takes a connection out of a pool.
    ///
    /// # Errors
    /// None came free in time, or the server cannot be reached.
    pub async fn take(pool: &Arc<TenantPool>) -> Result<Self, Error> {
        let session = pool.take().await?;
        Ok(Self {
            session: Some(session),
            pool: pool.clone(),
            busy: Arc::default(),
        })
    }

    /// Sets how many seconds `directory.now()` is ahead on this connection.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn set_clock(&mut self, offset: i64) -> Result<(), Error> {
        if self.session().clock_offset != offset {
            let set = format!("SET communication.clock_offset = '{offset} seconds'");
            self.batch_execute(&set).await?;
            self.session().clock_offset = offset;
        }
        Ok(())
    }

    /// Whether the connection is new, so that PostgreSQL plans most of its statements anew each time.
    pub fn plans_anew(&self) -> bool {
        let session = self.session.as_ref();
        session.map_or(0, |session| Object::metrics(session).recycle_count) < NEW
    }

    #[expect(clippy::expect_used, reason = "the session is there until the drop")]
    fn session(&mut self) -> &mut Session {
        self.session.as_mut().expect("a session")
    }

    fn conn(&mut self) -> &mut AsyncPgConnection {
        &mut self.session().conn
    }

    fn begin(&self) -> Busy {
        self.busy.store(true, Ordering::Relaxed);
        Busy(self.busy.clone())
    }
}

impl Drop for PooledConn {
    fn drop(&mut self) {
        let Some(mut session) = self.session.take() else {
            return;
        };
        let busy = self.busy.load(Ordering::Relaxed);
        if busy || is_unclean(&mut session.conn) {
            self.pool.abandon(session, busy);
        } else {
            self.pool.put_back(session);
        }
    }
}

/// Tells whether a transaction is open, or what became of it is not known.
pub(super) fn is_unclean(conn: &mut AsyncPgConnection) -> bool {
    match Transactions::transaction_manager_status_mut(conn) {
        TransactionManagerStatus::Valid(valid) => valid.transaction_depth().is_some(),
        TransactionManagerStatus::InError => true,
    }
}

/// A statement that runs.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

type Row = <AsyncPgConnection as AsyncConnectionCore>::Row<'static, 'static>;

/// The rows of a statement that is done.
type Rows = stream::Iter<std::iter::Map<std::vec::IntoIter<Row>, fn(Row) -> QueryResult<Row>>>;

impl SimpleAsyncConnection for PooledConn {
    async fn batch_execute(&mut self, query: &str) -> QueryResult<()> {
        let busy = self.begin();
        let done = self.conn().batch_execute(query).await;
        busy.end();
        done
    }
}

impl AsyncConnectionCore for PooledConn {
    type ExecuteFuture<'conn, 'query> = BoxFuture<'conn, QueryResult<usize>>;
    type LoadFuture<'conn, 'query> = BoxFuture<'conn, QueryResult<Rows>>;
    type Stream<'conn, 'query> = Rows;
    type Row<'conn, 'query> = Row;
    type Backend = diesel::pg::Pg;

    /// Runs a statement to its end. The server sends the rows before it commits, so that with a row
    /// alone nothing is known of the commit: who wants one row gets it after that, too.
    fn load<'conn, 'query, T>(&'conn mut self, source: T) -> Self::LoadFuture<'conn, 'query>
    where
        T: AsQuery + 'query,
        T::Query: QueryFragment<Self::Backend> + QueryId + 'query,
    {
        let busy = self.begin();
        let answer = self.conn().load(source);
        let load = async move {
            let rows: QueryResult<Vec<Row>> = match answer.await {
                Ok(rows) => rows.try_collect().await,
                Err(error) => Err(error),
            };
            busy.end();
            let done: fn(Row) -> QueryResult<Row> = Ok;
            Ok(stream::iter(rows?.into_iter().map(done)))
        };
        load.boxed()
    }

    fn execute_returning_count<'conn, 'query, T>(
        &'conn mut self,
        source: T,
    ) -> Self::ExecuteFuture<'conn, 'query>
    where
        T: QueryFragment<Self::Backend> + QueryId + 'query,
    {
        let busy = self.begin();
        let answer = self.conn().execute_returning_count(source);
        let execute = async move {
            let count = answer.await;
            busy.end();
            count
        };
        execute.boxed()
    }
}

impl AsyncConnection for PooledConn {
    type TransactionManager = <AsyncPgConnection as AsyncConnection>::TransactionManager;

    async fn establish(_: &str) -> ConnectionResult<Self> {
        Err(diesel::ConnectionError::BadConnection(
            "connections come from pools".to_owned(),
        ))
    }

    fn transaction_state(&mut self) -> &mut Self::TransactionManager {
        self.conn().transaction_state()
    }

    fn instrumentation(&mut self) -> &mut dyn Instrumentation {
        self.conn().instrumentation()
    }

    fn set_instrumentation(&mut self, instrumentation: impl Instrumentation) {
        self.conn().set_instrumentation(instrumentation);
    }

    fn set_prepared_statement_cache_size(&mut self, size: CacheSize) {
        self.conn().set_prepared_statement_cache_size(size);
    }
}
