//! `healthcheck`: for containers.

use std::error::Error;
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What `healthcheck` takes.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// The port of the HTTP sidecar
    #[arg(
        long,
        env = "SERVICE_PORT",
        default_value_t = 8010,
        value_name = "PORT"
    )]
    service_port: u16,
}

/// Fails unless the server on this machine says that it is ready.
pub async fn run(args: &HealthcheckArgs) -> Result<(), Box<dyn Error>> {
    let asking = async {
        let mut socket = TcpStream::connect(("127.0.0.1", args.service_port)).await?;
        socket
            .write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .await?;
        let mut answer = Vec::new();
        socket.take(1024).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(3), asking)
        .await
        .map_err(|_| "no answer within 3 s")??;
    if answer.starts_with(b"HTTP/1.1 200 ") {
        println!("ready");
        Ok(())
    } else {
        Err("not ready".into())
    }
}
