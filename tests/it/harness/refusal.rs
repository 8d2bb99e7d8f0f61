//! What a refusal says, in a form that can be compared.

use std::collections::BTreeMap;

use communication_service::pb::ErrorReason;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its code.
    pub code: Code,
    /// Its reason, without the prefix of the enum.
    pub reason: String,
    /// Its message.
    pub message: String,
    /// What its `ErrorInfo` holds beside the reason.
    pub metadata: BTreeMap<String, String>,
    /// The fields that it names, and what it says of each.
    pub fields: BTreeMap<String, String>,
    /// The kind and id of what is missing.
    pub resource: Option<(String, String)>,
}

impl Refusal {
    /// Reads a refusal, which must carry what every refusal carries.
    pub fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details
            .error_info()
            .unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
        assert_eq!(info.domain, "communication.v1", "{status:?}");
        let known = ErrorReason::from_str_name(&format!("ERROR_REASON_{}", info.reason));
        assert!(known.is_some_and(|reason| reason as i32 != 0), "{status:?}");
        let correlation = status.metadata().get("x-request-id");
        assert!(
            correlation.is_some_and(|id| !id.is_empty()),
            "no x-request-id: {status:?}"
        );
        let fields = details.bad_request().into_iter().flat_map(|bad| {
            bad.field_violations
                .iter()
                .map(|violation| (violation.field.clone(), violation.description.clone()))
        });
        Self {
            code: status.code(),
            reason: info.reason.clone(),
            message: status.message().to_owned(),
            metadata: info.metadata.clone().into_iter().collect(),
            fields: fields.collect(),
            resource: details.resource_info().map(|resource| {
                let (kind, name) = (&resource.resource_type, &resource.resource_name);
                (kind.clone(), name.clone())
            }),
        }
    }

    /// The code and the reason.
    pub fn why(&self) -> (Code, &str) {
        (self.code, self.reason.as_str())
    }

    /// Tells whether it names a field.
    pub fn names(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }
}
