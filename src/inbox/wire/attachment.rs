//! Files on the wire.

use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use tokio::sync::mpsc::Receiver;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::codec::broken_off;
use crate::error::Error;
use crate::field::{Fields, Most};
use crate::ids::AttachmentId;
use crate::inbox::attachment::{Attachment, FetchFailure, NewAttachment, Reading, State};
use crate::inbox::content_type;
use crate::pb;
use crate::request_id::{Repeatable, RequestId};
use crate::time::to_timestamp;

const FILE_NAME: Most = Most::Bytes(255);
const CONTENT_TYPE: Most = Most::Characters(128);
const SHA256_DIGITS: usize = 64;
/// The most content that one frame can have.
const FRAME: usize = 1024 * 1024;

/// A frame of an upload.
pub trait UploadFrame: Repeatable + Default + PartialEq {
    /// Whether its file is for the team's chat.
    const OF_CHAT: bool;

    /// Takes the content out of it.
    fn take_data(&mut self) -> Vec<u8>;

    /// What it says of the file.
    fn described(self) -> Described;
}

/// What the first frame of an upload says of its file.
pub struct Described {
    /// What it is called.
    pub file_name: String,
    /// What it is.
    pub content_type: String,
    /// How long it is.
    pub size_bytes: Option<i64>,
    /// The SHA-256 of its content.
    pub sha256: String,
}

impl UploadFrame for pb::UploadAttachmentRequest {
    const OF_CHAT: bool = false;

    fn take_data(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.data)
    }

    fn described(self) -> Described {
        Described {
            file_name: self.file_name,
            content_type: self.content_type,
            size_bytes: self.size_bytes,
            sha256: self.sha256,
        }
    }
}

impl TryFrom<pb::UploadAttachmentRequest> for NewAttachment {
    type Error = Error;

    fn try_from(request: pb::UploadAttachmentRequest) -> Result<Self, Error> {
        new_attachment(request)
    }
}

/// Reads the first frame of an upload.
///
/// # Errors
/// A field cannot be what it is.
pub fn new_attachment<F: UploadFrame>(mut first: F) -> Result<NewAttachment, Error> {
    // How the content is cut is no part of the request.
    let beginning = first.take_data();
    let request_id = RequestId::take(&mut first)?;
    let described = first.described();
    let mut fields = Fields::default();
    if beginning.len() > FRAME {
        fields.refuse("data", too_long());
    }
    let new = NewAttachment {
        request_id,
        of_chat: F::OF_CHAT,
        file_name: file_name(&mut fields, described.file_name),
        content_type: content_type(&mut fields, described.content_type),
        size_bytes: described.size_bytes.map(|size| {
            u64::try_from(size).unwrap_or_else(|_| {
                fields.refuse("size_bytes", "must not be negative");
                0
            })
        }),
        sha256: sha256(&mut fields, described.sha256),
        beginning,
    };
    fields.finish()?;
    Ok(new)
}

/// Reads the content in the frames after the first.
pub fn content<F: UploadFrame>(
    frames: Streaming<F>,
) -> impl Stream<Item = Result<Vec<u8>, Error>> + Unpin {
    frames.map(|frame| {
        let mut frame = frame.map_err(broken_off)?;
        let data = frame.take_data();
        if data.len() > FRAME {
            return Err(Error::invalid("data", too_long()));
        }
        if frame != F::default() {
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

/// Reads the id of a file.
pub fn attachment_id(id: &str) -> Result<AttachmentId, Error> {
    let mut fields = Fields::default();
    let id = fields.required_id("attachment_id", id, AttachmentId);
    fields.finish()?;
    Ok(id)
}

/// Reads which part of which file to read.
///
/// # Errors
/// A field cannot be what it is.
pub fn reading(id: &str, offset: i64, length: i64) -> Result<Reading, Error> {
    let mut fields = Fields::default();
    let mut number = |field, number| {
        u64::try_from(number).unwrap_or_else(|_| {
            fields.refuse(field, "must not be negative");
            0
        })
    };
    let offset = number("offset", offset);
    let length = number("length", length);
    let reading = Reading {
        id: fields.required_id("attachment_id", id, AttachmentId),
        offset,
        length: (length > 0).then_some(length),
    };
    fields.finish()?;
    Ok(reading)
}

/// The frames of a file: the first says what it is, the others have its content.
pub fn frames<T: Send + 'static>(
    found: Attachment,
    pieces: Receiver<Result<Vec<u8>, Error>>,
    frame: fn(Option<pb::Attachment>, Vec<u8>) -> T,
) -> BoxStream<'static, Result<T, Status>> {
    let first = frame(Some(found.into()), Vec::new());
    let others = ReceiverStream::new(pieces).map(move |piece| Ok(frame(None, piece?)));
    let first = stream::once(async { Ok(first) });
    first.chain(others).boxed()
}

impl From<Attachment> for pb::Attachment {
    fn from(attachment: Attachment) -> Self {
        let is_free = attachment.message_id.is_none()
            && attachment.quick_reply_id.is_none()
            && attachment.chat_entry_id.is_none();
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
            chat_entry_id: attachment.chat_entry_id.map(Into::into).unwrap_or_default(),
        }
    }
}
