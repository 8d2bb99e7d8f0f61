//! `doctor`: looks at the settings and what they name, and says what to do.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};

use crate::clock;
use crate::config::Config;
use crate::database::dial::Dialer;
use crate::database::examination::{Examination, count, examine};
use crate::database::migration;
use crate::database::private::programs;
use crate::error::Chain;
use crate::master_key::MasterKey;
use crate::server::{Exposure, authenticator, check_tls, exposure};

/// How far the clocks may be apart, in seconds.
const CLOCKS: f64 = 1.0;
/// How many connections others should find free beside our budget.
const SPARE: i64 = 5;

/// What `doctor` takes: the settings of `serve`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    config: Config,
    /// How the findings are written
    #[arg(long, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// One JSON list.
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// What was found, and what to do about it.
#[derive(Debug, Serialize)]
struct Finding {
    verdict: Verdict,
    about: &'static str,
    finding: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    advice: &'static str,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, about: &'static str, finding: impl Into<String>) {
        self.add(Verdict::Ok, about, finding, "");
    }

    fn warn(&mut self, about: &'static str, finding: impl Into<String>, advice: &'static str) {
        self.add(Verdict::Warn, about, finding, advice);
    }

    fn fail(&mut self, about: &'static str, finding: impl Into<String>, advice: &'static str) {
        self.add(Verdict::Fail, about, finding, advice);
    }

    fn add(
        &mut self,
        verdict: Verdict,
        about: &'static str,
        finding: impl Into<String>,
        advice: &'static str,
    ) {
        let finding = finding.into();
        self.0.push(Finding {
            verdict,
            about,
            finding,
            advice,
        });
    }
}

/// Prints the findings; fails if one of them keeps the service from starting or working.
pub async fn run(args: DoctorArgs) -> Result<(), Box<dyn Error>> {
    let mut findings = Findings::default();
    data_folder(&args.config, &mut findings);
    master_key(&args.config, &mut findings);
    match &args.config.database_url {
        Some(url) => database(&args.config, url, &mut findings).await,
        None => private(&args.config, &mut findings).await,
    }
    let exposure = exposure(&args.config);
    for (about, host, port) in [
        ("port of gRPC", exposure.grpc_host, args.config.grpc_port),
        ("port of HTTP", args.config.host, args.config.service_port),
    ] {
        self::port(about, host, port, &mut findings).await;
    }
    access(&args.config, &exposure, &mut findings).await;
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&findings.0)?),
        Output::Table => {
            for finding in &findings.0 {
                let verdict = match finding.verdict {
                    Verdict::Ok => "OK",
                    Verdict::Warn => "WARN",
                    Verdict::Fail => "FAIL",
                };
                println!("{verdict:<5} {:<13} {}", finding.about, finding.finding);
                if !finding.advice.is_empty() {
                    println!("{:<19} -> {}", "", finding.advice);
                }
            }
        }
    }
    let failed = findings
        .0
        .iter()
        .filter(|finding| finding.verdict == Verdict::Fail)
        .count();
    match failed {
        0 => Ok(()),
        1 => Err("one thing has to be put right".into()),
        more => Err(format!("{more} things have to be put right").into()),
    }
}

fn data_folder(config: &Config, findings: &mut Findings) {
    const ABOUT: &str = "data folder";
    let folder = &config.data_dir;
    let shown = folder.display();
    match std::fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => findings.ok(ABOUT, format!("{shown} is there")),
        Ok(_) => findings.fail(
            ABOUT,
            format!("{shown} is no folder"),
            "name another one in COMM_DATA_DIR",
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            findings.ok(
                ABOUT,
                format!("{shown} is not there yet, the start makes it"),
            );
        }
        Err(error) => findings.fail(
            ABOUT,
            format!("{shown} cannot be read: {error}"),
            "run as who owns it, or name another one in COMM_DATA_DIR",
        ),
    }
}

fn master_key(config: &Config, findings: &mut Findings) {
    const ABOUT: &str = "master key";
    let path = match &config.master_key_file {
        Some(path) => path.clone(),
        None => {
            let path = config.data_dir.join("master.key");
            if !path.exists() {
                findings.ok(ABOUT, "not there yet, the first start makes it");
                return;
            }
            path
        }
    };
    if let Err(error) = MasterKey::read(&path) {
        let advice = "name the file in COMM_MASTER_KEY_FILE, `openssl rand -hex 32` makes one";
        findings.fail(ABOUT, Chain(&error).to_string(), advice);
        return;
    }
    let shown = path.display();
    if is_open_to_others(&path) {
        findings.warn(
            ABOUT,
            format!("{shown} can be read by others"),
            "take their right away: chmod 600",
        );
    } else {
        findings.ok(
            ABOUT,
            format!("{shown} is for its owner alone; keep a copy elsewhere"),
        );
    }
}

fn is_open_to_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

async fn private(config: &Config, findings: &mut Findings) {
    const ABOUT: &str = "database";
    match programs(config.pg_bin.as_deref(), &config.data_dir).await {
        Ok(folder) => {
            let shown = folder.display();
            findings.warn(
                ABOUT,
                format!("DATABASE_URL is not set: a private PostgreSQL of {shown} is used"),
                "fit for development; set DATABASE_URL in production",
            );
        }
        Err(error) => findings.fail(
            ABOUT,
            Chain(&error).to_string(),
            "install PostgreSQL 14 or newer, name its programs in COMM_PG_BIN, or set DATABASE_URL",
        ),
    }
}

async fn database(config: &Config, url: &str, findings: &mut Findings) {
    const ABOUT: &str = "database";
    let dialer = match Dialer::new(url) {
        Ok(dialer) => dialer,
        Err(_) => {
            let form = "postgresql://user:password@host:5432/database";
            findings.fail(ABOUT, "DATABASE_URL is no connection string", form);
            return;
        }
    };
    let before = clock::since_epoch().as_secs_f64();
    let examined = match examine(&dialer).await {
        Ok(examined) => examined,
        Err(error) => {
            let words = error
                .source()
                .map_or(error.to_string(), |source| Chain(source).to_string());
            let advice = "check host, port, password and pg_hba.conf";
            findings.fail(ABOUT, format!("{} : {words}", dialer.server()), advice);
            return;
        }
    };
    let after = clock::since_epoch().as_secs_f64();
    version(&dialer, &examined, findings);
    rights(&examined, findings);
    durability(config, &examined, findings);
    room(config, &examined, findings);
    let skew = if examined.clock < before {
        before - examined.clock
    } else {
        (examined.clock - after).max(0.0)
    };
    if skew > CLOCKS {
        findings.warn(
            "clocks",
            format!("this machine's and the database's are {skew:.0} s apart"),
            "let both follow a time server: tokens are checked by this machine's clock",
        );
    } else {
        findings.ok("clocks", "agree");
    }
    reach_of_public(&examined, findings);
    if examined.has_directory {
        tenants(&dialer, findings).await;
    } else {
        findings.ok("tenants", "none yet, the first start prepares the database");
    }
}

fn version(dialer: &Dialer, examined: &Examination, findings: &mut Findings) {
    const ABOUT: &str = "database";
    let version = &examined.version_text;
    let server = dialer.server();
    if examined.version < 140_000 {
        findings.fail(
            ABOUT,
            format!("PostgreSQL {version} at {server}"),
            "use version 14 or newer",
        );
    } else {
        findings.ok(ABOUT, format!("PostgreSQL {version} at {server}"));
    }
    // Some errors are told apart by their words, because the driver hides their codes.
    let language = examined.lc_messages.as_str();
    if !matches!(language, "" | "C" | "POSIX" | "C.UTF-8") && !language.starts_with("en") {
        findings.warn(
            "messages",
            format!("the server speaks `{language}`"),
            "set lc_messages = 'C': timeouts and outages are recognised by English words",
        );
    }
}

fn rights(examined: &Examination, findings: &mut Findings) {
    const ABOUT: &str = "rights";
    let account = &examined.account;
    if !examined.can_create_schemas {
        findings.fail(
            ABOUT,
            format!("{account} may not make schemas"),
            "GRANT CREATE ON DATABASE … TO the account",
        );
    }
    if !examined.can_create_roles {
        findings.warn(
            ABOUT,
            format!("{account} may not make roles: the search path alone keeps tenants apart"),
            "ALTER ROLE … CREATEROLE, before the first start",
        );
    } else if examined.is_superuser {
        findings.warn(
            ABOUT,
            format!("{account} is a superuser"),
            "CREATEROLE and CREATE on the database are enough",
        );
    } else if examined.can_create_schemas {
        findings.ok(ABOUT, format!("{account} may make roles and schemas"));
    }
}

fn durability(config: &Config, examined: &Examination, findings: &mut Findings) {
    const ABOUT: &str = "durability";
    let lost = "acknowledged messages can be lost in a crash: turn it on";
    if examined.fsync == "off" {
        findings.warn(ABOUT, "fsync is off", lost);
    }
    if examined.synchronous_commit != "off" {
        findings.ok(
            ABOUT,
            format!("synchronous_commit is {}", examined.synchronous_commit),
        );
    } else if config.allow_async_commit {
        findings.warn(ABOUT, "synchronous_commit is off", lost);
    } else {
        let advice = "turn it on, or accept the loss with COMM_ALLOW_ASYNC_COMMIT=1";
        findings.fail(ABOUT, "synchronous_commit is off", advice);
    }
}

fn room(config: &Config, examined: &Examination, findings: &mut Findings) {
    const ABOUT: &str = "connections";
    let budget = i64::from(config.db_connections);
    let free = i64::from(examined.connections) - examined.connections_taken;
    let words = format!("{budget} wanted, {free} of the server's are not taken by others");
    if free < budget {
        let advice = "raise max_connections, or lower COMM_DB_CONNECTIONS";
        findings.fail(ABOUT, words, advice);
    } else if free < budget + SPARE {
        findings.warn(
            ABOUT,
            words,
            "leave some for operators: raise max_connections",
        );
    } else {
        findings.ok(ABOUT, words);
    }
}

fn reach_of_public(examined: &Examination, findings: &mut Findings) {
    const ABOUT: &str = "isolation";
    let mut reach = Vec::new();
    if examined.public_temp {
        reach.push("make temporary tables".to_owned());
    }
    if examined.public_create {
        reach.push("make things in the schema public".to_owned());
    }
    if examined.public_tables > 0 {
        reach.push(format!("read {} tables", examined.public_tables));
    }
    if reach.is_empty() {
        findings.ok(
            ABOUT,
            "PUBLIC, and so every tenant's role, reaches nothing here",
        );
    } else {
        findings.warn(
            ABOUT,
            format!(
                "PUBLIC, and so every tenant's role, may {}",
                reach.join(", ")
            ),
            "harmless to other tenants; REVOKE it from PUBLIC if this database is for us alone",
        );
    }
}

async fn tenants(dialer: &Dialer, findings: &mut Findings) {
    const ABOUT: &str = "tenants";
    let counted = match migration::newest(&migration::TENANT) {
        Ok(newest) => count(dialer, &newest).await,
        Err(error) => Err(error),
    };
    let counted = match counted {
        Ok(counted) => counted,
        Err(error) => {
            let advice = "the account has to own the schema directory";
            findings.fail(ABOUT, format!("cannot be counted: {error}"), advice);
            return;
        }
    };
    let words = format!(
        "{} in all, {} of an older version",
        counted.tenants, counted.older
    );
    if counted.older > 0 {
        findings.warn(ABOUT, words, "run `communication-service migrate`");
    } else {
        findings.ok(ABOUT, words);
    }
    if counted.without_role > 0 {
        findings.warn(
            ABOUT,
            format!(
                "{} are kept apart by the search path alone",
                counted.without_role
            ),
            "make them again on an account with CREATEROLE",
        );
    }
}

async fn port(about: &'static str, host: IpAddr, port: u16, findings: &mut Findings) {
    let address = SocketAddr::new(host, port);
    match TcpListener::bind(address).await {
        Ok(_) => findings.ok(about, format!("{address} is free")),
        Err(error) => {
            let connecting = TcpStream::connect(address);
            let answers = tokio::time::timeout(Duration::from_secs(1), connecting).await;
            if matches!(answers, Ok(Ok(_))) {
                let words = format!("{address} is taken; that may be this very service");
                findings.warn(about, words, "otherwise choose another port");
            } else {
                let words = format!("cannot listen on {address}: {error}");
                findings.fail(about, words, "choose another address or port");
            }
        }
    }
}

async fn access(config: &Config, exposure: &Exposure, findings: &mut Findings) {
    const ABOUT: &str = "access";
    const PROTECT: &str =
        "set COMM_JWKS_FILE or COMM_JWKS_URL, and a certificate or COMM_TLS_TERMINATED";
    if let Err(error) = check_tls(config) {
        let advice = "put the file right, or name another one";
        findings.fail("TLS", Chain(&error).to_string(), advice);
    }
    if let Err(error) = authenticator(config, exposure).await {
        let advice = "put the keys right, or name others";
        findings.fail(ABOUT, Chain(&error).to_string(), advice);
    } else if let Some(warning) = exposure.warning {
        findings.warn(ABOUT, warning, PROTECT);
    } else if exposure.anonymous {
        findings.warn(
            ABOUT,
            "whoever is on this machine may do everything",
            "fit for development; set COMM_JWKS_FILE in production",
        );
    } else if exposure.grpc_host.is_loopback() && !config.host.is_loopback() {
        findings.warn(
            ABOUT,
            "gRPC stays on loopback, because nothing protects it elsewhere",
            PROTECT,
        );
    } else {
        findings.ok(ABOUT, "a token is needed with every call");
    }
}
