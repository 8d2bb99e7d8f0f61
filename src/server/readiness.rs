//! Whether calls will be answered, as the sidecar and gRPC health tell it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::tenant::TenantDirectory;

/// How often the database is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_millis(500);

/// The names that health is told for; the empty one is the whole server.
const SERVICES: [&str; 6] = [
    "",
    "communication.v1.ChatService",
    "communication.v1.EventService",
    "communication.v1.InboxService",
    "communication.v1.QuickReplyService",
    "communication.v1.TenantAdminService",
];

/// What is told.
#[derive(Clone)]
pub struct Readiness {
    reporter: HealthReporter,
    ready: Arc<AtomicBool>,
}

impl Readiness {
    /// Not ready: nobody has asked the database yet.
    pub async fn new(reporter: HealthReporter) -> Self {
        // It begins by saying yes for the whole server.
        reporter
            .set_service_status("", ServingStatus::NotServing)
            .await;
        Self {
            reporter,
            ready: Arc::default(),
        }
    }

    /// Tells whether calls will be answered.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Tells it from now on; returns whether that is news.
    pub async fn set(&self, ready: bool) -> bool {
        let status = if ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        let news = self.ready.swap(ready, Ordering::Relaxed) != ready;
        if news {
            for service in SERVICES {
                self.reporter.set_service_status(service, status).await;
            }
        }
        news
    }

    /// Asks the database again and again, for ever.
    pub async fn follow(self, tenants: TenantDirectory) {
        loop {
            let pinged = tokio::time::timeout(PING_EVERY, tenants.ping()).await;
            let answers = matches!(pinged, Ok(Ok(())));
            if self.set(answers).await {
                if answers {
                    tracing::info!("ready");
                } else {
                    tracing::warn!("the database does not answer, not ready");
                }
            }
            tokio::time::sleep(PING_EVERY).await;
        }
    }
}
