//! The command line, as a person or a script uses it.

use std::collections::HashSet;
use std::process::{Output, Stdio};

use communication_service::pb;
use serde_json::Value as Json;
use tokio::process::Command;
use uuid::Uuid;

use crate::harness::{
    Tables, TestServer, Whatsapp, admin, database_url, eventually, folder, unsupported, user,
};
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
async fn a_tenant_lives_and_dies_by_commands() {
    let server = TestServer::start().await;
    let slug = format!("c{}", Uuid::now_v7().simple());
    let run = async |arguments: &[&str]| {
        let all: Vec<_> = [&["tenant"], arguments].concat();
        said(&run(&server, &all).await)
    };
    let (ok, out, _) = run(&["create", &slug]).await;
    assert!(
        ok && out.contains(&format!("tenant {slug} made, schema t_")),
        "{out}"
    );
    let (ok, out, _) = run(&["create", &slug]).await;
    assert!(ok && out.contains("was there"), "{out}");
    let (ok, out, _) = run(&["suspend", &slug]).await;
    assert!(ok && out.contains("suspended"), "{out}");
    let (ok, out, _) = run(&["get", &slug, "--output", "json"]).await;
    let shown: Json = serde_json::from_str(&out).unwrap();
    assert!(ok && shown["state"] == "TENANT_STATE_SUSPENDED", "{out}");
    let (ok, out, _) = run(&["resume", &slug]).await;
    assert!(ok && out.contains("resumed"), "{out}");

    // What destroys tells its target, and does nothing unless told twice.
    let schema = shown["schema_name"].as_str().unwrap();
    let (ok, _, err) = run(&["delete", &slug]).await;
    assert!(
        !ok && err.contains(&slug) && err.contains(schema) && err.contains("--yes"),
        "{err}"
    );
    let (_, out, _) = run(&["get", &slug]).await;
    assert!(out.contains("ACTIVE"), "{out}");
    let (ok, out, err) = run(&["delete", &slug, "--yes", "--grace-days", "7"]).await;
    assert!(ok && out.contains("can be brought back until 20"), "{out}");
    assert!(err.contains(schema), "{err}");
    let lists = async |arguments: &[&str]| {
        let (ok, out, err) = run(&[&["list", "--output", "json"], arguments].concat()).await;
        assert!(ok, "{err}");
        let listed: Vec<Json> = serde_json::from_str(&out).unwrap();
        listed.iter().any(|tenant| tenant["slug"] == slug.as_str())
    };
    assert!(!lists(&[]).await);
    assert!(lists(&["--show-deleted"]).await);
    let (ok, out, _) = run(&["undelete", &slug]).await;
    assert!(ok && out.contains("undeleted"), "{out}");

    run(&["delete", &slug, "--yes"]).await;
    let (ok, _, err) = run(&["purge", &slug, "--yes"]).await;
    assert!(!ok && err.contains("set `force`"), "{err}");
    let (ok, _, err) = run(&["purge", &slug, "--force"]).await;
    assert!(
        !ok && err.contains(schema) && err.contains("--yes"),
        "{err}"
    );
    let (ok, out, _) = run(&["purge", &slug, "--force", "--yes"]).await;
    assert!(ok && out.contains("purged"), "{out}");
    let (ok, _, err) = run(&["get", &slug]).await;
    assert!(!ok && err.contains("does not exist"), "{err}");
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

    // A call with several answers prints them all.
    let request = format!(r#"{{"tenant": "{slug}", "validate_only": true}}"#);
    let call = ["call", "TenantAdminService/MigrateTenants", &request];
    let (ok, out, _) = said(&run(&server, &call).await);
    assert!(ok && out.matches("schema_version").count() == 2, "{out}");

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

#[tokio::test(flavor = "multi_thread")]
async fn quarantine_is_listed_and_replayed_by_commands() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    let tables = Tables::of(&account.tenant).await;
    let slug = account.tenant.slug();
    let run = async |arguments: &[&str]| {
        let all: Vec<_> = [&["quarantine"], arguments, &["--tenant", &slug]].concat();
        said(&run(&server, &all).await)
    };
    let lines = async |arguments: &[&str]| {
        let (ok, out, err) = run(&[&["list"], arguments].concat()).await;
        assert!(ok, "{err}");
        let lines = out.lines().skip(1).map(str::to_owned);
        lines.collect::<Vec<_>>()
    };
    assert_eq!(lines(&[]).await, [""; 0]);
    // The database refuses the second message of a batch, and a poll is not understood.
    let refuse = format!(
        "ALTER TABLE {}.inbox_messages ADD CONSTRAINT refusal CHECK (text <> 'second') NOT VALID",
        tables.schema
    );
    tables.admin.batch_execute(&refuse).await.unwrap();
    account.post_sample(&server, "25_batch.json").await;
    let poll = unsupported(&account.number);
    assert_eq!(account.post(&server, &poll).await, 200);
    eventually("both wait", async || lines(&[]).await.len() == 2).await;
    let listed = lines(&["--channel", "whatsapp"]).await;
    let failed = listed
        .iter()
        .find(|line| line.contains(" FAILED "))
        .unwrap();
    let poll = listed
        .iter()
        .find(|line| line.contains(" UNSUPPORTED "))
        .unwrap();
    assert!(poll.ends_with("edit of poll"), "{poll}");
    assert!(
        failed.contains(&slug) && failed.contains(" whatsapp "),
        "{failed}"
    );
    assert_eq!(lines(&["--channel", "zendesk"]).await, [""; 0]);
    let (_, out, _) = run(&["list", "--output", "json"]).await;
    let items: Vec<Json> = serde_json::from_str(&out).unwrap();
    let place = format!(
        "{}/{}",
        items[0]["delivery_id"].as_str().unwrap(),
        items[0]["item"]
    );
    assert!(
        listed[0].starts_with(&format!("{place} ")),
        "{place}: {listed:?}"
    );

    let place = poll.split_whitespace().next().unwrap();
    let (ok, out, err) = run(&["replay", place]).await;
    assert!(
        out.contains(&format!("{place}: stays, UNSUPPORTED: edit of poll\n")),
        "{out}"
    );
    assert!(
        !ok && err.contains("1 items could not be replayed"),
        "{err}"
    );
    let mend = refuse.replace(
        "ADD CONSTRAINT refusal CHECK (text <> 'second') NOT VALID",
        "DROP CONSTRAINT refusal",
    );
    tables.admin.batch_execute(&mend).await.unwrap();
    let (ok, out, _) = run(&["replay", "--all"]).await;
    let place = failed.split_whitespace().next().unwrap();
    assert!(out.contains(&format!("{place}: replayed\n")), "{out}");
    assert!(!ok && out.ends_with("1 of 2 items replayed\n"), "{out}");
    let (ok, out, err) = run(&["replay", place]).await;
    assert!(ok && out.ends_with("1 of 1 items replayed\n"), "{out}{err}");
    assert_eq!(lines(&[]).await, std::slice::from_ref(poll));
    assert_eq!(lines(&["--show-replayed"]).await.len(), 2);
    let texts = tables
        .count("SELECT count(*) FROM {schema}.inbox_messages")
        .await;
    assert_eq!(texts, 2);

    for (wrong, word) in [
        (&["replay"][..], "DELIVERY/ITEM"),
        (&["replay", "x"], "has no `/`"),
        (&["replay", "x/1"], "delivery_id"),
        (&["replay", "--all", "x/1"], "--all"),
        (&["list", "--channel", "telegram"], "is no channel"),
    ] {
        let (ok, out, err) = run(wrong).await;
        assert!(!ok && format!("{out}{err}").contains(word), "{out}{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn call_takes_the_words_of_rest_and_says_which_there_are() {
    let server = TestServer::start().await;
    let slug = server.tenant().await.slug();
    let call = async |request: &str| {
        let request = request.replace("{slug}", &slug);
        let call = ["call", "InboxService/CreateConversation", &request];
        said(&run(&server, &call).await)
    };
    let (ok, out, err) =
        call(r#"{"tenant": "{slug}", "channel": "email", "contact_identifier": "a@example.com"}"#)
            .await;
    assert!(ok && out.contains(r#""channel": "CHANNEL_EMAIL""#), "{err}");
    for (request, problem) in [
        (
            r#"{"chanel": "email"}"#,
            "`chanel` is not known; there are `tenant`, ",
        ),
        (
            r#"{"channel": "fax"}"#,
            "`channel` must be one of `whatsapp`, ",
        ),
        (
            r#"{"actor": {"id": "a"}}"#,
            "`actor.id` is not known; there are `user_id`, ",
        ),
        ("[]", "is no JSON object"),
    ] {
        let (ok, _, err) = call(request).await;
        assert!(!ok && err.contains(problem), "{request}: {err}");
    }
}

#[test]
fn call_ends_quietly_where_nobody_reads_on() {
    let program = env!("CARGO_BIN_EXE_communication-service");
    let mut call = std::process::Command::new(program)
        .arg("call")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(call.stdout.take());
    let ended = call.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.stderr, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_webhook_posts_a_message_that_can_be_listed_at_once() {
    let server = TestServer::start().await;
    let account = Whatsapp::new(server.tenant().await);
    let http = server.http.to_string();
    let data = folder();
    let data = data.to_str().unwrap();
    let slug = account.tenant.slug();
    let arguments = [
        "demo",
        "webhook",
        "--tenant",
        &slug,
        "--http",
        &http,
        "--data-dir",
        data,
    ];
    for count in 1..=2 {
        let output = run(&server, &arguments).await;
        assert!(output.status.success(), "{}", said(&output).2);
        let conversations = account.conversations().await;
        assert_eq!(conversations.len(), 1);
        assert_eq!(conversations[0].last_sequence, count);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_fill_tells_its_stories_once() {
    let server = TestServer::start().await;
    let account = Whatsapp::new(server.tenant().await);
    let slug = account.tenant.slug();
    let arguments = ["demo", "fill", "--tenant", &slug, "--days", "0"];
    for _ in 0..2 {
        let output = run(&server, &arguments).await;
        assert!(output.status.success(), "{}", said(&output).2);
        let conversations = account.conversations().await;
        assert_eq!(conversations.len(), 6);
        let messages: i64 = conversations
            .iter()
            .map(|conversation| conversation.last_sequence)
            .sum();
        assert_eq!(messages, 18);
        // And the team talks about them, once.
        let mut chat = account.tenant.chat.clone();
        let of_mira = pb::ListChannelsRequest {
            tenant: slug.clone(),
            actor: user("mira"),
            joined: true,
            ..Default::default()
        };
        let channels = chat.list_channels(of_mira).await.unwrap().into_inner();
        let said: i64 = channels.channels.iter().map(|it| it.last_sequence).sum();
        assert_eq!((channels.channels.len(), said), (4, 18));
        let about = |it: &&pb::ChatChannel| !it.conversation_id.is_empty();
        assert_eq!(channels.channels.iter().filter(about).count(), 1);
        let of_lea = pb::GetUnreadCountsRequest {
            tenant: slug.clone(),
            actor: user("lea"),
            ..Default::default()
        };
        let counts = chat.get_unread_counts(of_lea).await.unwrap().into_inner();
        assert!(counts.channels.iter().any(|it| it.unread_count > 0));
        assert!(counts.channels.iter().any(|it| it.mention_count > 0));
        assert!(counts.channels.iter().any(|it| it.unread_thread_count > 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_fill_has_a_past_that_statistics_tell_of() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let slug = tenant.slug();
    let arguments = ["demo", "fill", "--tenant", &slug, "--days", "8"];
    let output = run(&server, &arguments).await;
    let (ok, out, err) = said(&output);
    assert!(ok, "{err}");
    let told: i64 = out.split_whitespace().nth(3).unwrap().parse().unwrap();
    assert!(told > 50, "{out}");
    let mut inbox = tenant.inbox.clone();
    let times = pb::GetResponseTimesRequest {
        tenant: slug.clone(),
        interval: pb::StatisticsInterval::Day.into(),
        group_by: pb::ResponseTimesGrouping::Agent.into(),
        ..Default::default()
    };
    let times = inbox.get_response_times(times).await.unwrap().into_inner();
    let answered = times.response_times.iter().filter(|times| {
        let first = times.first_response.as_ref().unwrap();
        let wall = first.wall.as_ref();
        wall.is_some_and(|wall| wall.p50.as_ref().unwrap().seconds > 60)
    });
    let days: HashSet<_> = answered
        .map(|times| times.start_time.unwrap().seconds)
        .collect();
    assert!(days.len() >= 5, "{days:?}");
    let recomputed = loop {
        let request = pb::RecomputeStatisticsRequest {
            tenant: slug.clone(),
        };
        let answer = inbox
            .recompute_statistics(request)
            .await
            .unwrap()
            .into_inner();
        if answer.done {
            break answer;
        }
    };
    assert!(recomputed.agreed, "{recomputed:?}");
    // The line that it prints can be pasted.
    let line = out.lines().find(|line| line.contains("GetResponseTimes"));
    let line = line.unwrap().trim_end_matches('\'');
    let (call, request) = line.split_once(" '").unwrap();
    let words: Vec<_> = call.split(' ').skip(1).chain([request]).collect();
    let (ok, answer, err) = said(&run(&server, &words).await);
    assert!(ok && answer.contains("mira"), "{answer} {err}");
    // Once more, it tells nothing.
    let (ok, again, err) = said(&run(&server, &arguments).await);
    assert!(ok, "{err}");
    assert_eq!(again, out);
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
    let output = examine(&["--output", "json"], &healthy).await;
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
    let output = examine(&[], &ill).await;
    assert!(!output.status.success());
    let text = said(&output).1;
    assert!(text.contains("FAIL  connections"), "{text}");
    assert!(text.contains("-> raise max_connections"), "{text}");
}

/// Runs `doctor` with settings.
async fn examine(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_communication-service"))
        .arg("doctor")
        .args(arguments)
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap()
}
