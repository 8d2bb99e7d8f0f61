//! Who calls: credentials, the scopes they carry, the acting user.

mod authenticator;
mod caller;
mod development;
mod key_server;
mod keyring;
mod wire;

pub use authenticator::{Audience, Authenticator, TokenClaims, sole_credential};
pub use caller::{Actor, Call, CallContext, Caller, Facts, Scope, Scopes, Tenants, admit};
pub use development::{DevelopmentKey, DevelopmentKeyError};
pub use key_server::{KeyServer, KeyServerError};
pub use keyring::{KeySource, Keyring, KeyringError};
