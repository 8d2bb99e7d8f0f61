//! The routes, and the way of a request: to its call, through the checks, and back as JSON.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::rejection::{QueryRejection, RawPathParamsRejection};
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
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt as _};

use super::binding::{Binding, BindingError, wrong};
use super::openapi::document;
use super::refusal::{JSON, refusal};
use super::request::Asked;
use super::transcoder::{from_frame, transcoder};
use super::write::Written;
use crate::access::{Authenticator, sole_credential};
use crate::call::{CLOCK_OFFSET, CORRELATION, correlation_id};
use crate::error::{Error, InvalidRequest};

/// Where the API begins.
pub const PREFIX: &str = "/api/v1";
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
}

/// What is offered at one path.
struct Offer {
    bindings: Vec<Arc<Binding>>,
    calls: Calls,
    any_host: bool,
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

async fn call(
    State(offer): State<Arc<Offer>>,
    segments: Result<RawPathParams, RawPathParamsRejection>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
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
    let segments = match segments {
        Ok(segments) => Ok(segments.iter().map(|(_, text)| text.to_owned()).collect()),
        Err(RawPathParamsRejection::InvalidUtf8InPathParam(_)) => Err("the path is no UTF-8"),
        // A path without fields.
        Err(_) => Ok(Vec::new()),
    };
    let query = query.map_err(|_| "the query is none");
    let (segments, Query(query)) = match segments.and_then(|it| Ok((it, query?))) {
        Ok(read) => read,
        Err(why) => {
            let error = Error::InvalidRequest(InvalidRequest::Undecodable(why.to_owned()));
            return labelled(refusal(&error.into()), request.headers());
        }
    };
    let asked = Asked {
        binding: binding.clone(),
        segments,
        query,
    };
    let request = to_call(&offer, &asked, request);
    let Ok(answer) = offer.calls.clone().oneshot(request).await;
    to_response(&asked, answer).await
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

async fn to_response(asked: &Asked, answer: http::Response<Body>) -> Response {
    let (parts, body) = answer.into_parts();
    let refused = |headers: &HeaderMap| {
        Status::from_header_map(headers).filter(|status| status.code() != Code::Ok)
    };
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
