//! The command line: one file for each subcommand.

mod call;
mod client;
mod demo;
mod doctor;
mod healthcheck;
mod import;
mod migrate;
mod output;
mod quarantine;
mod serve;
mod tenant;
mod token;

use std::error::Error;

use clap::{Args, Parser, Subcommand};

use crate::config::Config;

/// Inbox, quick replies and chat of a multi-tenant product, as gRPC on PostgreSQL.
#[derive(Debug, Parser)]
#[command(
    name = "communication-service",
    version,
    args_conflicts_with_subcommands = true
)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

/// What `serve` takes; also what no subcommand takes, because that is `serve`.
#[derive(Debug, Args)]
struct ServeArgs {
    #[command(flatten)]
    config: Config,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve; what happens when no command is given
    Serve(Box<ServeArgs>),
    /// Make, show, close, delete and purge tenants, on a running server
    Tenant(tenant::TenantArgs),
    /// Bring all tenants of a running server to its version; safe to repeat
    Migrate(migrate::MigrateArgs),
    /// List and replay items of webhooks that could not be applied, on a running server
    Quarantine(quarantine::QuarantineArgs),
    /// Bring messages from elsewhere into a tenant of a running server; safe to repeat
    Import(import::ImportArgs),
    /// Show it with believable data, on a running server
    Demo(demo::DemoArgs),
    /// Call any method of a running server, JSON in and out
    Call(call::CallArgs),
    /// Look at the settings and what they name, and say what to do
    Doctor(Box<doctor::DoctorArgs>),
    /// Mint a token that a server on this machine believes in development
    Token(token::TokenArgs),
    /// Exit with 0 if the server on this machine is ready
    Healthcheck(healthcheck::HealthcheckArgs),
}

impl CommandLine {
    /// Runs the command.
    ///
    /// # Errors
    /// It could not do what it was told.
    pub async fn run(self) -> Result<(), Box<dyn Error>> {
        match self.command {
            None => serve::run(self.serve.config).await,
            Some(Command::Serve(serve)) => serve::run(serve.config).await,
            Some(Command::Tenant(args)) => tenant::run(args).await,
            Some(Command::Migrate(args)) => migrate::run(args).await,
            Some(Command::Quarantine(args)) => quarantine::run(args).await,
            Some(Command::Import(args)) => import::run(args).await,
            Some(Command::Demo(args)) => demo::run(args).await,
            Some(Command::Call(args)) => call::run(args).await,
            Some(Command::Doctor(args)) => doctor::run(*args).await,
            Some(Command::Token(args)) => token::run(&args),
            Some(Command::Healthcheck(args)) => healthcheck::run(&args).await,
        }
    }
}
