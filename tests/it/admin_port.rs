//! Administration on a port of its own.

use communication_service::pb::ListTenantsRequest;
use communication_service::pb::tenant_admin_service_client::TenantAdminServiceClient;
use tonic::Code;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::harness::{Method, TestServer};

async fn listed(channel: &Channel) -> Vec<String> {
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel.clone())
        .server_reflection_info(tokio_stream::iter([ask]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("no list of services")
    };
    list.service
        .into_iter()
        .map(|service| service.name)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_is_on_its_own_port_and_not_on_the_other() {
    let server = TestServer::start_with(|config| config.admin_port = Some(0)).await;
    let admin = server.admin.unwrap();
    let admin = Endpoint::from_shared(format!("http://{admin}")).unwrap();
    let admin = admin.connect().await.unwrap();
    TenantAdminServiceClient::new(admin.clone())
        .list_tenants(ListTenantsRequest::default())
        .await
        .unwrap();
    for method in Method::all() {
        let request = method.request(serde_json::json!({}));
        let other = if method.is_admin() {
            &server.channel
        } else {
            &admin
        };
        let nobody = MetadataMap::new();
        let elsewhere = method.call(other, &request, &nobody).await.unwrap_err();
        assert_eq!(elsewhere.code(), Code::Unimplemented, "{}", method.name());
    }
    let public = [
        "communication.v1.ChatService",
        "communication.v1.EventService",
        "communication.v1.InboxService",
        "communication.v1.QuickReplyService",
    ];
    for (channel, services) in [
        (&admin, &["communication.v1.TenantAdminService"][..]),
        (&server.channel, &public),
    ] {
        HealthClient::new(channel.clone())
            .check(HealthCheckRequest::default())
            .await
            .unwrap();
        let listed = listed(channel).await;
        let ours: Vec<_> = listed
            .iter()
            .filter(|name| name.starts_with("communication."))
            .collect();
        assert_eq!(ours, services.iter().collect::<Vec<_>>());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_leaves_loopback_on_the_same_terms_as_grpc() {
    let server = TestServer::start_with(|config| {
        config.admin_port = Some(0);
        config.admin_host = [0, 0, 0, 0].into();
    })
    .await;
    assert!(server.admin.unwrap().ip().is_loopback());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exposed_port_of_administration_is_told() {
    let server = TestServer::start_with(|config| {
        config.admin_port = Some(0);
        config.admin_host = [0, 0, 0, 0].into();
        config.insecure = true;
    })
    .await;
    assert!(server.admin.unwrap().ip().is_unspecified());
    let (_, metrics) = server.http_get("/metrics").await;
    assert!(metrics.contains("service_insecure 1"), "{metrics}");
}
