//! The gRPC services of each port, and the layers that every call goes through.

use std::convert::Infallible;

use http::{Request, Response};
use hyper::body::Incoming;
use tonic::body::Body;
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_web::GrpcWebLayer;
use tower::{Layer as _, Service, ServiceExt as _};

use super::capacity::Capacity;
use crate::call::CallLayer;
use crate::error::MAX_REQUEST_BYTES;
use crate::inbox::Inbox;
use crate::pb;
use crate::pb::inbox_service_server::InboxServiceServer;
use crate::pb::tenant_admin_service_server::TenantAdminServiceServer;
use crate::tenant::{TenantAdmin, TenantDirectory};
use crate::webhook::Webhooks;

/// Offers the services of tenants.
pub fn public(routes: Routes, tenants: &TenantDirectory) -> Routes {
    let inbox = InboxServiceServer::new(Inbox::new(tenants.clone()))
        .max_decoding_message_size(MAX_REQUEST_BYTES);
    routes.add_service(inbox)
}

/// Offers the administration of tenants.
pub fn admin(routes: Routes, tenants: &TenantDirectory, webhooks: &Webhooks) -> Routes {
    let admin = TenantAdmin::new(tenants.clone(), webhooks.clone());
    let admin = TenantAdminServiceServer::new(admin).max_decoding_message_size(MAX_REQUEST_BYTES);
    routes.add_service(admin)
}

/// Offers health, and reflection if it is wanted.
///
/// # Errors
/// The descriptors of this binary are not in order.
pub fn about<T: Health>(
    health: HealthServer<T>,
    reflection: bool,
) -> Result<Routes, tonic_reflection::server::Error> {
    let routes = Routes::new(health);
    if !reflection {
        return Ok(routes);
    }
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(routes
        .add_service(described().build_v1()?)
        .add_service(described().build_v1alpha()?))
}

/// Puts the layers around the services of a port.
pub fn layered(
    routes: Routes,
    calls: &CallLayer,
    capacity: &Capacity,
) -> impl Service<
    Request<Incoming>,
    Response = Response<Body>,
    Error = Infallible,
    Future: Send + 'static,
> + Clone
+ Send
+ 'static {
    let checked = calls.layer(capacity.layer(routes.prepare()));
    GrpcWebLayer::new()
        .layer(checked)
        .map_request(|request: Request<Incoming>| request.map(Body::new))
}
