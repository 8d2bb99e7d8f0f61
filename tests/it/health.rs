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
        "communication.v1.ChatService",
        "communication.v1.InboxService",
        "communication.v1.QuickReplyService",
        "communication.v1.TenantAdminService",
    ] {
        eventually("serving", async || {
            status(&server, service).await == ServingStatus::Serving
        })
        .await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sidecar_tells_health_readiness_and_counts() {
    let server = TestServer::start().await;
    eventually("ready", async || server.http_get("/ready").await.0 == 200).await;
    assert_eq!(server.http_get("/health").await, (200, "ok\n".to_owned()));
    server.tenant().await;
    let (status, metrics) = server.http_get("/metrics").await;
    assert_eq!(status, 200);
    let counted = "grpc_calls_total{method=\"/communication.v1.TenantAdminService/InitializeTenant\",code=\"Ok\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    assert_eq!(server.http_get("/nothing").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_our_services_in_both_versions() {
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::{v1, v1alpha};
    let server = TestServer::start().await;

    let ask = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers =
        v1::server_reflection_client::ServerReflectionClient::new(server.channel.clone())
            .server_reflection_info(tokio_stream::iter([ask]))
            .await
            .unwrap()
            .into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(listed)) =
        answer.message_response
    else {
        panic!("no list of services")
    };
    let mut names: Vec<_> = listed
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    names.sort();
    assert!(names.contains(&"communication.v1.InboxService".to_owned()));
    assert!(names.contains(&"communication.v1.TenantAdminService".to_owned()));

    let ask = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
                "communication.v1.Conversation".to_owned(),
            ),
        ),
    };
    let mut answers =
        v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel.clone())
            .server_reflection_info(tokio_stream::iter([ask]))
            .await
            .unwrap()
            .into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    assert!(matches!(
        answer.message_response,
        Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_))
    ));
}
