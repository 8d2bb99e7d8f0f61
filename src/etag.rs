//! Etags: what a caller has read of a resource, and whether it is still so.

use crate::error::{Conflict, Error};

/// The etag that stands for an edit version.
pub fn etag(edit_version: i64) -> String {
    format!("\"{edit_version}\"")
}

/// Refuses a change of what was read with another etag; none is given by who takes whatever is there.
///
/// # Errors
/// The etag is not the current one.
pub fn check_etag(given: Option<&str>, current: String) -> Result<(), Error> {
    match given {
        Some(given) if given != current => Err(Error::Aborted(Conflict::Etag {
            given: given.to_owned(),
            current,
        })),
        Some(_) | None => Ok(()),
    }
}
