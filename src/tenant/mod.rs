//! Tenants: who they are, the one door to each one's data, and their life.

mod account_transfer;
mod accounts;
mod administration;
mod alarm;
mod allowed_origin;
mod backfill;
mod backlog;
mod budget;
mod channel_account;
mod channel_settings;
mod conn;
mod directory;
mod files;
mod hint;
mod installation;
mod janitor;
mod known;
mod life;
mod mailbox;
mod migration;
mod pool;
mod provider_app;
mod provision;
mod route;
mod schema_name;
mod scope;
mod service;
#[expect(clippy::module_inception, reason = "the noun of this folder")]
mod tenant;
mod widget;
mod wire;

pub use alarm::Alarm;
pub use backlog::Due;
pub use channel_account::{AccountAccess, AccountSealers, ChannelAccount};
pub use channel_settings::{
    EmailProvider, Gateway, Provider, Settings as ChannelSettings, TwilioCallSettings,
};
#[cfg(test)]
pub use channel_settings::{PersonalWhatsappSettings, TwilioWhatsappSettings, WhatsappSettings};
pub use conn::{NEW as NEW_CONN_USES, PooledConn as DirectoryConn};
pub use directory::{DirectoryOptions, FEWEST_CONNECTIONS, InTenant, TenantDirectory};
pub use hint::Hall;
pub use installation::{InstallationError, prepare};
pub use mailbox::DueMailbox;
pub use provider_app::{App, AppSealers};
pub(crate) use route::routed;
pub use route::{Asked, Route, RouteRow, Routes, Sought, Unnamed};
pub use scope::{TenantConn, TenantScope};
pub use service::TenantAdmin;
pub use tenant::{Isolation, State as TenantState};
pub use widget::Widget;
