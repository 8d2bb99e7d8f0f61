//! Plays Meta: recorded webhooks, for a number of the test's own, signed as Meta signs.

use std::net::SocketAddr;

use aws_lc_rs::hmac;
use communication_service::pb::connect_channel_account_request::Settings;
use communication_service::pb::tenant_admin_service_client::TenantAdminServiceClient;
use communication_service::pb::{
    ChannelAccount, ConnectChannelAccountRequest, Conversation, ListConversationsRequest,
    WhatsappSecrets, WhatsappSettings,
};
use tonic::Request;
use tonic::transport::Channel;
use uuid::Uuid;

use super::{TestServer, TestTenant, http};

/// The secret that the recorded signatures were made with.
pub const APP_SECRET: &str = "b6f1c2a94e7d4b0f8a3c5d1e9f70812a";
/// By which the tests' accounts ask their provider.
pub const ACCESS_TOKEN: &str = "a-token-of-the-tests";
/// The number that the recorded webhooks are for.
const RECORDED_NUMBER: &str = "418203377100456";

/// A number that no other test has.
pub fn new_number() -> String {
    (Uuid::now_v7().as_u128() % 10_u128.pow(30)).to_string()
}

/// A recorded webhook, as it would have come for another number.
pub fn sample(file: &str, number: &str) -> Vec<u8> {
    let path = format!(
        "{}/tests/samples/whatsapp/{file}",
        env!("CARGO_MANIFEST_DIR")
    );
    let body = String::from_utf8(std::fs::read(path).unwrap()).unwrap();
    assert!(body.contains(RECORDED_NUMBER) || file.starts_with("30_"));
    body.replace(RECORDED_NUMBER, number).into_bytes()
}

/// A recorded webhook that says what the service cannot apply: a text that became a poll.
pub fn unsupported(number: &str) -> Vec<u8> {
    let body = String::from_utf8(sample("26_edit.json", number)).unwrap();
    let mut body: serde_json::Value = serde_json::from_str(&body).unwrap();
    body["entry"][0]["changes"][0]["value"]["messages"][0]["edit"]["message"] =
        serde_json::json!({"type": "poll", "poll": {}});
    body.to_string().into_bytes()
}

/// Signs as Meta does, by other code than the service's.
pub fn sign(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let digest = hmac::sign(&key, body);
    let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
    format!("sha256={}", digits.collect::<String>())
}

/// A tenant's WhatsApp account, connected to the deployment's app.
#[derive(Clone)]
pub struct Whatsapp {
    /// The tenant.
    pub tenant: TestTenant,
    /// Its number, as Meta names it.
    pub number: String,
}

impl Whatsapp {
    /// An account that is not connected yet.
    pub fn new(tenant: TestTenant) -> Self {
        Self {
            tenant,
            number: new_number(),
        }
    }

    /// Makes a tenant and connects an account.
    pub async fn connected(server: &TestServer) -> Self {
        let account = Self::new(server.tenant().await);
        account.connect(server).await;
        account
    }

    /// A request that connects the account.
    pub fn request(&self) -> ConnectChannelAccountRequest {
        ConnectChannelAccountRequest {
            tenant: self.tenant.slug(),
            name: "Support".to_owned(),
            settings: Some(Settings::Whatsapp(WhatsappSettings {
                phone_number_id: self.number.clone(),
                app_id: "1".to_owned(),
                ..Default::default()
            })),
            whatsapp_secrets: Some(WhatsappSecrets {
                app_secret: APP_SECRET.to_owned(),
                verify_token: "vt-samples-7Qm2".to_owned(),
                access_token: ACCESS_TOKEN.to_owned(),
            }),
            ..Default::default()
        }
    }

    /// Connects the account.
    pub async fn connect(&self, server: &TestServer) -> ChannelAccount {
        self.connect_by(&server.channel).await
    }

    /// Connects the account to an app of the tenant's own.
    pub async fn connect_own(&self, server: &TestServer, secret: &str) -> ChannelAccount {
        let mut request = self.request();
        if let Some(Settings::Whatsapp(settings)) = &mut request.settings {
            settings.own_app = true;
        }
        request.whatsapp_secrets.as_mut().unwrap().app_secret = secret.to_owned();
        let mut admin = server.tenant_admin();
        let connected = admin.connect_channel_account(request).await.unwrap();
        connected.into_inner().channel_account.unwrap()
    }

    /// Connects the account, by a connection.
    pub async fn connect_by(&self, channel: &Channel) -> ChannelAccount {
        let mut admin = TenantAdminServiceClient::new(channel.clone());
        let connected = admin.connect_channel_account(Request::new(self.request()));
        let account = connected.await.unwrap().into_inner().channel_account;
        account.unwrap()
    }

    /// A recorded text, as if a person of a number had sent it under an id.
    pub fn text_of(&self, person: usize, id: &str, says: &str) -> String {
        let text = String::from_utf8(sample("02_text.json", &self.number)).unwrap();
        text.replace("wamid.", &format!("wamid.{id}."))
            .replace("15550109911", &format!("1555{person:07}"))
            .replace("US.13499900112233445566", &format!("US.{person}"))
            .replace("Ol\\u00e1!", says)
    }

    /// Posts a body with its signature; returns the status.
    pub async fn post(&self, server: &TestServer, body: &[u8]) -> u16 {
        let status = self.post_to(server.http, body).await;
        status.expect("an answer")
    }

    /// Posts a body with its signature to an address; returns the status, if somebody answers.
    pub async fn post_to(&self, address: SocketAddr, body: &[u8]) -> Option<u16> {
        let signature = sign(APP_SECRET, body);
        let headers = [
            ("content-type", "application/json"),
            ("x-hub-signature-256", signature.as_str()),
            // By which the test finds it again.
            ("x-request-id", self.number.as_str()),
        ];
        let answer = http(address, "POST", "/webhooks/whatsapp", &headers, body).await;
        Some(answer?.0)
    }

    /// Posts a recorded webhook, which has to be taken.
    pub async fn post_sample(&self, server: &TestServer, file: &str) {
        assert_eq!(self.post(server, &sample(file, &self.number)).await, 200);
    }

    /// The tenant's conversations.
    pub async fn conversations(&self) -> Vec<Conversation> {
        let request = ListConversationsRequest {
            tenant: self.tenant.slug(),
            page_size: 500,
            ..Default::default()
        };
        let mut inbox = self.tenant.inbox.clone();
        let page = inbox.list_conversations(request).await.unwrap();
        page.into_inner().conversations
    }
}
