//! What Twilio told while we were away is found in its log: each message and call once, as it would
//! have come, with its files, and with a mark.

use communication_service::pb::{
    Message, MessageDirection, MessageType, TransferChannelAccountRequest, TwilioCallSettings,
};
use serde_json::json;

use crate::harness::{
    FileHost, MAILBOX_IS_FREE, Provider, Tables, TestServer, Told, eventually, json_of, now, within,
};

const JSON: &str = "application/json";
/// When the log was read to last: 2026-03-14T09:20:00Z.
const READ_TO: i64 = 1_773_480_000;

async fn server_with(host: &FileHost) -> TestServer {
    let (url, trusted) = (host.url(""), host.address.to_string());
    TestServer::start_with(|config| {
        config.twilio_url = url;
        config.trusted_hosts = vec![trusted.parse().unwrap()];
    })
    .await
}

fn metadata_of(message: &Message) -> serde_json::Value {
    json_of(message.metadata.as_ref().unwrap())
}

fn tells(host: &FileHost, path: &str, answer: &serde_json::Value) {
    let answer = answer.to_string().into_bytes();
    host.tells(path, [Told::File(JSON, answer)]);
}

/// Lets the log of an account be read from that time on, until it was. Any server of the tests may
/// read it: those that know no Twilio fail, and it is read again.
async fn read_log(account: &Provider) {
    let tables = Tables::of(&account.tenant).await;
    let id = &account.account.id;
    let again = format!(
        "UPDATE directory.mailboxes SET cursor = {READ_TO}, due_at = directory.now(), failures = 0,
            lease = NULL, leased_until = NULL
        WHERE account_id = '{id}'"
    );
    tables.admin.batch_execute(&again).await.unwrap();
    let soon = format!(
        "UPDATE directory.mailboxes
        SET due_at = directory.now(), lease = NULL, leased_until = NULL
        WHERE account_id = '{id}' AND cursor = {READ_TO}
            AND {MAILBOX_IS_FREE}"
    );
    let read = format!(
        "SELECT count(*) FROM directory.mailboxes
        WHERE account_id = '{id}' AND cursor > {READ_TO} AND lease IS NULL"
    );
    within(
        std::time::Duration::from_secs(60),
        "the log is read",
        async || {
            tables.admin.batch_execute(&soon).await.unwrap();
            tables.count(&read).await == 1
        },
    )
    .await;
    applied(&tables).await;
}

/// What was found is applied.
async fn applied(tables: &Tables) {
    let waiting = "SELECT count(*) FROM directory.deliveries d
        JOIN directory.provider_apps a ON a.id = d.app_id
        JOIN directory.tenants t ON t.id = a.tenant_id
        WHERE t.schema_name = replace('{schema}', '\"', '') AND d.due_at IS NOT NULL";
    eventually("all is applied", async || tables.count(waiting).await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_did_not_come_are_found_once_with_their_files() {
    let host = FileHost::open().await;
    let server = server_with(&host).await;
    let account = Provider::twilio_whatsapp(&server).await;
    // One has come, and so has a reaction to it.
    account.post_sample(&server, "01_text.form").await;
    account.applied().await;
    let came = account.messages().await.remove(0);
    let tables = Tables::of(&account.tenant).await;
    let known = "SELECT provider_id FROM {schema}.provider_events WHERE kind = 'message'"
        .replace("{schema}", &tables.schema);
    let known: String = tables.admin.query_one(&known, &[]).await.unwrap().get(0);
    let sid = account.account_sid();
    let entry = |of: &str, body: &str, files: u32| {
        json!({"sid": of, "account_sid": sid, "from": "whatsapp:+15550109911",
            "to": "whatsapp:+15550002001", "body": body, "num_media": files.to_string(),
            "direction": "inbound", "status": "received",
            "date_sent": "Sat, 14 Mar 2026 09:05:00 +0000",
            "subresource_uris": {"media": format!("/2010-04-01/Accounts/{sid}/Messages/{of}/Media.json")}})
    };
    let first = format!(
        "/2010-04-01/Accounts/{sid}/Messages.json?To=whatsapp%3A%2B15550002001&DateSent%3E=2026-03-14T08%3A20%3A00Z&PageSize=1000"
    );
    let second = format!("/2010-04-01/Accounts/{sid}/Messages.json?Page=1&PageToken=PA1");
    tells(
        &host,
        &first,
        &json!({"messages": [entry("SMnewest", "Are you there?", 0), entry(&known, &came.text, 0)],
            "next_page_uri": second}),
    );
    tells(
        &host,
        &second,
        &json!({"messages": [entry("SMfile", "", 1),
            {"sid": "SMours", "account_sid": sid, "direction": "outbound-api", "body": "No"}],
            "next_page_uri": null}),
    );
    let media = format!("/2010-04-01/Accounts/{sid}/Messages/SMfile/Media");
    tells(
        &host,
        &format!("{media}.json"),
        &json!({"media_list": [{"uri": format!("{media}/ME1.json"), "content_type": "image/png"}]}),
    );
    host.tells(
        &format!("{media}/ME1"),
        [Told::File(
            "image/png",
            b"\x89PNG\r\n\x1a\n and more".to_vec(),
        )],
    );
    for _ in 0..2 {
        read_log(&account).await;
        let messages = account.messages().await;
        let texts: Vec<_> = messages
            .iter()
            .map(|message| message.text.as_str())
            .collect();
        assert_eq!(texts, [&came.text, "", "Are you there?"], "{messages:?}");
        for found in &messages[1..] {
            assert_eq!(found.direction(), MessageDirection::Inbound);
            assert_eq!(metadata_of(found)["recovered"], true);
            assert_eq!(found.provider_time.unwrap().seconds, 1_773_479_100);
        }
        assert_eq!(messages[1].r#type(), MessageType::Image);
        assert_eq!(messages[1].attachments.len(), 1);
    }
    assert!(metadata_of(&came).get("recovered").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_told_of_is_there_and_one_that_was_has_its_end() {
    let host = FileHost::open().await;
    let server = server_with(&host).await;
    let account = Provider::twilio_call(&server, TwilioCallSettings::default()).await;
    account.post_sample(&server, "01_incoming.form").await;
    account.applied().await;
    let tables = Tables::of(&account.tenant).await;
    let known = "SELECT provider_id FROM {schema}.provider_events WHERE kind = 'message'"
        .replace("{schema}", &tables.schema);
    let known: String = tables.admin.query_one(&known, &[]).await.unwrap().get(0);
    let sid = account.account_sid();
    let call = |of: &str, status: &str| {
        json!({"sid": of, "account_sid": sid, "from": "+15550107777", "to": "+15550002002",
            "direction": "inbound", "status": status, "duration": "42",
            "start_time": "Sat, 14 Mar 2026 09:05:00 +0000"})
    };
    let path = format!(
        "/2010-04-01/Accounts/{sid}/Calls.json?To=%2B15550002002&StartTime%3E=2026-03-14T08%3A20%3A00Z&PageSize=1000"
    );
    tells(
        &host,
        &path,
        &json!({"calls": [call("CArings", "ringing"), call("CAmissed", "no-answer"),
            call(&known, "completed")], "next_page_uri": null}),
    );
    for _ in 0..2 {
        read_log(&account).await;
        let conversations = account.conversations().await;
        assert_eq!(conversations.len(), 2, "{conversations:?}");
        let mut calls = Vec::new();
        for conversation in &conversations {
            let messages = account.tenant.messages(conversation).await;
            assert_eq!(messages.len(), 1, "{messages:?}");
            calls.push(metadata_of(&messages[0])["call"]["status"].clone());
        }
        calls.sort_by_key(ToString::to_string);
        assert_eq!(calls, ["completed", "no-answer"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_moves_takes_no_messages_along_and_a_fresh_entry_has_to_wait() {
    let host = FileHost::open().await;
    let server = server_with(&host).await;
    let account = Provider::twilio_whatsapp(&server).await;
    let target = server.tenant().await;
    let tables = Tables::of(&account.tenant).await;
    let id = account.account.id.clone();
    let behind =
        format!("UPDATE directory.mailboxes SET cursor = {READ_TO} WHERE account_id = '{id}'");
    tables.admin.batch_execute(&behind).await.unwrap();
    let request = TransferChannelAccountRequest {
        tenant: account.tenant.slug(),
        channel_account_id: id.clone(),
        target_tenant: target.slug(),
    };
    let mut admin = server.tenant_admin();
    admin.transfer_channel_account(request).await.unwrap();
    // It begins now.
    let old = format!(
        "SELECT count(*) FROM directory.mailboxes WHERE account_id = '{id}' AND cursor = {READ_TO}"
    );
    assert_eq!(tables.count(&old).await, 0);

    // Its webhook says more, and has some minutes to come.
    let other = Provider::twilio_whatsapp(&server).await;
    let sid = other.account_sid();
    let just_now = chrono::DateTime::from_timestamp(i64::try_from(now()).unwrap(), 0);
    let just_now = just_now.unwrap().to_rfc2822();
    tells(
        &host,
        &format!(
            "/2010-04-01/Accounts/{sid}/Messages.json?To=whatsapp%3A%2B15550002001&DateSent%3E=2026-03-14T08%3A20%3A00Z&PageSize=1000"
        ),
        &json!({"messages": [{"sid": "SMfresh", "account_sid": sid, "direction": "inbound",
            "from": "whatsapp:+15550109911", "to": "whatsapp:+15550002001", "body": "Now",
            "num_media": "0", "date_sent": just_now}], "next_page_uri": null}),
    );
    read_log(&other).await;
    assert!(other.conversations().await.is_empty());
}
