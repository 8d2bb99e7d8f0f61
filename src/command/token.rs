//! `token`: a credential for development.

use std::error::Error;
use std::path::PathBuf;

use clap::Args;

use crate::access::{Audience, DevelopmentKey, Scope, TokenClaims};
use crate::clock;
use crate::database::private::default_data_dir;
use crate::server::development_key_file;

/// What `token` takes.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// The data folder of the server that shall believe it
    #[arg(long, env = "COMM_DATA_DIR", default_value_os_t = default_data_dir(), value_name = "FOLDER")]
    data_dir: PathBuf,
    /// The calling service
    #[arg(long, default_value = "developer")]
    service: String,
    /// A tenant that it is for, by slug; may be repeated; left out: all
    #[arg(long = "tenant", value_name = "SLUG")]
    tenants: Vec<String>,
    /// A scope that it has; may be repeated; left out: all
    #[arg(long = "scope", value_name = "SCOPE", value_parser = Scope::ALL.map(Scope::as_str))]
    scopes: Vec<String>,
    /// Make it this user's own
    #[arg(long, value_name = "ID")]
    user_id: Option<String>,
    /// How long it lasts, in hours
    #[arg(long, default_value_t = 12, value_name = "HOURS")]
    hours: u64,
    /// The issuer that the server expects
    #[arg(long, env = "COMM_JWT_ISSUER", default_value = "communication-service")]
    issuer: String,
    /// The audience that the server expects
    #[arg(
        long,
        env = "COMM_JWT_AUDIENCE",
        default_value = "communication-service"
    )]
    audience: String,
}

/// Prints a token.
pub fn run(args: &TokenArgs) -> Result<(), Box<dyn Error>> {
    let key = DevelopmentKey::read_or_make(&development_key_file(&args.data_dir))?;
    let scope = if args.scopes.is_empty() {
        Scope::ALL.map(Scope::as_str).join(" ")
    } else {
        args.scopes.join(" ")
    };
    let tenants = if args.tenants.is_empty() {
        vec!["*".to_owned()]
    } else {
        args.tenants.clone()
    };
    let claims = TokenClaims {
        iss: args.issuer.clone(),
        sub: args.service.clone(),
        aud: Audience::One(args.audience.clone()),
        exp: clock::since_epoch().as_secs() + args.hours * 3600,
        nbf: None,
        scope,
        tenants,
        user_id: args.user_id.clone(),
    };
    println!("{}", key.sign(&claims)?);
    Ok(())
}
