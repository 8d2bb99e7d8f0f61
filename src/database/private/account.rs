//! Who runs PostgreSQL, which refuses root.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use super::error::{PrivateError, Result, cannot};

/// The account that runs PostgreSQL in place of root.
#[derive(Debug, PartialEq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// Returns the owner of the cluster, or who shall own a new one.
    pub(super) fn of(data: &Path) -> Result<Self> {
        if let Some(owner) = fs::metadata(data).ok().filter(|owner| owner.uid() != 0) {
            let (uid, gid) = (owner.uid(), owner.gid());
            return Ok(Self {
                name: uid.to_string(),
                uid,
                gid,
            });
        }
        let file = Path::new("/etc/passwd");
        let users = fs::read_to_string(file).map_err(cannot("read", file))?;
        let mut names = ["postgres", "_postgres", "nobody"].into_iter();
        let account = names.find_map(|name| Self::parse(&users, name));
        account.ok_or(PrivateError::NoAccount)
    }

    fn parse(users: &str, name: &str) -> Option<Self> {
        let mut users = users
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>());
        let user = users.find(|fields| fields[0] == name)?;
        // macOS writes the ids of `nobody` as -2.
        let id = |text: &str| {
            text.parse()
                .or_else(|_| text.parse().map(i32::cast_unsigned))
                .ok()
        };
        let (uid, gid) = (id(user.get(2)?)?, id(user.get(3)?)?);
        Some(Self {
            name: name.to_owned(),
            uid,
            gid,
        })
    }
}

/// Tells whether we are root.
pub(super) fn is_root() -> bool {
    // macOS has no /proc.
    let id = || Command::new("id").arg("-u").output();
    fs::metadata("/proc/self").map_or_else(
        |_| id().is_ok_and(|output| output.stdout.trim_ascii() == b"0"),
        |own| own.uid() == 0,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_ids_may_be_negative() {
        let nobody = Account::parse("root:*:0:0\nnobody:*:-2:-2::/:/x", "nobody").unwrap();
        assert_eq!((nobody.uid, nobody.gid), (u32::MAX - 1, u32::MAX - 1));
    }
}
