//! Which files go: those that nothing took, those of deleted messages, those of purged tenants.
//!
//! The database says so first, and forgets a file only when it is gone: whatever stops in between
//! is gone on with by the next round of the janitor.

use diesel::prelude::*;
use diesel::sql_types::{self, Array};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::directory::TenantDirectory;
use super::provision::Provisioner;
use super::schema_name::SchemaName;
use super::tenant::{Tenant, Unclean};
use crate::error::{Chain, Error};
use crate::file_store::{FileStore, TenantFiles};
use crate::ids::{AttachmentId, TenantId};
use crate::schema::directory::purged_files;

/// How many files are removed together.
const STEP: usize = 500;

#[derive(QueryableByName)]
struct Marked {
    #[diesel(sql_type = sql_types::Uuid)]
    id: AttachmentId,
}

#[derive(QueryableByName)]
struct Purged {
    #[diesel(sql_type = sql_types::Uuid)]
    tenant_id: TenantId,
}

impl Provisioner {
    /// Removes the files of some tenants that nobody needs.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn remove_unused(&self, tenants: &[Unclean], files: &FileStore) -> Result<(), Error> {
        for tenant in tenants {
            let schema = SchemaName::parse("schema_name", &tenant.schema_name)?;
            // One tenant whose files cannot be removed keeps the others from nothing.
            if let Err(error) = self.remove_unused_of(&schema, &files.of(tenant.id)).await {
                tracing::warn!(error = %Chain(&error), %schema, "unused files could not be removed");
            }
        }
        Ok(())
    }

    async fn remove_unused_of(
        &self,
        schema: &SchemaName,
        files: &TenantFiles,
    ) -> Result<(), Error> {
        mark(&mut self.conn().await?, schema).await?;
        loop {
            // Whoever fetches one removes it in the end, or ends.
            let marked = format!(
                "SELECT id FROM {schema}.attachments a WHERE state = 'deleted' AND NOT EXISTS (
                     SELECT FROM {schema}.media_fetches f
                     WHERE f.attachment_id = a.id AND f.lease IS NOT NULL
                         AND f.due_at > directory.now()
                 ) LIMIT {STEP}"
            );
            let marked: Vec<Marked> = diesel::sql_query(marked)
                .load(&mut self.conn().await?)
                .await?;
            let ids: Vec<_> = marked.into_iter().map(|marked| marked.id).collect();
            if ids.is_empty() {
                return Ok(());
            }
            files.remove(&ids).await?;
            let forget = format!(
                "DELETE FROM {schema}.attachments WHERE id = ANY ($1) AND state = 'deleted'"
            );
            diesel::sql_query(forget)
                .bind::<Array<sql_types::Uuid>, _>(&ids)
                .execute(&mut self.conn().await?)
                .await?;
        }
    }

    /// Notes, in the transaction of its purge, that a tenant's files are to go.
    pub(super) async fn note_purge(
        conn: &mut AsyncPgConnection,
        tenant: &Tenant,
    ) -> Result<(), Error> {
        diesel::insert_into(purged_files::table)
            .values(purged_files::tenant_id.eq(tenant.id))
            .execute(conn)
            .await?;
        Ok(())
    }

    /// Removes the files of a purged tenant.
    ///
    /// # Errors
    /// The store of files or the database cannot be reached: the janitor will try again.
    pub async fn remove_purged(&self, id: TenantId, files: &FileStore) -> Result<(), Error> {
        files.of(id).remove_all().await?;
        // An upload that was on its way may end after this. None does after a day.
        diesel::sql_query(
            "WITH forgotten AS (
                 DELETE FROM directory.purged_files
                 WHERE tenant_id = $1 AND purged_at < directory.now() - interval '1 day'
             )
             UPDATE directory.purged_files SET removed_at = directory.now()
             WHERE tenant_id = $1 AND purged_at >= directory.now() - interval '1 day'",
        )
        .bind::<sql_types::Uuid, _>(id)
        .execute(&mut self.conn().await?)
        .await?;
        Ok(())
    }

    /// Lists the purged tenants whose files are to be removed, for the first time or the last.
    pub async fn purged(&self) -> Result<Vec<TenantId>, Error> {
        let purged: Vec<Purged> = diesel::sql_query(
            "SELECT tenant_id FROM directory.purged_files
             WHERE removed_at IS NULL OR purged_at < directory.now() - interval '1 day'
             ORDER BY purged_at LIMIT 1000",
        )
        .load(&mut self.conn().await?)
        .await?;
        Ok(purged.into_iter().map(|purged| purged.tenant_id).collect())
    }
}

/// Marks the files that are to go. A message that takes one of them just now keeps it.
async fn mark(conn: &mut AsyncPgConnection, schema: &SchemaName) -> Result<(), Error> {
    let unused = format!(
        "UPDATE {schema}.attachments SET state = 'deleted' WHERE id IN (
             SELECT id FROM {schema}.attachments a
             WHERE message_id IS NULL AND quick_reply_id IS NULL AND chat_entry_id IS NULL
                 AND state <> 'deleted'
                 AND created_at < directory.now() - interval '24 hours'
                 AND NOT EXISTS (
                     SELECT FROM {schema}.scheduled_messages s
                     WHERE s.attachment_ids <> '{{}}' AND s.attachment_ids @> ARRAY[a.id]
                 )
                 AND NOT EXISTS (
                     SELECT FROM {schema}.scheduled_entries s
                     WHERE s.attachment_ids <> '{{}}' AND s.attachment_ids @> ARRAY[a.id]
                 )
             FOR NO KEY UPDATE SKIP LOCKED
         )"
    );
    let of_deleted = format!(
        "UPDATE {schema}.attachments a SET state = 'deleted'
         FROM {schema}.inbox_messages m
         WHERE m.id = a.message_id AND m.deleted_at IS NOT NULL AND a.state <> 'deleted'"
    );
    for mark in [unused, of_deleted] {
        diesel::sql_query(mark).execute(conn).await?;
    }
    Ok(())
}

impl TenantDirectory {
    /// Removes the files of a tenant that was purged; what fails is left to the janitor.
    pub(super) async fn remove_files(&self, id: TenantId) {
        let removed = self.provisioner().remove_purged(id, self.files()).await;
        if let Err(error) = removed {
            let error = Chain(&error);
            tracing::warn!(tenant.id = %id, %error, "the files of a purged tenant could not be removed");
        }
    }

    /// Removes the files of purged tenants that are still there.
    pub async fn remove_leftovers(&self) -> Result<(), Error> {
        for id in self.provisioner().purged().await? {
            self.remove_files(id).await;
        }
        Ok(())
    }
}
