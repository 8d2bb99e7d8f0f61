//! The chat widget: what a visitor's browser calls, at `/widget/v1` of the HTTP port.

mod address;
mod body;
mod file;
mod limit;
mod message;
mod refusal;
mod service;
mod session;
mod stream;
mod widgets;

pub use service::routes;
pub use widgets::{Widgets, WidgetsOptions};
