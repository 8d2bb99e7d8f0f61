//! The gRPC services of each port, and the layers that every call goes through.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use tonic::body::Body;
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_web::GrpcWebLayer;
use tower::layer::util::Stack;
use tower::util::option_layer;
use tower::{Layer as _, Service, ServiceExt as _};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::capacity::Capacity;
use super::error::ServerError;
use crate::call::CallLayer;
use crate::chat::Chat;
use crate::error::MAX_REQUEST_BYTES;
use crate::event::Events;
use crate::inbox::Inbox;
use crate::pb;
use crate::pb::chat_service_server::ChatServiceServer;
use crate::pb::event_service_server::EventServiceServer;
use crate::pb::inbox_service_server::InboxServiceServer;
use crate::pb::quick_reply_service_server::QuickReplyServiceServer;
use crate::pb::tenant_admin_service_server::TenantAdminServiceServer;
use crate::quick_reply::QuickReplies;
use crate::rest::Gateway;
use crate::tenant::{TenantAdmin, TenantDirectory};
use crate::webhook::Webhooks;

/// The methods that a page may use by gRPC-Web, and by REST.
const CORS_GRPC: [Method; 1] = [Method::POST];
const CORS_REST: [Method; 5] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
];
/// The headers that a page may send beside those that every page may.
const CORS_REQUEST: &[&str] = &[
    "authorization",
    "content-type",
    "grpc-timeout",
    "traceparent",
    "x-grpc-web",
    "x-request-id",
    "x-user-agent",
];
/// The headers of an answer that a page may read.
const CORS_ANSWER: &[&str] = &[
    "grpc-message",
    "grpc-status",
    "grpc-status-details-bin",
    "retry-after",
    "x-request-id",
];
/// How long a browser may remember what it was told.
const CORS_AGE: Duration = Duration::from_secs(7200);

/// The services of tenants.
pub const PUBLIC: &[&str] = &[
    "communication.v1.ChatService",
    "communication.v1.EventService",
    "communication.v1.InboxService",
    "communication.v1.QuickReplyService",
];
/// The administration of tenants.
pub const ADMIN: &[&str] = &["communication.v1.TenantAdminService"];

/// Offers the services of tenants.
pub fn public(
    routes: Routes,
    tenants: &TenantDirectory,
    webhooks: &Webhooks,
    events: &Events,
) -> Routes {
    let chat = ChatServiceServer::new(Chat::new(tenants.clone()))
        .max_decoding_message_size(MAX_REQUEST_BYTES);
    let events =
        EventServiceServer::new(events.clone()).max_decoding_message_size(MAX_REQUEST_BYTES);
    let inbox = InboxServiceServer::new(Inbox::new(tenants.clone(), webhooks.clone()))
        .max_decoding_message_size(MAX_REQUEST_BYTES);
    let quick_replies = QuickReplyServiceServer::new(QuickReplies::new(tenants.clone()))
        .max_decoding_message_size(MAX_REQUEST_BYTES);
    let routes = routes.add_service(inbox).add_service(quick_replies);
    routes.add_service(chat).add_service(events)
}

/// Offers the administration of tenants.
pub fn admin(routes: Routes, tenants: &TenantDirectory, webhooks: &Webhooks) -> Routes {
    let admin = TenantAdmin::new(tenants.clone(), webhooks.clone());
    let admin = TenantAdminServiceServer::new(admin).max_decoding_message_size(MAX_REQUEST_BYTES);
    routes.add_service(admin)
}

/// Offers health, and reflection of some services if it is wanted.
///
/// # Errors
/// The descriptors of this binary are not in order.
pub fn about<T: Health>(
    health: HealthServer<T>,
    described: Option<&[&str]>,
) -> Result<Routes, tonic_reflection::server::Error> {
    let routes = Routes::new(health);
    let Some(services) = described else {
        return Ok(routes);
    };
    let builder = || {
        services.iter().fold(
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .with_service_name("grpc.health.v1.Health"),
            |builder, service| builder.with_service_name(*service),
        )
    };
    Ok(routes
        .add_service(builder().build_v1()?)
        .add_service(builder().build_v1alpha()?))
}

/// Lets pages of some origins call by gRPC-Web, if there are any.
pub fn cors(origins: &[HeaderValue]) -> Option<CorsLayer> {
    cors_by(origins, &CORS_GRPC)
}

fn cors_by(origins: &[HeaderValue], methods: &[Method]) -> Option<CorsLayer> {
    let headers = |names: &[&'static str]| -> Vec<HeaderName> {
        names
            .iter()
            .map(|name| HeaderName::from_static(name))
            .collect()
    };
    (!origins.is_empty()).then(|| {
        CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins.iter().cloned()))
            .allow_methods(methods.to_vec())
            .allow_headers(headers(CORS_REQUEST))
            .expose_headers(headers(CORS_ANSWER))
            .max_age(CORS_AGE)
    })
}

/// Offers services by REST too, behind the same layers.
///
/// # Errors
/// Their annotations are not in order.
pub fn rest(
    gateway: Gateway,
    calls: &CallLayer,
    capacity: &Capacity,
    origins: &[HeaderValue],
) -> Result<Router, ServerError> {
    let routes = gateway.router(Stack::new(capacity.clone(), calls.clone()))?;
    Ok(match cors_by(origins, &CORS_REST) {
        Some(cors) => routes.layer(cors),
        None => routes,
    })
}

/// Puts the layers around the services of a port.
pub fn layered(
    routes: Routes,
    calls: &CallLayer,
    capacity: &Capacity,
    cors: Option<CorsLayer>,
) -> impl Service<
    Request<Incoming>,
    Response = Response<Body>,
    Error = Infallible,
    Future: Send + 'static,
> + Clone
+ Send
+ 'static {
    let checked = calls.layer(capacity.layer(routes.prepare()));
    option_layer(cors)
        .layer(GrpcWebLayer::new().layer(checked))
        .map_request(|request: Request<Incoming>| request.map(Body::new))
}
