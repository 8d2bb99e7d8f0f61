//! `SQL_ECHO`: each statement as it is sent, without the values in it.

use diesel::connection::{Instrumentation, InstrumentationEvent};

/// Writes every statement to the log.
pub struct Echo;

impl Instrumentation for Echo {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        if let InstrumentationEvent::StartQuery { query, .. } = event {
            let shown = query.to_string();
            // Diesel writes the values behind this mark; they are customers' words.
            let text = shown.split(" -- binds").next().unwrap_or_default();
            tracing::info!(target: "sql", "{text}");
        }
    }
}
