//! Why media cannot be fetched, named by what the caller can do about it.
//!
//! Nothing here holds a path, a query or a credential, so all of it may be shown and logged.

use std::io;
use std::time::Duration;

use http::StatusCode;

/// Why media could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nothing may be fetched from there, now or later.
    #[error("the address of the media is refused")]
    Refused(#[from] TargetError),
    /// The credentials cannot be sent in a header.
    #[error("the credentials for the media cannot be sent")]
    Credentials,
    /// There is more of it than was asked for.
    #[error("the media has more than {limit} bytes")]
    TooLarge {
        /// The most bytes that were asked for.
        limit: u64,
    },
    /// It is compressed, though that was not asked for.
    #[error("the media comes compressed")]
    Compressed,
    /// It is not there, or not any more.
    #[error("the media is gone")]
    Gone,
    /// The credentials do not allow it, or the address has expired.
    #[error("the media may not be fetched: the server answers {0}")]
    Unauthorized(StatusCode),
    /// The server answers something else that will not pass.
    #[error("the media is not given: the server answers {0}")]
    Rejected(StatusCode),
    /// It does not work now, and may work later.
    #[error("the media cannot be fetched now")]
    Unavailable {
        /// What does not work.
        #[source]
        outage: Outage,
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
    },
}

/// Why nothing may be fetched from an address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TargetError {
    /// It cannot be read, or can be read in two ways.
    #[error("the address is not a well-formed URL")]
    Url,
    /// It is not https, nor http of a trusted host.
    #[error("the address is not https")]
    Scheme,
    /// It names a user.
    #[error("the address names a user")]
    User,
    /// It names a port that is not 443, nor one of a trusted host.
    #[error("the address names a port")]
    Port,
    /// Its host is an IP address.
    #[error("the address names its host by number")]
    Number,
    /// Its host is none that this media comes from.
    #[error("host `{host}` is none that this media comes from")]
    Host {
        /// The host.
        host: String,
    },
    /// Its host is not in the public internet.
    #[error("host `{host}` is not in the public internet")]
    NotPublic {
        /// The host.
        host: String,
    },
    /// It leads from https to http.
    #[error("a redirect leads from https to http")]
    Downgrade,
    /// It leads on and on.
    #[error("there are more than {limit} redirects")]
    Redirects {
        /// The most that are followed.
        limit: usize,
    },
}

/// What does not work, for now.
#[derive(Debug, thiserror::Error)]
pub enum Outage {
    /// The name of the host is not known.
    #[error("the host cannot be found")]
    Resolve(#[source] io::Error),
    /// The host does not accept a connection.
    #[error("the host cannot be reached")]
    Connect(#[source] io::Error),
    /// The host does not accept one in time.
    #[error("the host does not accept a connection in time")]
    ConnectTimeout,
    /// The answer is not HTTP, is too long in its headers, or breaks off.
    #[error("the answer is broken")]
    Broken(#[from] hyper::Error),
    /// Nothing comes for too long.
    #[error("nothing comes for too long")]
    Stalled,
    /// It takes too long as a whole.
    #[error("it takes too long")]
    TooSlow,
    /// The server says so.
    #[error("the server answers {0}")]
    Status(StatusCode),
}

impl FetchError {
    /// Tells whether the same fetch may work later.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

impl From<Outage> for FetchError {
    fn from(outage: Outage) -> Self {
        Self::Unavailable {
            outage,
            retry_after: None,
        }
    }
}
