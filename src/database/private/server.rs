//! Finds, starts, adopts and stops the private PostgreSQL.
//!
//! `postgres` is our child in a process group of its own, so that Ctrl-C reaches the service alone
//! and the database outlives the drain. A killed service leaves it running; the next start adopts
//! it. `start.lock` lets one start happen at a time; `service.lock` is held while in use.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error as SqlError, NoTls};
use tracing::{info, warn};

use super::account::{Account, is_root};
use super::binaries::{errors_of, find_binaries, major_of, run};
use super::error::{PrivateError, Result, cannot};
use super::files::{lock, make_home, password_in, private_file, unless_absent};

/// The service's own role, and its database.
pub(super) const NAME: &str = "communication";
const SUPERUSER: &str = "postgres";
/// How long to wait between two looks.
pub(super) const POLL: Duration = Duration::from_millis(20);
/// How long a server may stay silent; one that says it is recovering gets all the time it needs.
const PATIENCE: Duration = Duration::from_mins(1);
/// A server that stopped with one of these lost a race, which the next attempt may win.
const LOST_RACES: [&str; 3] = [
    "could not bind",
    "lock file \"postmaster.pid\"",
    "pre-existing shared memory block",
];
/// What the private server needs to know before it starts.
#[derive(Debug, Clone)]
pub struct PrivateOptions {
    /// The folder of the cluster, its log, its passwords and its locks.
    pub data_dir: PathBuf,
    /// The folder of the binaries (`COMM_PG_BIN`); searched for when absent.
    pub bin_dir: Option<PathBuf>,
    /// Whether commits survive a power cut; off in tests only.
    pub fsync: bool,
    /// The server's `max_connections`, three of which are kept for the superuser.
    pub max_connections: u32,
    /// Whether the server outlives this value and this process, to be shared with others.
    pub keep_running: bool,
}

/// A running private PostgreSQL.
pub struct PrivateServer {
    options: PrivateOptions,
    home: PathBuf,
    data: PathBuf,
    bin_dir: PathBuf,
    /// Who runs PostgreSQL when we are root.
    account: Option<Account>,
    superuser_password: String,
    child: Option<Child>,
    log_start: usize,
    port: u16,
    url: String,
    version: String,
    adopted: bool,
    _in_use: File,
}

impl PrivateServer {
    /// Starts the server of the data folder, or adopts the one that already runs there.
    pub async fn start(options: PrivateOptions) -> Result<Self> {
        let home = make_home(&options.data_dir).map_err(cannot("make", &options.data_dir))?;
        let turn = lock(&home, "start.lock", File::try_lock, 2 * PATIENCE).await?;
        let share = [File::try_lock, File::try_lock_shared][usize::from(options.keep_running)];
        let in_use = lock(&home, "service.lock", share, Duration::ZERO).await?;
        let data = home.join("postgres");
        let mut server = Self {
            bin_dir: find_binaries(options.bin_dir.as_deref(), &data).await?,
            account: is_root().then(|| Account::of(&data)).transpose()?,
            options,
            home,
            data,
            superuser_password: String::new(),
            child: None,
            log_start: 0,
            port: 0,
            url: String::new(),
            version: String::new(),
            adopted: false,
            _in_use: in_use,
        };
        server.check_reach().await?;
        server.initialise(&turn).await?;
        let superuser = server.bring_up().await?;
        server.prepare(&superuser).await?;
        info!(
            port = server.port,
            adopted = server.adopted,
            "{} runs",
            server.description()
        );
        Ok(server)
    }

    /// Returns the URL of the service's own role and database, password included.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns one line for the banner: version, folder, and that it is not for production.
    pub fn description(&self) -> String {
        let (version, home) = (&self.version, self.home.display());
        format!("private PostgreSQL {version} in {home} (development only)")
    }

    /// Tells whether the server was already running.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// Ends all sessions, stops the server and waits for its end, `keep_running` or not.
    pub async fn stop(mut self) -> Result<()> {
        self.shut_down().await?;
        if let Some(child) = &mut self.child {
            child.wait().await.map_err(cannot("stop", &self.data))?;
        }
        Ok(())
    }

    /// Makes the cluster, beside its place, so that one cut short is never taken for a cluster.
    async fn initialise(&mut self, turn: &File) -> Result<()> {
        let password_file = self.superuser_file();
        let made = major_of(&self.data)?.is_some();
        if made && !password_file.exists() {
            return Err(PrivateError::PasswordMissing(
                password_file,
                self.data.clone(),
            ));
        }
        self.superuser_password = password_in(&password_file, self.account.as_ref())?;
        if made {
            return Ok(());
        }
        info!(folder = %self.data.display(), "making a private PostgreSQL, which takes seconds");
        let unfinished = self.home.join("postgres.unfinished");
        self.make_empty(&unfinished)
            .map_err(cannot("make", &unfinished))?;
        let mut command = self.command("initdb");
        command.args([
            "-U",
            SUPERUSER,
            "-E",
            "UTF8",
            "--locale=C",
            "--auth=scram-sha-256",
        ]);
        command
            .arg("--pwfile")
            .arg(password_file)
            .arg("-D")
            .arg(&unfinished);
        // If we are killed, initdb goes on for a while; with the lock in its hands, the next start
        // waits for its end.
        command.stdin(turn.try_clone().map_err(cannot("lock", &self.home))?);
        let output = run(command).await?;
        if !output.status.success() {
            return Err(PrivateError::InitFailed(errors_of(&output)));
        }
        fs::rename(&unfinished, &self.data)
            .and_then(|()| File::open(&self.home)?.sync_all())
            .map_err(cannot("make", &self.data))
    }

    fn make_empty(&self, folder: &Path) -> io::Result<()> {
        unless_absent(fs::remove_dir_all(folder))?;
        DirBuilder::new().mode(0o700).create(folder)?;
        let account = self.account.as_ref();
        account.map_or(Ok(()), |account| {
            chown(folder, Some(account.uid), Some(account.gid))
        })
    }

    /// Adopts or launches the server and returns a session of its superuser.
    async fn bring_up(&mut self) -> Result<Client> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(client) = self.answer().await? {
                self.adopted = self.child.is_none();
                if self.inspect(&client).await? || !self.adopted || self.options.keep_running {
                    return Ok(client);
                }
                info!("restarting the private PostgreSQL of a killed service: other settings");
                self.shut_down().await?;
            } else if self.child.take().is_some() {
                let tail = self.log_tail();
                if Instant::now() > deadline || !LOST_RACES.iter().any(|race| tail.contains(race)) {
                    return Err(PrivateError::Exited(self.log(), tail));
                }
                sleep(10 * POLL).await;
                continue;
            }
            let launched = self
                .launch()
                .map_err(cannot("run PostgreSQL in", &self.data))?;
            self.child = Some(launched);
        }
    }

    /// Waits until the server answers; `None` when it is not alive.
    async fn answer(&mut self) -> Result<Option<Client>> {
        let mut deadline = Instant::now() + PATIENCE;
        loop {
            let recorded = self.recorded()?;
            let alive = match &mut self.child {
                Some(child) => child.try_wait().is_ok_and(|exit| exit.is_none()),
                None => self.is_alive(),
            };
            if !alive {
                return Ok(None);
            }
            // Only a bound port is sure to be that server's.
            if let Some(Recorded {
                port, bound: true, ..
            }) = recorded
            {
                let login = login(port, SUPERUSER, SUPERUSER, &self.superuser_password);
                let answer = timeout(PATIENCE, login).await;
                let code = answer
                    .as_ref()
                    .ok()
                    .and_then(|login| login.as_ref().err()?.code());
                if code == Some(&SqlState::INVALID_PASSWORD) {
                    return Err(PrivateError::PasswordRefused(self.superuser_file()));
                } else if code == Some(&SqlState::CANNOT_CONNECT_NOW) {
                    deadline = Instant::now() + PATIENCE;
                } else if let Ok(Ok(client)) = answer {
                    self.port = port;
                    return Ok(Some(client));
                }
            }
            if Instant::now() > deadline {
                return Err(PrivateError::NotReady(self.log(), self.log_tail()));
            }
            sleep(POLL).await;
        }
    }

    /// Notes the version, and tells whether the settings are those asked for.
    async fn inspect(&mut self, client: &Client) -> Result<bool> {
        let settings = "SELECT split_part(current_setting('server_version'), ' ', 1),
            current_setting('fsync')::bool = $1 AND current_setting('max_connections')::int8 = $2";
        let connections = i64::from(self.options.max_connections);
        let row = client
            .query_one(settings, &[&self.options.fsync, &connections])
            .await?;
        self.version = row.get(0);
        Ok(row.get(1))
    }

    fn launch(&mut self) -> io::Result<Child> {
        // Its process is gone, but the id may have a new owner, and PostgreSQL would mistake that
        // for the old one.
        unless_absent(fs::remove_file(self.data.join("postmaster.pid")))?;
        let log = private_file(&self.log())?;
        self.log_start = usize::try_from(log.metadata()?.len()).unwrap_or_default();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let durable = if self.options.fsync { "on" } else { "off" };
        let sync_method = if cfg!(target_os = "linux") {
            "syncfs"
        } else {
            "fsync"
        };
        // The path of a socket holds 107 bytes on Linux, 103 on macOS.
        let sockets = match self.data.to_str() {
            Some(path) if path.len() + "/.s.PGSQL.65535".len() <= 103 => {
                format!("\"{}\"", path.replace('"', "\"\""))
            }
            _ => String::new(),
        };
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            format!("unix_socket_directories={sockets}"),
            format!("max_connections={}", self.options.max_connections),
            "shared_buffers=128MB".to_owned(),
            "logging_collector=off".to_owned(),
            "log_destination=stderr".to_owned(),
            format!("recovery_init_sync_method={sync_method}"),
            format!("fsync={durable}"),
            format!("full_page_writes={durable}"),
        ];
        let mut command = self.command("postgres");
        command
            .arg("-D")
            .arg(&self.data)
            .stdout(log.try_clone()?)
            .stderr(log);
        command
            .args(settings.iter().flat_map(|setting| ["-c", setting]))
            .process_group(0);
        tokio::process::Command::from(command).spawn()
    }

    /// Makes role and database, unless a login proves that an earlier start has done it.
    async fn prepare(&mut self, superuser: &Client) -> Result<()> {
        let password = password_in(&self.home.join("postgres.password"), None)?;
        self.url = format!(
            "postgresql://{NAME}:{password}@127.0.0.1:{}/{NAME}",
            self.port
        );
        match login(self.port, NAME, NAME, &password).await {
            Ok(_) => return Ok(()),
            Err(error) if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS) => {
                return Err(error.into());
            }
            Err(_) => {}
        }
        let role = "SELECT FROM pg_roles WHERE rolname = $1";
        if superuser.query_opt(role, &[&NAME]).await?.is_none() {
            superuser
                .batch_execute(&format!("CREATE ROLE {NAME}"))
                .await?;
        }
        let database = "SELECT FROM pg_database WHERE datname = $1";
        if superuser.query_opt(database, &[&NAME]).await?.is_none() {
            superuser
                .batch_execute(&format!("CREATE DATABASE {NAME}"))
                .await?;
        }
        // PUBLIC keeps CONNECT on our database, through which every tenant's role logs in. The
        // other databases are none of their business.
        let rights = format!(
            "ALTER DATABASE {NAME} OWNER TO {NAME};
             REVOKE TEMPORARY ON DATABASE {NAME} FROM PUBLIC;
             REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC"
        );
        superuser.batch_execute(&rights).await?;
        let schema = format!(
            "DO $$ BEGIN
               IF to_regnamespace('public') IS NOT NULL THEN
                 ALTER SCHEMA public OWNER TO {NAME};
                 REVOKE ALL ON SCHEMA public FROM PUBLIC;
               END IF;
             END $$"
        );
        let inside = login(self.port, SUPERUSER, NAME, &self.superuser_password).await?;
        inside.batch_execute(&schema).await?;
        // Last, because a login that works says that all of the above is done.
        let login = format!(
            "ALTER ROLE {NAME} LOGIN CREATEROLE NOSUPERUSER NOCREATEDB PASSWORD '{password}'"
        );
        Ok(superuser.batch_execute(&login).await?)
    }

    /// Asks the system, as the account, whether each folder on the way may be entered, because
    /// permission bits alone do not tell.
    async fn check_reach(&self) -> Result<()> {
        let Some(account) = &self.account else {
            return Ok(());
        };
        let mut folders: Vec<_> = self
            .home
            .ancestors()
            .chain(self.bin_dir.ancestors())
            .collect();
        folders.sort();
        let first_closed = "for f do test -x \"$f\" || { printf %s \"$f\"; break; }; done";
        let mut command = self.command("/bin/sh");
        command.args(["-c", first_closed, "sh"]).args(folders);
        match run(command).await?.stdout {
            closed if closed.is_empty() => Ok(()),
            closed => {
                let closed = OsString::from_vec(closed).into();
                Err(PrivateError::OutOfReach(account.name.clone(), closed))
            }
        }
    }

    /// Builds a call of a program under the right account, without the secrets of our environment.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin_dir.join(program));
        let kept = ["PATH", "LD_LIBRARY_PATH", "TZ", "TMPDIR"];
        let kept = kept
            .into_iter()
            .filter_map(|name| Some((name, env::var_os(name)?)));
        command.env_clear().envs(kept).env("LC_ALL", "C");
        command.current_dir("/").stdin(Stdio::null());
        if let Some(account) = &self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }

    async fn shut_down(&self) -> Result<()> {
        if self.is_alive() {
            let output = run(self.stop_command()).await?;
            if !output.status.success() && self.is_alive() {
                return Err(PrivateError::NotStopped(errors_of(&output)));
            }
        }
        Ok(())
    }

    fn stop_command(&self) -> Command {
        let mut command = self.command("pg_ctl");
        command
            .args(["-m", "fast", "-w", "-t", "60", "stop", "-D"])
            .arg(&self.data);
        command
    }

    /// Tells whether the recorded process is our `postgres`: after a restart of the machine or
    /// container its id may belong to anybody.
    fn is_alive(&self) -> bool {
        let Ok(Some(Recorded { pid, .. })) = self.recorded() else {
            return false;
        };
        let command_line = if Path::new("/proc/self").exists() {
            fs::read(format!("/proc/{pid}/cmdline"))
        } else {
            let mut ps = Command::new("ps");
            ps.args(["-ww", "-o", "command=", "-p", &pid.to_string()]);
            ps.output().map(|output| output.stdout)
        };
        let command_line = command_line.unwrap_or_default();
        let command_line = String::from_utf8_lossy(&command_line).replace('\0', " ");
        let folder = format!(" -D {} ", self.data.display());
        format!("{} ", command_line.trim_end()).contains(&folder)
    }

    fn recorded(&self) -> Result<Option<Recorded>> {
        let file = self.data.join("postmaster.pid");
        let text = unless_absent(fs::read_to_string(&file)).map_err(cannot("read", &file))?;
        Ok(text.and_then(|text| Recorded::parse(&text)))
    }

    fn superuser_file(&self) -> PathBuf {
        self.home.join("postgres-superuser.password")
    }

    fn log(&self) -> PathBuf {
        self.home.join("postgres.log")
    }

    /// Returns what the server logged since its launch, at most the last 2 KiB.
    fn log_tail(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let start = self.log_start.max(log.len().saturating_sub(2048));
        String::from_utf8_lossy(log.get(start..).unwrap_or_default()).into_owned()
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        // Blocks for a moment, because a runtime that goes away would not run it later.
        if !self.options.keep_running
            && self.is_alive()
            && let Err(error) = self.stop_command().output()
        {
            warn!(%error, "cannot stop the private PostgreSQL");
        }
    }
}

/// What `postmaster.pid` says.
#[derive(Debug, PartialEq)]
struct Recorded {
    pid: u32,
    port: u16,
    bound: bool,
}

impl Recorded {
    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        let pid = lines.first()?.parse().ok()?;
        let port = lines.get(3)?.parse().ok()?;
        // The status is written once the port is bound.
        let bound = lines.get(7).is_some_and(|status| !status.is_empty());
        Some(Self { pid, port, bound })
    }
}

async fn login(port: u16, role: &str, database: &str, password: &str) -> Result<Client, SqlError> {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).dbname(database);
    config.user(role).password(password);
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_file_tells_process_port_and_whether_it_is_bound() {
        let text = "42\n/d\n1\n5433\n\n127.0.0.1\n 1 2\n";
        let recorded = |bound| {
            Some(Recorded {
                pid: 42,
                port: 5433,
                bound,
            })
        };
        assert_eq!(Recorded::parse(text), recorded(false));
        assert_eq!(
            Recorded::parse(&format!("{text}ready   \n")),
            recorded(true)
        );
        assert_eq!(Recorded::parse(""), None);
    }
}
