//! Files on their way to and from visitors.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, StreamExt as _};
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::Receiver;
use tokio_stream::wrappers::ReceiverStream;

use crate::error::{Error, InvalidRequest};
use crate::inbox::{Attachment, NewAttachment};
use crate::pb;

/// What a browser may show by itself: nothing in these runs.
const SHOWN: [&str; 6] = [
    "image/avif",
    "image/bmp",
    "image/gif",
    "image/jpeg",
    "image/png",
    "image/webp",
];

/// Reads what a file is to be, by the same rules as a file of an agent's.
///
/// # Errors
/// It cannot be called that, or be that.
pub fn described(headers: &HeaderMap, file_name: String) -> Result<NewAttachment, Error> {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::to_str);
    let content_type = content_type.transpose();
    let content_type = content_type
        .map_err(|_| Error::invalid("content_type", "must be a type such as `image/jpeg`"))?;
    NewAttachment::try_from(pb::UploadAttachmentRequest {
        file_name,
        content_type: content_type.unwrap_or_default().to_owned(),
        ..pb::UploadAttachmentRequest::default()
    })
}

/// The bytes of a file, as they come; an error where they are more than so many.
pub fn content(
    body: Body,
    most: u64,
) -> impl Stream<Item = Result<Vec<u8>, Error>> + Send + Unpin + 'static {
    let mut length = 0;
    Box::pin(body.into_data_stream().map(move |piece| {
        let piece = piece.map_err(|_| Error::Cancelled)?;
        length += u64::try_from(piece.len()).map_err(Error::internal)?;
        if length > most {
            return Err(Error::InvalidRequest(InvalidRequest::TooLarge));
        }
        Ok(piece.to_vec())
    }))
}

/// Answers with a file. Pictures, sound and films may be shown; all else is for the disk, whatever
/// it says that it is.
pub fn answer(
    attachment: &Attachment,
    pieces: Receiver<Result<Vec<u8>, Error>>,
    place: OwnedSemaphorePermit,
) -> Response {
    let pieces = ReceiverStream::new(pieces).map(move |piece| {
        // It is taken until the last one is gone.
        let _ = &place;
        piece
    });
    let body = Body::from_stream(pieces);
    let mut response = body.into_response();
    let headers = response.headers_mut();
    let essence = attachment
        .content_type
        .split(';')
        .next()
        .unwrap_or_default();
    let is_heard = essence.starts_with("audio/") || essence.starts_with("video/");
    let is_shown = is_heard || SHOWN.contains(&essence);
    let way = if is_shown { "inline" } else { "attachment" };
    let disposition = format!("{way}; filename*=UTF-8''{}", encoded(&attachment.file_name));
    for (name, value) in [
        (CONTENT_TYPE, attachment.content_type.as_str()),
        (CONTENT_DISPOSITION, &disposition),
        (CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    headers.insert(
        CONTENT_LENGTH,
        HeaderValue::from(attachment.size_bytes.unwrap_or_default()),
    );
    response
}

/// A name as headers have it.
fn encoded(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_pass_through_headers() {
        assert_eq!(encoded("a b\"ä\r\n.png"), "a%20b%22%C3%A4%0D%0A.png");
    }
}
