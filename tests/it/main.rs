//! The service as its callers see it: real sockets, a real PostgreSQL, a tenant of its own for
//! each test.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where it is wrong"
)]

mod access;
mod accounts;
mod admin_port;
mod attachments;
mod attempts;
mod bulk;
mod channels;
mod chat;
mod chat_access;
mod chat_activity;
mod chat_entries;
mod chat_events;
mod chat_files;
mod chat_model;
mod chat_reactions;
mod chat_schedule;
mod chat_search;
mod chat_turns;
mod commands;
mod connections;
mod contacts;
mod conversation_life;
mod cors;
mod durability;
mod event_flood;
mod event_order;
mod events;
mod faults;
mod forgery;
mod gmail;
mod harness;
mod health;
mod import;
mod inbox;
mod input;
mod isolation;
mod janitor;
mod keeper;
mod key_server;
mod limits;
mod live;
mod mail;
mod media;
mod migration;
mod model;
mod outage;
mod plans;
mod presence;
mod prove;
mod quick_reply;
mod readme;
mod redelivery;
mod rest;
mod revisions;
mod routing;
mod schedule;
mod schema;
mod search;
mod secrets;
mod sequence;
mod ses;
mod statistics;
mod tenant_admin;
mod tenant_life;
mod tickets;
mod tls;
mod traces;
mod twilio_log;
mod visitor_stream;
mod web;
mod webhook;
