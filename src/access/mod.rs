//! Who calls: credentials, the scopes they carry, the acting user.

mod authenticator;
mod caller;
mod development;
mod wire;

pub use authenticator::{Authenticator, AuthenticatorError, TokenClaims, sole_credential};
pub use caller::{Actor, Call, CallContext, Caller, Facts, Scope, Scopes, Tenants, admit};
pub use development::{DevelopmentKey, DevelopmentKeyError};
