//! Channel accounts: changed, checked, and moved from one tenant to another, which is the only way by
//! which one becomes another tenant's.

use std::time::Duration;

use communication_service::pb::connect_channel_account_request::Settings;
use communication_service::pb::update_channel_account_request::Settings as Changed;
use communication_service::pb::{
    ChannelAccount, ChannelAccountAspect, ChannelAccountVerdict, CheckChannelAccountRequest,
    DeleteTenantRequest, DisableChannelAccountRequest, DisconnectChannelAccountRequest,
    GetChannelAccountRequest, ListQuarantinedItemsRequest, TransferChannelAccountRequest,
    UpdateChannelAccountRequest, WhatsappSecrets, WhatsappSettings, channel_account,
};
use serde_json::json;
use tonic::{Code, Request, Status};

use crate::harness::{
    FileHost, Keys, Refusal, Tables, TestServer, TestTenant, Told, Whatsapp, eventually, refusal,
    sample, sign, unsupported,
};

async fn update(
    server: &TestServer,
    request: UpdateChannelAccountRequest,
) -> Result<ChannelAccount, Status> {
    let answer = server
        .tenant_admin()
        .update_channel_account(request)
        .await?;
    Ok(answer.into_inner().channel_account.unwrap())
}

/// A change of nothing.
fn same(account: &ChannelAccount) -> UpdateChannelAccountRequest {
    UpdateChannelAccountRequest {
        tenant: account.tenant.clone(),
        channel_account_id: account.id.clone(),
        ..Default::default()
    }
}

async fn transfer(
    server: &TestServer,
    account: &ChannelAccount,
    target: &TestTenant,
) -> Result<ChannelAccount, Status> {
    let request = TransferChannelAccountRequest {
        tenant: account.tenant.clone(),
        channel_account_id: account.id.clone(),
        target_tenant: target.slug(),
    };
    let answer = server
        .tenant_admin()
        .transfer_channel_account(request)
        .await?;
    Ok(answer.into_inner().channel_account.unwrap())
}

async fn disconnect(server: &TestServer, account: &ChannelAccount) {
    let request = DisconnectChannelAccountRequest {
        tenant: account.tenant.clone(),
        channel_account_id: account.id.clone(),
    };
    let mut admin = server.tenant_admin();
    admin.disconnect_channel_account(request).await.unwrap();
}

fn whatsapp(account: &ChannelAccount) -> WhatsappSettings {
    match &account.settings {
        Some(channel_account::Settings::Whatsapp(settings)) => settings.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_update_leaves_out_stays_and_what_an_account_is_cannot_change() {
    let server = TestServer::start().await;
    let of = Whatsapp::new(server.tenant().await);
    let account = of.connect(&server).await;
    assert!(!account.etag.is_empty());
    let named = UpdateChannelAccountRequest {
        name: Some("Sales".to_owned()),
        etag: account.etag.clone(),
        ..same(&account)
    };
    let renamed = update(&server, named.clone()).await.unwrap();
    assert_eq!(renamed.name, "Sales");
    assert_eq!(renamed.settings, account.settings);
    assert_eq!(renamed.webhook_path, account.webhook_path);
    assert_ne!(renamed.etag, account.etag);
    // What has changed meanwhile is not written over.
    let stale = update(&server, named).await.unwrap_err();
    assert_eq!(Refusal::of(&stale).why(), (Code::Aborted, "ETAG_MISMATCH"));
    let nameless = UpdateChannelAccountRequest {
        name: Some(String::new()),
        ..same(&account)
    };
    let refused = update(&server, nameless).await.unwrap_err();
    assert!(Refusal::of(&refused).fields.contains_key("name"));

    let mut settings = whatsapp(&account);
    settings.display_phone_number = "+1 555 000 1001".to_owned();
    let request = UpdateChannelAccountRequest {
        settings: Some(Changed::Whatsapp(settings.clone())),
        ..same(&account)
    };
    let changed = update(&server, request).await.unwrap();
    assert_eq!(whatsapp(&changed), settings);
    assert_eq!(changed.name, "Sales");

    let other_number = WhatsappSettings {
        phone_number_id: "1".to_owned(),
        ..settings.clone()
    };
    let other_app = WhatsappSettings {
        app_id: "2".to_owned(),
        ..settings.clone()
    };
    let own_app = WhatsappSettings {
        own_app: true,
        ..settings
    };
    for wrong in [other_number, other_app, own_app] {
        let request = UpdateChannelAccountRequest {
            settings: Some(Changed::Whatsapp(wrong)),
            ..same(&account)
        };
        let refused = Refusal::of(&update(&server, request).await.unwrap_err());
        assert_eq!(refused.why(), (Code::InvalidArgument, "INVALID_FIELD"));
        assert!(refused.fields.contains_key("whatsapp"), "{refused:?}");
    }
    // It works as before.
    let body = sample("02_text.json", &of.number);
    assert_eq!(of.post(&server, &body).await, 200);
    eventually("the message is there", async || {
        of.conversations().await.len() == 1
    })
    .await;

    disconnect(&server, &account).await;
    let refused = update(&server, same(&account)).await.unwrap_err();
    let why = Refusal::of(&refused);
    let expected = (Code::FailedPrecondition, "CHANNEL_ACCOUNT_DISCONNECTED");
    assert_eq!(why.why(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_stays_its_tenants_until_it_is_moved() {
    let server = TestServer::start().await;
    let ours = Whatsapp::new(server.tenant().await);
    let account = ours.connect(&server).await;
    assert_eq!(account.prove_time, None);
    assert_eq!(
        ours.post(&server, &sample("02_text.json", &ours.number))
            .await,
        200
    );
    assert_eq!(ours.post(&server, &unsupported(&ours.number)).await, 200);
    let items = async |tenant: &TestTenant| {
        let request = ListQuarantinedItemsRequest {
            tenant: tenant.slug(),
            ..Default::default()
        };
        let page = server.tenant_admin().list_quarantined_items(request).await;
        page.unwrap().into_inner().items.len()
    };
    eventually("both are applied", async || {
        ours.conversations().await.len() == 1 && items(&ours.tenant).await == 1
    })
    .await;

    // Disconnected, it is not free: its app has signed what named it.
    disconnect(&server, &account).await;
    let mut theirs = Whatsapp::new(server.tenant().await);
    theirs.number.clone_from(&ours.number);
    let mut admin = server.tenant_admin();
    let taken = admin.connect_channel_account(theirs.request()).await;
    let (code, reason, _) = refusal(taken);
    assert_eq!(
        (code, reason.as_str()),
        (Code::AlreadyExists, "CHANNEL_ACCOUNT_TAKEN")
    );

    // What comes meanwhile waits, and is not for who gets the account.
    let meanwhile = sample("07_sticker.json", &ours.number);
    assert_eq!(ours.post(&server, &meanwhile).await, 200);
    let tables = Tables::of(&ours.tenant).await;
    let unknown = format!(
        "SELECT count(*) FROM directory.quarantine
        WHERE route_key = '{}' AND reason = 'unknown_account'",
        ours.number
    );
    eventually("it waits", async || tables.count(&unknown).await == 1).await;
    let moved = transfer(&server, &account, &theirs.tenant).await.unwrap();
    assert!(moved.prove_time.is_some());
    assert_eq!(
        (&moved.id, &moved.tenant),
        (&account.id, &theirs.tenant.slug())
    );
    assert_eq!(
        (&moved.settings, &moved.name),
        (&account.settings, &account.name)
    );
    assert_eq!(moved.webhook_path, account.webhook_path);
    assert_eq!(moved.disconnect_time, None);
    // The answer may have been lost.
    assert_eq!(
        transfer(&server, &account, &theirs.tenant).await.unwrap(),
        moved
    );
    let request = GetChannelAccountRequest {
        tenant: ours.tenant.slug(),
        channel_account_id: account.id.clone(),
    };
    let gone = server.tenant_admin().get_channel_account(request).await;
    assert_eq!(refusal(gone).0, Code::NotFound);

    // What comes from now on is theirs, and what was stays ours.
    let body = sample("03_image_caption.json", &ours.number);
    assert_eq!(theirs.post(&server, &body).await, 200);
    eventually("the message is theirs", async || {
        theirs.conversations().await.len() == 1
    })
    .await;
    let kept = ours.conversations().await;
    assert_eq!(ours.tenant.messages(&kept[0]).await.len(), 1);
    assert_eq!(
        (items(&ours.tenant).await, items(&theirs.tenant).await),
        (2, 0)
    );
    let said = theirs.conversations().await.remove(0);
    assert_eq!(theirs.tenant.messages(&said).await.len(), 1);
    // Where it was, nothing is sent by it any more.
    let reconnect = admin.connect_channel_account(ours.request()).await;
    assert_eq!(refusal(reconnect).0, Code::AlreadyExists);

    // And back: its conversation goes on, and what waited for it is there.
    let back = transfer(&server, &moved, &ours.tenant).await.unwrap();
    assert_eq!(back.id, account.id);
    let body = sample("05_audio_voice.json", &ours.number);
    assert_eq!(ours.post(&server, &body).await, 200);
    eventually("the conversation goes on", async || {
        let conversations = ours.conversations().await;
        conversations.len() == 1 && ours.tenant.messages(&conversations[0]).await.len() == 3
    })
    .await;
    eventually("nothing waits", async || items(&ours.tenant).await == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_of_the_tenants_own_goes_along_or_a_copy_of_it() {
    let server = TestServer::start().await;
    let (one, mut two) = (
        Whatsapp::new(server.tenant().await),
        Whatsapp::new(server.tenant().await),
    );
    two.tenant = one.tenant.clone();
    let target = server.tenant().await;
    let secret = format!("secret-{}", one.number);
    let first = one.connect_own(&server, &secret).await;
    let second = two.connect_own(&server, &secret).await;
    assert_eq!(first.webhook_path, second.webhook_path);
    let post = async |path: &str, number: &str, file: &str| {
        let body = sample(file, number);
        let signature = sign(&secret, &body);
        let headers = [
            ("x-hub-signature-256", signature.as_str()),
            ("x-request-id", number),
        ];
        server.http_post(path, &headers, &body).await.0
    };
    // It signs for another account, which stays.
    let moved = transfer(&server, &first, &target).await.unwrap();
    assert_ne!(moved.webhook_path, first.webhook_path);
    assert_eq!(
        post(&moved.webhook_path, &one.number, "02_text.json").await,
        200
    );
    let heir = Whatsapp {
        tenant: target.clone(),
        number: one.number.clone(),
    };
    eventually("the message is the target's", async || {
        heir.conversations().await.len() == 1
    })
    .await;
    // What the app that stayed signs has no effect on it.
    let foreign = post(&second.webhook_path, &one.number, "05_audio_voice.json");
    assert_eq!(foreign.await, 200);
    let own = post(&second.webhook_path, &two.number, "02_text.json");
    assert_eq!(own.await, 200);
    let tables = Tables::of(&target).await;
    let waiting = format!(
        "SELECT count(*) FROM directory.deliveries
        WHERE correlation_id IN ('{}', '{}') AND due_at IS NOT NULL",
        one.number, two.number
    );
    eventually("all is applied", async || tables.count(&waiting).await == 0).await;
    assert_eq!(two.conversations().await.len(), 1);
    let said = heir.conversations().await.remove(0);
    assert_eq!(heir.tenant.messages(&said).await.len(), 1);
    // A tenant can sign what it likes with an app of its own: that proves nothing.
    assert_eq!(
        update(&server, same(&second)).await.unwrap().prove_time,
        None
    );
    // The last account takes the app along; one that is there already serves.
    let last = server.tenant().await;
    let moved = transfer(&server, &second, &last).await.unwrap();
    assert_eq!(moved.webhook_path, second.webhook_path);
    let met = transfer(&server, &moved, &target).await.unwrap();
    assert_ne!(met.webhook_path, moved.webhook_path);
    assert_eq!(
        post(&met.webhook_path, &two.number, "03_image_caption.json").await,
        200
    );
    eventually("both are the target's", async || {
        heir.conversations().await.len() == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_leaves_a_deleted_tenant_and_nobody_takes_one_without_leave() {
    let keys = Keys::new();
    let server = TestServer::start_trusting(&keys).await;
    let everything = keys.metadata(json!({"scope": "tenant.admin inbox.read inbox.write"}));
    let call = |metadata: &tonic::metadata::MetadataMap, request| {
        let mut request = Request::new(request);
        *request.metadata_mut() = metadata.clone();
        let mut admin = server.tenant_admin();
        async move { admin.transfer_channel_account(request).await }
    };
    let slugs = [0, 1].map(|_| format!("t{}", uuid::Uuid::now_v7().simple()));
    let mut admin = server.tenant_admin();
    for slug in &slugs {
        let mut request = Request::new(communication_service::pb::InitializeTenantRequest {
            tenant: slug.clone(),
            ..Default::default()
        });
        *request.metadata_mut() = everything.clone();
        admin.initialize_tenant(request).await.unwrap();
    }
    let settings = Settings::Whatsapp(WhatsappSettings {
        phone_number_id: (uuid::Uuid::now_v7().as_u128() % 10_u128.pow(30)).to_string(),
        app_id: "1".to_owned(),
        own_app: true,
        ..Default::default()
    });
    let mut connect = Request::new(communication_service::pb::ConnectChannelAccountRequest {
        tenant: slugs[0].clone(),
        name: "Support".to_owned(),
        settings: Some(settings),
        whatsapp_secrets: Some(WhatsappSecrets {
            app_secret: "a-secret-of-the-tests".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    });
    *connect.metadata_mut() = everything.clone();
    let connected = admin.connect_channel_account(connect).await.unwrap();
    let account = connected.into_inner().channel_account.unwrap();
    let mut delete = Request::new(DeleteTenantRequest {
        tenant: slugs[0].clone(),
        ..Default::default()
    });
    *delete.metadata_mut() = everything.clone();
    admin.delete_tenant(delete).await.unwrap();

    let request = TransferChannelAccountRequest {
        tenant: slugs[0].clone(),
        channel_account_id: account.id.clone(),
        target_tenant: slugs[1].clone(),
    };
    for one in &slugs {
        let limited = keys.metadata(json!({"scope": "tenant.admin", "tenants": [one]}));
        let (code, reason, _) = refusal(call(&limited, request.clone()).await);
        let denied = (Code::PermissionDenied, "TENANT_NOT_ALLOWED");
        assert_eq!((code, reason.as_str()), denied);
    }
    let both = keys.metadata(json!({"scope": "tenant.admin", "tenants": slugs}));
    let moved = call(&both, request).await.unwrap().into_inner();
    assert_eq!(moved.channel_account.unwrap().tenant, slugs[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_asks_the_provider_and_says_what_to_do() {
    let host = FileHost::open().await;
    let (url, trusted) = (host.url(""), host.address.to_string());
    let server = TestServer::start_with(|config| {
        config.meta_url = url;
        config.trusted_hosts = vec![trusted.parse().unwrap()];
    })
    .await;
    let of = Whatsapp::new(server.tenant().await);
    let account = of.connect(&server).await;
    let path = format!(
        "/{}?fields=display_phone_number,verified_name,quality_rating",
        of.number
    );
    let check = async |aspect: ChannelAccountAspect| {
        let request = CheckChannelAccountRequest {
            tenant: of.tenant.slug(),
            channel_account_id: account.id.clone(),
        };
        let answer = server.tenant_admin().check_channel_account(request).await;
        let checks = answer.unwrap().into_inner().checks;
        let found = checks.into_iter().find(|check| check.aspect() == aspect);
        let found = found.unwrap();
        assert!(!found.description.is_empty());
        assert!(!found.description.contains("token-of-mine"), "{found:?}");
        found.verdict()
    };
    let passed = br#"{"display_phone_number":"+1 555 000 1001","verified_name":"Support"}"#;
    host.tells(
        &path,
        [
            Told::File("application/json", passed.to_vec()),
            Told::Answer(401, r#"{"error":{"code":190}}"#),
            Told::Answer(503, ""),
            Told::Nothing,
        ],
    );
    let given = UpdateChannelAccountRequest {
        whatsapp_secrets: Some(WhatsappSecrets {
            access_token: "token-of-mine".to_owned(),
            ..Default::default()
        }),
        ..same(&account)
    };
    update(&server, given).await.unwrap();
    let credentials = ChannelAccountAspect::Credentials;
    let proved = async || update(&server, same(&account)).await.unwrap().prove_time;
    assert_eq!(proved().await, None);
    assert_eq!(check(credentials).await, ChannelAccountVerdict::Passed);
    assert_eq!(
        host.asked(&path)[0].header["authorization"],
        "Bearer token-of-mine"
    );
    assert!(proved().await.is_some());
    assert_eq!(check(credentials).await, ChannelAccountVerdict::Failed);
    assert_eq!(check(credentials).await, ChannelAccountVerdict::Unknown);
    let (state, quarantine) = (
        ChannelAccountAspect::State,
        ChannelAccountAspect::Quarantine,
    );
    host.tells(&path, [Told::Answer(503, "")]);
    assert_eq!(check(state).await, ChannelAccountVerdict::Passed);
    assert_eq!(check(quarantine).await, ChannelAccountVerdict::Passed);
    assert_eq!(of.post(&server, &unsupported(&of.number)).await, 200);
    eventually("an item is in quarantine", async || {
        check(quarantine).await == ChannelAccountVerdict::Failed
    })
    .await;
    disconnect(&server, &account).await;
    assert_eq!(check(state).await, ChannelAccountVerdict::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_turn_when_its_account_is_disabled_goes_to_quarantine() {
    let server = TestServer::start().await;
    let account = Whatsapp::new(server.tenant().await);
    let connected = account.connect(&server).await;
    let text = String::from_utf8(sample("02_text.json", &account.number)).unwrap();
    let post = async |number: usize| {
        let body = text.replace("wamid.", &format!("wamid.{number}."));
        assert_eq!(account.post(&server, body.as_bytes()).await, 200);
    };
    post(1).await;
    let tables = Tables::of(&account.tenant).await;
    let messages = async || {
        tables
            .count("SELECT count(*) FROM {schema}.inbox_messages")
            .await
    };
    eventually("the first is there", async || messages().await == 1).await;
    let lock = format!(
        "BEGIN; SELECT FROM {}.inbox_conversations FOR UPDATE",
        tables.schema
    );
    tables.admin.batch_execute(&lock).await.unwrap();
    post(2).await;
    // Of the same person, it waits behind the one before.
    post(3).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let disable = DisableChannelAccountRequest {
        tenant: account.tenant.slug(),
        channel_account_id: connected.id,
    };
    let mut admin = server.tenant_admin();
    admin.disable_channel_account(disable).await.unwrap();
    tables.admin.batch_execute("COMMIT").await.unwrap();
    let waits = ListQuarantinedItemsRequest {
        tenant: account.tenant.slug(),
        ..Default::default()
    };
    eventually("the third waits", async || {
        let page = admin.list_quarantined_items(waits.clone()).await.unwrap();
        page.into_inner().items.len() == 1
    })
    .await;
    eventually("the second is there", async || messages().await == 2).await;
}
