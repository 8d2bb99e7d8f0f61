//! What is done to tenants from outside: made, changed, migrated, cleaned, purged.

use super::directory::TenantDirectory;
use super::life::{Change, Terms};
use super::schema_name::{SchemaName, Slug};
use super::tenant::{self, Outdated, Tenant};
use crate::error::{Error, Precondition};
use crate::page::PageSize;

impl TenantDirectory {
    /// Makes a tenant, or finishes or migrates it; tells whether this call made it.
    ///
    /// # Errors
    /// The tenant has another schema, or the schema is somebody else's.
    pub async fn initialize(
        &self,
        slug: &Slug,
        schema: Option<&SchemaName>,
    ) -> Result<(Tenant, bool), Error> {
        let (tenant, made) = self.provisioner().initialize(slug, schema).await?;
        self.remember(tenant.clone())?;
        Ok((tenant, made))
    }

    /// Lists tenants by slug.
    pub async fn list(
        &self,
        size: PageSize,
        after: Option<String>,
        show_deleted: bool,
    ) -> Result<Vec<Tenant>, Error> {
        tenant::list(&mut self.directory_conn().await?, size, after, show_deleted).await
    }

    /// Changes where a tenant stands; returns it as it stands then.
    ///
    /// # Errors
    /// There is no such tenant, its etag is another one, or where it stands does not allow it.
    pub async fn change(
        &self,
        slug: &Slug,
        change: Change,
        terms: &Terms,
    ) -> Result<Tenant, Error> {
        let tenant = self.provisioner().change(slug, change, terms).await?;
        if !terms.validate_only {
            self.remember(tenant.clone())?;
        }
        Ok(tenant)
    }

    /// Removes a deleted tenant for good; returns it as it was.
    ///
    /// # Errors
    /// There is no such tenant, its etag is another one, it is not deleted, or not for long enough
    /// and `force` is not given.
    pub async fn purge(&self, slug: &Slug, terms: &Terms, force: bool) -> Result<Tenant, Error> {
        let tenant = self.provisioner().purge(slug, terms, force).await?;
        if !terms.validate_only {
            self.forget_purged(tenant.id);
            self.remove_files(tenant.id).await;
        }
        Ok(tenant)
    }

    /// Lists the tenants, or the one of a slug, whose schemas are older than this server.
    ///
    /// # Errors
    /// There is no such tenant, or it is still being made.
    pub async fn outdated(&self, only: Option<&Slug>) -> Result<Vec<Outdated>, Error> {
        let mut conn = self.directory_conn().await?;
        if let Some(slug) = only {
            let found = tenant::find(&mut conn, slug.as_str()).await?;
            let tenant = found.ok_or_else(|| Error::not_found("tenant", slug))?;
            if !tenant.is_built() {
                let not_ready = Precondition::TenantNotReady(tenant.slug);
                return Err(Error::FailedPrecondition(not_ready));
            }
        }
        tenant::outdated(&mut conn, self.newest(), only.map(Slug::as_str)).await
    }

    /// Migrates a tenant, unless it has the newest version by now.
    ///
    /// # Errors
    /// The migration failed, or gave way to who used the tenant's tables.
    pub async fn migrate(&self, outdated: &Outdated) -> Result<(), Error> {
        if let Some(tenant) = self.provisioner().migrate(outdated.id).await? {
            self.remember(tenant)?;
        }
        Ok(())
    }

    /// Lists the tenants that are to be purged, by slug.
    pub async fn due(&self) -> Result<Vec<String>, Error> {
        tenant::due(&mut self.directory_conn().await?).await
    }

    /// Takes some tenants on that were not cleaned for a while, and cleans them; tells whether
    /// there were any.
    pub async fn clean(&self, most: i64) -> Result<bool, Error> {
        let taken = tenant::take_unclean(&mut self.directory_conn().await?, most).await?;
        if taken.is_empty() {
            return Ok(false);
        }
        self.provisioner().forget(&taken).await?;
        let files = self.files();
        self.provisioner().remove_unused(&taken, files).await?;
        for tenant in &taken {
            self.get_visited(&tenant.slug).await;
        }
        Ok(true)
    }
}
