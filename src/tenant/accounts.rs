//! Channel accounts of tenants: connected, changed, moved and found. Each change is one transaction,
//! in which the directory's row and the tenant's commit together.

use chrono::{DateTime, Utc};
use diesel_async::TransactionManager as _;
use uuid::Uuid;

use super::account_transfer;
use super::channel_account::{self, AccountAccess, AccountChange, ChannelAccount, NewAccount};
use super::channel_settings::{Provider, Settings};
use super::directory::TenantDirectory;
use super::provider_app::{self, App, Rotation};
use super::provision::Transactions;
use super::route::{self, Routes, Sought};
use super::schema_name::Slug;
use super::widget::{self, Widget};
use crate::channel::Channel;
use crate::error::Error;
use crate::ids::{AppId, ChannelAccountId};
use crate::page::PageSize;

impl TenantDirectory {
    /// Connects an account of a tenant; tells whether it was not connected before.
    ///
    /// # Errors
    /// The tenant is unknown or not ready, the account is another tenant's, or the app is known by
    /// another secret.
    pub async fn connect_account(
        &self,
        slug: &str,
        mut new: NewAccount,
    ) -> Result<(ChannelAccount, bool), Error> {
        let tenant = self.known(slug).await?.tenant;
        let mut conn = self.provisioner().begin_in(&tenant).await?;
        widget::settle(&mut conn, &tenant, &mut new).await?;
        let sealers = self.account_sealers();
        let (id, connected) = channel_account::connect(&mut conn, sealers, &tenant, new).await?;
        Transactions::commit_transaction(&mut conn).await?;
        Ok((self.account(slug, id).await?, connected))
    }

    /// Changes a connected account of a tenant.
    ///
    /// # Errors
    /// The tenant is unknown or not ready, has no such account, the account has changed since it was
    /// read, or would be another one.
    pub async fn update_account(
        &self,
        slug: &str,
        change: AccountChange,
    ) -> Result<ChannelAccount, Error> {
        let tenant = self.known(slug).await?.tenant;
        let id = change.account;
        let mut conn = self.provisioner().begin_in(&tenant).await?;
        channel_account::check(&mut conn, &tenant, &change).await?;
        let sealers = self.account_sealers();
        channel_account::connect(&mut conn, sealers, &tenant, change.new).await?;
        Transactions::commit_transaction(&mut conn).await?;
        self.account(slug, id).await
    }

    /// Moves an account of a tenant, whatever became of the tenant, to another one, where it is
    /// connected.
    ///
    /// # Errors
    /// The other tenant is unknown or not ready, or neither has such an account.
    pub async fn transfer_account(
        &self,
        source: &Slug,
        id: ChannelAccountId,
        target: &Slug,
    ) -> Result<ChannelAccount, Error> {
        let target = target.as_str();
        let to = self.known(target).await?.tenant;
        let from = self.find(source).await?;
        let from = from.ok_or_else(|| Error::not_found("tenant", source.as_str()))?;
        let mut conn = self.provisioner().begin_in(&to).await?;
        let tenants = (&from, to.as_ref());
        account_transfer::transfer(&mut conn, self.account_sealers(), tenants, id).await?;
        Transactions::commit_transaction(&mut conn).await?;
        self.account(target, id).await
    }

    /// Disconnects an account of a tenant.
    ///
    /// # Errors
    /// The tenant is unknown or not ready, or has no such account.
    pub async fn disconnect_account(
        &self,
        slug: &str,
        id: ChannelAccountId,
    ) -> Result<ChannelAccount, Error> {
        let tenant = self.known(slug).await?.tenant;
        let mut conn = self.provisioner().begin_in(&tenant).await?;
        channel_account::disconnect(&mut conn, tenant.id, id).await?;
        Transactions::commit_transaction(&mut conn).await?;
        self.account(slug, id).await
    }

    /// Disables an account of a tenant, or enables it again.
    ///
    /// # Errors
    /// The tenant is unknown or not ready, or has no such account.
    pub async fn disable_account(
        &self,
        slug: &str,
        id: ChannelAccountId,
        disables: bool,
    ) -> Result<ChannelAccount, Error> {
        let tenant = self.known(slug).await?.tenant;
        let mut conn = self.provisioner().begin_in(&tenant).await?;
        channel_account::disable(&mut conn, tenant.id, id, disables).await?;
        Transactions::commit_transaction(&mut conn).await?;
        self.account(slug, id).await
    }

    /// Gives the app of an account another secret.
    ///
    /// # Errors
    /// The tenant is unknown or not ready, has no such account, or its app is not for the caller to
    /// change.
    pub async fn rotate_secret(
        &self,
        slug: &str,
        rotation: Rotation,
    ) -> Result<ChannelAccount, Error> {
        let tenant = self.known(slug).await?.tenant;
        let sealers = &self.account_sealers().apps;
        let mut conn = self.provisioner().begin_in(&tenant).await?;
        provider_app::rotate(&mut conn, sealers, tenant.id, &rotation).await?;
        Transactions::commit_transaction(&mut conn).await?;
        self.account(slug, rotation.account).await
    }

    /// Finds an account of a tenant.
    ///
    /// # Errors
    /// The tenant has no such account.
    pub async fn account(&self, slug: &str, id: ChannelAccountId) -> Result<ChannelAccount, Error> {
        let mut conn = self.directory_conn().await?;
        let account = channel_account::find(&mut conn, slug, id).await?;
        account.ok_or_else(|| Error::not_found("channel_account", id))
    }

    /// Lists the accounts of a tenant, the oldest first.
    ///
    /// # Errors
    /// The tenant is unknown or not ready.
    pub async fn list_accounts(
        &self,
        slug: &str,
        disconnected: bool,
        size: PageSize,
        after: Option<ChannelAccountId>,
    ) -> Result<Vec<ChannelAccount>, Error> {
        self.known(slug).await?;
        let mut conn = self.directory_conn().await?;
        channel_account::list(&mut conn, slug, disconnected, size, after).await
    }

    /// Returns the apps that a webhook may be signed by: the one that has that key or whose account
    /// has it, or those of the deployment.
    pub async fn apps(&self, channel: Channel, key: Option<Uuid>) -> Result<Vec<App>, Error> {
        let mut conn = self.directory_conn().await?;
        let sealers = &self.account_sealers().apps;
        provider_app::apps(&mut conn, sealers, Provider::of(channel), key).await
    }

    /// Returns what is particular to an account.
    pub async fn account_settings(&self, account: ChannelAccountId) -> Result<Settings, Error> {
        channel_account::settings(&mut self.directory_conn().await?, account).await
    }

    /// Returns what lets us ask the provider of an account.
    pub async fn account_access(&self, account: ChannelAccountId) -> Result<AccountAccess, Error> {
        let mut conn = self.directory_conn().await?;
        channel_account::access(&mut conn, self.account_sealers(), account).await
    }

    /// Notes what a provider said of an account, unless it has said something newer.
    pub async fn note_state(
        &self,
        account: ChannelAccountId,
        state: &str,
        at: DateTime<Utc>,
    ) -> Result<(), Error> {
        let mut conn = self.directory_conn().await?;
        channel_account::note_state(&mut conn, account, state, at).await
    }

    /// Notes what Meta said of a business account, for all its numbers that an app signs for.
    pub async fn note_business_state(
        &self,
        app: AppId,
        business_account: &str,
        state: (&str, DateTime<Utc>),
    ) -> Result<(), Error> {
        let mut conn = self.directory_conn().await?;
        channel_account::note_business_state(&mut conn, app, business_account, state).await
    }

    /// Notes that the provider of some accounts has proved that they are these.
    pub async fn note_proved(&self, accounts: &[ChannelAccountId]) -> Result<(), Error> {
        channel_account::note_proved(&mut self.directory_conn().await?, accounts).await
    }

    /// Finds the connected widget of a token.
    pub async fn widget(&self, token: &str) -> Result<Option<Widget>, Error> {
        let mut conn = self.directory_conn().await?;
        widget::find(&mut conn, &self.account_sealers().apps, token).await
    }

    /// Tells whether an origin is that of a page of any connected widget.
    pub async fn is_widget_origin(&self, origin: &str) -> Result<bool, Error> {
        widget::is_origin_of_any(&mut self.directory_conn().await?, origin).await
    }

    /// Returns where items go.
    pub async fn routes(&self, sought: &Sought) -> Result<Routes, Error> {
        route::find(&mut self.directory_conn().await?, sought).await
    }
}
