//! Mailboxes at Gmail: a push says that there is something new, and the mailbox is read from where it
//! was read to last; no push is needed for that, and none moves the place.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use communication_service::pb::connect_channel_account_request::Settings;
use communication_service::pb::{
    AttachmentState, ChannelAccount, ConnectChannelAccountRequest, GetChannelAccountRequest,
    GmailSecrets, GmailSettings, MessageDirection, channel_account,
};
use uuid::Uuid;

use crate::harness::{
    FileHost, MAILBOX_IS_FREE, PUBLIC_URL, SECRET, Tables, TestServer, TestTenant, Told,
    eventually, now, within,
};

const FIRST: &str = "18e3a0000000001a";
const SECOND: &str = "18e3a0000000002b";
const JSON: &str = "application/json";
const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

fn sample(file: &str) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    std::fs::read_to_string(format!("{root}/tests/samples/gmail/{file}")).unwrap()
}

/// Google, as far as it matters here.
struct Google {
    host: FileHost,
    key: RsaKeyPair,
}

impl Google {
    async fn open() -> Self {
        let host = FileHost::open().await;
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
        let der = der.as_ref();
        // A key of this size ends in a modulus of 256 bytes, and an exponent of 3 with its head.
        let modulus = BASE64_URL_SAFE_NO_PAD.encode(&der[der.len() - 261..der.len() - 5]);
        let keys = format!(
            r#"{{"keys":[{{"kty":"RSA","alg":"RS256","use":"sig","kid":"k1","n":"{modulus}","e":"AQAB"}}]}}"#
        );
        host.tells("/keys", [Told::File(JSON, keys.into_bytes())]);
        let token = r#"{"access_token":"ya29.test","expires_in":3599}"#;
        host.tells("/token", [Told::File(JSON, token.into())]);
        host.tells(
            &path("watch"),
            [Told::File(JSON, sample("08_watch_response.json").into())],
        );
        let profile = r#"{"emailAddress":"desk@northwind.example","historyId":"9876543100"}"#;
        host.tells(&path("profile"), [Told::File(JSON, profile.into())]);
        Self { host, key }
    }

    async fn server(&self) -> TestServer {
        let (url, trusted) = (self.host.url(""), self.host.address.to_string());
        TestServer::start_with(|config| {
            config.google_keys_url = format!("{url}/keys");
            config.google_token_url = format!("{url}/token");
            config.gmail_url = url;
            config.trusted_hosts = vec![trusted.parse().unwrap()];
        })
        .await
    }

    /// What a push proves itself by, for an address of ours.
    fn token(&self, service_account: &str, path: &str) -> String {
        let encode = |part: &str| BASE64_URL_SAFE_NO_PAD.encode(part);
        let claims = format!(
            r#"{{"iss":"https://accounts.google.com","aud":"{PUBLIC_URL}{path}","email":"{service_account}","email_verified":true,"iat":{},"exp":{}}}"#,
            now(),
            now() + 3600
        );
        let head = encode(r#"{"alg":"RS256","kid":"k1","typ":"JWT"}"#);
        let signed = format!("{head}.{}", encode(&claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let random = SystemRandom::new();
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &random,
                signed.as_bytes(),
                &mut signature,
            )
            .unwrap();
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature);
        format!("Bearer {signed}.{signature}")
    }
}

fn path(of: &str) -> String {
    format!("/gmail/v1/users/me/{of}")
}

fn history(since: &str) -> String {
    path(&format!(
        "history?startHistoryId={since}&historyTypes=messageAdded&historyTypes=labelAdded"
    ))
}

fn mail(id: &str) -> String {
    path(&format!("messages/{id}?format=raw"))
}

/// A mail that the owner of the mailbox sent from elsewhere, with a file.
fn sent() -> String {
    let mime = "From: desk@northwind.example\r\nTo: Dana <dana@customer.example>\r\n\
        Subject: Re: table\r\nMessage-ID: <sent-1@northwind.example>\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nYes, it is.\r\n--b\r\n\
        Content-Type: application/pdf; name=offer.pdf\r\nContent-Disposition: attachment\r\n\r\n\
        %PDF-1.4 and more\r\n--b--\r\n";
    let raw = BASE64_URL_SAFE_NO_PAD.encode(mime);
    format!(
        r#"{{"id":"{SECOND}","threadId":"{FIRST}","labelIds":["SENT"],"internalDate":"1773480100000","raw":"{raw}"}}"#
    )
}

struct Mailbox {
    tenant: TestTenant,
    account: ChannelAccount,
    address: String,
    service_account: String,
}

impl Mailbox {
    async fn connected(server: &TestServer) -> Self {
        let tenant = server.tenant().await;
        let id = Uuid::now_v7().simple();
        let address = format!("desk-{id}@northwind.example");
        let service_account = format!("push-{id}@acme.iam.gserviceaccount.com");
        let request = ConnectChannelAccountRequest {
            tenant: tenant.slug(),
            name: "Desk".to_owned(),
            settings: Some(Settings::Gmail(GmailSettings {
                address: address.clone(),
                service_account: service_account.clone(),
                client_id: "1.apps.googleusercontent.com".to_owned(),
                topic: format!("projects/acme/topics/gmail-{id}"),
                own_app: true,
            })),
            gmail_secrets: Some(GmailSecrets {
                client_secret: SECRET.to_owned(),
                refresh_token: "1//refresh".to_owned(),
            }),
            ..Default::default()
        };
        let mut admin = server.tenant_admin();
        let connected = admin.connect_channel_account(request).await.unwrap();
        Self {
            tenant,
            account: connected.into_inner().channel_account.unwrap(),
            address,
            service_account,
        }
    }

    /// What it is to be told of by.
    fn topic(&self) -> String {
        match &self.account.settings {
            Some(channel_account::Settings::Gmail(settings)) => settings.topic.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// How far it is read.
    async fn cursor(&self) -> i64 {
        let tables = Tables::of(&self.tenant).await;
        let cursor = format!(
            "SELECT coalesce(max(cursor), 0) FROM directory.mailboxes WHERE account_id = '{}'",
            self.account.id
        );
        tables.count(&cursor).await
    }

    /// Lets it be read soon. Any server of the tests may read it: those that know no Gmail fail, and
    /// it would wait for longer and longer.
    async fn hurry(&self) {
        let tables = Tables::of(&self.tenant).await;
        let soon = format!(
            "UPDATE directory.mailboxes
            SET due_at = directory.now(), failures = 0, lease = NULL, leased_until = NULL
            WHERE account_id = '{}'
                AND {MAILBOX_IS_FREE}",
            self.account.id
        );
        tables.admin.batch_execute(&soon).await.unwrap();
    }

    async fn read_to(&self, cursor: i64) {
        within(LIMIT, "the mailbox is read", async || {
            self.hurry().await;
            self.cursor().await == cursor
        })
        .await;
    }

    async fn count(&self, table: &str) -> i64 {
        let tables = Tables::of(&self.tenant).await;
        let rows = format!("SELECT count(*) FROM {{schema}}.{table}");
        tables.count(&rows).await
    }

    async fn push(&self, server: &TestServer, google: &Google, file: &str) -> u16 {
        let body: serde_json::Value = serde_json::from_str(&sample(file)).unwrap();
        let data = body["message"]["data"]
            .as_str()
            .unwrap()
            .trim_end_matches('=');
        let data = base64::prelude::BASE64_STANDARD_NO_PAD
            .decode(data)
            .unwrap();
        let data = String::from_utf8(data).unwrap();
        let data = data.replace("desk@northwind.example", &self.address);
        let mut body = body;
        body["message"]["data"] = BASE64_URL_SAFE_NO_PAD.encode(data).into();
        let token = google.token(&self.service_account, &self.account.webhook_path);
        self.post(server, &token, &body.to_string()).await
    }

    async fn post(&self, server: &TestServer, token: &str, body: &str) -> u16 {
        let headers = [("content-type", JSON), ("authorization", token)];
        let path = &self.account.webhook_path;
        server.http_post(path, &headers, body.as_bytes()).await.0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_is_read_from_where_it_was_read_to() {
    let google = Google::open().await;
    let server = google.server().await;
    let nothing = r#"{"historyId":"9876543100"}"#;
    google
        .host
        .tells(&history("9876543100"), [Told::File(JSON, nothing.into())]);
    let mailbox = Mailbox::connected(&server).await;
    // It begins now, and asks to be told.
    mailbox.read_to(9_876_543_100).await;
    // This server reads mailboxes of other tests, too.
    let mut asked = google.host.asked(&path("watch"));
    asked.retain(|asked| asked.content.contains(&mailbox.topic()));
    assert_eq!(asked.len(), 1);
    assert_eq!(mailbox.count("inbox_messages").await, 0);

    let listed = sample("04_history_list.json");
    google
        .host
        .tells(&history("9876543100"), [Told::File(JSON, listed.into())]);
    google.host.tells(
        &mail(FIRST),
        // The token has ended, and Gmail stumbles.
        [
            Told::Status(401, ""),
            Told::Status(500, ""),
            Told::File(JSON, sample("06_message_raw.json").into()),
        ],
    );
    google
        .host
        .tells(&mail(SECOND), [Told::File(JSON, sent().into_bytes())]);
    let since = history("9876543210");
    let nothing = r#"{"historyId":"9876543210"}"#;
    google
        .host
        .tells(&since, [Told::File(JSON, nothing.into())]);
    assert_eq!(mailbox.push(&server, &google, "01_push.json").await, 200);
    within(LIMIT, "it has stumbled", async || {
        mailbox.hurry().await;
        google.host.asked(&mail(FIRST)).len() >= 2
    })
    .await;
    for file in ["02_push_same_again.json", "03_push_older.json"] {
        assert_eq!(mailbox.push(&server, &google, file).await, 200);
    }
    mailbox.read_to(9_876_543_210).await;
    eventually("both mails are there", async || {
        mailbox.count("inbox_messages").await == 2
    })
    .await;
    assert_eq!(mailbox.count("inbox_conversations").await, 1);
    let tables = Tables::of(&mailbox.tenant).await;
    let found = "SELECT id::text FROM {schema}.inbox_conversations";
    let found = found.replace("{schema}", &tables.schema);
    let id: String = tables.admin.query_one(&found, &[]).await.unwrap().get(0);
    let conversation = communication_service::pb::Conversation {
        id,
        ..Default::default()
    };
    let conversation = mailbox.tenant.get(&conversation).await;
    assert_eq!(conversation.contact_identifier, "dana@customer.example");
    assert_eq!(conversation.subject, "Café table: still available?");
    let messages = mailbox.tenant.messages(&conversation).await;
    let out = messages
        .iter()
        .find(|message| message.direction() == MessageDirection::Outbound)
        .unwrap();
    assert_eq!(out.text.trim(), "Yes, it is.");
    eventually("its file is there", async || {
        let messages = mailbox.tenant.messages(&conversation).await;
        let mut files = messages.iter().flat_map(|message| &message.attachments);
        files.any(|file| file.state() == AttachmentState::Attached && file.file_name == "offer.pdf")
    })
    .await;

    // Too old a place: all of the last days is read again, and nothing is doubled.
    let gone = sample("07_history_too_old.json");
    assert!(gone.contains("404"));
    google.host.tells(&since, [Told::Status(404, "")]);
    let profile = r#"{"historyId":"9876543300"}"#;
    google
        .host
        .tells(&path("profile"), [Told::File(JSON, profile.into())]);
    let all = format!(r#"{{"messages":[{{"id":"{SECOND}"}},{{"id":"{FIRST}"}}]}}"#);
    google.host.tells(
        &path("messages?q=newer_than%3A7d&maxResults=500"),
        [Told::File(JSON, all.into_bytes())],
    );
    assert_eq!(mailbox.push(&server, &google, "01_push.json").await, 200);
    mailbox.read_to(9_876_543_300).await;
    let waiting = format!(
        "SELECT count(*) FROM directory.deliveries WHERE account_id = '{}' AND due_at IS NOT NULL",
        mailbox.account.id
    );
    eventually("all is applied", async || tables.count(&waiting).await == 0).await;
    assert_eq!(mailbox.count("inbox_messages").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_push_is_none_and_a_lost_grant_is_told() {
    let google = Google::open().await;
    let server = google.server().await;
    let refused = r#"{"error":"invalid_grant"}"#;
    google.host.tells("/token", [Told::Answer(400, refused)]);
    let mailbox = Mailbox::connected(&server).await;
    let path = &mailbox.account.webhook_path;
    let stranger = google.token("push@evil.iam.gserviceaccount.com", path);
    let elsewhere = google.token(&mailbox.service_account, "/webhooks/gmail");
    let mut forged = google.token(&mailbox.service_account, path);
    forged.truncate(forged.len() - 4);
    forged.push_str("AAAA");
    for token in [stranger.as_str(), &elsewhere, &forged, "Bearer x", ""] {
        assert_eq!(mailbox.post(&server, token, "{}").await, 403, "{token}");
    }
    // What is proved and says nothing is kept, and nobody is asked to send it again.
    let token = google.token(&mailbox.service_account, path);
    assert_eq!(mailbox.post(&server, &token, "{}").await, 200);
    within(
        LIMIT,
        "the account is known to be disconnected",
        async || {
            mailbox.hurry().await;
            let request = GetChannelAccountRequest {
                tenant: mailbox.tenant.slug(),
                channel_account_id: mailbox.account.id.clone(),
            };
            let shown = server.tenant_admin().get_channel_account(request).await;
            let account = shown.unwrap().into_inner().channel_account.unwrap();
            account.provider_state == "disconnected: invalid_grant"
        },
    )
    .await;
}
