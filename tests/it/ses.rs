//! Mail by Amazon SES: topics that sign, the certificate that proves it, and mail that is kept in S3.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use communication_service::pb::connect_channel_account_request::Settings;
use communication_service::pb::{
    AttachmentState, ChannelAccount, ConnectChannelAccountRequest, Conversation, EmailProvider,
    EmailSecrets, EmailSettings, ListConversationsRequest, ListQuarantinedItemsRequest, Message,
    QuarantineReason, QuarantinedItem, ReplayQuarantinedItemRequest, UpdateChannelAccountRequest,
};
use rcgen::{CertificateParams, PKCS_RSA_SHA256};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use tonic::Code;
use uuid::Uuid;

use crate::harness::{FileHost, TestServer, TestTenant, Told, eventually, http, refusal};

const ACCESS_KEY: &str = "AKIDEXAMPLE:a-secret-of-the-tests";
const OBJECT: &str = "/mails/in/one";

/// A topic that sends the mail of an address.
struct Topic {
    tenant: TestTenant,
    account: ChannelAccount,
    arn: String,
    domain: String,
    key: RsaKeyPair,
}

fn sample(file: &str) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    std::fs::read_to_string(format!("{root}/tests/samples/email/{file}")).unwrap()
}

async fn server_with(amazon: &FileHost) -> TestServer {
    let (url, trusted) = (amazon.url(""), amazon.address.to_string());
    TestServer::start_with(|config| {
        config.aws_url = Some(url);
        config.trusted_hosts = vec![trusted.parse().unwrap()];
    })
    .await
}

impl Topic {
    /// Connects the address, whose mail may be read in S3 by an access key.
    async fn connect(server: &TestServer, amazon: &FileHost, access_key: &str) -> Self {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
        let der = PrivatePkcs8KeyDer::from(der.as_ref());
        let signing = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_RSA_SHA256).unwrap();
        let params = CertificateParams::new(vec!["sns.amazonaws.com".to_owned()]).unwrap();
        let certificate = params.self_signed(&signing).unwrap().pem();
        let tenant = server.tenant().await;
        let id = Uuid::now_v7().simple().to_string();
        let arn = format!("arn:aws:sns:eu-west-1:111111111111:{id}");
        let domain = format!("{id}.inbox.example");
        let request = ConnectChannelAccountRequest {
            tenant: tenant.slug(),
            name: "Support".to_owned(),
            settings: Some(Settings::Email(EmailSettings {
                address: format!("support@{domain}"),
                provider: EmailProvider::Ses.into(),
                provider_account: arn.clone(),
                own_app: true,
            })),
            email_secrets: Some(EmailSecrets {
                api_key: access_key.to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let connected = server.tenant_admin().connect_channel_account(request).await;
        let topic = Self {
            tenant,
            account: connected.unwrap().into_inner().channel_account.unwrap(),
            arn,
            domain,
            key,
        };
        let pem = Told::File("application/x-pem-file", certificate.into_bytes());
        amazon.tells(&topic.certificate(), [pem]);
        topic
    }

    fn certificate(&self) -> String {
        format!("/SimpleNotificationService-{}.pem", self.domain)
    }

    /// A recorded notification, as this topic would have sent it.
    fn notification(&self, file: &str) -> Value {
        let text = sample(file)
            .replace("in.inbox.example", &self.domain)
            .replace(
                "arn:aws:sns:eu-west-1:111111111111:inbox-inbound",
                &self.arn,
            );
        let mut notification: Value = serde_json::from_str(&text).unwrap();
        let host = "https://sns.eu-west-1.amazonaws.com";
        notification["SigningCertURL"] = format!("{host}{}", self.certificate()).into();
        notification
    }

    /// A notification of a mail that is kept in S3.
    fn stored(&self) -> Value {
        let mut notification = self.notification("41_sns_ses_received.json");
        let message = notification["Message"].as_str().unwrap();
        let mut message: Value = serde_json::from_str(message).unwrap();
        assert!(message.as_object_mut().unwrap().remove("content").is_some());
        message["receipt"]["action"] = json!({
            "type": "S3", "topicArn": self.arn, "bucketName": "mails", "objectKey": "in/one",
        });
        notification["Message"] = message.to_string().into();
        notification
    }

    fn sign(&self, mut notification: Value) -> Value {
        let names: &[&str] = match notification["Type"].as_str().unwrap() {
            "Notification" => &[
                "Message",
                "MessageId",
                "Subject",
                "Timestamp",
                "TopicArn",
                "Type",
            ],
            _ => &[
                "Message",
                "MessageId",
                "SubscribeURL",
                "Timestamp",
                "Token",
                "TopicArn",
                "Type",
            ],
        };
        let mut signed = String::new();
        for name in names {
            signed.push_str(&format!(
                "{name}\n{}\n",
                notification[name].as_str().unwrap()
            ));
        }
        let mut signature = vec![0; self.key.public_modulus_len()];
        let random = SystemRandom::new();
        let signing = (self.key).sign(
            &RSA_PKCS1_SHA256,
            &random,
            signed.as_bytes(),
            &mut signature,
        );
        signing.unwrap();
        notification["Signature"] = BASE64_STANDARD.encode(signature).into();
        notification
    }

    async fn post(&self, server: &TestServer, notification: &Value) -> u16 {
        let headers = [("content-type", "text/plain; charset=UTF-8")];
        let (path, body) = (&self.account.webhook_path, notification.to_string());
        let answer = http(server.http, "POST", path, &headers, body.as_bytes()).await;
        answer.expect("an answer").0
    }

    async fn conversations(&self) -> Vec<Conversation> {
        let request = ListConversationsRequest {
            tenant: self.tenant.slug(),
            ..Default::default()
        };
        let page = self.tenant.inbox.clone().list_conversations(request).await;
        page.unwrap().into_inner().conversations
    }

    async fn messages(&self) -> Vec<Message> {
        match self.conversations().await.as_slice() {
            [] => Vec::new(),
            [one] => self.tenant.messages(one).await,
            many => panic!("{many:?}"),
        }
    }

    async fn quarantined(&self, server: &TestServer) -> Vec<QuarantinedItem> {
        let request = ListQuarantinedItemsRequest {
            tenant: self.tenant.slug(),
            ..Default::default()
        };
        let page = server.tenant_admin().list_quarantined_items(request).await;
        page.unwrap().into_inner().items
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_confirmed_and_its_mail_is_taken_once() {
    let amazon = FileHost::open().await;
    let server = server_with(&amazon).await;
    let topic = Topic::connect(&server, &amazon, "").await;
    let confirmed = Told::Answer(200, "<ConfirmSubscriptionResponse/>");
    amazon.tells("/", [confirmed]);
    let subscription = topic.notification("40_sns_subscription.json");
    assert_eq!(topic.post(&server, &topic.sign(subscription)).await, 200);
    eventually("the topic is confirmed", async || {
        amazon.asked("/").len() == 1
    })
    .await;
    let asked = amazon.asked("/").remove(0).path;
    assert!(asked.contains("Action=ConfirmSubscription"), "{asked}");
    assert!(asked.contains(&topic.arn), "{asked}");

    let mail = topic.sign(topic.notification("41_sns_ses_received.json"));
    for _ in 0..2 {
        assert_eq!(topic.post(&server, &mail).await, 200);
    }
    eventually("the mail is there", async || {
        topic.messages().await.len() == 1
    })
    .await;
    // One word more, and the topic of somebody else.
    let mut changed = mail.clone();
    changed["Message"] = format!("{} ", mail["Message"].as_str().unwrap()).into();
    let other = Topic::connect(&server, &amazon, "").await;
    let foreign = other.sign(other.notification("41_sns_ses_received.json"));
    for refused in [changed, foreign] {
        assert_eq!(topic.post(&server, &refused).await, 403);
    }
    // What proves it is asked for once.
    assert_eq!(amazon.asked(&topic.certificate()).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_is_kept_in_s3_is_brought_with_its_files() {
    let amazon = FileHost::open().await;
    let server = server_with(&amazon).await;
    let topic = Topic::connect(&server, &amazon, ACCESS_KEY).await;
    let mail = sample("03_html_attachments_inline.eml").into_bytes();
    amazon.tells(OBJECT, [Told::File("application/octet-stream", mail)]);
    let stored = topic.sign(topic.stored());
    for _ in 0..2 {
        assert_eq!(topic.post(&server, &stored).await, 200);
    }
    eventually("the mail and its files are there", async || {
        let messages = topic.messages().await;
        let mut files = messages.iter().flat_map(|message| &message.attachments);
        messages.len() == 1 && files.all(|file| file.state() == AttachmentState::Attached)
    })
    .await;
    assert!(!topic.messages().await[0].attachments.is_empty());
    assert_eq!(topic.quarantined(&server).await, []);
    for asked in amazon.asked(OBJECT) {
        let (id, secret) = ACCESS_KEY.split_once(':').unwrap();
        let signed = format!("X-Amz-Credential={id}%2F");
        assert!(asked.path.contains(&signed), "{}", asked.path);
        assert!(
            asked.path.contains("%2Feu-west-1%2Fs3%2F"),
            "{}",
            asked.path
        );
        assert!(!asked.path.contains(secret), "{}", asked.path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_in_s3_waits_for_a_key_that_may_read_it() {
    let amazon = FileHost::open().await;
    let server = server_with(&amazon).await;
    let topic = Topic::connect(&server, &amazon, "").await;
    let answers = [
        Told::Status(403, ""),
        Told::File(
            "application/octet-stream",
            sample("01_plain.eml").into_bytes(),
        ),
    ];
    amazon.tells(OBJECT, answers);
    let stored = topic.sign(topic.stored());
    assert_eq!(topic.post(&server, &stored).await, 200);
    eventually("it is in quarantine", async || {
        topic.quarantined(&server).await.len() == 1
    })
    .await;
    let item = topic.quarantined(&server).await.remove(0);
    assert_eq!(item.reason(), QuarantineReason::Failed);
    assert!(item.detail.contains("`email_secrets.api_key`"), "{item:?}");
    assert!(amazon.asked(OBJECT).is_empty());

    let mut admin = server.tenant_admin();
    let update = |api_key: &str| UpdateChannelAccountRequest {
        tenant: topic.tenant.slug(),
        channel_account_id: topic.account.id.clone(),
        email_secrets: Some(EmailSecrets {
            api_key: api_key.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let refused = admin.update_channel_account(update("no-colon-in-it")).await;
    let (code, _, fields) = refusal(refused);
    assert_eq!(code, Code::InvalidArgument);
    assert_eq!(fields, ["email_secrets.api_key"]);
    admin
        .update_channel_account(update(ACCESS_KEY))
        .await
        .unwrap();
    let replay = || ReplayQuarantinedItemRequest {
        tenant: topic.tenant.slug(),
        delivery_id: item.delivery_id.clone(),
        item: item.item,
    };
    // The key may not read it yet.
    let replayed = admin.replay_quarantined_item(replay()).await.unwrap();
    let still = replayed.into_inner().item.unwrap();
    assert!(still.detail.contains("may not read it"), "{still:?}");
    let replayed = admin.replay_quarantined_item(replay()).await.unwrap();
    assert!(replayed.into_inner().item.unwrap().replay_time.is_some());
    eventually("the mail is there", async || {
        topic.messages().await.len() == 1
    })
    .await;
}
