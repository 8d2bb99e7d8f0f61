//! Who may call what.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use communication_service::config::Environment;
use communication_service::pb::{
    Actor, Channel, CreateConversationRequest, CreateMessageRequest, actor,
};
use jsonwebtoken::{Algorithm, Header};
use serde_json::{Value as Json, json};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::harness::{
    Filled, Keys, Method, Refusal, TestServer, TestTenant, bearer, call_raw, ed_header, now,
};

const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

fn everything() -> Json {
    json!({"scope": Method::scopes().join(" ")})
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_needs_a_credential_with_the_scope_that_it_declares() {
    let keys = Keys::new();
    let server = TestServer::start_trusting(&keys).await;
    let tenant = Filled::new(&server, &keys.metadata(everything())).await;
    for method in Method::all() {
        let request = tenant.example(&method);
        let name = method.name();
        let nobody = method
            .call(&server.channel, &request, &MetadataMap::new())
            .await;
        let refusal = Refusal::of(&nobody.unwrap_err());
        assert_eq!(
            refusal.why(),
            (Code::Unauthenticated, "CREDENTIAL_INVALID"),
            "{name}"
        );
        for scope in Method::scopes() {
            let request = tenant.example(&method);
            let credential = keys.metadata(json!({"scope": scope}));
            let answer = method.call(&server.channel, &request, &credential).await;
            if scope == method.scope() {
                assert!(answer.is_ok(), "{name} with {scope}: {answer:?}");
            } else {
                let refusal = Refusal::of(&answer.unwrap_err());
                assert_eq!(
                    refusal.why(),
                    (Code::PermissionDenied, "SCOPE_MISSING"),
                    "{name}"
                );
                assert_eq!(refusal.metadata["scope"], method.scope());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_paths_lead_nowhere() {
    let keys = Keys::new();
    let server = TestServer::start_trusting(&keys).await;
    let all = keys.metadata(everything());
    let odd = [
        "/communication.v1.InboxService/Nope",
        "/communication.v1.InboxService/getmessage",
        "/communication.v1.InboxService/GetMessage/",
        "/communication.v1.InboxService//GetMessage",
        "//communication.v1.InboxService/GetMessage",
        "/communication.v1.inboxservice/GetMessage",
        "/communication.v1.InboxService/",
        "/communication.v1.InboxService",
        "/communication.v2.InboxService/GetMessage",
        "/grpc.health.v1.Health/../../communication.v1.InboxService/GetMessage",
        "/",
    ];
    for path in odd {
        let status = call_raw(&server.channel, path, Vec::new(), &all)
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}");
        let status = call_raw(&server.channel, path, Vec::new(), &MetadataMap::new())
            .await
            .unwrap_err();
        let closed = [Code::Unauthenticated, Code::Unimplemented];
        assert!(closed.contains(&status.code()), "{path}: {status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_needs_a_credential_and_health_does_not() {
    let keys = Keys::new();
    let server = TestServer::start_trusting(&keys).await;
    let nobody = MetadataMap::new();
    let refused = call_raw(&server.channel, REFLECTION, Vec::new(), &nobody).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    let health = "/grpc.health.v1.Health/Check";
    call_raw(&server.channel, health, Vec::new(), &nobody)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_can_be_switched_off() {
    let server = TestServer::start_with(|config| config.reflection = false).await;
    let refused = call_raw(&server.channel, REFLECTION, Vec::new(), &MetadataMap::new()).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unimplemented);
    server.tenant().await;
}

/// A token of parts that no library would put together.
fn by_hand(header: &Json, claims: &Json, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let part = |json: &Json| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn bad_tokens(keys: &Keys) -> Vec<(&'static str, String)> {
    let with = |change: Json| keys.token(change);
    let without = |claim: &str| {
        let mut claims = Keys::claims();
        claims.as_object_mut().unwrap().remove(claim);
        keys.sign(&claims)
    };
    let good = with(everything());
    let (body, signature) = good.rsplit_once('.').unwrap();
    let (header, claims) = body.split_once('.').unwrap();
    let none = |_: &[u8]| Vec::new();
    let hmac = |key: Vec<u8>| {
        move |message: &[u8]| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
            hmac::sign(&key, message).as_ref().to_vec()
        }
    };
    let as_kid = |kid: Option<&str>| {
        let mut header = ed_header();
        header.kid = kid.map(str::to_owned);
        keys.sign_as(&header, &Keys::claims())
    };
    let headed = |change: fn(&mut Header)| {
        let mut header = ed_header();
        change(&mut header);
        keys.sign_as(&header, &Keys::claims())
    };
    let mut es256 = Header::new(Algorithm::ES256);
    es256.kid = Some("ed".to_owned());
    let mut flipped = signature.to_owned().into_bytes();
    flipped[0] = if flipped[0] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    vec![
        ("expired", with(json!({"exp": now() - 31}))),
        ("expired long ago", with(json!({"exp": 1}))),
        ("exp of text", with(json!({"exp": "tomorrow"}))),
        ("exp below zero", with(json!({"exp": -1}))),
        ("exp of nothing", with(json!({"exp": null}))),
        ("no exp", without("exp")),
        ("not yet", with(json!({"nbf": now() + 60}))),
        ("nbf of text", with(json!({"nbf": "x"}))),
        ("other issuer", with(json!({"iss": "somebody"}))),
        (
            "issuer in capitals",
            with(json!({"iss": "COMMUNICATION-SERVICE"})),
        ),
        ("empty issuer", with(json!({"iss": ""}))),
        ("no issuer", without("iss")),
        ("other audience", with(json!({"aud": "somebody"}))),
        (
            "other audiences",
            with(json!({"aud": ["somebody", "else"]})),
        ),
        ("audience of a number", with(json!({"aud": 7}))),
        ("no audience", without("aud")),
        ("empty audience", with(json!({"aud": ""}))),
        ("no subject", without("sub")),
        ("empty subject", with(json!({"sub": ""}))),
        ("subject with a line break", with(json!({"sub": "a\nb"}))),
        ("subject with NUL", with(json!({"sub": "a\u{0}b"}))),
        ("long subject", with(json!({"sub": "x".repeat(129)}))),
        ("subject of a number", with(json!({"sub": 7}))),
        ("scope of a list", with(json!({"scope": ["inbox.read"]}))),
        ("tenants of text", with(json!({"tenants": "*"}))),
        ("user of a number", with(json!({"user_id": 7}))),
        ("empty user", with(json!({"user_id": ""}))),
        ("user with NUL", with(json!({"user_id": "a\u{0}"}))),
        ("long user", with(json!({"user_id": "x".repeat(129)}))),
        (
            "another kind of token",
            headed(|header| header.typ = Some("logout+jwt".to_owned())),
        ),
        (
            "something that has to be understood",
            headed(|header| header.crit = Some(vec!["exp".to_owned()])),
        ),
        ("unknown key", as_kid(Some("nobody"))),
        ("no key named", as_kid(None)),
        ("empty key name", as_kid(Some(""))),
        ("key of another algorithm", as_kid(Some("ec"))),
        (
            "algorithm of another key",
            keys.sign_as(&es256, &Keys::claims()),
        ),
        (
            "no algorithm",
            by_hand(&json!({"alg": "none", "kid": "ed"}), &Keys::claims(), none),
        ),
        (
            "no algorithm, nOnE",
            by_hand(&json!({"alg": "nOnE", "kid": "ed"}), &Keys::claims(), none),
        ),
        (
            "public key as a secret",
            by_hand(
                &json!({"alg": "HS256", "kid": "ed"}),
                &Keys::claims(),
                hmac(keys.public.clone()),
            ),
        ),
        (
            "no secret",
            by_hand(
                &json!({"alg": "HS256", "kid": "ed"}),
                &Keys::claims(),
                hmac(Vec::new()),
            ),
        ),
        ("no signature", format!("{body}.")),
        ("two parts", body.to_owned()),
        ("four parts", format!("{good}.x")),
        ("signature cut", good[..good.len() - 4].to_owned()),
        ("signature changed", format!("{body}.{flipped}")),
        (
            "signature of another",
            format!("{header}.{claims}x.{signature}"),
        ),
        ("claims of nothing", format!("{header}..{signature}")),
        ("header of nothing", format!(".{claims}.{signature}")),
        ("garbage", "garbage".to_owned()),
        ("dots", "..".to_owned()),
        ("10 kB", "x".repeat(10_000)),
        ("good and long", with(json!({"more": "x".repeat(10_000)}))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_tokens_are_all_refused_in_the_same_words() {
    let keys = Keys::new();
    let server = TestServer::start_trusting(&keys).await;
    let tenant = Filled::new(&server, &keys.metadata(everything())).await;
    let method = crate::harness::method("GetMessage");
    let request = tenant.example(&method);
    let refused = async |what: &str, metadata: &MetadataMap| {
        let status = method
            .call(&server.channel, &request, metadata)
            .await
            .expect_err(what);
        let refusal = Refusal::of(&status);
        assert_eq!(
            refusal.why(),
            (Code::Unauthenticated, "CREDENTIAL_INVALID"),
            "{what}"
        );
        refusal.message
    };
    let message = refused("nothing", &MetadataMap::new()).await;
    let tokens = bad_tokens(&keys);
    assert!(tokens.len() >= 45);
    for (what, token) in tokens {
        assert_eq!(refused(what, &bearer(&token)).await, message, "{what}");
    }
    let good = keys.token(everything());
    for value in [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        good.clone(),
        format!("Basic {good}"),
        format!("Bearer\t{good}"),
        format!("Bearer  {good}"),
        format!("Token {good}"),
    ] {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", value.parse().unwrap());
        assert_eq!(refused(&value, &metadata).await, message);
    }
    let mut twice = bearer(&good);
    twice.append("authorization", format!("Bearer {good}").parse().unwrap());
    assert_eq!(refused("two credentials", &twice).await, message);

    // The same walk with the good one, so that the refusals are for the tokens' sake.
    let mut metadata = bearer(&good);
    method
        .call(&server.channel, &request, &metadata)
        .await
        .unwrap();
    metadata.insert("authorization", format!("bearer {good}").parse().unwrap());
    method
        .call(&server.channel, &request, &metadata)
        .await
        .unwrap();
    let among_others = json!(["somebody", "communication-service"]);
    let among_others = keys.metadata(json!({"scope": "inbox.read", "aud": among_others}));
    method
        .call(&server.channel, &request, &among_others)
        .await
        .unwrap();
    let nearly = keys.metadata(json!({"scope": "inbox.read", "exp": now() - 10}));
    method
        .call(&server.channel, &request, &nearly)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_for_one_tenant_enters_no_other() {
    let keys = Keys::new();
    let server = TestServer::start_trusting(&keys).await;
    let all = keys.metadata(everything());
    let theirs = Filled::new(&server, &all).await;
    let limited =
        keys.metadata(json!({"scope": Method::scopes().join(" "), "tenants": ["somebody-else"]}));
    for method in Method::all() {
        let request = theirs.example(&method);
        let status = method
            .call(&server.channel, &request, &limited)
            .await
            .unwrap_err();
        let denied = (Code::PermissionDenied, "TENANT_NOT_ALLOWED");
        assert_eq!(Refusal::of(&status).why(), denied, "{}", method.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_acts_as_nobody_else_and_a_service_for_anybody() {
    let keys = Keys::new();
    let server = TestServer::start_trusting(&keys).await;
    let all = keys.metadata(everything());
    let tenant = Filled::new(&server, &all).await;
    let create = crate::harness::method("CreateMessage");
    let example = tenant.example(&create);
    let acting = |kind: Option<actor::Kind>| {
        let mut message = example.transcode_to::<CreateMessageRequest>().unwrap();
        message.actor = kind.map(|kind| Actor { kind: Some(kind) });
        message.request_id = String::new();
        message
    };
    let send = async |message: CreateMessageRequest, metadata: &MetadataMap| {
        let mut request = Request::new(message);
        *request.metadata_mut() = metadata.clone();
        server.inbox().create_message(request).await
    };
    let user = |id: &str| Some(actor::Kind::UserId(id.to_owned()));

    let own = keys.metadata(json!({"scope": "inbox.write", "sub": "app", "user_id": "user-1"}));
    for actor in [None, user("user-1")] {
        let sent = send(acting(actor), &own)
            .await
            .unwrap()
            .into_inner()
            .message
            .unwrap();
        assert_eq!(sent.actor.unwrap().kind, user("user-1"));
        assert_eq!(sent.caller, "app");
    }
    let others = [
        user("user-2"),
        Some(actor::Kind::BotId("user-1".to_owned())),
        Some(actor::Kind::Service("app".to_owned())),
    ];
    for actor in others {
        let refusal = Refusal::of(&send(acting(actor), &own).await.unwrap_err());
        assert_eq!(refusal.why(), (Code::PermissionDenied, "ACTOR_NOT_ALLOWED"));
    }

    let service = keys.metadata(json!({"scope": "inbox.write", "sub": "desk"}));
    let sent = send(acting(user("user-2")), &service)
        .await
        .unwrap()
        .into_inner();
    let sent = sent.message.unwrap();
    assert_eq!(
        (sent.actor.unwrap().kind, sent.caller.as_str()),
        (user("user-2"), "desk")
    );
    let sent = send(acting(None), &service)
        .await
        .unwrap()
        .into_inner()
        .message
        .unwrap();
    assert_eq!(
        sent.actor.unwrap().kind,
        Some(actor::Kind::Service("desk".to_owned()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_trusts_no_keys_lets_loopback_in_as_the_service_local() {
    let server = TestServer::start().await;
    let tenant: TestTenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    let sent = tenant.reply(&conversation, "Hello").await;
    assert_eq!(sent.caller, "local");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_can_be_set_in_development_alone() {
    let keys = Keys::new();
    for environment in [Environment::Development, Environment::Production] {
        let file = keys.jwks_file.clone();
        let server = TestServer::start_with(|config| {
            config.jwks_file = Some(file);
            config.env = Some(environment);
        })
        .await;
        let all = keys.metadata(everything());
        let tenant = Filled::new(&server, &all).await;
        let create = async |offset: Option<&'static str>| {
            let request = CreateConversationRequest {
                tenant: tenant.slug.clone(),
                channel: Channel::Web.into(),
                contact_identifier: Uuid::now_v7().to_string(),
                ..Default::default()
            };
            let mut request = Request::new(request);
            *request.metadata_mut() = all.clone();
            if let Some(offset) = offset {
                let offset = offset.parse().unwrap();
                request.metadata_mut().insert("x-clock-offset", offset);
            }
            let answer = server.inbox().create_conversation(request).await?;
            let conversation = answer.into_inner().conversation.unwrap();
            let made = conversation.create_time.unwrap().seconds;
            Ok::<_, Status>(made - i64::try_from(now()).unwrap())
        };
        // What was set for one call is not for the next on its connection.
        assert!(create(None).await.unwrap().abs() < 60);
        if environment == Environment::Development {
            assert!((create(Some("-86400")).await.unwrap() + 86_400).abs() < 60);
            assert!((create(Some("3600")).await.unwrap() - 3600).abs() < 60);
            assert!(create(None).await.unwrap().abs() < 60);
        }
        for offset in ["-86400", "yesterday", "99999999999"] {
            let expected = environment == Environment::Production || offset != "-86400";
            let refused = create(Some(offset)).await.err();
            assert_eq!(refused.is_some(), expected, "{offset}");
            if let Some(status) = refused {
                let fields = status.get_error_details();
                let violations = &fields.bad_request().unwrap().field_violations;
                assert_eq!(violations[0].field, "x-clock-offset");
            }
        }
        assert!(create(None).await.unwrap().abs() < 60);
    }
}
