//! Diesel's tables, made from the migrations: `directory.…` is shared, what is unqualified belongs
//! to the tenant of the connection.

pub mod directory;
pub mod tenant;
