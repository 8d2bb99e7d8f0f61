//! The database: a PostgreSQL of the run's own, and pgbench beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use communication_service::database::private::{PrivateOptions, PrivateServer};
use tokio::process::Command;
use tokio_postgres::{Client, NoTls};

use crate::Failure;
use crate::process::{Cpu, Meter};

/// Drops the indexes of the schema that is filled, but for those of constraints, and its foreign
/// keys: many rows are stored in a fraction of the time, and `BUILD_INDEXES` brings them all back.
pub const DROP_INDEXES: &str = "
    CREATE TEMP TABLE dropped AS
    SELECT format('DROP INDEX %I', p.indexname) AS drop, p.indexdef AS build
    FROM pg_indexes p
    WHERE p.schemaname = current_schema() AND p.indexdef NOT LIKE 'CREATE UNIQUE %'
    UNION ALL
    SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', c.conrelid::regclass, c.conname),
        format('ALTER TABLE %s ADD CONSTRAINT %I %s NOT VALID', c.conrelid::regclass, c.conname,
            replace(pg_get_constraintdef(c.oid), ' NOT VALID', ''))
    FROM pg_constraint c
    WHERE c.connamespace = current_schema()::regnamespace AND c.contype = 'f';
    DO $$
    DECLARE
        statement text;
    BEGIN
        FOR statement IN SELECT d.drop FROM dropped d LOOP
            EXECUTE statement;
        END LOOP;
    END $$;";

/// Builds what `DROP_INDEXES` has dropped.
pub const BUILD_INDEXES: &str = "
    SET maintenance_work_mem = '512MB';
    DO $$
    DECLARE
        statement text;
    BEGIN
        FOR statement IN SELECT d.build FROM dropped d LOOP
            EXECUTE statement;
        END LOOP;
    END $$;
    DROP TABLE dropped;
    RESET maintenance_work_mem;";

/// A running PostgreSQL.
pub struct Postgres {
    server: PrivateServer,
    /// The process id of its first process.
    pub pid: u32,
    /// Logged in as the service's own account, which owns every schema.
    pub admin: Client,
    programs: PathBuf,
}

/// A statement for pgbench.
pub struct Script {
    /// Where it is.
    pub file: PathBuf,
    /// The arguments that give its variables their values.
    pub variables: Vec<String>,
}

/// What pgbench has done.
pub struct Outcome {
    /// Transactions each second, logins and the first second left out.
    pub rate: f64,
    /// How many there were in all.
    pub calls: f64,
    /// What was used for all of them, logins included.
    pub cpu: Cpu,
}

impl Postgres {
    /// Starts the PostgreSQL of a folder.
    pub async fn start(folder: &Path, fsync: bool, connections: u32) -> Result<Self, Failure> {
        let server = PrivateServer::start(PrivateOptions {
            data_dir: folder.to_owned(),
            bin_dir: None,
            fsync,
            max_connections: connections,
            keep_running: false,
        })
        .await?;
        let lock = fs::read_to_string(folder.join("postgres/postmaster.pid"))?;
        let pid: u32 = lock.lines().next().unwrap_or_default().parse()?;
        let program = fs::read_link(format!("/proc/{pid}/exe"))?;
        let (admin, connection) = tokio_postgres::connect(server.url(), NoTls).await?;
        tokio::spawn(connection);
        Ok(Self {
            pid,
            admin,
            programs: program.parent().unwrap_or(Path::new("/")).to_owned(),
            server,
        })
    }

    /// The address of the service's own account.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// Stops it.
    pub async fn stop(self) -> Result<(), Failure> {
        Ok(self.server.stop().await?)
    }

    /// The settings of the one tenant's role, as start-up options. pgbench logs in as the
    /// service's own account, because no password of a tenant's role leaves the service; with
    /// these, its statements are planned and run as the tenant's are.
    pub async fn session_options(&self) -> Result<String, Failure> {
        let sql = "SELECT unnest(s.setconfig) FROM directory.tenants t
            JOIN pg_roles r ON r.rolname = t.role_name
            JOIN pg_db_role_setting s ON s.setrole = r.oid";
        let rows = self.admin.query(sql, &[]).await?;
        let options = rows
            .iter()
            .map(|row| format!("-c {}", row.get::<_, String>(0)));
        Ok(options.collect::<Vec<_>>().join(" "))
    }

    /// How many connections the one tenant has.
    pub async fn connections(&self) -> Result<usize, Failure> {
        let sql = "SELECT count(*) FROM pg_stat_activity a
            JOIN directory.tenants t ON t.role_name = a.usename";
        let count: i64 = self.admin.query_one(sql, &[]).await?.get(0);
        Ok(usize::try_from(count)?)
    }

    /// How many connections there are, those that are still logging in included and this one not.
    pub async fn clients(&self) -> Result<usize, Failure> {
        let sql = "SELECT count(*) FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        let count: i64 = self.admin.query_one(sql, &[]).await?.get(0);
        Ok(usize::try_from(count)?)
    }

    /// Lets pgbench run a script over so many connections, with a second before that does not
    /// count for the rate.
    pub async fn pgbench(
        &self,
        script: &Script,
        options: &str,
        clients: usize,
        span: Duration,
        meter: Meter,
    ) -> Result<Outcome, Failure> {
        let before = meter.read()?;
        let output = Command::new(self.programs.join("pgbench"))
            .args(["--no-vacuum", "--protocol=prepared", "--jobs=2"])
            .arg(format!("--client={clients}"))
            .arg("--progress=1")
            .arg(format!("--time={}", span.as_secs() + 1))
            .arg(format!("--file={}", script.file.display()))
            .args(&script.variables)
            .arg(self.url())
            .env("PGOPTIONS", options)
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| format!("pgbench, of PostgreSQL's contrib, cannot be run: {error}"))?;
        let cpu = meter.since(before)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let progress = String::from_utf8_lossy(&output.stderr);
        let said = || format!("pgbench says: {progress}");
        let processed = "number of transactions actually processed: ";
        let calls = text.lines().find_map(|line| line.strip_prefix(processed));
        let calls = calls.and_then(|rest| rest.split_whitespace().next());
        // progress: 2.0 s, 21038.9 tps, lat 1.519 ms stddev 1.035, 0 failed
        let rates = progress.lines().filter_map(|line| {
            let (_, rest) = line.strip_prefix("progress: ")?.split_once(" s, ")?;
            rest.split_once(" tps")?.0.parse::<f64>().ok()
        });
        let rates: Vec<f64> = rates.skip(1).collect();
        if rates.is_empty() {
            return Err(said().into());
        }
        Ok(Outcome {
            rate: rates.iter().sum::<f64>() / rates.len() as f64,
            calls: calls.ok_or_else(said)?.parse()?,
            cpu,
        })
    }
}

/// Writes a statement of the service for pgbench: the same text, each parameter replaced by what
/// `values` has for its name in `input`.
pub fn script(statement: &str, values: &[(&str, &str)]) -> Result<String, Failure> {
    let drawn = format!("\\set c random(1, {})\n", crate::CONVERSATIONS);
    Ok(format!("{drawn}{};\n", filled(statement, values)?))
}

/// A statement with values in the place of its parameters.
pub fn filled(statement: &str, values: &[(&str, &str)]) -> Result<String, Failure> {
    let mut text = String::new();
    let mut rest = statement;
    while let Some((head, tail)) = rest.split_once('$') {
        let end = tail.find(|c: char| !c.is_ascii_digit());
        let (number, tail) = tail.split_at(end.unwrap_or(tail.len()));
        let named = tail.strip_prefix(" AS ");
        let named = named.ok_or_else(|| format!("`${number}` has no name in:\n{statement}"))?;
        let end = named.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let name = &named[..end.unwrap_or(named.len())];
        let value = values.iter().find(|(known, _)| *known == name);
        let (_, value) = value.ok_or_else(|| format!("no value for `{name}` of:\n{statement}"))?;
        text.push_str(head);
        text.push_str(value);
        rest = tail;
    }
    text.push_str(rest);
    Ok(text)
}
