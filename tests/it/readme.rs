//! The README says what is so.

use std::fmt::Write as _;

use clap::{Args as _, Command};
use communication_service::config::Config;

/// The table of settings, as the command line knows them.
fn settings() -> String {
    let mut table = "| variable | default | meaning |\n|---|---|---|\n".to_owned();
    for argument in Config::augment_args(Command::new("serve")).get_arguments() {
        let Some(variable) = argument.get_env() else {
            continue;
        };
        let variable = variable.to_string_lossy();
        // The folder depends on who asks.
        let default = match argument.get_default_values().first() {
            _ if variable == "COMM_DATA_DIR" => {
                "`/var/lib/communication` for root, else `~/.local/share/communication`".to_owned()
            }
            Some(default) => format!("`{}`", default.to_string_lossy()),
            None => "none".to_owned(),
        };
        let meaning = argument
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        writeln!(table, "| `{variable}` | {default} | {meaning} |").unwrap();
    }
    table
}

#[test]
fn the_table_of_settings_is_the_command_lines_own() {
    let readme = include_str!("../../README.md");
    let table = settings();
    assert!(
        readme.contains(&table),
        "the README needs this table:\n{table}"
    );
}

#[test]
fn every_call_is_in_the_table_of_calls() {
    let readme = include_str!("../../README.md");
    for (path, _) in communication_service::pb::CALLS {
        let call = path.rsplit('/').next().unwrap();
        assert!(
            readme.contains(&format!("`{call}`")),
            "the README does not name `{call}`"
        );
    }
}
