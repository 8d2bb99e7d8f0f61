//! Files of entries on the wire.

use crate::error::Error;
use crate::inbox::{Described, NewAttachment, UploadFrame, new_attachment};
use crate::pb;

impl UploadFrame for pb::UploadChatAttachmentRequest {
    const OF_CHAT: bool = true;

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

impl TryFrom<pb::UploadChatAttachmentRequest> for NewAttachment {
    type Error = Error;

    fn try_from(request: pb::UploadChatAttachmentRequest) -> Result<Self, Error> {
        new_attachment(request)
    }
}
