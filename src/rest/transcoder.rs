//! Turns a request by REST into the gRPC call that it stands for, behind all checks.

use std::convert::Infallible;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE};
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::{Service, ServiceExt as _, service_fn};

use super::request::Asked;
use crate::error::{Error, InvalidRequest, MAX_REQUEST_BYTES};

/// What stands before a message on the wire: whether it is compressed, and its length.
const FRAME_HEAD: usize = 5;

/// Makes gRPC calls of requests that carry an `Asked`.
pub fn transcoder(
    routes: Routes,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
+ Clone
+ Send
+ Sync
+ 'static {
    service_fn(move |request| {
        let routes = routes.clone();
        async move {
            match to_grpc(request).await {
                Ok(request) => routes.oneshot(request).await,
                Err(error) => Ok(Status::from(error).into_http()),
            }
        }
    })
}

async fn to_grpc(request: Request<Body>) -> Result<Request<Body>, Error> {
    let (mut parts, body) = request.into_parts();
    let asked = parts
        .extensions
        .remove::<Asked>()
        .ok_or_else(|| Error::internal("a request without what it asks for"))?;
    let body = read(body).await?;
    if !body.is_empty() {
        check_content_type(&parts.headers)?;
    }
    let message = asked.message(&body)?;
    let mut frame = BytesMut::with_capacity(FRAME_HEAD + message.encoded_len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).map_err(Error::internal)?);
    message.encode(&mut frame).map_err(Error::internal)?;
    let headers = &mut parts.headers;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    Ok(Request::from_parts(
        parts,
        Body::new(Full::from(frame.freeze())),
    ))
}

async fn read(body: Body) -> Result<Bytes, Error> {
    let too_large = || Error::InvalidRequest(InvalidRequest::TooLarge);
    // Said beforehand, it need not be sent to be refused.
    if body.size_hint().lower() > MAX_REQUEST_BYTES as u64 {
        return Err(too_large());
    }
    match Limited::new(body, MAX_REQUEST_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        // Who does not send to the end hears no answer.
        Err(_) => Err(Error::Cancelled),
    }
}

/// A form of a page can say what it likes of its body, but not this.
fn check_content_type(headers: &HeaderMap) -> Result<(), Error> {
    let given = headers
        .get(CONTENT_TYPE)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(Error::InvalidRequest(InvalidRequest::ContentType(given)))
    }
}

/// Reads the one message of an answer.
///
/// # Errors
/// It is none.
pub fn from_frame(asked: &Asked, frame: Bytes) -> Result<DynamicMessage, Error> {
    let message = match frame.split_at_checked(FRAME_HEAD) {
        Some(([0, _, _, _, _], _)) => frame.slice(FRAME_HEAD..),
        _ => return Err(Error::internal("an answer without a message")),
    };
    DynamicMessage::decode(asked.binding.call.output(), message).map_err(Error::internal)
}
