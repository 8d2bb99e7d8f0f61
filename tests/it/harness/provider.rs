//! Plays the providers: recorded webhooks, for accounts of the test's own, signed as each signs.

use std::sync::OnceLock;

use aws_lc_rs::digest::SHA256;
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use chrono::DateTime;
use communication_service::pb::channel_account;
use communication_service::pb::connect_channel_account_request::Settings;
use communication_service::pb::{
    ChannelAccount, ConnectChannelAccountRequest, Conversation, ConversationStatus, EmailProvider,
    EmailSecrets, EmailSettings, Gateway, GatewaySecrets, GetChannelAccountRequest,
    InstagramSettings, ListConversationsRequest, Message, MessageDirection, MessengerSettings,
    MetaSecrets, PersonalWhatsappSettings, TwilioCallSettings, TwilioSecrets,
    TwilioWhatsappSettings, ZendeskIntegration, ZendeskSecrets, ZendeskSettings,
};
use uuid::Uuid;

use super::{ACCESS_TOKEN, Tables, TestServer, TestTenant, eventually, http, http_get, now, sign};

/// Where the tests' providers reach the service.
pub const PUBLIC_URL: &str = "https://hooks.inbox.example";
/// What the tests' providers sign with.
pub const SECRET: &str = "a-secret-of-the-tests";

const PAGE: &str = "201155300447788";
const INSTAGRAM: &str = "17841460012345678";
const TWILIO: &str = "AC6ef9161b900632671022358216c7dfe7";

/// How a provider signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signs {
    /// As Meta does.
    Meta,
    /// As Twilio does.
    Twilio,
    /// As WAHA does.
    Waha,
    /// As Evolution API does.
    Evolution,
    /// As Zendesk does.
    Zendesk,
    /// As Zendesk's Conversations API does.
    Conversations,
    /// As Postmark does, which shows a password.
    Postmark,
    /// As Mailgun does.
    Mailgun,
    /// As SendGrid does.
    Sendgrid,
}

/// A webhook with its signature, as a provider sends it.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The method.
    pub method: &'static str,
    /// The path, and the query.
    pub path: String,
    /// The headers; those from the third on prove it.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Signed {
    /// Sends it; returns the status and the answer.
    pub async fn post(&self, server: &TestServer) -> (u16, String) {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let answer = http(server.http, self.method, &self.path, &headers, &self.body).await;
        answer.expect("an answer")
    }
}

/// An account with a provider.
#[derive(Clone)]
pub struct Provider {
    /// The tenant.
    pub tenant: TestTenant,
    /// The account.
    pub account: ChannelAccount,
    folder: &'static str,
    signs: Signs,
    /// What the recorded webhooks call the account, and what it is called here.
    renamed: (String, String),
}

fn digits(length: usize) -> String {
    (Uuid::now_v7().as_u128() % 10_u128.pow(30)).to_string()[..length].to_owned()
}

impl Provider {
    /// A Facebook page.
    pub async fn messenger(server: &TestServer) -> Self {
        let page_id = digits(15);
        let settings = Settings::Messenger(MessengerSettings {
            page_id: page_id.clone(),
            app_id: "2".to_owned(),
            own_app: true,
        });
        let renamed = (PAGE.to_owned(), page_id);
        Self::connect(server, "messenger", Signs::Meta, renamed, settings).await
    }

    /// An Instagram account.
    pub async fn instagram(server: &TestServer) -> Self {
        let instagram_account_id = digits(17);
        let settings = Settings::Instagram(InstagramSettings {
            instagram_account_id: instagram_account_id.clone(),
            app_id: "3".to_owned(),
            own_app: true,
        });
        let renamed = (INSTAGRAM.to_owned(), instagram_account_id);
        Self::connect(server, "instagram", Signs::Meta, renamed, settings).await
    }

    /// A WhatsApp sender at Twilio.
    pub async fn twilio_whatsapp(server: &TestServer) -> Self {
        let account_sid = format!("AC{}", Uuid::now_v7().simple());
        let settings = Settings::TwilioWhatsapp(TwilioWhatsappSettings {
            account_sid: account_sid.clone(),
            phone_number: "+15550002001".to_owned(),
            own_app: true,
        });
        let renamed = (TWILIO.to_owned(), account_sid);
        Self::connect(server, "twilio_whatsapp", Signs::Twilio, renamed, settings).await
    }

    /// A telephone number at Twilio.
    pub async fn twilio_call(server: &TestServer, mut of: TwilioCallSettings) -> Self {
        of.account_sid = format!("AC{}", Uuid::now_v7().simple());
        of.phone_number = "+15550002002".to_owned();
        of.own_app = true;
        let renamed = (TWILIO.to_owned(), of.account_sid.clone());
        let settings = Settings::TwilioCall(of);
        Self::connect(server, "twilio_call", Signs::Twilio, renamed, settings).await
    }

    /// A personal number behind a gateway.
    pub async fn personal_whatsapp(server: &TestServer, gateway: Gateway) -> Self {
        let base_url = format!("http://{}:3000/", Uuid::now_v7().simple());
        Self::behind(server, gateway, base_url).await
    }

    /// A personal number behind a gateway at an address.
    pub async fn behind(server: &TestServer, gateway: Gateway, base_url: String) -> Self {
        let signs = match gateway {
            Gateway::Evolution => Signs::Evolution,
            _ => Signs::Waha,
        };
        let session = "sales-01".to_owned();
        let settings = Settings::PersonalWhatsapp(PersonalWhatsappSettings {
            gateway: gateway.into(),
            base_url,
            session: session.clone(),
        });
        let renamed = (session.clone(), session);
        Self::connect(server, "personal_whatsapp", signs, renamed, settings).await
    }

    /// Tickets at Zendesk.
    pub async fn tickets(server: &TestServer) -> Self {
        let external_id = digits(12);
        let settings = Settings::Zendesk(ZendeskSettings {
            integration: ZendeskIntegration::Tickets.into(),
            subdomain: "shop".to_owned(),
            external_id: external_id.clone(),
        });
        let renamed = ("22450118".to_owned(), external_id);
        Self::connect(server, "zendesk", Signs::Zendesk, renamed, settings).await
    }

    /// Conversations at Zendesk.
    pub async fn zendesk_conversations(server: &TestServer) -> Self {
        let external_id = Uuid::now_v7().simple().to_string();
        let settings = Settings::Zendesk(ZendeskSettings {
            integration: ZendeskIntegration::Conversations.into(),
            subdomain: "shop".to_owned(),
            external_id: external_id.clone(),
        });
        let renamed = ("5e0000000000000000000001".to_owned(), external_id);
        Self::connect(server, "zendesk", Signs::Conversations, renamed, settings).await
    }

    /// An e-mail address.
    pub async fn email(server: &TestServer, provider: EmailProvider) -> Self {
        let domain = format!("{}.inbox.example", Uuid::now_v7().simple());
        let signs = match provider {
            EmailProvider::Mailgun => Signs::Mailgun,
            EmailProvider::Sendgrid => Signs::Sendgrid,
            _ => Signs::Postmark,
        };
        let settings = Settings::Email(EmailSettings {
            address: format!("Support@{domain}"),
            provider: provider.into(),
            provider_account: domain.clone(),
            own_app: true,
        });
        let renamed = ("in.inbox.example".to_owned(), domain);
        Self::connect(server, "email", signs, renamed, settings).await
    }

    async fn connect(
        server: &TestServer,
        folder: &'static str,
        signs: Signs,
        renamed: (String, String),
        settings: Settings,
    ) -> Self {
        let tenant = server.tenant().await;
        let secret = SECRET.to_owned();
        let mut request = ConnectChannelAccountRequest {
            tenant: tenant.slug(),
            name: "Support".to_owned(),
            settings: Some(settings),
            ..Default::default()
        };
        match signs {
            Signs::Meta => {
                request.meta_secrets = Some(MetaSecrets {
                    app_secret: secret,
                    verify_token: "a-token".to_owned(),
                    access_token: ACCESS_TOKEN.to_owned(),
                });
            }
            Signs::Twilio => request.twilio_secrets = Some(TwilioSecrets { auth_token: secret }),
            Signs::Waha | Signs::Evolution => {
                request.gateway_secrets = Some(GatewaySecrets {
                    signing_key: secret,
                    api_key: ACCESS_TOKEN.to_owned(),
                });
            }
            Signs::Postmark => {
                request.email_secrets = Some(EmailSecrets {
                    signing_key: secret,
                    ..Default::default()
                });
            }
            Signs::Mailgun => {
                request.email_secrets = Some(EmailSecrets {
                    signing_key: secret,
                    api_key: ACCESS_TOKEN.to_owned(),
                });
            }
            Signs::Sendgrid => {
                request.email_secrets = Some(EmailSecrets {
                    signing_key: sendgrid_key(SECRET).1.clone(),
                    ..Default::default()
                });
            }
            Signs::Zendesk | Signs::Conversations => {
                request.zendesk_secrets = Some(ZendeskSecrets {
                    signing_secret: secret,
                    api_token: ACCESS_TOKEN.to_owned(),
                });
            }
        }
        let mut admin = server.tenant_admin();
        let connected = admin.connect_channel_account(request).await.unwrap();
        let account = connected.into_inner().channel_account.unwrap();
        Self {
            tenant,
            account,
            folder,
            signs,
            renamed,
        }
    }

    /// The account, as it is shown now.
    pub async fn shown(&self, server: &TestServer) -> ChannelAccount {
        let request = GetChannelAccountRequest {
            tenant: self.tenant.slug(),
            channel_account_id: self.account.id.clone(),
        };
        let shown = server.tenant_admin().get_channel_account(request).await;
        shown.unwrap().into_inner().channel_account.unwrap()
    }

    /// The address for mail.
    pub fn address(&self) -> &str {
        match &self.account.settings {
            Some(channel_account::Settings::Email(of)) => &of.address,
            other => panic!("{other:?} takes in no mail"),
        }
    }

    /// Twilio's id of the account.
    pub fn account_sid(&self) -> &str {
        &self.renamed.1
    }

    /// The recorded webhooks for such an account, in order.
    pub fn samples(&self) -> Vec<String> {
        let folder = format!(
            "{}/tests/samples/{}",
            env!("CARGO_MANIFEST_DIR"),
            self.folder
        );
        let files = std::fs::read_dir(folder).unwrap();
        let mut files: Vec<String> = files
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        // Vectors alone use it.
        files.retain(|file| file != "16_json_body.json");
        match self.signs {
            Signs::Waha => files.retain(|file| file.contains("waha")),
            Signs::Evolution => files.retain(|file| file.contains("evolution")),
            Signs::Zendesk => {
                files.retain(|file| !file.contains("sunshine") && !file.starts_with("09_"))
            }
            Signs::Conversations => files.retain(|file| file.contains("sunshine")),
            Signs::Postmark => files.retain(|file| file.contains("postmark")),
            Signs::Mailgun => files.retain(|file| file.contains("mailgun")),
            Signs::Sendgrid => files.retain(|file| file.contains("sendgrid")),
            Signs::Meta | Signs::Twilio => {}
        }
        files.sort();
        files
    }

    /// A recorded webhook, as it would have come for this account.
    pub fn sample(&self, file: &str) -> Vec<u8> {
        let root = env!("CARGO_MANIFEST_DIR");
        let body = std::fs::read(format!("{root}/tests/samples/{}/{file}", self.folder)).unwrap();
        let (from, to) = (self.renamed.0.as_bytes(), self.renamed.1.as_bytes());
        let mut renamed = Vec::new();
        let mut rest = body.as_slice();
        while let Some(at) = rest.windows(from.len()).position(|found| found == from) {
            renamed.extend_from_slice(&rest[..at]);
            renamed.extend_from_slice(to);
            rest = &rest[at + from.len()..];
        }
        renamed.extend_from_slice(rest);
        renamed
    }

    /// Posts a body with its signature; returns the status and the answer.
    pub async fn post(&self, server: &TestServer, body: &[u8]) -> (u16, String) {
        self.post_form(server, "", body).await
    }

    /// Posts a body with its signature to the address of a form.
    pub async fn post_form(&self, server: &TestServer, form: &str, body: &[u8]) -> (u16, String) {
        self.signed(form, body).post(server).await
    }

    /// A body with its signature, for the address of a form.
    pub fn signed(&self, form: &str, body: &[u8]) -> Signed {
        self.signed_by(SECRET, now(), form, body)
    }

    /// A body that was signed with a secret, at a time, for the address of a form.
    pub fn signed_by(&self, secret: &str, at: u64, form: &str, body: &[u8]) -> Signed {
        let path = format!("{}{form}", self.account.webhook_path);
        let seconds = at.to_string();
        let body = match self.signs {
            Signs::Mailgun => sign_inside(secret, body, &seconds),
            _ => body.to_vec(),
        };
        let mut headers = vec![
            ("content-type", content_type(&body).to_owned()),
            // By which the test finds it again.
            ("x-request-id", self.account.id.clone()),
        ];
        match self.signs {
            Signs::Mailgun => {}
            Signs::Postmark => {
                let credentials = BASE64_STANDARD.encode(format!("{}:{secret}", self.renamed.1));
                headers.push(("authorization", format!("Basic {credentials}")));
            }
            Signs::Sendgrid => {
                let signed = [seconds.as_bytes(), &body].concat();
                let random = aws_lc_rs::rand::SystemRandom::new();
                let signature = sendgrid_key(secret).0.sign(&random, &signed).unwrap();
                let signature = BASE64_STANDARD.encode(signature);
                headers.push(("x-twilio-email-event-webhook-signature", signature));
                headers.push(("x-twilio-email-event-webhook-timestamp", seconds));
            }
            Signs::Waha => {
                let key = hmac::Key::new(hmac::HMAC_SHA512, secret.as_bytes());
                headers.push(("x-webhook-hmac", hex(hmac::sign(&key, &body).as_ref())));
            }
            Signs::Evolution => headers.push(("authorization", evolution_token(secret, at))),
            Signs::Zendesk => {
                let timestamp = DateTime::from_timestamp(i64::try_from(at).unwrap(), 0).unwrap();
                let timestamp = timestamp.to_rfc3339();
                let signature = sign_at(secret, &timestamp, &body);
                headers.push(("x-zendesk-webhook-signature", signature));
                headers.push(("x-zendesk-webhook-signature-timestamp", timestamp));
            }
            Signs::Conversations => headers.push(("x-api-key", secret.to_owned())),
            Signs::Meta => headers.push(("x-hub-signature-256", sign(secret, &body))),
            Signs::Twilio => {
                headers[0].1.push_str("; charset=UTF-8");
                let signature = sign_form(secret, &format!("{PUBLIC_URL}{path}"), &body);
                headers.push(("x-twilio-signature", signature));
            }
        }
        Signed {
            method: "POST",
            path,
            headers,
            body,
        }
    }

    /// Tells whether the provider signs when it sends.
    pub fn signs_time(&self) -> bool {
        use Signs::{Evolution, Mailgun, Sendgrid, Zendesk};
        matches!(self.signs, Evolution | Mailgun | Sendgrid | Zendesk)
    }

    /// Tells whether the provider signs the body.
    pub fn signs_body(&self) -> bool {
        use Signs::{Conversations, Evolution, Mailgun, Postmark};
        !matches!(self.signs, Conversations | Evolution | Mailgun | Postmark)
    }

    /// Sends a form by GET with its signature, as Twilio does where it is set up so.
    pub async fn get_form(&self, server: &TestServer, form: &str, body: &[u8]) -> (u16, String) {
        let query = std::str::from_utf8(body).unwrap();
        let path = format!("{}{form}?{query}", self.account.webhook_path);
        let signature = sign_form(SECRET, &format!("{PUBLIC_URL}{path}"), b"");
        let headers = [
            ("x-twilio-signature", signature.as_str()),
            ("x-request-id", self.account.id.as_str()),
        ];
        http_get(server.http, &path, &headers).await
    }

    /// Posts a recorded webhook, which has to be taken, and waits for its effect.
    pub async fn post_sample(&self, server: &TestServer, file: &str) {
        let (status, _) = self.post(server, &self.sample(file)).await;
        assert_eq!(status, 200, "{file}");
        self.applied().await;
    }

    /// Waits until no delivery that was posted for the account waits to be applied.
    pub async fn applied(&self) {
        let tables = Tables::of(&self.tenant).await;
        let waiting = format!(
            "SELECT count(*) FROM directory.deliveries
            WHERE correlation_id = '{}' AND due_at IS NOT NULL",
            self.account.id
        );
        eventually("all deliveries are applied", async || {
            tables.count(&waiting).await == 0
        })
        .await;
    }

    /// The tenant's conversations that are not archived.
    pub async fn conversations(&self) -> Vec<Conversation> {
        self.list(Vec::new()).await
    }

    /// The tenant's conversations that stand somewhere.
    pub async fn conversations_in(&self, status: ConversationStatus) -> Vec<Conversation> {
        self.list(vec![status.into()]).await
    }

    async fn list(&self, statuses: Vec<i32>) -> Vec<Conversation> {
        let request = ListConversationsRequest {
            statuses,
            tenant: self.tenant.slug(),
            page_size: 500,
            ..Default::default()
        };
        let mut inbox = self.tenant.inbox.clone();
        let page = inbox.list_conversations(request).await.unwrap();
        page.into_inner().conversations
    }

    /// The messages of the only conversation.
    pub async fn messages(&self) -> Vec<Message> {
        let conversations = self.conversations().await;
        assert_eq!(conversations.len(), 1, "{conversations:?}");
        self.tenant.messages(&conversations[0]).await
    }

    /// The newest message of the only conversation.
    pub async fn newest(&self) -> Message {
        self.messages().await.pop().unwrap()
    }

    /// Sends a message in the only conversation, and plays that the provider gave it an id.
    pub async fn sent(&self, provider_id: &str) -> Message {
        let conversation = self.conversations().await.remove(0);
        let message = self.tenant.reply(&conversation, "Of course.").await;
        assert_eq!(message.direction(), MessageDirection::Outbound);
        let tables = Tables::of(&self.tenant).await;
        let remember = format!(
            "WITH noted AS (
                INSERT INTO {{schema}}.provider_events (channel_account_id, provider_id, kind,
                    occurrence, message_id, delivery_id, created_at)
                VALUES ('{}', '{provider_id}', 'message', '', '{}', gen_random_uuid(), now())
                RETURNING 1
            ) SELECT count(*) FROM noted",
            self.account.id, message.id
        );
        assert_eq!(tables.count(&remember).await, 1);
        message
    }

    /// How much of everything there is, and all messages.
    pub async fn state(&self) -> String {
        let tables = Tables::of(&self.tenant).await;
        let in_flight = "SELECT count(*) FROM {schema}.media_fetches
            WHERE attempts = 0 OR lease IS NOT NULL";
        eventually("no file is being fetched", async || {
            tables.count(in_flight).await == 0
        })
        .await;
        let mut state = String::new();
        for conversation in self.conversations().await {
            let messages = self.tenant.messages(&conversation).await;
            state.push_str(&format!("{conversation:?}\n{messages:?}\n"));
        }
        for table in [
            "events",
            "contacts",
            "contact_identities",
            "provider_events",
        ] {
            let query = format!("SELECT count(*) FROM {{schema}}.{table}");
            state.push_str(&format!("{table} {}\n", tables.count(&query).await));
        }
        state
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a recorded body is.
fn content_type(body: &[u8]) -> &'static str {
    if body.starts_with(b"------mgBoundary7MA4YWxk") {
        "multipart/form-data; boundary=----mgBoundary7MA4YWxk"
    } else if body.starts_with(b"--xYzZY") {
        "multipart/form-data; boundary=xYzZY"
    } else if body.starts_with(b"{") || body.starts_with(b"[") {
        "application/json"
    } else {
        "application/x-www-form-urlencoded"
    }
}

/// Signs a body and its time as Zendesk does, by other code than the service's.
pub fn sign_at(secret: &str, timestamp: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signed = [timestamp.as_bytes(), body].concat();
    BASE64_STANDARD.encode(hmac::sign(&key, &signed))
}

/// Puts a time, a token and a signature of the test's own into a body, as Mailgun would have.
pub fn sign_inside(secret: &str, body: &[u8], seconds: &str) -> Vec<u8> {
    // Byte by byte: not all is UTF-8.
    let text: String = body.iter().map(|byte| char::from(*byte)).collect();
    let of = |length: usize, beginning: &str| {
        let words = text.split(|letter: char| !letter.is_ascii_hexdigit());
        let mut words = words.filter(|word| word.len() == length && word.starts_with(beginning));
        words.next().unwrap().to_owned()
    };
    let seed = [body, seconds.as_bytes()].concat();
    let token = hex(aws_lc_rs::digest::digest(&SHA256, &seed).as_ref())[..50].to_owned();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = hmac::sign(&key, format!("{seconds}{token}").as_bytes());
    let signed = text
        .replace(&of(50, ""), &token)
        .replace(&of(64, ""), &hex(signature.as_ref()))
        .replace(&of(10, "17734"), seconds);
    signed
        .chars()
        .map(|letter| u8::try_from(u32::from(letter)).unwrap())
        .collect()
}

/// A key of SendGrid's, one for the secret that the tests sign with and one for all others, and the
/// public part of it as it is entered.
fn sendgrid_key(secret: &str) -> &'static (EcdsaKeyPair, String) {
    static KEYS: [OnceLock<(EcdsaKeyPair, String)>; 2] = [OnceLock::new(), OnceLock::new()];
    KEYS[usize::from(secret != SECRET)].get_or_init(|| {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let public = BASE64_STANDARD.encode(public.as_ref());
        (pair, public)
    })
}

/// A token as Evolution API makes it, by other code than the service's.
fn evolution_token(secret: &str, at: u64) -> String {
    let encode = |part: &str| BASE64_URL_SAFE_NO_PAD.encode(part);
    let claims = format!(
        r#"{{"iat":{0},"exp":{1},"app":"evolution","action":"webhook"}}"#,
        at,
        at + 600
    );
    let head = encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{head}.{}", encode(&claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    format!("Bearer {signed}.{signature}")
}

/// Signs a form as Twilio does, by other code than the service's.
pub fn sign_form(secret: &str, url: &str, body: &[u8]) -> String {
    let mut pairs: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
    pairs.sort();
    pairs.dedup();
    let mut signed = url.to_owned();
    for (name, value) in pairs {
        signed.push_str(&name);
        signed.push_str(&value);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    BASE64_STANDARD.encode(hmac::sign(&key, signed.as_bytes()))
}
