//! Health tells the truth.

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{TestServer, eventually};

async fn status(server: &TestServer, service: &str) -> ServingStatus {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = HealthClient::new(server.channel.clone())
        .check(request)
        .await
        .unwrap();
    answer.into_inner().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_database_serves_as_a_whole_and_each_service() {
    let server = TestServer::start().await;
    for service in [
        "",
        "communication.v1.InboxService",
        "communication.v1.TenantAdminService",
    ] {
        eventually("serving", async || {
            status(&server, service).await == ServingStatus::Serving
        })
        .await;
    }
    server.stop().await;
}
