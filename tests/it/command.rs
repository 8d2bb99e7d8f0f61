//! The commands, as a person runs them.

use std::process::Output;

use tokio::process::Command;

use crate::harness::{TestServer, Whatsapp, database_url, folder};

async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_communication-service"))
        .args(arguments)
        .envs(variables.iter().copied())
        .output()
        .await
        .unwrap()
}

fn words(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8(both).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_webhook_posts_a_message_that_can_be_listed_at_once() {
    let server = TestServer::start().await;
    let account = Whatsapp::new(server.tenant().await);
    let (grpc, http) = (server.grpc_url(), server.http.to_string());
    let data = folder();
    let data = data.to_str().unwrap();
    let slug = account.tenant.slug();
    let arguments = [
        "demo",
        "webhook",
        "--tenant",
        &slug,
        "--server",
        &grpc,
        "--http",
        &http,
        "--data-dir",
        data,
    ];
    for count in 1..=2 {
        let output = run(&arguments, &[]).await;
        assert!(output.status.success(), "{}", words(&output));
        let conversations = account.conversations().await;
        assert_eq!(conversations.len(), 1);
        assert_eq!(conversations[0].last_sequence, count);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_fill_tells_its_stories_once() {
    let server = TestServer::start().await;
    let account = Whatsapp::new(server.tenant().await);
    let grpc = server.grpc_url();
    let slug = account.tenant.slug();
    for _ in 0..2 {
        let output = run(&["demo", "fill", "--tenant", &slug, "--server", &grpc], &[]).await;
        assert!(output.status.success(), "{}", words(&output));
        let conversations = account.conversations().await;
        assert_eq!(conversations.len(), 6);
        let messages: i64 = conversations
            .iter()
            .map(|conversation| conversation.last_sequence)
            .sum();
        assert_eq!(messages, 18);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_tells_what_is_wrong_and_what_to_do() {
    let url = database_url().await;
    let data = folder();
    let data = data.to_str().unwrap();
    let healthy = [
        ("DATABASE_URL", url),
        ("COMM_DATA_DIR", data),
        ("GRPC_PORT", "0"),
        ("SERVICE_PORT", "0"),
        ("COMM_DB_CONNECTIONS", "10"),
    ];
    let output = run(&["doctor", "--output", "json"], &healthy).await;
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let about = |what: &str| {
        let findings = findings.as_array().unwrap();
        let found = findings.iter().find(|finding| finding["about"] == what);
        found.unwrap_or_else(|| panic!("{what} in {findings:?}"))["verdict"].clone()
    };
    assert_eq!(about("database"), "OK");
    assert_eq!(about("clocks"), "OK");
    // The server that tests share does not wait for the disk.
    assert_eq!(about("durability"), "WARN");

    let mut ill = healthy;
    ill[4].1 = "60000";
    let output = run(&["doctor"], &ill).await;
    assert!(!output.status.success());
    let text = words(&output);
    assert!(text.contains("FAIL  connections"), "{text}");
    assert!(text.contains("-> raise max_connections"), "{text}");
}
