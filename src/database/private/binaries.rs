//! PostgreSQL's programs: where they are, and how they are run.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{cmp, env, fs};

use super::error::{PrivateError, Result, cannot};
use super::files::unless_absent;

/// The oldest major version that has what our SQL uses.
pub(super) const OLDEST_MAJOR: u32 = 14;
/// Where packages put several major versions side by side, as folders that begin with a prefix.
const VERSIONED_FOLDERS: [(&str, &str); 6] = [
    ("/usr/lib/postgresql", ""),
    ("/usr", "pgsql-"),
    ("/opt/homebrew/opt", "postgresql"),
    ("/usr/local/opt", "postgresql"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql"),
    ("/Applications/Postgres.app/Contents/Versions", ""),
];

/// Returns the first folder of binaries that is new enough and fits the data.
pub(super) async fn find_binaries(named: Option<&Path>, data: &Path) -> Result<PathBuf> {
    let made_by = major_of(data)?;
    let folders = match named {
        Some(folder) if is_complete(folder) => vec![folder.to_owned()],
        Some(folder) => return Err(PrivateError::IncompleteBinaries(folder.to_owned())),
        None => installed(),
    };
    let mut others = Vec::new();
    for folder in folders {
        let folder = folder.canonicalize().map_err(cannot("find", &folder))?;
        let mut postgres = Command::new(folder.join("postgres"));
        postgres.arg("--version");
        let version = run(postgres).await?.stdout;
        let major = first_number(&String::from_utf8_lossy(&version)).unwrap_or_default();
        if major >= OLDEST_MAJOR && made_by.is_none_or(|made_by| made_by == major) {
            return Ok(folder);
        }
        others.push(major.to_string());
    }
    Err(match made_by {
        _ if others.is_empty() => PrivateError::NoBinaries,
        Some(made_by) => PrivateError::OtherMajor(data.to_owned(), made_by, others.join(", ")),
        None => PrivateError::TooOld(others.join(", ")),
    })
}

/// Returns the folder of the programs that a private PostgreSQL in a data folder would run with.
///
/// # Errors
/// There is none that is new enough and fits the data.
pub async fn programs(named: Option<&Path>, data_dir: &Path) -> Result<PathBuf> {
    find_binaries(named, &data_dir.join("postgres")).await
}

fn installed() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).filter_map(|folder| {
        let postgres = folder.join("postgres").canonicalize().ok()?;
        Some(postgres.parent()?.to_owned())
    });
    let mut folders: Vec<_> = on_path.collect();
    for (parent, prefix) in VERSIONED_FOLDERS {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
        names.sort_by_key(|name| cmp::Reverse(first_number(name)));
        folders.extend(
            names
                .iter()
                .map(|name| Path::new(parent).join(name).join("bin")),
        );
    }
    folders.retain(|folder| is_complete(folder));
    folders
}

fn is_complete(folder: &Path) -> bool {
    let programs = ["postgres", "initdb", "pg_ctl"];
    programs
        .iter()
        .all(|program| folder.join(program).is_file())
}

/// Returns the major version that made the cluster; `None` when there is no cluster yet.
pub(super) fn major_of(data: &Path) -> Result<Option<u32>> {
    let file = data.join("PG_VERSION");
    let text = unless_absent(fs::read_to_string(&file)).map_err(cannot("read", &file))?;
    let major = text.as_deref().and_then(first_number);
    let occupied = || fs::read_dir(data).is_ok_and(|mut entries| entries.next().is_some());
    if major.is_none() && occupied() {
        return Err(PrivateError::NotACluster(data.to_owned()));
    }
    Ok(major)
}

fn first_number(text: &str) -> Option<u32> {
    let not_digit = |character: char| !character.is_ascii_digit();
    let digits = text.trim_start_matches(not_digit).split(not_digit).next();
    digits?.parse().ok()
}

/// Runs a program to its end.
pub(super) async fn run(command: Command) -> Result<Output> {
    let program = PathBuf::from(command.get_program());
    let mut command = tokio::process::Command::from(command);
    let output = command.kill_on_drop(true).output().await;
    output.map_err(cannot("run", &program))
}

/// What a program complained of.
pub(super) fn errors_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_number_reads_versions() {
        assert_eq!(
            first_number("postgres (PostgreSQL) 15.18 (Debian)"),
            Some(15)
        );
        assert_eq!(first_number("postgresql@17"), Some(17));
        assert_eq!(first_number("latest"), None);
    }
}
