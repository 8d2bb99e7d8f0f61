//! The door to a tenant: a value that says "inside this tenant, by this actor", and the connection
//! that it opens. Only this folder can make either.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::conn::PooledConn;
use super::hint::{Hall, News};
use super::known::Known;
use super::pool::TenantPool;
use super::tenant::Tenant;
use crate::access::{Call, Facts};
use crate::error::Error;
use crate::file_store::TenantFiles;
use crate::ids::TenantId;
use crate::page::List;

/// Work inside one tenant, by one actor.
#[derive(Clone)]
pub struct TenantScope {
    tenant: Arc<Tenant>,
    pool: Arc<TenantPool>,
    facts: Arc<Facts>,
    files: TenantFiles,
    news: Arc<News>,
    writes: bool,
}

impl TenantScope {
    /// Work by somebody who may write, or only reads.
    pub(super) fn new(known: &Known, facts: impl Into<Arc<Facts>>, writes: bool) -> Self {
        Self {
            tenant: known.tenant.clone(),
            pool: known.pool.clone(),
            facts: facts.into(),
            files: known.files.clone(),
            news: known.news.clone(),
            writes,
        }
    }

    /// Takes one of the tenant's connections.
    ///
    /// # Errors
    /// None came free in time, or the database cannot be reached.
    pub async fn conn(&self) -> Result<TenantConn, Error> {
        let mut conn = PooledConn::take(&self.pool).await?;
        conn.set_clock(self.facts.clock_offset).await?;
        Ok(TenantConn {
            conn,
            scope: self.clone(),
        })
    }

    /// The same tenant, for work that somebody else has asked for before.
    pub fn on_behalf(&self, facts: Facts) -> Self {
        Self {
            facts: Arc::new(facts),
            ..self.clone()
        }
    }

    /// The same work, in the tenant as it is known by now.
    pub(super) fn renewed(&self, known: &Known) -> Self {
        Self::new(known, self.facts.clone(), self.writes)
    }

    /// Is told when somebody may have changed something, here or, if hints are heard, on another server.
    pub fn news(&self) -> watch::Receiver<()> {
        self.news.listen()
    }

    /// Says something that is not kept to those who listen, here and, if it gets there, on other servers.
    pub fn say(&self, said: Bytes) {
        self.news.say(said);
    }

    /// Where that is heard on this server.
    pub fn hall(&self) -> Arc<Hall> {
        self.news.hall()
    }

    /// Who does what is done here.
    pub fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    /// The tenant's slug.
    pub fn slug(&self) -> &str {
        &self.tenant.slug
    }

    /// Which tenant it is.
    pub fn tenant_id(&self) -> TenantId {
        self.tenant.id
    }

    /// The tenant's files.
    pub fn files(&self) -> &TenantFiles {
        &self.files
    }

    /// The list that a page is of where what can be seen depends on who looks.
    pub fn own_list<T: Call>(&self, binding: &[u8]) -> List {
        let actor = &self.facts.actor;
        List::new(&[
            T::PATH.as_bytes(),
            self.binding(),
            actor.kind().as_bytes(),
            actor.id().as_bytes(),
            binding,
        ])
    }

    /// The bytes that stand for the tenant where something is bound to it.
    pub fn binding(&self) -> &[u8] {
        self.tenant.id.0.as_bytes()
    }
}

/// A connection that can reach one tenant's schema and nothing else.
pub struct TenantConn {
    conn: PooledConn,
    scope: TenantScope,
}

impl TenantConn {
    /// Who does what runs on this connection.
    pub fn facts(&self) -> &Arc<Facts> {
        &self.scope.facts
    }

    /// The number that names the tenant in advisory locks.
    pub fn tenant_number(&self) -> i32 {
        self.scope.tenant.number
    }
}

impl Drop for TenantConn {
    fn drop(&mut self) {
        // Whatever was done is committed by now, or never.
        if self.scope.writes {
            self.scope.news.tell();
        }
    }
}

impl Deref for TenantConn {
    type Target = PooledConn;

    fn deref(&self) -> &PooledConn {
        &self.conn
    }
}

impl DerefMut for TenantConn {
    fn deref_mut(&mut self) -> &mut PooledConn {
        &mut self.conn
    }
}
