//! What providers entrust to us is readable nowhere, and opens in its own place alone.

use communication_service::pb::{EmailProvider, Gateway, TwilioCallSettings};

use crate::harness::{ACCESS_TOKEN, Provider, SECRET, Tables, TestServer, eventually};

/// How bytes may be shown in a text.
fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_a_provider_is_readable_in_the_database() {
    let server = TestServer::start().await;
    let call = TwilioCallSettings::default();
    let accounts = [
        Provider::messenger(&server).await,
        Provider::instagram(&server).await,
        Provider::twilio_whatsapp(&server).await,
        Provider::twilio_call(&server, call).await,
        Provider::personal_whatsapp(&server, Gateway::Waha).await,
        Provider::personal_whatsapp(&server, Gateway::Evolution).await,
        Provider::tickets(&server).await,
        Provider::zendesk_conversations(&server).await,
        Provider::email(&server, EmailProvider::Postmark).await,
        Provider::email(&server, EmailProvider::Mailgun).await,
    ];
    for account in &accounts {
        let file = account.samples().remove(0);
        account.post_sample(&server, &file).await;
        assert!(!format!("{:?}", account.account).contains(SECRET));
        let tables = Tables::of(&account.tenant).await;
        let dump = tables.dump(&tables.schema).await;
        // What the tenant may read is there.
        assert!(dump.contains(&account.account.id), "{file}");
        for canary in [SECRET, ACCESS_TOKEN] {
            assert!(!dump.contains(canary), "{canary} after {file}");
            assert!(!dump.contains(&hex(canary)), "{canary} after {file}");
        }
    }
    let directory = Tables::of(&accounts[0].tenant)
        .await
        .dump("directory")
        .await;
    for account in &accounts {
        assert!(directory.contains(&account.account.id));
    }
    for canary in [SECRET, ACCESS_TOKEN] {
        assert!(!directory.contains(canary), "{canary}");
        assert!(!directory.contains(&hex(canary)), "{canary}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_was_moved_or_changed_opens_nothing() {
    let server = TestServer::start().await;
    let page = Provider::messenger(&server).await;
    let other = Provider::messenger(&server).await;
    let (id, others) = (&page.account.id, &other.account.id);
    let tables = Tables::of(&page.tenant).await;
    let keep = format!(
        "CREATE TABLE {}.kept AS SELECT a.id, a.secrets, a.tenant_id
        FROM directory.provider_apps a, directory.channel_accounts c
        WHERE c.id = '{id}' AND a.id = c.app_id",
        tables.schema
    );
    tables.admin.batch_execute(&keep).await.unwrap();
    let change = async |to: &str| {
        let change = format!(
            "UPDATE directory.provider_apps a SET {to} FROM {}.kept WHERE a.id = kept.id",
            tables.schema
        );
        tables.admin.batch_execute(&change).await.unwrap();
    };
    let of_other = |columns: &str| {
        format!(
            "(SELECT {columns} FROM directory.provider_apps a, directory.channel_accounts c
            WHERE c.id = '{others}' AND a.id = c.app_id)"
        )
    };
    let body = page.sample("01_text.json");
    let answers = async |status: u16| {
        // What was read is known for a moment.
        let told = format!("the webhook is answered {status}");
        eventually(&told, async || page.post(&server, &body).await.0 == status).await;
    };
    answers(200).await;
    let one = "get_byte(a.secrets, 20) # 1";
    for damaged in [
        // Both apps have the same secret.
        format!("secrets = {}", of_other("a.secrets")),
        // Under another name, since each has an app of this one.
        format!(
            "tenant_id = {}, external_id = kept.id::text",
            of_other("a.tenant_id")
        ),
        "tenant_id = NULL, external_id = kept.id::text".to_owned(),
        format!("secrets = (SELECT secrets FROM directory.channel_accounts WHERE id = '{id}')"),
        "secrets = substr(a.secrets, 1, length(a.secrets) - 1)".to_owned(),
        format!("secrets = set_byte(a.secrets, 20, {one})"),
        "secrets = ''".to_owned(),
    ] {
        change(&damaged).await;
        // It is not believed, and whoever sent it shall send it again.
        answers(503).await;
        change("secrets = kept.secrets, tenant_id = kept.tenant_id, external_id = '2'").await;
        answers(200).await;
    }
    page.applied().await;
    assert_eq!(page.messages().await.len(), 1);
    assert_eq!(other.conversations().await, []);
}
