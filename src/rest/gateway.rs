//! The routes, and the way of a request: to its call, through the checks, and back as JSON.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::rejection::{QueryRejection, RawPathParamsRejection};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Query, RawPathParams, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use bytes::Bytes;
use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, ORIGIN,
    X_CONTENT_TYPE_OPTIONS,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use http_body_util::BodyExt as _;
use prost_reflect::DescriptorPool;
use tokio::sync::Semaphore;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt as _};

use super::binding::{Binding, BindingError, wrong};
use super::live::{self, Frames};
use super::openapi::document;
use super::refusal::{JSON, refusal};
use super::request::Asked;
use super::transcoder::{from_frame, transcoder};
use super::write::Written;
use crate::access::{Authenticator, sole_credential};
use crate::call::{CLOCK_OFFSET, CORRELATION, correlation_id};
use crate::error::{Error, InvalidRequest};
use crate::server::Connection;

/// Where the API begins.
pub const PREFIX: &str = "/api/v1";
/// The call that is read by WebSocket, and where.
const SOCKET: (&str, &str) = (
    "communication.v1.EventService.Subscribe",
    "/api/v1/tenants/{tenant}/events",
);
/// The headers that a request takes along to its call.
const PASSED: [HeaderName; 8] = [
    AUTHORIZATION,
    CONTENT_TYPE,
    ORIGIN,
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static(CORRELATION),
    HeaderName::from_static(CLOCK_OFFSET),
];

/// Calls as they go through the checks.
type Calls = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Infallible>;

/// What the gateway offers, and through what.
pub struct Gateway {
    /// The services that it offers, by their full names.
    pub services: Vec<&'static str>,
    /// The gRPC services, those among them.
    pub routes: Routes,
    /// Who may read the description of the API, where it is offered.
    pub readers: Option<Arc<Authenticator>>,
    /// Whether any name may lead here without a credential.
    pub any_host: bool,
    /// How many streams are read by WebSocket at once.
    pub sockets: usize,
}

/// What is offered at one path.
struct Offer {
    bindings: Vec<Arc<Binding>>,
    calls: Calls,
    any_host: bool,
}

/// What is offered by WebSocket.
struct Socket {
    binding: Arc<Binding>,
    offer: Offer,
    room: Arc<Semaphore>,
}

/// The description of the API, which is written when it is first read: it takes some megabytes.
struct Description {
    services: Vec<&'static str>,
    readers: Arc<Authenticator>,
    text: OnceLock<Bytes>,
}

impl Description {
    fn text(&self) -> Result<Bytes, Error> {
        if let Some(text) = self.text.get() {
            return Ok(text.clone());
        }
        let pool = DescriptorPool::decode(crate::pb::DESCRIPTORS).map_err(Error::internal)?;
        let bindings = Binding::all(&pool, &self.services).map_err(Error::internal)?;
        let text = document(&pool, &self.services, &bindings).to_string();
        Ok(self.text.get_or_init(|| text.into()).clone())
    }
}

impl Gateway {
    /// Makes the routes, each call behind `checks`.
    ///
    /// # Errors
    /// The annotations of this binary are not in order.
    pub fn router<L>(self, checks: L) -> Result<Router, BindingError>
    where
        L: Layer<Calls>,
        L::Service: Service<
                http::Request<Body>,
                Response = http::Response<Body>,
                Error = Infallible,
                Future: Send + 'static,
            > + Clone
            + Send
            + Sync
            + 'static,
    {
        let pool = DescriptorPool::decode(crate::pb::BARE_DESCRIPTORS)?;
        let bindings = Binding::all(&pool, &self.services)?;
        let calls = Calls::new(transcoder(self.routes.prepare()));
        let calls = Calls::new(checks.layer(calls));
        let mut router = Router::new();
        if let Some(readers) = self.readers {
            let description = Description {
                services: self.services.clone(),
                readers,
                text: OnceLock::new(),
            };
            router = router.route(
                "/openapi.json",
                any(describe).with_state(Arc::new(description)),
            );
        }
        let mut offers: BTreeMap<String, Vec<Arc<Binding>>> = BTreeMap::new();
        for binding in bindings {
            let here = offers.entry(pattern(&binding.template)).or_default();
            if here.iter().any(|other| other.verb == binding.verb) {
                return Err(wrong(binding.call.full_name(), "another call has its path"));
            }
            here.push(Arc::new(binding));
        }
        for (pattern, bindings) in offers {
            let offer = Arc::new(Offer {
                bindings,
                calls: calls.clone(),
                any_host: self.any_host,
            });
            router = router.route(&pattern, any(call).with_state(offer));
        }
        let binding = Arc::new(Binding::socket(&pool, SOCKET.0, SOCKET.1)?);
        let pattern = pattern(&binding.template);
        let socket = Socket {
            binding,
            offer: Offer {
                bindings: Vec::new(),
                calls,
                any_host: self.any_host,
            },
            room: Arc::new(Semaphore::new(self.sockets.min(Semaphore::MAX_PERMITS))),
        };
        router = router.route(&pattern, any(listen).with_state(Arc::new(socket)));
        Ok(Router::new().nest(PREFIX, router.fallback(nowhere)))
    }
}

/// The route of a path: the same for all paths that differ in the names of fields alone.
fn pattern(template: &str) -> String {
    let mut pattern = String::new();
    for (place, segment) in template[PREFIX.len()..].split('/').skip(1).enumerate() {
        pattern.push('/');
        if segment.starts_with('{') {
            pattern.push_str(&format!("{{{place}}}"));
        } else {
            pattern.push_str(segment);
        }
    }
    pattern
}

type Segments = Result<RawPathParams, RawPathParamsRejection>;
type Parameters = Result<Query<Vec<(String, String)>>, QueryRejection>;

async fn call(
    State(offer): State<Arc<Offer>>,
    segments: Segments,
    query: Parameters,
    request: Request,
) -> Response {
    let wanted = match request.method() {
        &Method::HEAD => &Method::GET,
        wanted => wanted,
    };
    let mut bindings = offer.bindings.iter();
    let Some(binding) = bindings.find(|binding| binding.verb == *wanted) else {
        let verbs = offer.bindings.iter().map(|binding| binding.verb.as_str());
        return not_offered(verbs.collect(), &request);
    };
    let asked = match asked(binding, segments, query) {
        Ok(asked) => asked,
        Err(error) => return labelled(refusal(&error.into()), request.headers()),
    };
    let request = to_call(&offer, &asked, request);
    let Ok(answer) = offer.calls.clone().oneshot(request).await;
    to_response(&asked, answer).await
}

/// What path and query ask for.
fn asked(binding: &Arc<Binding>, segments: Segments, query: Parameters) -> Result<Asked, Error> {
    let undecodable =
        |why: &str| Error::InvalidRequest(InvalidRequest::Undecodable(why.to_owned()));
    let segments = match segments {
        Ok(segments) => segments.iter().map(|(_, text)| text.to_owned()).collect(),
        Err(RawPathParamsRejection::InvalidUtf8InPathParam(_)) => {
            return Err(undecodable("the path is no UTF-8"));
        }
        // A path without fields.
        Err(_) => Vec::new(),
    };
    let Query(query) = query.map_err(|_| undecodable("the query is none"))?;
    Ok(Asked {
        binding: binding.clone(),
        segments,
        query,
    })
}

/// Answers with the stream of a call, by WebSocket; refuses as all calls do.
async fn listen(
    State(socket): State<Arc<Socket>>,
    segments: Segments,
    query: Parameters,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
) -> Response {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return not_offered(vec!["GET"], &request);
    }
    let asked = asked(&socket.binding, segments, query);
    let upgrade = upgrade.map_err(|_| {
        let why = "this path is read by WebSocket, version 13: there is no such upgrade";
        Error::InvalidRequest(InvalidRequest::Undecodable(why.to_owned()))
    });
    let ready = asked.and_then(|asked| Ok((asked, upgrade?)));
    let (asked, upgrade) = match ready {
        Ok(ready) => ready,
        Err(error) => return labelled(refusal(&error.into()), request.headers()),
    };
    let connection = request.extensions().get::<Arc<Connection>>().cloned();
    let credentials = live::credentials(request.headers());
    let mut request = to_call(&socket.offer, &asked, request);
    for credential in credentials {
        request.headers_mut().append(AUTHORIZATION, credential);
    }
    let Ok(answer) = socket.offer.calls.clone().oneshot(request).await;
    if refused(answer.headers()).is_some() {
        return to_response(&asked, answer).await;
    }
    let (parts, body) = answer.into_parts();
    let room = socket.room.clone().try_acquire_owned();
    let (Ok(place), Some(connection)) = (room, connection) else {
        return labelled(refusal(&Error::TooManyCalls.into()), &parts.headers);
    };
    let frames = Frames::new(asked.binding.call.output(), body);
    let lasting = connection.last();
    let response =
        live::bounded(upgrade).on_upgrade(move |socket| live::talk(socket, frames, lasting, place));
    labelled(response, &parts.headers)
}

/// Addresses the call that a request is bound to. Its body is read behind the checks.
fn to_call(offer: &Offer, asked: &Asked, request: Request) -> http::Request<Body> {
    let (parts, body) = request.into_parts();
    let mut call = http::Request::new(Body::new(body));
    *call.method_mut() = Method::POST;
    *call.uri_mut() = Uri::from(asked.binding.grpc.clone());
    for name in &PASSED {
        for value in parts.headers.get_all(name) {
            call.headers_mut().append(name, value.clone());
        }
    }
    // A page that has made itself a neighbour by a name that leads to loopback names itself when
    // it writes and not when it reads; but then the host is its name.
    if !offer.any_host
        && !parts.headers.contains_key(ORIGIN)
        && let Some(host) = parts.headers.get(HOST).filter(|host| !is_here(host))
    {
        call.headers_mut().insert(ORIGIN, host.clone());
    }
    call.extensions_mut().insert(asked.clone());
    call
}

/// Tells whether a host is an address or this machine's own name, which nobody else can have.
fn is_here(host: &HeaderValue) -> bool {
    let authority = Authority::try_from(host.as_bytes());
    authority.is_ok_and(|authority| {
        let name = authority.host();
        let address = name.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
    })
}

/// The refusal in the headers of an answer, or behind it.
fn refused(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers).filter(|status| status.code() != Code::Ok)
}

async fn to_response(asked: &Asked, answer: http::Response<Body>) -> Response {
    let (parts, body) = answer.into_parts();
    let mut response = if let Some(status) = refused(&parts.headers) {
        refusal(&status)
    } else {
        match body.collect().await {
            Err(status) => refusal(&status),
            Ok(body) => match body.trailers().and_then(refused) {
                Some(status) => refusal(&status),
                None => match written(asked, body.to_bytes()) {
                    Ok(json) => ([(CONTENT_TYPE, JSON)], json).into_response(),
                    Err(error) => refusal(&error.into()),
                },
            },
        }
    };
    if let Some(id) = parts.headers.get(CORRELATION) {
        response.headers_mut().insert(CORRELATION, id.clone());
    }
    sealed(response)
}

fn written(asked: &Asked, frame: Bytes) -> Result<Vec<u8>, Error> {
    let message = from_frame(asked, frame)?;
    serde_json::to_vec(&Written(&message)).map_err(Error::internal)
}

/// Answers a method that a path does not have.
fn not_offered(mut verbs: Vec<&str>, request: &Request) -> Response {
    if verbs.contains(&"GET") {
        verbs.push("HEAD");
    }
    verbs.push("OPTIONS");
    let allowed = verbs.join(", ");
    let mut response = if request.method() == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        let error = Error::MethodNotAllowed {
            method: request.method().to_string(),
            allowed: allowed.clone(),
        };
        refusal(&error.into())
    };
    if let Ok(allowed) = HeaderValue::from_str(&allowed) {
        response.headers_mut().insert(ALLOW, allowed);
    }
    labelled(response, request.headers())
}

async fn nowhere(request: Request) -> Response {
    // What the outer router took off is part of what was asked for.
    let path = format!("{PREFIX}{}", request.uri().path());
    let error = Error::not_found("path", path);
    labelled(refusal(&error.into()), request.headers())
}

/// The description of the API, for who may call.
async fn describe(State(description): State<Arc<Description>>, request: Request) -> Response {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return not_offered(vec!["GET"], &request);
    }
    let readers = &description.readers;
    let caller = sole_credential(request.headers()).and_then(|it| readers.authenticate(it));
    let response = match caller.and_then(|_| description.text()) {
        Ok(document) => ([(CONTENT_TYPE, JSON)], document).into_response(),
        Err(error) => refusal(&error.into()),
    };
    labelled(response, request.headers())
}

/// Labels what no call was made for with the correlation id that it would have had.
fn labelled(mut response: Response, headers: &HeaderMap) -> Response {
    if let Ok(id) = HeaderValue::from_str(&correlation_id(headers)) {
        response.headers_mut().insert(CORRELATION, id);
    }
    sealed(response)
}

/// What is answered is for the caller alone, and is what it says it is.
fn sealed(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
