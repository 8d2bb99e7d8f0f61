//! What an error says, as data that can be kept and told later.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Error;

/// What an error says on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The number of its gRPC code.
    pub code: i32,
    /// Its reason, without the prefix that protobuf wants of enum values.
    pub reason: String,
    /// Its words.
    pub message: String,
    /// The first field that is wrong, or empty.
    pub field: String,
    /// The values in its words.
    pub metadata: BTreeMap<String, String>,
}

impl Error {
    /// What it says on the wire.
    pub fn refusal(&self) -> Refusal {
        let detail = self.detail();
        let reason = detail.reason.as_str_name();
        let field = match self {
            Self::InvalidArgument(violations) => violations.first(),
            _ => None,
        };
        let metadata = detail.metadata.into_iter();
        Refusal {
            code: self.code().into(),
            reason: reason.trim_start_matches("ERROR_REASON_").to_owned(),
            message: detail.message,
            field: field
                .map(|violation| violation.field.clone())
                .unwrap_or_default(),
            metadata: metadata
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        }
    }
}
