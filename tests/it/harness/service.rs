//! The service as a process of its own, on a PostgreSQL of the test's own: both can be killed.

use std::fs::{DirBuilder, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use communication_service::database::private::{PrivateOptions, PrivateServer};
use communication_service::pb::InitializeTenantRequest;
use communication_service::pb::tenant_admin_service_client::TenantAdminServiceClient;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

use super::TestTenant;

/// A folder that is gone with the test, and that PostgreSQL's account can pass through.
pub struct Folder(pub PathBuf);

impl Folder {
    /// Makes an empty folder.
    pub fn new() -> Self {
        let name = format!("communication-test-{}", Uuid::now_v7().simple());
        let path = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o711).create(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o711)).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A PostgreSQL of the test's own that writes to the disk before it acknowledges.
pub async fn durable(folder: &Folder) -> PrivateServer {
    PrivateServer::start(PrivateOptions {
        data_dir: folder.0.clone(),
        bin_dir: None,
        fsync: true,
        max_connections: 100,
        keep_running: false,
    })
    .await
    .expect("a PostgreSQL of its own")
}

/// The service as it is installed, on ports that the system chose.
pub struct Service {
    process: Child,
    /// A connection without a credential.
    pub channel: Channel,
    /// Where the sidecar listens.
    pub http: SocketAddr,
}

impl Service {
    /// Starts it on a database, with its keys in a folder.
    pub async fn start(folder: &Folder, database_url: &str) -> Self {
        Self::start_with(&folder.0, database_url, &[]).await
    }

    /// Starts it with settings of the test's own.
    pub async fn start_with(
        data_dir: &Path,
        database_url: &str,
        settings: &[(&str, &str)],
    ) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_communication-service"))
            .env("DATABASE_URL", database_url)
            .env("COMM_DATA_DIR", data_dir)
            .env("COMM_DB_CONNECTIONS", "20")
            .env("GRPC_PORT", "0")
            .env("SERVICE_PORT", "0")
            .envs(settings.iter().copied())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut banner = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut after = async |label: &str| loop {
            let line = banner.next_line().await.unwrap().expect("a banner");
            if let Some(rest) = line.trim().strip_prefix(label) {
                break rest.split_whitespace().next().unwrap().to_owned();
            }
        };
        let address = after("gRPC ").await;
        let http = after("HTTP ").await;
        let http = http.trim_start_matches("http://").parse().unwrap();
        // Nobody to read it would stop the service at a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = banner.next_line().await {} });
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let channel = endpoint.connect().await.unwrap();
        Self {
            process,
            channel,
            http,
        }
    }

    /// Makes a tenant.
    pub async fn tenant(&self, slug: &str) -> TestTenant {
        let request = InitializeTenantRequest {
            tenant: slug.to_owned(),
            ..Default::default()
        };
        let mut admin = TenantAdminServiceClient::new(self.channel.clone());
        let made = admin.initialize_tenant(request).await.unwrap();
        TestTenant::over(&self.channel, made.into_inner().tenant.unwrap())
    }

    /// The most memory that the process has had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.process.id().unwrap());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM"))
            .unwrap();
        let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kilobytes * 1024
    }

    /// Stops the service as a signal would, and waits for its end.
    pub async fn stop(mut self) {
        let pid = self.process.id().unwrap().to_string();
        Command::new("kill").arg(pid).status().await.unwrap();
        assert!(self.process.wait().await.unwrap().success());
    }

    /// Ends the service as the kernel does, with no time for anything.
    pub async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }
}
