//! What an error says, as data that can be kept and told later.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Error;

/// What an error says on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The number of its gRPC code.
    pub code: i32,
    /// The number of its reason.
    pub reason: i32,
    /// Its words.
    pub message: String,
    /// The first field that is wrong, or empty.
    pub field: String,
    /// The values in its words.
    pub metadata: BTreeMap<String, String>,
}

impl Error {
    /// What it says on the wire, as one of many things that could not be done.
    pub fn refusal(&self) -> Refusal {
        self.log();
        let detail = self.detail();
        let field = match self.essence() {
            Self::InvalidArgument(violations) => violations.first(),
            _ => None,
        };
        let metadata = detail.metadata.into_iter();
        Refusal {
            code: self.code().into(),
            reason: detail.reason.into(),
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
