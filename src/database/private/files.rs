//! The data folder, and the files in it that nobody else may read.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::account::{Account, is_root};
use super::error::{PrivateError, Result, cannot};
use super::server::{NAME, POLL};
use crate::hex;

/// Returns the data folder used when none is configured.
pub fn default_data_dir() -> PathBuf {
    data_dir_of(is_root(), env::var_os("XDG_DATA_HOME"), env::home_dir())
}

fn data_dir_of(root: bool, xdg_data_home: Option<OsString>, home: Option<PathBuf>) -> PathBuf {
    if root {
        return Path::new("/var/lib").join(NAME);
    }
    let xdg_data_home = xdg_data_home
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let data_home = xdg_data_home.or_else(|| Some(home?.join(".local/share")));
    data_home.unwrap_or_default().join(NAME)
}

/// Makes the data folder if need be; as root, one that PostgreSQL's account can pass through.
pub(super) fn make_home(folder: &Path) -> io::Result<PathBuf> {
    if !folder.exists() {
        let mode = if is_root() { 0o711 } else { 0o700 };
        DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(folder)?;
        // The umask has cut the mode.
        fs::set_permissions(folder, Permissions::from_mode(mode))?;
    }
    folder.canonicalize()
}

/// Takes a lock that the system gives back when we end, however we end.
pub(super) async fn lock(
    home: &Path,
    name: &str,
    take: fn(&File) -> Result<(), TryLockError>,
    patience: Duration,
) -> Result<File> {
    let path = home.join(name);
    let file = private_file(&path).map_err(cannot("open", &path))?;
    let deadline = Instant::now() + patience;
    loop {
        match take(&file) {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(cannot("lock", &path)(error)),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(POLL).await,
            Err(TryLockError::WouldBlock) => return Err(PrivateError::InUse(home.to_owned())),
        }
    }
}

/// Reads a password, or makes one in a file that appears whole or not at all.
pub(super) fn password_in(file: &Path, owner: Option<&Account>) -> Result<String> {
    let make = || {
        let mut random = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let password = hex::digits(&random);
        let unfinished = file.with_extension("unfinished");
        unless_absent(fs::remove_file(&unfinished))?;
        let mut written = private_file(&unfinished)?;
        writeln!(written, "{password}")?;
        written.sync_all()?;
        if let Some(owner) = owner {
            chown(&unfinished, Some(owner.uid), Some(owner.gid))?;
        }
        fs::rename(&unfinished, file).map(|()| password)
    };
    let stored = unless_absent(fs::read_to_string(file)).map_err(cannot("read", file))?;
    let stored = stored.map(|password| Ok(password.trim().to_owned()));
    stored.unwrap_or_else(make).map_err(cannot("write", file))
}

/// Opens a file for appending that nobody else may read.
pub(super) fn private_file(file: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).open(file)
}

/// Makes absence no error.
pub(super) fn unless_absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_folder_follows_root_then_xdg_then_home() {
        let home = || Some(PathBuf::from("/home/a"));
        let folder = |root, xdg: &str| data_dir_of(root, Some(xdg.into()), home());
        assert_eq!(folder(true, "/x"), Path::new("/var/lib/communication"));
        assert_eq!(folder(false, "/x"), Path::new("/x/communication"));
        let in_home = Path::new("/home/a/.local/share/communication");
        assert_eq!(folder(false, "relative"), in_home);
    }
}
