//! Files on the wire.

use futures_util::{Stream, StreamExt as _};
use tonic::Streaming;

use crate::codec::broken_off;
use crate::error::Error;
use crate::field::{Fields, Most};
use crate::ids::AttachmentId;
use crate::inbox::attachment::{Attachment, FetchFailure, NewAttachment, Reading, State};
use crate::inbox::content_type;
use crate::pb;
use crate::request_id::RequestId;
use crate::time::to_timestamp;

const FILE_NAME: Most = Most::Bytes(255);
const CONTENT_TYPE: Most = Most::Characters(128);
const SHA256_DIGITS: usize = 64;
/// The most content that one frame can have.
const FRAME: usize = 1024 * 1024;

impl TryFrom<pb::UploadAttachmentRequest> for NewAttachment {
    type Error = Error;

    fn try_from(mut request: pb::UploadAttachmentRequest) -> Result<Self, Error> {
        // How the content is cut is no part of the request.
        let beginning = std::mem::take(&mut request.data);
        let request_id = RequestId::take(&mut request)?;
        let mut fields = Fields::default();
        if beginning.len() > FRAME {
            fields.refuse("data", too_long());
        }
        let new = Self {
            request_id,
            file_name: file_name(&mut fields, request.file_name),
            content_type: content_type(&mut fields, request.content_type),
            size_bytes: request.size_bytes.map(|size| {
                u64::try_from(size).unwrap_or_else(|_| {
                    fields.refuse("size_bytes", "must not be negative");
                    0
                })
            }),
            sha256: sha256(&mut fields, request.sha256),
            beginning,
        };
        fields.finish()?;
        Ok(new)
    }
}

/// Reads the content in the frames after the first.
pub fn content(
    frames: Streaming<pb::UploadAttachmentRequest>,
) -> impl Stream<Item = Result<Vec<u8>, Error>> + Unpin {
    frames.map(|frame| {
        let mut frame = frame.map_err(broken_off)?;
        let data = std::mem::take(&mut frame.data);
        if data.len() > FRAME {
            return Err(Error::invalid("data", too_long()));
        }
        if frame != pb::UploadAttachmentRequest::default() {
            let description = "must be alone in every frame but the first";
            return Err(Error::invalid("data", description));
        }
        Ok(data)
    })
}

fn too_long() -> String {
    format!("must have at most {FRAME} bytes in one frame")
}

fn file_name(fields: &mut Fields, name: String) -> String {
    // Marks that turn the direction of writing make `exe.png` of `gnp.exe`.
    let turns = |sign| matches!(sign, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_strange = |sign: char| sign.is_control() || turns(sign);
    let name = fields.required_text("file_name", name, FILE_NAME);
    if name.contains(['/', '\\']) || name == "." || name == ".." {
        fields.refuse("file_name", "must be a name without a folder");
    }
    if name.contains(|sign| sign != '\0' && is_strange(sign)) {
        let description = "must not contain control characters or marks of direction";
        fields.refuse("file_name", description);
    }
    name
}

fn content_type(fields: &mut Fields, text: String) -> Option<String> {
    let text = fields.text("content_type", text, CONTENT_TYPE);
    if text.is_empty() {
        return None;
    }
    let parsed = content_type::parse(&text);
    if parsed.is_none() {
        fields.refuse("content_type", "must be a type such as `image/jpeg`");
    }
    parsed
}

fn sha256(fields: &mut Fields, digits: String) -> Option<String> {
    if digits.is_empty() {
        return None;
    }
    if digits.len() != SHA256_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        fields.refuse("sha256", "must be 64 hexadecimal digits");
    }
    Some(digits.to_ascii_lowercase())
}

/// Reads the id of `GetAttachment`.
pub fn attachment_id(request: &pb::GetAttachmentRequest) -> Result<AttachmentId, Error> {
    let mut fields = Fields::default();
    let id = fields.required_id("attachment_id", &request.attachment_id, AttachmentId);
    fields.finish()?;
    Ok(id)
}

impl TryFrom<pb::DownloadAttachmentRequest> for Reading {
    type Error = Error;

    fn try_from(request: pb::DownloadAttachmentRequest) -> Result<Self, Error> {
        let mut fields = Fields::default();
        let id = &request.attachment_id;
        let mut number = |field, number| {
            u64::try_from(number).unwrap_or_else(|_| {
                fields.refuse(field, "must not be negative");
                0
            })
        };
        let offset = number("offset", request.offset);
        let length = number("length", request.length);
        let reading = Self {
            id: fields.required_id("attachment_id", id, AttachmentId),
            offset,
            length: (length > 0).then_some(length),
        };
        fields.finish()?;
        Ok(reading)
    }
}

impl From<Attachment> for pb::Attachment {
    fn from(attachment: Attachment) -> Self {
        let is_free = attachment.message_id.is_none() && attachment.quick_reply_id.is_none();
        let state = match attachment.state {
            State::Pending => pb::AttachmentState::Pending,
            State::Failed => pb::AttachmentState::Failed,
            _ if is_free => pb::AttachmentState::Ready,
            _ => pb::AttachmentState::Attached,
        };
        let failure = attachment.failure.map(|failure| match failure {
            FetchFailure::Gone => pb::AttachmentFailure::Gone,
            FetchFailure::TooLarge => pb::AttachmentFailure::TooLarge,
            FetchFailure::Refused => pb::AttachmentFailure::Refused,
            FetchFailure::Unauthorized => pb::AttachmentFailure::Unauthorized,
            FetchFailure::Expired => pb::AttachmentFailure::Expired,
        });
        Self {
            id: attachment.id.into(),
            file_name: attachment.file_name,
            content_type: attachment.content_type,
            size_bytes: attachment.size_bytes.unwrap_or_default(),
            sha256: attachment.sha256.unwrap_or_default(),
            create_time: Some(to_timestamp(attachment.created_at)),
            state: state.into(),
            message_id: attachment.message_id.map(Into::into).unwrap_or_default(),
            quick_reply_id: attachment
                .quick_reply_id
                .map(Into::into)
                .unwrap_or_default(),
            failure: failure.unwrap_or_default().into(),
            content_id: attachment.content_id.unwrap_or_default(),
        }
    }
}
