//! The private PostgreSQL that is used when no `DATABASE_URL` is set.

mod account;
mod binaries;
mod error;
mod files;
mod server;

pub use binaries::programs;
pub use error::PrivateError;
pub use files::default_data_dir;
pub use server::{PrivateOptions, PrivateServer};
