//! The command line, as a person or a script uses it.

use std::process::{Output, Stdio};

use tokio::process::Command;

use crate::harness::{TestServer, admin};
use crate::migration::age;

/// Runs a command against a server.
async fn run(server: &TestServer, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_communication-service"))
        .args(arguments)
        .env("COMM_SERVER", format!("http://{}", server.grpc))
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap()
}

/// What a command wrote and where, and whether it succeeded.
fn said(output: &Output) -> (bool, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.success(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_tells_of_each_tenant_and_fails_where_one_does() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let (slug, database) = (tenant.slug(), admin().await);
    age(&database, &tenant.tenant).await;
    let schema = &tenant.tenant.schema_name;
    let in_the_way = format!("CREATE TABLE \"{schema}\".channels ()");
    database.batch_execute(&in_the_way).await.unwrap();

    let arguments = ["migrate", "--tenant", &slug];
    let (ok, out, err) = said(&run(&server, &arguments).await);
    assert!(!ok);
    assert!(out.contains(&format!("{slug}: FAILED")), "{out}");
    assert!(err.contains(&format!("{slug}: migration `")), "{err}");
    assert!(err.contains("1 tenants could not be migrated"), "{err}");

    let clear = format!("DROP TABLE \"{schema}\".channels");
    database.batch_execute(&clear).await.unwrap();
    let dry = ["migrate", "--tenant", &slug, "--dry-run"];
    let (ok, out, _) = said(&run(&server, &dry).await);
    assert!(
        ok && out.contains(&format!("{slug}: would go from")),
        "{out}"
    );
    let (ok, out, _) = said(&run(&server, &arguments).await);
    assert!(ok && out.contains("1 of 1 tenants migrated"), "{out}");
    let (ok, out, _) = said(&run(&server, &arguments).await);
    assert!(ok && out.contains("0 of 0 tenants migrated"), "{out}");
}
