//! The Communication Service: the inbox, quick replies and chat of a multi-tenant product, as
//! gRPC on PostgreSQL, one schema and one connection pool for each tenant.

pub mod access;
mod call;
mod channel;
mod clock;
mod codec;
pub mod command;
pub mod config;
pub mod database;
pub mod error;
mod event;
mod field;
mod file_store;
pub mod guarded_client;
mod hex;
mod ids;
mod inbox;
mod master_key;
mod pace;
mod page;
pub mod pb;
mod provider;
mod quick_reply;
mod request_id;
mod rest;
mod schema;
mod search;
pub mod server;
mod sidecar;
mod socket;
mod stored_enum;
mod telemetry;
mod tenant;
mod time;
mod trace;
mod webhook;
mod widget;
