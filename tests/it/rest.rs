//! REST: the same calls, the same answers, in JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use communication_service::config::Environment;
use prost_reflect::{DynamicMessage, Kind, Value};
use serde_json::{Value as Json, json};
use tonic::Code;
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use crate::harness::{
    Answer, Binding, Field, Filled, Folder, Keys, Method, Named, Refusal, TestServer, TestTenant,
    camel, canonical, connect, durable, exchange, short,
};

const JSON: (&str, &str) = ("content-type", "application/json");

/// Asks the API; returns the answer.
async fn ask(
    server: &TestServer,
    verb: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let answer = exchange(server.http, verb, path, headers, body.as_bytes()).await;
    answer.unwrap_or_else(|| panic!("no answer to {verb} {path}"))
}

/// Asks with a body; returns what is answered, which has to be a success.
async fn done(server: &TestServer, verb: &str, path: &str, body: Json) -> Json {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let answer = ask(server, verb, path, &[JSON], &body).await;
    assert_eq!(answer.status, 200, "{verb} {path}: {}", answer.body);
    assert_eq!(answer.headers["content-type"], "application/json");
    serde_json::from_str(&answer.body).unwrap()
}

/// What a refusal says: status, name, reason, and the fields that it names, with why.
#[derive(Debug, PartialEq, Eq)]
struct Refused {
    code: u16,
    status: String,
    reason: String,
    message: String,
    metadata: BTreeMap<String, String>,
    fields: BTreeMap<String, String>,
    resource: Option<(String, String)>,
}

impl Refused {
    /// Reads a refusal, which must have the form that all have.
    fn of(answer: &Answer) -> Self {
        let json: Json = serde_json::from_str(&answer.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {answer:?}"));
        let error = &json["error"];
        let keys: Vec<_> = error.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["code", "details", "message", "status"], "{json}");
        assert_eq!(error["code"], answer.status, "{answer:?}");
        assert_eq!(answer.headers["content-type"], "application/json");
        assert!(!answer.headers["x-request-id"].is_empty());
        let detail = |name: &str| {
            let name = format!("type.googleapis.com/google.rpc.{name}");
            let details = error["details"].as_array().unwrap();
            details.iter().find(|detail| detail["@type"] == name)
        };
        let text = |json: &Json| json.as_str().unwrap().to_owned();
        let info = detail("ErrorInfo").unwrap_or_else(|| panic!("no ErrorInfo: {json}"));
        assert_eq!(info["domain"], "communication.v1");
        let fields = detail("BadRequest").map(|bad| {
            let fields = bad["field_violations"].as_array().unwrap().iter();
            fields
                .map(|field| (text(&field["field"]), text(&field["description"])))
                .collect()
        });
        let metadata = info["metadata"].as_object().unwrap().iter();
        Self {
            code: answer.status,
            status: text(&error["status"]),
            reason: text(&info["reason"]),
            message: text(&error["message"]),
            metadata: metadata
                .map(|(key, value)| (key.clone(), text(value)))
                .collect(),
            fields: fields.unwrap_or_default(),
            resource: detail("ResourceInfo")
                .map(|it| (text(&it["resource_type"]), text(&it["resource_name"]))),
        }
    }

    fn why(&self) -> (u16, &str, &str) {
        (self.code, &self.status, &self.reason)
    }

    /// The fields that it names.
    fn names(&self) -> Vec<&str> {
        self.fields.keys().map(String::as_str).collect()
    }
}

async fn refused(
    server: &TestServer,
    verb: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Refused {
    Refused::of(&ask(server, verb, path, headers, body).await)
}

fn conversations(tenant: &TestTenant) -> String {
    format!("/api/v1/tenants/{}/conversations", tenant.slug())
}

#[test]
fn every_unary_call_is_annotated_and_every_path_begins_with_its_version() {
    for method in Method::all() {
        let bindings = Binding::of(&method);
        let descriptor = method.descriptor();
        let streams = descriptor.is_client_streaming() || descriptor.is_server_streaming();
        assert_eq!(
            bindings.is_empty(),
            streams,
            "{} in the proto",
            method.name()
        );
        for binding in bindings {
            assert!(
                binding.template.starts_with("/api/v1/"),
                "{}",
                binding.template
            );
            assert_eq!(
                binding.in_body,
                !["GET", "DELETE"].contains(&binding.verb.as_str())
            );
        }
    }
}

/// Every path of the product's first description, and the call that it leads to.
const FIRST_PATHS: [(&str, &str, &str); 17] = [
    ("POST", "conversations", "CreateConversation"),
    ("GET", "conversations", "ListConversations"),
    ("GET", "conversations/{}", "GetConversation"),
    ("PUT", "conversations/{}", "UpdateConversation"),
    ("POST", "conversations/{}/assign", "AssignConversation"),
    ("POST", "conversations/{}/qualify", "QualifyConversation"),
    ("DELETE", "conversations/{}", "ArchiveConversation"),
    ("GET", "conversations/stats", "GetConversationStats"),
    ("POST", "messages", "CreateMessage"),
    ("GET", "messages/conversation/{}", "ListMessages"),
    ("PUT", "messages/{}/status", "UpdateMessageStatus"),
    ("POST", "quick-replies", "CreateQuickReply"),
    ("GET", "quick-replies", "ListQuickReplies"),
    ("PUT", "quick-replies/{}", "UpdateQuickReply"),
    ("POST", "quick-replies/{}/use", "UseQuickReply"),
    ("DELETE", "quick-replies/{}", "DeleteQuickReply"),
    ("POST", "initialize", "InitializeTenant"),
];

#[test]
fn every_path_of_the_first_description_leads_to_its_call() {
    let methods = Method::all();
    let mut found = 0;
    for (verb, path, call) in FIRST_PATHS {
        let Some(method) = methods.iter().find(|method| method.name() == call) else {
            continue;
        };
        let leads = Binding::of(method).into_iter().any(|binding| {
            let segments = binding.template.split('/').skip(5);
            let segments = segments.map(|it| if it.starts_with('{') { "{}" } else { it });
            let here = binding.template.starts_with("/api/v1/tenants/{tenant}/");
            here && binding.verb == verb && segments.collect::<Vec<_>>().join("/") == path
        });
        assert!(leads, "{call} is not at {verb} {path}");
        found += 1;
    }
    assert!(found >= 11, "{found}");
}

/// What is the same however often one calls: without times, versions and tokens.
pub fn lasting(message: &DynamicMessage) -> DynamicMessage {
    let mut message = message.clone();
    for (field, value) in message.fields_mut() {
        let passing = [
            "version",
            "read_version",
            "etag",
            "next_page_token",
            "token",
        ];
        let passing = passing.contains(&field.name());
        match (field.kind(), &mut *value) {
            (Kind::String, Value::String(text)) if passing => text.truncate(0),
            (Kind::Int64, Value::I64(number)) if passing => *number = 0,
            (Kind::Message(inner), Value::Message(time)) if inner.name() == "Timestamp" => {
                *time = DynamicMessage::new(inner);
            }
            (_, Value::Message(inner)) => *inner = lasting(inner),
            (_, Value::List(values)) => {
                for value in values {
                    if let Value::Message(inner) = value {
                        *inner = lasting(inner);
                    }
                }
            }
            _ => {}
        }
    }
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_answers_by_rest_what_it_answers_by_grpc() {
    let server = TestServer::start().await;
    let metadata = MetadataMap::new();
    let filled = Filled::new(&server, &metadata).await;
    let mut compared = 0;
    for method in Method::all() {
        for binding in Binding::of(&method) {
            let request = filled.example(&method);
            let by_grpc = method
                .call(&server.channel, &request, &metadata)
                .await
                .unwrap();
            for spelled in [short(&request), camel(&request)] {
                let mut spelled = spelled;
                let object = spelled.as_object_mut().unwrap();
                // Only the path knows no other spelling.
                for name in binding.segments() {
                    let field = request.get_field_by_name(name).unwrap();
                    let text = field.as_str().map(ToOwned::to_owned);
                    let text = text.unwrap_or_else(|| field.as_i32().unwrap().to_string());
                    object.retain(|key, _| {
                        key.replace('_', "").to_lowercase() != name.replace('_', "")
                    });
                    object.insert(name.to_owned(), json!(text));
                }
                let answer = binding.call(&server, &spelled, &[]).await;
                let what = format!("{} {}: {}", binding.verb, binding.template, answer.body);
                assert_eq!(answer.status, 200, "{what}");
                let answer: Json = serde_json::from_str(&answer.body).unwrap();
                let by_rest = canonical(&method.descriptor().output(), &answer);
                assert_eq!(
                    short(&lasting(&by_rest)),
                    short(&lasting(&by_grpc)),
                    "{what}"
                );
                compared += 1;
            }
        }
    }
    assert!(compared >= 50, "{compared}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_refuses_by_rest_what_it_refuses_by_grpc_in_the_same_words() {
    let server = TestServer::start().await;
    let metadata = MetadataMap::new();
    let filled = Filled::new(&server, &metadata).await;
    let mut refusals = 0;
    for method in Method::all() {
        let Some(binding) = Binding::of(&method).into_iter().next() else {
            continue;
        };
        for field in method.fields().into_iter().filter(Field::is_text) {
            let path = field.path();
            let mut values = vec!["\0".to_owned(), "x".repeat(5_000)];
            if field.is_id() && matches!(filled.named(&method, &path), Named::Thing(_)) {
                values.push(Uuid::now_v7().to_string());
            }
            for value in values {
                let request = field.with_text(&filled.example(&method), &value);
                let by_grpc = method.call(&server.channel, &request, &metadata).await;
                let by_rest = binding.call(&server, &short(&request), &[]).await;
                let what = format!("{} {path}: {}", method.name(), by_rest.body);
                let Err(status) = by_grpc else {
                    assert_eq!(by_rest.status, 200, "{what}");
                    continue;
                };
                let (by_grpc, by_rest) = (Refusal::of(&status), Refused::of(&by_rest));
                assert_eq!(by_rest.reason, by_grpc.reason, "{what}");
                assert_eq!(by_rest.message, by_grpc.message, "{what}");
                assert_eq!(by_rest.metadata, by_grpc.metadata, "{what}");
                assert_eq!(by_rest.fields, by_grpc.fields, "{what}");
                assert_eq!(by_rest.resource, by_grpc.resource, "{what}");
                let expected = match by_grpc.code {
                    Code::InvalidArgument => (400, "INVALID_ARGUMENT"),
                    Code::NotFound => (404, "NOT_FOUND"),
                    Code::AlreadyExists => (409, "ALREADY_EXISTS"),
                    Code::Aborted => (409, "ABORTED"),
                    Code::FailedPrecondition => (400, "FAILED_PRECONDITION"),
                    Code::PermissionDenied => (403, "PERMISSION_DENIED"),
                    other => panic!("{other:?}: {what}"),
                };
                assert_eq!((by_rest.code, by_rest.status.as_str()), expected, "{what}");
                refusals += 1;
            }
        }
    }
    assert!(refusals >= 100, "{refusals}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_asks_for_the_same_credential_as_by_grpc() {
    let keys = Keys::new();
    let server = TestServer::start_trusting(&keys).await;
    for method in Method::all() {
        for binding in Binding::of(&method) {
            // No body at all: who calls is asked first.
            let mut path = binding.template.clone();
            for name in binding.segments() {
                path = path.replace(&format!("{{{name}}}"), "1");
            }
            let nobody = ask(&server, &binding.verb, &path, &[], "{").await;
            assert_eq!(nobody.headers["www-authenticate"], "Bearer");
            let unauthenticated = (401, "UNAUTHENTICATED", "CREDENTIAL_INVALID");
            assert_eq!(Refused::of(&nobody).why(), unauthenticated, "{path}");
            let twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
            let twice = refused(&server, &binding.verb, &path, &twice, "").await;
            assert_eq!(twice.why(), unauthenticated, "{path}");

            let powerless = format!("Bearer {}", keys.token(json!({})));
            let powerless = [("authorization", powerless.as_str())];
            let denied = refused(&server, &binding.verb, &path, &powerless, "").await;
            assert_eq!(
                denied.why(),
                (403, "PERMISSION_DENIED", "SCOPE_MISSING"),
                "{path}"
            );
            assert_eq!(denied.metadata["scope"], method.scope());
        }
    }
    let bearer = format!("Bearer {}", keys.token(json!({"scope": "tenant.admin"})));
    let bearer = [("authorization", bearer.as_str())];
    let listed = ask(&server, "GET", "/api/v1/tenants", &bearer, "").await;
    assert_eq!(listed.status, 200, "{}", listed.body);
    let described = refused(&server, "GET", "/api/v1/openapi.json", &[], "").await;
    assert_eq!(
        described.why(),
        (401, "UNAUTHENTICATED", "CREDENTIAL_INVALID")
    );
    assert_eq!(
        ask(&server, "GET", "/api/v1/openapi.json", &bearer, "")
            .await
            .status,
        200
    );
}

/// The lines of the product's first description, as they stand there.
const CURL: &str = r#"
curl -X POST http://localhost:8010/api/v1/tenants/tenant123/initialize \
  -H "Content-Type: application/json" \
  -d '{"schema_name": "tenant_tenant123"}'

# Create a conversation
curl -X POST http://localhost:8010/api/v1/tenants/test/conversations \
  -H "Content-Type: application/json" \
  -d '{
    "channel": "whatsapp",
    "contact_identifier": "+1234567890",
    "contact_name": "John Doe",
    "first_message": "Hello, I need help"
  }'

# List conversations
curl http://localhost:8010/api/v1/tenants/test/conversations

# Get statistics
curl http://localhost:8010/api/v1/tenants/test/conversations/stats
"#;

/// The words of a line of shell.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (letter, quote) {
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (letter, Some(open)) if letter == open => quote = None,
            (letter, None) if letter.is_whitespace() => words.extend(word.take()),
            (letter, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// Does what curl does, on the port of a test's server.
async fn curl(server: &TestServer, line: &str) -> Answer {
    let (mut verb, mut url, mut headers, mut body) = (None, None, Vec::new(), None);
    let mut words = words(line).into_iter();
    assert_eq!(words.next().unwrap(), "curl");
    while let Some(word) = words.next() {
        match word.as_str() {
            "-X" => verb = words.next(),
            "-H" => headers.push(words.next().unwrap()),
            "-d" => body = words.next(),
            _ => url = Some(word),
        }
    }
    let url = url.unwrap();
    let path = url.strip_prefix("http://localhost:8010").unwrap();
    let headers: Vec<_> = headers
        .iter()
        .map(|it| it.split_once(": ").unwrap())
        .collect();
    let verb = verb.unwrap_or_else(|| "GET".to_owned());
    ask(server, &verb, path, &headers, &body.unwrap_or_default()).await
}

/// Does all lines, each of which has to succeed; returns the answers.
async fn curl_all(server: &TestServer, lines: &str) -> Vec<Json> {
    let lines = lines.replace("\\\n", " ");
    let mut answers = Vec::new();
    for line in lines.split("curl ").skip(1) {
        let line = line.split('#').next().unwrap();
        let stats = line.contains("/stats");
        if stats
            && !Method::all()
                .iter()
                .any(|it| it.name() == "GetConversationStats")
        {
            continue;
        }
        let answer = curl(server, &format!("curl {line}")).await;
        assert_eq!(answer.status, 200, "{line}: {}", answer.body);
        answers.push(serde_json::from_str(&answer.body).unwrap());
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_descriptions_lines_work_as_they_stand() {
    // The names are given, so the database is one of the test's own.
    let folder = Folder::new();
    let postgres = durable(&folder).await;
    let url = postgres.url().to_owned();
    let server = TestServer::start_with(|config| config.database_url = Some(url.clone())).await;
    server.initialize("test").await;

    let lines = CURL.replace("\\\n", " ");
    let mut answers = Vec::new();
    for line in lines.split("curl ").skip(1) {
        let line = line.split('#').next().unwrap();
        let stats = line.contains("/stats");
        if stats
            && !Method::all()
                .iter()
                .any(|it| it.name() == "GetConversationStats")
        {
            continue;
        }
        let answer = curl(&server, &format!("curl {line}")).await;
        assert_eq!(answer.status, 200, "{line}: {}", answer.body);
        answers.push(serde_json::from_str::<Json>(&answer.body).unwrap());
    }
    let tenant = &answers[0]["tenant"];
    assert_eq!(tenant["schema_name"], "tenant_tenant123");
    assert_eq!(tenant["state"], "active");
    let (conversation, message) = (&answers[1]["conversation"], &answers[1]["message"]);
    assert_eq!(conversation["channel"], "whatsapp");
    assert_eq!(conversation["contact_identifier"], "+1234567890");
    assert_eq!(conversation["contact_name"], "John Doe");
    assert_eq!(conversation["status"], "new");
    assert_eq!(conversation["number"], "1");
    assert_eq!(message["text"], "Hello, I need help");
    assert_eq!(answers[2]["conversations"][0], *conversation);
    assert_eq!(answers[2]["next_page_token"], "");

    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("## REST").unwrap();
    let (lines, _) = rest
        .split_once("```sh")
        .unwrap()
        .1
        .split_once("```")
        .unwrap();
    let answers = curl_all(&server, lines).await;
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[2]["conversations"][0], answers[1]["conversation"]);
    server.stop().await;
    let tenants = "SELECT string_agg(slug, ' ' ORDER BY slug) FROM directory.tenants";
    let row = connect(&url).await.query_one(tenants, &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "tenant123 test");
    postgres.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn null_and_a_mask_clear_and_what_is_not_named_stays() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let all = conversations(&tenant);
    let made = done(
        &server,
        "POST",
        &all,
        json!({
            "channel": "email",
            "contact_identifier": "jane@example.com",
            "subject": "Help",
            "priority": "high",
            "metadata": {"a": 1},
        }),
    )
    .await;
    let one = format!("{all}/{}", made["conversation"]["id"].as_str().unwrap());
    let change = async |verb: &str, body: Json| {
        let changed = done(&server, verb, &one, body).await;
        let it = &changed["conversation"];
        json!([it["subject"], it["priority"], it["status"], it["metadata"]])
    };
    let now = change("PUT", json!({"subject": "Changed"})).await;
    assert_eq!(now, json!(["Changed", "high", "new", {"a": 1}]));
    let now = change("PATCH", json!({"subject": null, "status": "open"})).await;
    assert_eq!(now, json!(["", "high", "open", {"a": 1}]));
    let now = change(
        "PUT",
        json!({"metadata": null, "etag": null, "actor": null}),
    )
    .await;
    assert_eq!(now, json!(["", "high", "open", {}]));
    let now = change("PUT", json!({"update_mask": "priority", "subject": "no"})).await;
    assert_eq!(now, json!(["", "normal", "open", {}]));
    let mask = json!({"updateMask": "subject", "subject": "yes", "priority": null});
    let now = change("PATCH", mask).await;
    assert_eq!(now, json!(["yes", "normal", "open", {}]));
    let now = change(
        "PUT",
        json!({"update_mask": null, "priority": "PRIORITY_URGENT"}),
    )
    .await;
    assert_eq!(now, json!(["yes", "urgent", "open", {}]));
    let now = change("PUT", json!({"priority": 1})).await;
    assert_eq!(now, json!(["yes", "low", "open", {}]));
    let labels = async |body: Json| {
        let changed = done(&server, "PATCH", &one, body).await;
        changed["conversation"]["labels"].clone()
    };
    assert_eq!(
        labels(json!({"labels": ["vip", "late"]})).await,
        json!(["vip", "late"])
    );
    assert_eq!(
        labels(json!({"subject": null})).await,
        json!(["vip", "late"])
    );
    assert_eq!(labels(json!({"labels": []})).await, json!([]));
    let body = json!({"status": null}).to_string();
    let status = refused(&server, "PUT", &one, &[JSON], &body).await;
    assert_eq!(status.why(), (400, "INVALID_ARGUMENT", "INVALID_FIELD"));
    assert_eq!(status.names(), ["status"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn null_of_every_field_that_an_update_can_change_is_taken_for_a_mask() {
    let server = TestServer::start().await;
    let filled = Filled::new(&server, &MetadataMap::new()).await;
    let mut tried = 0;
    for method in Method::all() {
        let Some(mask) = method.descriptor().input().get_field_by_name("update_mask") else {
            continue;
        };
        for field in method.descriptor().input().fields() {
            if field.number() <= mask.number() {
                continue;
            }
            let mut request = short(&filled.example(&method));
            let object = request.as_object_mut().unwrap();
            object.remove("update_mask");
            object.retain(|name, _| {
                let known = method.descriptor().input().get_field_by_name(name).unwrap();
                known.number() < mask.number()
            });
            object.insert(field.name().to_owned(), Json::Null);
            let binding = Binding::of(&method).remove(0);
            let answer = binding.call(&server, &request, &[]).await;
            let what = format!("{} {}: {}", method.name(), field.name(), answer.body);
            if answer.status != 200 {
                assert_eq!(Refused::of(&answer).names(), [field.name()], "{what}");
            }
            tried += 1;
        }
    }
    assert!(tried >= 4, "{tried}");
}

#[tokio::test(flavor = "multi_thread")]
async fn free_data_comes_back_as_it_went() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let metadata = json!({
        "channel": "CHANNEL_WHATSAPP",
        "status": "open",
        "someName": {"otherName": [1, 2.5, -3, null, true, "x", {}, []]},
        "large": 9_007_199_254_740_991_u64,
        "larger": 1e300,
        "empty": "",
    });
    let made = done(
        &server,
        "POST",
        &conversations(&tenant),
        json!({"channel": "web", "contactIdentifier": "visitor", "metadata": metadata}),
    )
    .await;
    assert_eq!(made["conversation"]["metadata"], metadata);
    assert!(made.to_string().contains("[1,2.5,-3,null"), "{made}");
    assert_eq!(made["conversation"]["channel"], "web");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_read_page_by_page() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    for number in 1..=5 {
        tenant.receive(&conversation, &number.to_string()).await;
    }
    let list = format!(
        "/api/v1/tenants/{}/messages/conversation/{}",
        tenant.slug(),
        conversation.id
    );
    let (mut texts, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = format!("{list}?page_size=2&order_by=sequence%20desc&pageToken={token}");
        let page = done(&server, "GET", &page, Json::Null).await;
        let messages = page["messages"].as_array().unwrap();
        texts.extend(
            messages
                .iter()
                .map(|it| it["text"].as_str().unwrap().to_owned()),
        );
        pages += 1;
        page["next_page_token"]
            .as_str()
            .unwrap()
            .clone_into(&mut token);
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(
        texts.len(),
        usize::try_from(conversation.last_sequence).unwrap() + 5
    );
    assert_eq!(texts[..5], ["5", "4", "3", "2", "1"]);
    assert!(pages >= 3, "{pages}");

    let all = conversations(&tenant);
    let filtered = format!(
        "{all}?statuses=new&statuses=CONVERSATION_STATUS_OPEN&channels={}&updated_since_time=2020-01-01T00:00:00Z",
        "whatsapp"
    );
    let page = done(&server, "GET", &filtered, Json::Null).await;
    assert!(page["conversations"].as_array().is_some());
    let none = format!("{all}?statuses=archived");
    let page = done(&server, "GET", &none, Json::Null).await;
    assert_eq!(page, json!({"conversations": [], "next_page_token": ""}));
    let tenants = "/api/v1/tenants?page_size=1&show_deleted=true";
    assert_ne!(
        done(&server, "GET", tenants, Json::Null).await["next_page_token"],
        ""
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_or_not_of_its_kind_is_refused_by_its_name() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let all = conversations(&tenant);
    let bad = async |body: Json| {
        let refused = refused(&server, "POST", &all, &[JSON], &body.to_string()).await;
        assert_eq!(
            refused.why(),
            (400, "INVALID_ARGUMENT", "INVALID_FIELD"),
            "{body}"
        );
        let mut fields = String::new();
        for (field, why) in &refused.fields {
            writeln!(fields, "{field}: {why}").unwrap();
        }
        fields
    };
    let everything = bad(json!({
        "color": "red",
        "actor": {"user_id": "a", "bot_id": "b", "nickname": "c"},
        "channel": "fax",
        "channelAccountId": 5,
        "contact_identifier": ["a"],
        "contact_name": "a",
        "contactName": "b",
        "metadata": [],
        "priority": true,
        "tenant": "another",
        "subject": {},
    }))
    .await;
    insta::assert_snapshot!(everything, @r"
        actor.nickname: is not known; there are `user_id`, `bot_id`, `service`
        actor.user_id: cannot be there beside `bot_id`
        channel: must be one of `whatsapp`, `messenger`, `instagram`, `email`, `web`, `twilio_whatsapp`, `twilio_call`, `personal_whatsapp`, `gmail`, `zendesk`
        channel_account_id: must be a text
        color: is not known; there are `tenant`, `actor`, `request_id`, `channel`, `channel_account_id`, `contact_identifier`, `contact_name`, `first_message`, `subject`, `priority`, `metadata`, `thread_key`
        contact_identifier: must be a text
        contact_name: is there twice
        metadata: must be an object
        priority: must be one of `low`, `normal`, `high`, `urgent`
        subject: must be a text
        tenant: differs from what is in the path
        ");
    let location = json!({
        "conversation_id": Uuid::now_v7().to_string(),
        "location": {"latitude": "north", "longitude": "1e400", "height": 1},
        "text": 1,
        "metadata": "x",
    });
    let messages = format!("/api/v1/tenants/{}/messages", tenant.slug());
    let refusal = refused(&server, "POST", &messages, &[JSON], &location.to_string()).await;
    let names = [
        "location.height",
        "location.latitude",
        "location.longitude",
        "metadata",
        "text",
    ];
    assert_eq!(refusal.names(), names);

    let query = async |query: &str| {
        let refused = refused(&server, "GET", &format!("{all}?{query}"), &[], "").await;
        assert_eq!(
            refused.why(),
            (400, "INVALID_ARGUMENT", "INVALID_FIELD"),
            "{query}"
        );
        refused.names().join(" ")
    };
    assert_eq!(query("colour=red&page_size=many").await, "colour page_size");
    assert_eq!(query("statuses=new&statuses=lost").await, "statuses[1]");
    assert_eq!(
        query("updated_since_time=yesterday").await,
        "updated_since_time"
    );
    assert_eq!(query("page_size=1&page_size=2").await, "page_size");
    assert_eq!(
        query("page_size=1&pageSize=1").await,
        "page_size pageSize".split(' ').nth(1).unwrap()
    );
    assert_eq!(query("tenant=another").await, "tenant");
    assert_eq!(query("order_by.x=1").await, "order_by.x");
    let mixed = format!("{all}?channel=web");
    let mixed = refused(&server, "POST", &mixed, &[JSON], "{}").await;
    assert_eq!(mixed.names(), ["channel"]);
    let boolean = "/api/v1/tenants?show_deleted=perhaps";
    let boolean = refused(&server, "GET", boolean, &[], "").await;
    assert_eq!(boolean.names(), ["show_deleted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_one_form() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let all = conversations(&tenant);
    let undecodable = (400, "INVALID_ARGUMENT", "UNDECODABLE");
    for body in [
        "{",
        "{\"channel\": }",
        "[]",
        "1",
        "\"x\"",
        "null",
        "{} {}",
        "{\"a\": 1e999}",
    ] {
        let refused = refused(&server, "POST", &all, &[JSON], body).await;
        assert_eq!(refused.why(), undecodable, "{body}");
    }
    let deep = format!(
        "{{\"metadata\": {}1{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(
        refused(&server, "POST", &all, &[JSON], &deep).await.why(),
        undecodable
    );
    let mut deep = json!(1);
    for _ in 0..40 {
        deep = json!({"a": deep});
    }
    let deep = json!({"channel": "web", "contact_identifier": "a", "metadata": deep}).to_string();
    let deep = refused(&server, "POST", &all, &[JSON], &deep).await;
    assert_eq!(deep.code, 400, "{deep:?}");
    let wide = format!("{{\"metadata\": {{\"a\": [{}1]}}}}", "1,".repeat(1_000_000));
    let wide = refused(&server, "POST", &all, &[JSON], &wide).await;
    assert_eq!(
        wide.fields["metadata"],
        "must have at most 32768 bytes as JSON"
    );
    let none = refused(&server, "GET", &all, &[JSON], "{}").await;
    assert_eq!(none.why(), undecodable);
    let path = format!("{all}/%FF");
    assert_eq!(
        refused(&server, "GET", &path, &[], "").await.why(),
        undecodable
    );

    let unsupported = (415, "INVALID_ARGUMENT", "CONTENT_TYPE_UNSUPPORTED");
    for given in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/grpc",
    ] {
        let refused = refused(&server, "POST", &all, &[("content-type", given)], "{}").await;
        assert_eq!(refused.why(), unsupported, "{given}");
    }
    assert_eq!(
        refused(&server, "POST", &all, &[], "{}").await.why(),
        unsupported
    );
    let utf8 = [("content-type", "Application/JSON; charset=utf-8")];
    let answer = refused(&server, "POST", &all, &utf8, "{}").await;
    assert_eq!(answer.reason, "INVALID_FIELD");

    let large = format!("{{\"subject\": \"{}\"}}", "x".repeat(4 * 1024 * 1024));
    let too_large = (413, "INVALID_ARGUMENT", "REQUEST_TOO_LARGE");
    assert_eq!(
        refused(&server, "POST", &all, &[JSON], &large).await.why(),
        too_large
    );

    let nowhere = refused(&server, "GET", "/api/v1/nowhere/at-all", &[], "").await;
    assert_eq!(nowhere.why(), (404, "NOT_FOUND", "RESOURCE_NOT_FOUND"));
    let what = ("path".to_owned(), "/api/v1/nowhere/at-all".to_owned());
    assert_eq!(nowhere.resource, Some(what));
    assert_eq!(refused(&server, "GET", "/api/v1", &[], "").await.code, 404);
    assert_eq!(
        refused(&server, "GET", &format!("{all}/"), &[], "")
            .await
            .code,
        404
    );
    let nobody = refused(
        &server,
        "GET",
        "/api/v1/tenants/nobody-7/conversations",
        &[],
        "",
    )
    .await;
    assert_eq!(
        nobody.resource,
        Some(("tenant".to_owned(), "nobody-7".to_owned()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_are_told_which_there_are() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let all = conversations(&tenant);
    let answer = ask(&server, "DELETE", &all, &[], "").await;
    let not_allowed = (405, "UNIMPLEMENTED", "METHOD_NOT_ALLOWED");
    assert_eq!(Refused::of(&answer).why(), not_allowed);
    assert_eq!(answer.headers["allow"], "POST, GET, HEAD, OPTIONS");
    let answer = ask(&server, "OPTIONS", &all, &[], "").await;
    assert_eq!(
        (answer.status, answer.headers["allow"].as_str()),
        (204, "POST, GET, HEAD, OPTIONS")
    );
    let head = ask(&server, "HEAD", &all, &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let get = ask(&server, "GET", &all, &[], "").await;
    assert_eq!(head.headers["content-length"], get.body.len().to_string());
    let messages = format!("/api/v1/tenants/{}/messages", tenant.slug());
    let description = ask(&server, "POST", "/api/v1/openapi.json", &[], "").await;
    assert_eq!(Refused::of(&description).why(), not_allowed);
    assert_eq!(description.headers["allow"], "GET, HEAD, OPTIONS");
    let answer = ask(&server, "HEAD", &messages, &[], "").await;
    assert_eq!(
        (answer.status, answer.headers["allow"].as_str()),
        (405, "POST, OPTIONS")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_limits_and_correlation_hold_as_by_grpc() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let all = conversations(&tenant);
    let late = refused(&server, "GET", &all, &[("grpc-timeout", "1n")], "").await;
    assert_eq!(late.why(), (504, "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"));
    let own = ask(&server, "GET", &all, &[("x-request-id", "own-7")], "").await;
    assert_eq!(own.headers["x-request-id"], "own-7");
    assert_eq!(own.headers["cache-control"], "no-store");
    assert_eq!(own.headers["x-content-type-options"], "nosniff");
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let traced = ask(
        &server,
        "GET",
        "/api/v1/nowhere",
        &[("traceparent", trace)],
        "",
    )
    .await;
    assert_eq!(
        traced.headers["x-request-id"],
        "4bf92f3577b34da6a3ce929d0e0e4736"
    );
    let (_, metrics) = server.http_get("/metrics").await;
    let counted = "grpc_calls_total{method=\"/communication.v1.InboxService/ListConversations\",code=\"DeadlineExceeded\"} 1";
    assert!(metrics.contains(counted), "{metrics}");

    let full = TestServer::start_with(|config| config.calls = 0).await;
    let answer = ask(&full, "GET", "/api/v1/tenants", &[], "").await;
    let exhausted = (429, "RESOURCE_EXHAUSTED", "TOO_MANY_CALLS");
    assert_eq!(Refused::of(&answer).why(), exhausted);
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(
        answer.body.contains("\"retry_delay\":\"1s\""),
        "{}",
        answer.body
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_makes_a_retry_safe() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let body = json!({"channel": "web", "contact_identifier": "a", "request_id": "r-1"});
    let first = done(&server, "POST", &conversations(&tenant), body.clone()).await;
    let again = done(&server, "POST", &conversations(&tenant), body).await;
    assert_eq!(first, again);
    let other = json!({"channel": "web", "contact_identifier": "b", "request_id": "r-1"});
    let path = conversations(&tenant);
    let reused = refused(&server, "POST", &path, &[JSON], &other.to_string()).await;
    assert_eq!(reused.why(), (409, "ALREADY_EXISTS", "REQUEST_ID_REUSED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_reads_through_a_name_that_leads_to_loopback() {
    let path = "/api/v1/tenants?page_size=1";
    let server = TestServer::start().await;
    let unauthenticated = (401, "UNAUTHENTICATED", "CREDENTIAL_INVALID");
    for host in [
        "evil.example.com:8010",
        "evil.example.com",
        "localhost.evil.example.com",
    ] {
        let answer = refused(&server, "GET", path, &[("host", host)], "").await;
        assert_eq!(answer.why(), unauthenticated, "{host}");
    }
    let page = [("origin", "http://evil.example.com")];
    assert_eq!(
        refused(&server, "GET", path, &page, "").await.why(),
        unauthenticated
    );
    for host in ["localhost:8010", "127.0.0.1", "[::1]:8010", "LOCALHOST"] {
        let answer = ask(&server, "GET", path, &[("host", host)], "").await;
        assert_eq!(answer.status, 200, "{host}");
    }
    let insecure = TestServer::start_with(|config| config.insecure = true).await;
    let answer = ask(&insecure, "GET", path, &[("host", "communication")], "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let production = |config: &mut communication_service::config::Config| {
        config.env = Some(Environment::Production);
    };
    let production = TestServer::start_with(production).await;
    assert_eq!(
        refused(&production, "GET", path, &[], "").await.why(),
        unauthenticated
    );
}

/// The fields of a request that a call by REST can have, by what it is bound to.
fn described(binding: &Binding, operation: &Json) -> Vec<String> {
    let parameters = operation["parameters"].as_array().unwrap();
    let in_path = parameters.iter().filter(|it| it["in"] == "path");
    let names = in_path.map(|it| {
        assert_eq!(it["required"], true, "{}", binding.template);
        it["name"].as_str().unwrap().to_owned()
    });
    names.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_of_every_route_and_of_nothing_else() {
    let server = TestServer::start().await;
    let document = done(&server, "GET", "/api/v1/openapi.json", Json::Null).await;
    assert_eq!(document["openapi"], "3.1.0");
    let mut left: BTreeMap<String, Json> = BTreeMap::new();
    let mut ids = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (verb, operation) in item.as_object().unwrap() {
            left.insert(format!("{} {path}", verb.to_uppercase()), operation.clone());
            ids.push(operation["operationId"].as_str().unwrap().to_owned());
            for text in ["summary", "description"] {
                let text = operation[text].as_str().unwrap();
                assert!(!text.is_empty(), "{path} is not described");
            }
            assert!(operation["responses"]["default"].is_object());
        }
    }
    for method in Method::all() {
        for binding in Binding::of(&method) {
            let key = format!("{} {}", binding.verb, binding.template);
            let operation = left.remove(&key).unwrap_or_else(|| panic!("no {key}"));
            assert_eq!(described(&binding, &operation), binding.segments(), "{key}");
            assert_eq!(
                operation["requestBody"].is_object(),
                binding.in_body,
                "{key}"
            );
            let description = operation["description"].as_str().unwrap();
            assert!(
                description.contains(&format!("`{}`", method.scope())),
                "{key}"
            );
        }
    }
    assert!(left.is_empty(), "{left:?}");
    let unique: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "{ids:?}");

    let mut references = 0;
    check(&document, &document, &mut references);
    assert!(references > 50, "{references}");
    let schemas = &document["components"]["schemas"];
    let words = schemas["Channel"]["enum"].as_array().unwrap();
    assert!(words.contains(&json!("twilio_call")), "{words:?}");
    let body = &schemas["UpdateConversationBody"]["properties"];
    assert!(
        body["subject"]["anyOf"]
            .as_array()
            .unwrap()
            .contains(&json!({"type": "null"}))
    );
    assert!(body["tenant"].is_null() && body["conversation_id"].is_null());
    assert_eq!(
        schemas["Conversation"]["properties"]["number"]["format"],
        "int64"
    );
}

/// Checks that references lead somewhere, and that types are JSON Schema's.
fn check(document: &Json, part: &Json, references: &mut usize) {
    match part {
        Json::Object(object) => {
            if let Some(Json::String(reference)) = object.get("$ref") {
                let place = reference.strip_prefix('#').unwrap();
                let target = document.pointer(place);
                assert!(
                    target.is_some_and(Json::is_object),
                    "{reference} leads nowhere"
                );
                *references += 1;
            }
            if let Some(Json::String(kind)) = object.get("type") {
                let kinds = [
                    "object", "array", "string", "boolean", "number", "integer", "null", "http",
                ];
                assert!(kinds.contains(&kind.as_str()), "{kind}");
                assert_eq!(kind == "array", object.contains_key("items"), "{part}");
            }
            object
                .values()
                .for_each(|part| check(document, part, references));
        }
        Json::Array(parts) => parts
            .iter()
            .for_each(|part| check(document, part, references)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_what_its_schema_says() {
    let server = TestServer::start().await;
    let filled = Filled::new(&server, &MetadataMap::new()).await;
    let document = done(&server, "GET", "/api/v1/openapi.json", Json::Null).await;
    for method in Method::all() {
        for binding in Binding::of(&method) {
            let request = short(&filled.example(&method));
            let answer = binding.call(&server, &request, &[]).await;
            let answer: Json = serde_json::from_str(&answer.body).unwrap();
            let operation = &document["paths"][&binding.template][binding.verb.to_lowercase()];
            let content = "application/json";
            let schema = &operation["responses"]["200"]["content"][content]["schema"];
            conforms(&document, schema, &answer, method.name());
            if binding.in_body {
                let schema = &operation["requestBody"]["content"][content]["schema"];
                let mut body = request.clone();
                body.as_object_mut()
                    .unwrap()
                    .retain(|name, _| !binding.segments().contains(&name.as_str()));
                conforms(&document, schema, &body, method.name());
            }
        }
    }
}

/// Checks a value against a schema, as far as these schemas go.
fn conforms(document: &Json, schema: &Json, value: &Json, what: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.strip_prefix('#').unwrap());
        return conforms(document, target.unwrap(), value, what);
    }
    if let Some(either) = schema["anyOf"].as_array() {
        return conforms(document, &either[usize::from(value.is_null())], value, what);
    }
    let fits = match schema["type"].as_str() {
        None => true,
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64(),
        Some("number") => value.is_number(),
        Some("null") => value.is_null(),
        Some(other) => panic!("{other}"),
    };
    assert!(fits, "{what}: {value} is no {schema}");
    if let Some(words) = schema["enum"].as_array() {
        assert!(
            words.contains(value),
            "{what}: {value} is none of {words:?}"
        );
    }
    if let Some(values) = value.as_array() {
        values
            .iter()
            .for_each(|value| conforms(document, &schema["items"], value, what));
    }
    if let (Some(object), Some(properties)) = (value.as_object(), schema["properties"].as_object())
    {
        for (name, value) in object {
            let schema = properties.get(name);
            let schema = schema.unwrap_or_else(|| panic!("{what} does not describe {name}"));
            conforms(document, schema, value, &format!("{what}.{name}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn administration_with_a_port_of_its_own_is_not_offered_by_rest() {
    let server = TestServer::start_with(|config| {
        config.admin_port = Some(0);
        config.reflection = false;
    })
    .await;
    for method in Method::all() {
        for binding in Binding::of(&method) {
            let mut path = binding.template.clone();
            for name in binding.segments() {
                path = path.replace(&format!("{{{name}}}"), "1");
            }
            let answer = refused(&server, &binding.verb, &path, &[JSON], "").await;
            let absent = answer.resource == Some(("path".to_owned(), path.clone()));
            assert_eq!(absent, method.is_admin(), "{path}: {answer:?}");
        }
    }
    let described = refused(&server, "GET", "/api/v1/openapi.json", &[], "").await;
    assert_eq!(described.code, 404);
}
