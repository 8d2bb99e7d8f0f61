//! What a caller hears of a fault of the server.

use communication_service::config::Environment;
use communication_service::pb::GetConversationRequest;
use serde_json::json;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::harness::{Filled, Keys, Method, TestServer, admin, method};

/// A fault: the table that a call reads has another name.
async fn fault(environment: Environment) -> Status {
    let keys = Keys::new();
    let file = keys.jwks_file.clone();
    let server = TestServer::start_with(|config| {
        config.jwks_file = Some(file);
        config.env = Some(environment);
    })
    .await;
    let all = keys.metadata(json!({"scope": Method::scopes().join(" ")}));
    let tenant = Filled::new(&server, &all).await;
    let request = tenant.example(&method("GetConversation"));
    let request: GetConversationRequest = request.transcode_to().unwrap();
    let schema = &tenant.schema;
    let rename = format!("ALTER TABLE \"{schema}\".inbox_conversations RENAME TO elsewhere");
    admin().await.batch_execute(&rename).await.unwrap();
    let mut request = Request::new(request);
    *request.metadata_mut() = all;
    server.inbox().get_conversation(request).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_development_a_fault_is_told_with_its_cause() {
    let status = fault(Environment::Development).await;
    assert_eq!(status.code(), Code::Internal);
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "INTERNAL");
    let cause = details.debug_info().unwrap();
    assert!(cause.detail.contains("inbox_conversations"), "{cause:?}");
    assert!(!cause.stack_entries.is_empty());
    assert!(status.metadata().contains_key("x-request-id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_production_a_fault_tells_nothing_but_where_to_look() {
    let status = fault(Environment::Production).await;
    assert_eq!(status.code(), Code::Internal);
    assert!(status.get_error_details().debug_info().is_none());
    let all = format!("{status:?}");
    assert!(!all.contains("inbox_conversations"), "{all}");
    assert!(status.metadata().contains_key("x-request-id"));
}
