//! What happened: the tenant's event log.

pub mod log;
