//! Bad input is the caller's fault, and named.

use communication_service::pb::{
    CreateMessageRequest, InitializeTenantRequest, ListMessagesRequest,
};
use prost::Message as _;
use prost_reflect::{DynamicMessage, Value};
use serde_json::json;
use tonic::Code;
use tonic::metadata::MetadataMap;

use crate::harness::{Field, Filled, Method, Named, Refusal, TestServer, admin, call_raw, content};

struct Stage {
    server: TestServer,
    tenant: Filled,
    refused: usize,
}

impl Stage {
    async fn new() -> Self {
        let server = TestServer::start().await;
        let tenant = Filled::new(&server, &MetadataMap::new()).await;
        Self {
            server,
            tenant,
            refused: 0,
        }
    }

    /// Sends a request that must be refused for this field.
    async fn refuse(&mut self, method: &Method, request: &DynamicMessage, field: &str, what: &str) {
        let metadata = MetadataMap::new();
        let answer = method.call(&self.server.channel, request, &metadata).await;
        let Err(status) = answer else {
            panic!("{} took {what} in {field}", method.name());
        };
        let refusal = Refusal::of(&status);
        let where_ = format!("{} {field} with {what}: {refusal:?}", method.name());
        assert_eq!(refusal.code, Code::InvalidArgument, "{where_}");
        assert!(refusal.names(field), "{where_}");
        self.refused += 1;
    }

    async fn accept(&self, method: &Method, request: &DynamicMessage, what: &str) {
        let answer = method
            .call(&self.server.channel, request, &MetadataMap::new())
            .await;
        assert!(answer.is_ok(), "{} with {what}: {answer:?}", method.name());
    }
}

/// The name that a refusal gives to a field: that of the tenant's door, which comes first.
fn is_slug(method: &Method, field: &Field) -> bool {
    field.name() == "tenant" && !method.is_admin()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_field_cannot_hold_is_refused_by_its_name_and_changes_nothing() {
    let mut stage = Stage::new().await;
    let database = admin().await;
    let before = content(&database, &stage.tenant.schema).await;
    for method in Method::all() {
        let example = stage.tenant.example(&method);
        for field in method.fields() {
            let path = field.path();
            if field.is_text() {
                let example = stage.tenant.example_without_rivals(&method, &path);
                let request = field.with_text(&example, "a\0b");
                let path = field.value_path();
                stage.refuse(&method, &request, &path, "NUL").await;
            }
            if field.name().ends_with("_id")
                && matches!(
                    field_kind(&stage.tenant, &method, &field),
                    Some(Named::Thing(_))
                )
            {
                for id in bad_ids() {
                    let request = field.with_text(&example, &id);
                    stage.refuse(&method, &request, &path, &id).await;
                }
            }
            if field.is_enum() {
                for number in [-1, 99, i32::MAX, i32::MIN] {
                    let mut request = example.clone();
                    field.set(&mut request, Value::EnumNumber(number));
                    stage
                        .refuse(&method, &request, &field.value_path(), "an unknown value")
                        .await;
                }
            }
            if field.is_message("google.protobuf.Timestamp") {
                for (seconds, nanos) in bad_times() {
                    let mut time = field.empty();
                    time.set_field_by_name("seconds", Value::I64(seconds));
                    time.set_field_by_name("nanos", Value::I32(nanos));
                    let mut request = example.clone();
                    field.set(&mut request, Value::Message(time));
                    stage.refuse(&method, &request, &path, "no time").await;
                }
            }
            if field.is_message("google.protobuf.Struct") {
                for (what, metadata) in bad_metadata() {
                    let mut request = example.clone();
                    field.set(&mut request, field.message(metadata));
                    stage.refuse(&method, &request, &path, what).await;
                }
            }
            if field.is_fraction() {
                for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 180.1, -180.1] {
                    let mut request = example.clone();
                    field.set(&mut request, Value::F64(number));
                    stage
                        .refuse(&method, &request, &path, "no such place")
                        .await;
                }
            }
            if field.name() == "page_size" {
                let mut request = example.clone();
                field.set(&mut request, Value::I32(-1));
                stage
                    .refuse(&method, &request, &path, "less than nothing")
                    .await;
            }
        }
    }
    assert!(stage.refused >= 280, "{}", stage.refused);
    assert_eq!(content(&database, &stage.tenant.schema).await, before);
}

fn field_kind(tenant: &Filled, method: &Method, field: &Field) -> Option<Named> {
    (field.is_id() && !is_slug(method, field)).then(|| tenant.named(method, &field.path()))
}

fn bad_ids() -> Vec<String> {
    [
        "x",
        " ",
        "0",
        "00000000-0000-0000-0000-00000000000",
        "00000000-0000-0000-0000-0000000000000",
        "0000000000000000000000000000000000",
        "01890000000070008000000000000000",
        "{01890000-0000-7000-8000-000000000000}",
        "urn:uuid:01890000-0000-7000-8000-000000000000",
        "0189000g-0000-7000-8000-000000000000",
        "01890000_0000_7000_8000_000000000000",
        " 1890000-0000-7000-8000-000000000000",
        "01890000-0000-7000-8000-00000000000'",
        "ä1890000-0000-7000-8000-0000000000",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn bad_times() -> [(i64, i32); 8] {
    [
        (-1, 0),
        (253_402_300_800, 0),
        (i64::MAX, 0),
        (i64::MIN, 0),
        (0, -1),
        (0, 1_000_000_000),
        (0, 2_000_000_000),
        (0, i32::MIN),
    ]
}

fn bad_metadata() -> Vec<(&'static str, serde_json::Value)> {
    let mut deep = json!(1);
    for _ in 0..33 {
        deep = json!([deep]);
    }
    vec![
        ("NUL in a key", json!({"a\u{0}": 1})),
        ("NUL in a value", json!({"a": "\u{0}"})),
        ("NUL deep inside", json!({"a": [{"b": ["\u{0}"]}]})),
        ("too deep", json!({"a": deep})),
        ("too much", json!({"a": "x".repeat(32 * 1024)})),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_taken_up_to_their_limit_and_not_beyond() {
    let mut stage = Stage::new().await;
    // The limits that the proto comments state; `ä` has two bytes and is one character.
    let limits: &[(&str, &str, usize, &str)] = &[
        ("CreateConversation", "contact_identifier", 512, "ä"),
        ("CreateConversation", "contact_name", 256, "ä"),
        ("CreateConversation", "first_message", 64 * 1024, "x"),
        ("CreateConversation", "subject", 998, "ä"),
        ("CreateConversation", "thread_key", 512, "x"),
        ("CreateConversation", "request_id", 128, "x"),
        ("CreateConversation", "actor.user_id", 128, "ä"),
        ("UpdateConversation", "subject", 998, "ä"),
        ("CreateMessage", "text", 64 * 1024, "x"),
        ("CreateMessage", "request_id", 128, "x"),
        ("CreateMessage", "location.name", 1000, "ä"),
        ("CreateMessage", "location.address", 1000, "ä"),
        ("EditMessage", "text", 64 * 1024, "x"),
        ("BatchCreateMessages", "messages[0].text", 64 * 1024, "x"),
        ("BatchCreateMessages", "messages[0].import_id", 512, "ä"),
        ("SearchMessages", "query", 500, "ä"),
        ("SearchMessages", "author.user_id", 128, "ä"),
        ("CreateContact", "name", 256, "ä"),
        ("CreateContact", "company", 256, "ä"),
        ("CreateContact", "language", 35, "x"),
        ("CreateContact", "notes", 16 * 1024, "x"),
        ("UpdateContact", "name", 256, "ä"),
        ("UpdateContact", "notes", 16 * 1024, "x"),
        ("ListContacts", "query", 256, "ä"),
        ("CreateQuickReply", "shortcut", 64, "ä"),
        ("CreateQuickReply", "title", 256, "ä"),
        ("CreateQuickReply", "text", 64 * 1024, "x"),
        ("CreateQuickReply", "team_id", 128, "ä"),
        ("CreateQuickReply", "request_id", 128, "x"),
        ("CreateQuickReply", "variants[0].text", 64 * 1024, "x"),
        ("UpdateQuickReply", "shortcut", 64, "ö"),
        ("UpdateQuickReply", "title", 256, "ä"),
        ("UpdateQuickReply", "text", 64 * 1024, "x"),
        ("ListQuickReplies", "query", 256, "ä"),
        ("UpdateMessageStatus", "failure.code", 128, "ä"),
        ("UploadAttachment", "file_name", 255, "x"),
        ("UploadChatAttachment", "file_name", 255, "x"),
        ("UpdateScheduledEntry", "text", 64 * 1024, "x"),
        ("UpdateMessageStatus", "failure.message", 4000, "ä"),
        ("SetPresence", "text", 128, "ä"),
    ];
    for (name, path, limit, unit) in limits {
        let method = crate::harness::method(name);
        let field = method.field(path).unwrap();
        let with = |stage: &Stage, units: usize| {
            let example = stage.tenant.example_without_rivals(&method, path);
            field.with_text(&example, &unit.repeat(units))
        };
        stage
            .accept(
                &method,
                &with(&stage, *limit),
                &format!("{path} at its limit"),
            )
            .await;
        for over in [limit + 1, limit * 10] {
            let request = with(&stage, over);
            stage.refuse(&method, &request, path, "too much").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_is_stored_as_it_is() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    let hostile = [
        "'; DROP TABLE inbox_messages; --",
        "\" OR \"\"=\"",
        "1); SELECT pg_sleep(5); --",
        "$1 $2 $$ $body$",
        "%s %n {} {{}} \\u0000 \\0 \\x00",
        "\r\n\u{1}\u{7f}\u{85}\u{2028}\u{feff}\u{202e}",
        "e\u{301} \u{1f469}\u{200d}\u{1f4bb} \u{10ffff}",
        "<script>alert(1)</script>",
        "{\"text\": \"x\"}",
        "\\",
        "'",
    ];
    for text in hostile {
        let mut request = tenant.new_message(&conversation, text);
        request.metadata = Some(prost_types::Struct {
            fields: [(
                text.to_owned(),
                prost_types::Value {
                    kind: Some(prost_types::value::Kind::StringValue(text.to_owned())),
                },
            )]
            .into(),
        });
        let sent = tenant.send(request.clone()).await;
        assert_eq!(
            (sent.text.as_str(), &sent.metadata),
            (text, &request.metadata)
        );

        let mut new = tenant.new_conversation();
        (new.contact_identifier, new.contact_name) = (text.to_owned(), text.to_owned());
        (new.subject, new.first_message) = (text.to_owned(), text.to_owned());
        let made = tenant.create(new).await;
        assert_eq!(tenant.get(&made).await, made);
        assert_eq!(
            (made.contact_identifier.as_str(), made.subject.as_str()),
            (text, text)
        );
        assert_eq!(tenant.messages(&made).await[0].text, text);
    }
    let sent: Vec<_> = tenant
        .messages(&conversation)
        .await
        .into_iter()
        .map(|message| message.text)
        .collect();
    assert_eq!(sent, hostile);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_request_are_refused() {
    let server = TestServer::start().await;
    let metadata = MetadataMap::new();
    let broken: [&[u8]; 4] = [
        b"\xff",
        b"\x0a\xff\xff\xff\xff\x0f",
        b"\x0a\x02\xff\xfe",
        b"\x0a\x05ab",
    ];
    for method in Method::all() {
        for bytes in broken {
            let answer = call_raw(&server.channel, &method.path(), bytes, &metadata).await;
            let refusal = Refusal::of(&answer.unwrap_err());
            assert_eq!(
                refusal.code,
                Code::InvalidArgument,
                "{}: {refusal:?}",
                method.name()
            );
        }
    }
    let request = CreateMessageRequest {
        text: "x".repeat(5 << 20),
        ..Default::default()
    };
    let path = "/communication.v1.InboxService/CreateMessage";
    let answer = call_raw(&server.channel, path, request.encode_to_vec(), &metadata).await;
    let refusal = Refusal::of(&answer.unwrap_err());
    assert_eq!(refusal.why(), (Code::InvalidArgument, "REQUEST_TOO_LARGE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_opens_only_as_it_was_made() {
    let stage = Stage::new().await;
    for method in Method::all() {
        let Some(field) = method.field("page_token") else {
            continue;
        };
        let Named::Page(token) = stage.tenant.named(&method, "page_token") else {
            panic!("no token");
        };
        let example = stage.tenant.example(&method);
        stage
            .accept(&method, &field.with_text(&example, &token), "its own token")
            .await;
        let mut forged: Vec<String> = (0..token.len())
            .map(|index| {
                let mut bytes = token.clone().into_bytes();
                // The last character may carry bits that mean nothing.
                bytes[index] = if bytes[index] == b'x' { b'Q' } else { b'x' };
                String::from_utf8(bytes).unwrap()
            })
            .collect();
        forged.extend([
            token[1..].to_owned(),
            format!("{token}A"),
            "A".repeat(2000),
            "ä".to_owned(),
        ]);
        forged.push(token[..token.len() - 1].to_owned());
        for forged in forged {
            let request = field.with_text(&example, &forged);
            let answer = method
                .call(&stage.server.channel, &request, &MetadataMap::new())
                .await;
            let refusal = Refusal::of(&answer.unwrap_err());
            assert_eq!(
                refusal.why(),
                (Code::InvalidArgument, "INVALID_PAGE_TOKEN"),
                "{forged}"
            );
        }
        for other in Method::all() {
            let Some(field) = other
                .field("page_token")
                .filter(|_| other.name() != method.name())
            else {
                continue;
            };
            let request = field.with_text(&stage.tenant.example(&other), &token);
            let answer = other
                .call(&stage.server.channel, &request, &MetadataMap::new())
                .await;
            assert_eq!(
                Refusal::of(&answer.unwrap_err()).reason,
                "INVALID_PAGE_TOKEN"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_slugs_and_schemas_make_nothing() {
    let server = TestServer::start().await;
    let long = "x".repeat(64);
    let hostile = [
        "",
        "-a",
        "Acme",
        "a b",
        "a.b",
        "../a",
        "a\"b",
        "a'b",
        "a;b",
        "a\0",
        "ä",
        "pg_temp",
        "public",
        "directory",
        &long,
    ];
    for bad in hostile {
        let request = InitializeTenantRequest {
            tenant: bad.to_owned(),
            schema_name: String::new(),
        };
        let status = server
            .tenant_admin()
            .initialize_tenant(request)
            .await
            .unwrap_err();
        assert!(Refusal::of(&status).names("tenant"), "{bad:?}");
        if bad.is_empty() {
            continue;
        }
        let request = InitializeTenantRequest {
            tenant: "never-made".to_owned(),
            schema_name: bad.to_owned(),
        };
        let status = server
            .tenant_admin()
            .initialize_tenant(request)
            .await
            .unwrap_err();
        assert!(Refusal::of(&status).names("schema_name"), "{bad:?}");
        // A slug that can be no slug is a tenant that is not there, in words that name the field.
        let request = ListMessagesRequest {
            tenant: bad.to_owned(),
            ..Default::default()
        };
        let status = server.inbox().list_messages(request).await.unwrap_err();
        assert!(Refusal::of(&status).names("tenant"), "{bad:?}");
    }
    let found = "SELECT count(*) FROM directory.tenants WHERE slug = 'never-made'";
    let count: i64 = admin().await.query_one(found, &[]).await.unwrap().get(0);
    assert_eq!(count, 0);
}
