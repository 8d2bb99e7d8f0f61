//! Traces reach a collector, the last of them when the service stops.

use std::sync::{Arc, Mutex};

use communication_service::pb::ListTenantsRequest;
use communication_service::pb::tenant_admin_service_client::TenantAdminServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::harness::{Service, database_url, folder};

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_a_span_of_its_callers_trace_and_is_sent_before_the_end() {
    let collector = Collector::default();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", socket.local_addr().unwrap());
    let service = TraceServiceServer::new(collector.clone());
    tokio::spawn(
        Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(socket)),
    );
    let settings = [
        ("COMM_LOG", "warn"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", address.as_str()),
        // Nothing is sent but at the end.
        ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
    ];
    let service = Service::start_with(&folder(), database_url().await, &settings).await;
    let mut admin = TenantAdminServiceClient::new(service.channel.clone());
    let mut request = Request::new(ListTenantsRequest::default());
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    request
        .metadata_mut()
        .insert("traceparent", parent.parse().unwrap());
    admin.list_tenants(request).await.unwrap();
    let wrong = ListTenantsRequest {
        page_size: -1,
        ..Default::default()
    };
    admin.list_tenants(wrong).await.unwrap_err();
    service.stop().await;

    let received = collector.0.lock().unwrap();
    let resources: Vec<_> = received
        .iter()
        .flat_map(|sent| &sent.resource_spans)
        .collect();
    let resource = format!("{:?}", resources[0].resource);
    assert!(resource.contains("\"communication-service\""), "{resource}");
    let mut spans = resources
        .iter()
        .flat_map(|resource| &resource.scope_spans)
        .flat_map(|scope| &scope.spans)
        .filter(|span| span.name == "tenant.list_tenants");
    let first = spans.next().unwrap();
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    assert_eq!(hex(&first.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(hex(&first.parent_span_id), "00f067aa0ba902b7");
    assert_eq!(first.kind(), SpanKind::Server);
    let attributes = format!("{:?}", first.attributes);
    assert!(attributes.contains("rpc.grpc.status_code"), "{attributes}");
    let second = spans.next().unwrap();
    assert_ne!(second.trace_id, first.trace_id);
    assert!(spans.next().is_none());
}
