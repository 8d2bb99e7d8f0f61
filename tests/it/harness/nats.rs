//! A NATS of the test's own.

use std::process::Stdio;

use tokio::process::{Child, Command};

use super::Folder;

/// A running server of NATS.
pub struct Nats {
    process: Child,
    /// Where it listens.
    pub port: String,
}

impl Nats {
    /// Starts one, on a port that it chooses unless one is named, and waits until it listens.
    pub async fn start(folder: &Folder, port: Option<&str>) -> Self {
        let process = Command::new("nats-server")
            .args(["-a", "127.0.0.1", "-p", port.unwrap_or("-1")])
            .arg("--ports_file_dir")
            .arg(&folder.0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("nats-server, which `make test` installs");
        let file = format!("nats-server_{}.ports", process.id().unwrap());
        let file = folder.0.join(file);
        // {"nats":["nats://127.0.0.1:36789"]}
        let mut port = String::new();
        super::eventually("NATS listens", async || {
            let told = tokio::fs::read_to_string(&file).await.unwrap_or_default();
            let digits = told.split("127.0.0.1:").nth(1).unwrap_or_default();
            port = digits.chars().take_while(char::is_ascii_digit).collect();
            told.ends_with('}') && !port.is_empty()
        })
        .await;
        Self { process, port }
    }

    /// Stops it.
    pub async fn stop(mut self) {
        self.process.kill().await.unwrap();
    }
}
