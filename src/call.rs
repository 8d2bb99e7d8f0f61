//! What every gRPC call goes through before its handler: a correlation id, the credential, a
//! deadline; and after it: a panic caught, the count, the log.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::ORIGIN;
use http::{HeaderMap, HeaderValue, Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service, ServiceExt as _};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use crate::access::{Authenticator, CallContext, sole_credential};
use crate::error::{Error, InvalidRequest, with_cause};
use crate::pace::Paced;
use crate::pb;
use crate::telemetry::CallMetrics;
use crate::trace::CallTraces;

/// Carries the correlation id, in and out.
pub const CORRELATION: &str = "x-request-id";
/// Carries by how many seconds the database's clock is set on for a call: in development a call can
/// happen yesterday, so that a demonstration has a past.
pub const CLOCK_OFFSET: &str = "x-clock-offset";
/// Ten years, in seconds.
const MAX_CLOCK_OFFSET: i64 = 10 * 366 * 86_400;
/// The longest correlation id of a caller's own.
const MAX_CORRELATION: usize = 128;
/// How much earlier than the caller we give up, so that our answer is heard.
const HEAD_START: Duration = Duration::from_millis(5);
/// The longest that a call may take whose request is a stream.
const LONGEST_STREAM: Duration = Duration::from_hours(1);

/// Puts every call through its checks.
#[derive(Clone)]
pub struct CallLayer(Arc<Checks>);

struct Checks {
    authenticator: Arc<Authenticator>,
    timeout: Duration,
    is_development: bool,
    origins: Vec<HeaderValue>,
    traces: Option<CallTraces>,
    metrics: CallMetrics,
}

impl CallLayer {
    /// Checks credentials with `authenticator`, lets no call take longer than `timeout`, in
    /// development answers faults with their causes and lets calls set the clock, lets pages of
    /// some `origins` alone call without a credential where that may be, and completes the spans of
    /// `traces`.
    pub fn new(
        authenticator: Arc<Authenticator>,
        timeout: Duration,
        is_development: bool,
        origins: Vec<HeaderValue>,
        traces: Option<CallTraces>,
    ) -> Self {
        Self(Arc::new(Checks {
            authenticator,
            timeout,
            is_development,
            origins,
            traces,
            metrics: CallMetrics::new(),
        }))
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = Checked<S>;

    fn layer(&self, inner: S) -> Checked<S> {
        Checked {
            inner,
            checks: self.0.clone(),
        }
    }
}

/// A service behind the checks.
#[derive(Clone)]
pub struct Checked<S> {
    inner: S,
    checks: Arc<Checks>,
}

impl<S> Service<Request<Body>> for Checked<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let started = Instant::now();
        let correlation_id = correlation_id(request.headers());
        let path = request.uri().clone();
        // At the level of errors, so that none is written without its call.
        let span = tracing::error_span!(
            "call",
            method = path.path(),
            %correlation_id,
            otel.name = Empty,
            otel.kind = Empty,
            otel.status_code = Empty,
            rpc.grpc.status_code = Empty,
        );
        let checks = self.checks.clone();
        if let Some(traces) = &checks.traces {
            traces.begin(&span, path.path(), request.headers());
        }
        let streams = pb::STREAMS.contains(&path.path());
        let longest = if streams {
            LONGEST_STREAM
        } else {
            checks.timeout
        };
        let deadline = deadline(request.headers(), longest);
        if streams {
            let (version, end) = (request.version(), started + deadline);
            request = request
                .map(|body| Body::new(Paced::new(body, version, checks.timeout, end.into())));
        }
        let key_changes = checks.authenticator.changes();
        let admitted = span.in_scope(|| checks.admit(&request, &correlation_id));
        let answer = match admitted {
            Ok(context) => {
                if let Some(context) = context {
                    request.extensions_mut().insert(context);
                }
                Admission::Running(self.inner.call(request))
            }
            Err(error) => match checks.unknown_key(request.headers(), key_changes) {
                None => Admission::Refused(span.in_scope(|| Status::from(error))),
                Some(kid) => Admission::Learning(kid, Box::new((self.inner.clone(), request))),
            },
        };
        Box::pin(
            async move {
                let running = match answer {
                    Admission::Running(running) => Ok(running),
                    Admission::Refused(status) => Err(status),
                    Admission::Learning(kid, call) => {
                        let (inner, request) = *call;
                        checks.learn(&kid, inner, request, &correlation_id).await?
                    }
                };
                let response = match running {
                    Err(status) => status.into_http(),
                    Ok(running) => {
                        let caught = AssertUnwindSafe(running).catch_unwind();
                        match tokio::time::timeout(deadline, caught).await {
                            Ok(Ok(response)) => response?,
                            Ok(Err(panic)) => Status::from(panicked(panic.as_ref())).into_http(),
                            Err(_) => Status::from(Error::DeadlineExceeded).into_http(),
                        }
                    }
                };
                let (response, code) = translate(response, checks.is_development);
                checks.metrics.count(path.path(), code, started.elapsed());
                if let Some(traces) = &checks.traces {
                    traces.end(&Span::current(), code);
                }
                Ok(label(response, &correlation_id))
            }
            .instrument(span),
        )
    }
}

/// How a call begins.
enum Admission<S, F> {
    Running(F),
    Refused(Status),
    /// Its token names a key that has to be asked for.
    Learning(String, Box<(S, Request<Body>)>),
}

impl Checks {
    fn unknown_key(&self, headers: &HeaderMap, key_changes: u64) -> Option<String> {
        let credential = sole_credential(headers).ok()?;
        self.authenticator.unknown_key(credential, key_changes)
    }

    /// Asks for the key of a call's token, and tries once more.
    async fn learn<S>(
        &self,
        kid: &str,
        mut inner: S,
        mut request: Request<Body>,
        correlation_id: &Arc<str>,
    ) -> Result<Result<S::Future, Status>, S::Error>
    where
        S: Service<Request<Body>>,
    {
        self.authenticator.learn(kid).await;
        match self.admit(&request, correlation_id) {
            Err(error) => Ok(Err(error.into())),
            Ok(context) => {
                if let Some(context) = context {
                    request.extensions_mut().insert(context);
                }
                Ok(Ok(inner.ready().await?.call(request)))
            }
        }
    }

    /// Who calls; `None` for health checks, which anybody may make.
    fn admit(
        &self,
        request: &Request<Body>,
        correlation_id: &Arc<str>,
    ) -> Result<Option<CallContext>, Error> {
        if is_health(request) {
            return Ok(None);
        }
        let authorization = sole_credential(request.headers())?;
        // A browser names the page that calls: one that has made itself a neighbour of ours, by a
        // name that leads to loopback, is not who is let in without a credential.
        let origin = request.headers().get(ORIGIN);
        if authorization.is_none() && origin.is_some_and(|origin| !self.origins.contains(origin)) {
            return Err(Error::Unauthenticated);
        }
        let caller = self.authenticator.authenticate(authorization)?;
        Ok(Some(CallContext {
            caller,
            correlation_id: correlation_id.clone(),
            clock_offset: self.clock_offset(request.headers())?,
        }))
    }

    /// By how many seconds a rehearsal wants the database's clock set.
    fn clock_offset(&self, headers: &HeaderMap) -> Result<i64, Error> {
        let Some(offset) = headers.get(CLOCK_OFFSET) else {
            return Ok(0);
        };
        if !self.is_development {
            let refusal = "is for COMM_ENV=development alone";
            return Err(Error::invalid(CLOCK_OFFSET, refusal));
        }
        let seconds = offset.to_str().ok().and_then(|text| text.parse().ok());
        let seconds =
            seconds.filter(|seconds| (-MAX_CLOCK_OFFSET..=MAX_CLOCK_OFFSET).contains(seconds));
        let refusal = "must be a number of seconds, ten years at most: -86400 for a day ago";
        seconds.ok_or_else(|| Error::invalid(CLOCK_OFFSET, refusal))
    }
}

/// Tells whether somebody only asks how the server is.
pub fn is_health<B>(request: &Request<B>) -> bool {
    request.uri().path().starts_with("/grpc.health.v1.Health/")
}

/// Takes the caller's id over if it has a harmless form, the trace's otherwise, or makes one.
pub fn correlation_id(headers: &HeaderMap) -> Arc<str> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let own = text(CORRELATION).filter(|id| {
        (1..=MAX_CORRELATION).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
    });
    let trace = || {
        let trace = text("traceparent")?.split('-').nth(1)?;
        let form = trace.len() == 32 && trace.bytes().all(|byte| byte.is_ascii_hexdigit());
        form.then_some(trace)
    };
    match own.or_else(trace) {
        Some(id) => Arc::from(id),
        None => Arc::from(
            Uuid::now_v7()
                .simple()
                .encode_lower(&mut Uuid::encode_buffer()) as &str,
        ),
    }
}

/// How long the call may take: the caller's `grpc-timeout`, or ours if that is shorter.
fn deadline(headers: &HeaderMap, ours: Duration) -> Duration {
    let timeout = headers
        .get("grpc-timeout")
        .and_then(|value| value.to_str().ok());
    let theirs = timeout.and_then(|timeout| {
        let (number, unit) = timeout.split_at_checked(timeout.len().checked_sub(1)?)?;
        if number.is_empty() || number.len() > 8 {
            return None;
        }
        let number: u64 = number.parse().ok()?;
        Some(match unit {
            "H" => Duration::from_secs(number * 3600),
            "M" => Duration::from_secs(number * 60),
            "S" => Duration::from_secs(number),
            "m" => Duration::from_millis(number),
            "u" => Duration::from_micros(number),
            "n" => Duration::from_nanos(number),
            _ => return None,
        })
    });
    theirs
        .map_or(ours, |theirs| theirs.min(ours))
        .saturating_sub(HEAD_START)
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    metrics::counter!("panics_total").increment(1);
    let words = panic
        .downcast_ref::<&str>()
        .map(|words| (*words).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    Error::internal(format!("a handler panicked: {}", words.unwrap_or_default()))
}

/// Reads the answer's code, and gives what the transport refused the form that our errors have.
fn translate(response: Response<Body>, causes: bool) -> (Response<Body>, Code) {
    let code = response
        .headers()
        .get(Status::GRPC_STATUS)
        .map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()));
    match code {
        // No handler of ours answers this: it is the transport's word for a body over the limit.
        Code::OutOfRange => {
            let status = Status::from(Error::InvalidRequest(InvalidRequest::TooLarge));
            (status.into_http(), Code::InvalidArgument)
        }
        Code::Internal | Code::Unavailable if causes => {
            let status = response.extensions().get::<Status>();
            let detailed = status.and_then(with_cause).map(Status::into_http);
            (detailed.unwrap_or(response), code)
        }
        code => (response, code),
    }
}

fn label(mut response: Response<Body>, correlation_id: &str) -> Response<Body> {
    if let Ok(value) = HeaderValue::from_str(correlation_id) {
        response.headers_mut().insert(CORRELATION, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_deadline_holds() {
        let ours = Duration::from_secs(30);
        let with = |timeout: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_static(timeout));
            deadline(&headers, ours)
        };
        assert_eq!(with("2S"), Duration::from_secs(2) - HEAD_START);
        assert_eq!(with("250m"), Duration::from_millis(250) - HEAD_START);
        assert_eq!(with("1n"), Duration::ZERO);
        assert_eq!(with("1H"), ours - HEAD_START);
        for wrong in ["", "S", "-1S", "999999999S", "1x", "1.5S"] {
            assert_eq!(with(wrong), ours - HEAD_START, "{wrong}");
        }
    }

    #[test]
    fn a_hostile_correlation_id_is_replaced() {
        let with = |name: &'static str, value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_bytes(value).unwrap());
            correlation_id(&headers).to_string()
        };
        assert_eq!(with(CORRELATION, b"abc-1"), "abc-1");
        assert_ne!(with(CORRELATION, b"a b"), "a b");
        assert_ne!(with(CORRELATION, &[b'x'; 129]), "x".repeat(129));
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent = format!("00-{trace}-00f067aa0ba902b7-01");
        assert_eq!(with("traceparent", parent.as_bytes()), trace);
        assert_eq!(with("traceparent", b"00-zz-00").len(), 32);
    }
}
