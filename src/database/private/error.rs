//! Why there is no private server.

use std::io;
use std::path::{Path, PathBuf};

use tokio_postgres::Error as SqlError;

use super::binaries::OLDEST_MAJOR;
use super::server::NAME;

/// Why there is no private server, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the message of each variant says what it means"
)]
pub enum PrivateError {
    #[error(
        "no PostgreSQL found on this machine; run `apt install postgresql` or \
         `brew install postgresql@18`, or set DATABASE_URL"
    )]
    NoBinaries,
    #[error(
        "`{0}` lacks `postgres`, `initdb` or `pg_ctl`; set COMM_PG_BIN to the folder with them"
    )]
    IncompleteBinaries(PathBuf),
    #[error("PostgreSQL {0} is too old; install {OLDEST_MAJOR} or newer, or set DATABASE_URL")]
    TooOld(String),
    #[error(
        "`{0}` was made by PostgreSQL {1}, but this machine has {2}; install PostgreSQL {1}, or \
         move the data with pg_upgrade, or set COMM_DATA_DIR to another folder"
    )]
    OtherMajor(PathBuf, u32, String),
    #[error("`{0}` holds files but no PostgreSQL data; move them away or set COMM_DATA_DIR")]
    NotACluster(PathBuf),
    #[error("PostgreSQL refuses to run as root; create an unprivileged account `postgres`")]
    NoAccount,
    #[error(
        "account `{0}`, which runs PostgreSQL in place of root, may not enter `{1}`; run \
         `chmod o+x {1}`, or set COMM_DATA_DIR (or COMM_PG_BIN) to a folder elsewhere"
    )]
    OutOfReach(String, PathBuf),
    #[error("`{0}` is in use by a running service; stop it or set COMM_DATA_DIR")]
    InUse(PathBuf),
    #[error("`initdb` failed; mend what it says and start again: {0}")]
    InitFailed(String),
    #[error("`{0}` is missing; restore it, or move `{1}` away to begin with an empty database")]
    PasswordMissing(PathBuf, PathBuf),
    #[error("PostgreSQL refuses the password in `{0}`; restore that file")]
    PasswordRefused(PathBuf),
    #[error("PostgreSQL stopped while starting; the end of `{0}` says why:\n{1}")]
    Exited(PathBuf, String),
    #[error("PostgreSQL runs but does not answer; see the end of `{0}`:\n{1}")]
    NotReady(PathBuf, String),
    #[error("cannot prepare role and database `{NAME}`")]
    NotPrepared(#[from] SqlError),
    #[error("PostgreSQL did not stop: {0}")]
    NotStopped(String),
    #[error("cannot {0} `{1}`")]
    Io(&'static str, PathBuf, #[source] io::Error),
}

pub(super) type Result<T, E = PrivateError> = std::result::Result<T, E>;

pub(super) fn cannot(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PrivateError {
    let path = path.to_owned();
    move |source| PrivateError::Io(action, path, source)
}
