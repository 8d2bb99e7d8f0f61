//! The service under test: the release binary as a process of its own.

use std::env;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::Failure;

/// What is measured, unless `BENCH_PROGRAM` names another build.
const PROGRAM: &str = env!("CARGO_BIN_EXE_communication-service");
/// How long a start may take before something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running service.
pub struct Service {
    process: Child,
    /// Its process id.
    pub pid: u32,
    /// Where its gRPC is.
    pub address: String,
    /// Where its HTTP is: host and port.
    pub http: String,
    /// From the start of the process to the first 200 of `/ready`.
    pub ready_after: Duration,
    log: PathBuf,
}

impl Service {
    /// Starts a service with the defaults, but for `settings`, and waits until it is ready.
    pub async fn start(
        folder: &Path,
        database: &str,
        settings: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        let (grpc, http) = (free_port()?, free_port()?);
        let log = folder.join("service.log");
        let mut command = command(folder);
        command
            .env("DATABASE_URL", database)
            .env("GRPC_PORT", grpc.to_string())
            .env("SERVICE_PORT", http.to_string())
            .env("COMM_LOG_FORMAT", "json")
            .envs(settings.iter().copied())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        let begun = Instant::now();
        let mut process = command.spawn()?;
        while !is_ready(http).await {
            if process.try_wait()?.is_some() || begun.elapsed() > PATIENCE {
                let log = fs::read_to_string(log)?;
                return Err(format!("the service does not start: {log}").into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(Self {
            ready_after: begun.elapsed(),
            pid: process.id().ok_or("the service has ended")?,
            process,
            address: format!("http://127.0.0.1:{grpc}"),
            http: format!("127.0.0.1:{http}"),
            log,
        })
    }

    /// Returns the last statement that the service has sent for a call, as its log has it. What it
    /// asks its directory, all the time, is not for a call.
    pub fn last_statement(&self) -> Result<String, Failure> {
        for line in fs::read_to_string(&self.log)?.lines().rev() {
            let line: serde_json::Value = serde_json::from_str(line)?;
            if let ("sql", Some(text)) = (
                line["target"].as_str().unwrap_or_default(),
                line["message"].as_str(),
            ) && !text.contains("\"directory\".")
            {
                return Ok(text.to_owned());
            }
        }
        Err("the log has no statement".into())
    }

    /// Returns the statements of which one has each of some words, in their order: the last of each
    /// that the log has.
    pub fn statements(&self, words: &[&str]) -> Result<Vec<String>, Failure> {
        let mut last = vec![None; words.len()];
        for line in fs::read_to_string(&self.log)?.lines() {
            let line: serde_json::Value = serde_json::from_str(line)?;
            let (Some("sql"), Some(text)) = (line["target"].as_str(), line["message"].as_str())
            else {
                continue;
            };
            if let Some(at) = words.iter().position(|word| text.contains(word)) {
                last[at] = Some(text.to_owned());
            }
        }
        let found: Option<Vec<String>> = last.into_iter().collect();
        found.ok_or_else(|| format!("the log lacks a statement with one of {words:?}").into())
    }

    /// How many statements the log has.
    pub fn sent(&self) -> Result<usize, Failure> {
        let log = fs::read_to_string(&self.log)?;
        Ok(log.matches("\"target\":\"sql\"").count())
    }

    /// Stops the service as a signal would.
    pub async fn stop(mut self) -> Result<(), Failure> {
        Command::new("kill")
            .arg(self.pid.to_string())
            .status()
            .await?;
        self.process.wait().await?;
        Ok(())
    }
}

/// Mints a token for everything, which the service of that folder checks like any other.
pub async fn token(folder: &Path) -> Result<String, Failure> {
    let output = command(folder)
        .args(["token", "--service", "bench"])
        .output()
        .await?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The program with nothing of our environment that could change what is measured.
fn command(folder: &Path) -> Command {
    let program = env::var_os("BENCH_PROGRAM").unwrap_or_else(|| PROGRAM.into());
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("COMM_DATA_DIR", folder)
        .kill_on_drop(true);
    command
}

fn free_port() -> std::io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

async fn is_ready(port: u16) -> bool {
    let asked = async {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let request = b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        socket.write_all(request).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer.starts_with("HTTP/1.1 200 "))
    };
    asked.await.unwrap_or(false)
}
