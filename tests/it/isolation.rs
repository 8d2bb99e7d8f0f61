//! Tenants do not see, change or notice each other: for every method and every field that names
//! something.

use prost_reflect::{DynamicMessage, Value};
use serde_json::json;
use tonic::Code;
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use crate::harness::{Filled, Keys, Method, Named, Refusal, TestServer, admin, content};

/// Two tenants on one server, by callers who may enter both.
struct Neighbours {
    server: TestServer,
    ours: Filled,
    theirs: Filled,
}

impl Neighbours {
    async fn new() -> Self {
        let server = TestServer::start().await;
        let metadata = MetadataMap::new();
        let ours = Filled::new(&server, &metadata).await;
        let theirs = Filled::new(&server, &metadata).await;
        Self {
            server,
            ours,
            theirs,
        }
    }

    /// Calls a method, and returns what it answers without the ids that the request held.
    async fn outcome(&self, method: &Method, request: &DynamicMessage, ids: &[String]) -> Outcome {
        let metadata = MetadataMap::new();
        let answer = method.call(&self.server.channel, request, &metadata).await;
        let hide = |text: String| {
            ids.iter()
                .fold(text, |text, id| text.replace(id.as_str(), "<id>"))
        };
        match answer {
            // As JSON, whose maps have an order. No token is made twice.
            Ok(answer) => {
                let mut answer = serde_json::to_value(answer).unwrap();
                for token in ["/token", "/hello/headToken"] {
                    if let Some(token) = answer.pointer_mut(token) {
                        *token = json!("<token>");
                    }
                }
                Ok(hide(serde_json::to_string(&answer).unwrap()))
            }
            Err(status) => {
                let refusal = Refusal::of(&status);
                let text = hide(format!("{refusal:?}"));
                Err((refusal, text))
            }
        }
    }
}

/// What is answered; of a refusal, how it reads too.
type Outcome = Result<String, (Refusal, String)>;

/// The methods that work inside one tenant.
fn inside() -> impl Iterator<Item = Method> {
    Method::all()
        .into_iter()
        .filter(|method| !method.is_admin())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_has_an_example_that_its_own_tenant_accepts() {
    let neighbours = Neighbours::new().await;
    let names: Vec<_> = Method::all().iter().map(|m| m.name().to_owned()).collect();
    assert!(names.len() >= 11, "{names:?}");
    for method in Method::all() {
        let request = neighbours.ours.example(&method);
        let answer = neighbours.outcome(&method, &request, &[]).await;
        assert!(answer.is_ok(), "{}: {answer:?}", method.name());
        for field in method.fields().into_iter().filter(|field| field.is_id()) {
            let path = field.path();
            // A request id is accepted again only with the request that it came with.
            let (Named::Thing(value) | Named::Page(value)) = neighbours.ours.named(&method, &path)
            else {
                continue;
            };
            let apart = neighbours.ours.example_apart(&method, &path);
            let request = field.with_text(apart.as_ref().unwrap_or(&request), &value);
            let answer = neighbours.outcome(&method, &request, &[]).await;
            assert!(answer.is_ok(), "{} {path}: {answer:?}", method.name());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_tenant_or_of_an_unknown_one_is_refused() {
    let neighbours = Neighbours::new().await;
    let nobody = format!("n{}", Uuid::now_v7().simple());
    for method in inside() {
        let example = neighbours.ours.example(&method);
        let tenant = method.field("tenant").unwrap();
        let request = tenant.with_text(&example, "");
        let (refusal, _) = neighbours
            .outcome(&method, &request, &[])
            .await
            .unwrap_err();
        assert_eq!(refusal.why(), (Code::InvalidArgument, "INVALID_FIELD"));
        assert_eq!(refusal.fields.keys().collect::<Vec<_>>(), ["tenant"]);

        let request = tenant.with_text(&example, &nobody);
        let (refusal, _) = neighbours
            .outcome(&method, &request, &[])
            .await
            .unwrap_err();
        assert_eq!(refusal.why(), (Code::NotFound, "RESOURCE_NOT_FOUND"));
        assert_eq!(
            refusal.resource,
            Some(("tenant".to_owned(), nobody.clone()))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_another_tenant_is_answered_as_one_that_does_not_exist() {
    let neighbours = Neighbours::new().await;
    let (ours, theirs) = (&neighbours.ours, &neighbours.theirs);
    let database = admin().await;
    let before = content(&database, &theirs.schema).await;
    let mut compared = 0;
    for method in inside() {
        let example = ours.example(&method);
        let (mut foreign_all, mut absent_all, mut ids) = (example.clone(), example.clone(), vec![]);
        for field in method.fields().into_iter().filter(|field| field.is_id()) {
            let path = field.path();
            let Named::Thing(foreign) = theirs.named(&method, &path) else {
                continue;
            };
            let absent = Uuid::now_v7().to_string();
            let apart = ours.example_apart(&method, &path);
            let base = apart.as_ref().unwrap_or(&example);
            let of_foreign = field.with_text(base, &foreign);
            let of_absent = field.with_text(base, &absent);
            let one = [foreign.clone(), absent.clone()];
            let foreign_outcome = neighbours.outcome(&method, &of_foreign, &one).await;
            let absent_outcome = neighbours.outcome(&method, &of_absent, &one).await;
            assert_same(
                &format!("{} {path}", method.name()),
                foreign_outcome,
                absent_outcome,
            );
            compared += 1;

            if apart.is_some() {
                continue;
            }
            field.set(&mut foreign_all, Value::String(foreign.clone()));
            field.set(&mut absent_all, Value::String(absent.clone()));
            ids.extend(one);
        }
        let foreign_outcome = neighbours.outcome(&method, &foreign_all, &ids).await;
        let absent_outcome = neighbours.outcome(&method, &absent_all, &ids).await;
        if !ids.is_empty() {
            assert_same(method.name(), foreign_outcome, absent_outcome);
        }
    }
    assert!(compared >= 11, "{compared}");
    assert_eq!(content(&database, &theirs.schema).await, before);
}

/// Checks that what is answered of another tenant's id is what is answered of no id at all.
fn assert_same(what: &str, foreign: Outcome, absent: Outcome) {
    match (foreign, absent) {
        (Ok(foreign), Ok(absent)) => assert_eq!(foreign, absent, "{what}"),
        (Err((refusal, foreign)), Err((_, absent))) => {
            assert_eq!(foreign, absent, "{what}");
            assert_eq!(
                refusal.why(),
                (Code::NotFound, "RESOURCE_NOT_FOUND"),
                "{what}"
            );
        }
        (foreign, absent) => panic!("{what}: {foreign:?} and {absent:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_of_another_tenant_is_answered_as_a_made_up_one() {
    let neighbours = Neighbours::new().await;
    let (ours, theirs) = (&neighbours.ours, &neighbours.theirs);
    let made_up = "A".repeat(120);
    let mut compared = 0;
    for method in inside() {
        let Some(field) = method.field("page_token") else {
            continue;
        };
        let Named::Page(foreign) = theirs.named(&method, "page_token") else {
            panic!("{} has a page token that is none", method.name());
        };
        let ids = [foreign.clone(), made_up.clone()];
        // Both the tenant's own list, and the list that the token is of, asked for from outside.
        for example in [ours.example(&method), theirs.example(&method)] {
            let tenant = method.field("tenant").unwrap();
            let example = tenant.with_text(&example, &ours.slug);
            let foreign = field.with_text(&example, &foreign);
            let made_up = field.with_text(&example, &made_up);
            let (refusal, foreign) = neighbours
                .outcome(&method, &foreign, &ids)
                .await
                .unwrap_err();
            let (_, made_up) = neighbours
                .outcome(&method, &made_up, &ids)
                .await
                .unwrap_err();
            assert_eq!(foreign, made_up, "{}", method.name());
            assert_eq!(refusal.why(), (Code::InvalidArgument, "INVALID_PAGE_TOKEN"));
        }
        compared += 1;
    }
    assert!(compared >= 2, "{compared}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_of_another_tenant_is_as_good_as_new() {
    let neighbours = Neighbours::new().await;
    let (ours, theirs) = (&neighbours.ours, &neighbours.theirs);
    let database = admin().await;
    let before = content(&database, &theirs.schema).await;
    let mut tried = 0;
    for method in inside() {
        let Some(field) = method.field("request_id") else {
            continue;
        };
        let Named::Request(used) = theirs.named(&method, "request_id") else {
            panic!("{} has a request id that is none", method.name());
        };
        let request = field.with_text(&ours.example(&method), &used);
        let answer = neighbours.outcome(&method, &request, &[]).await.unwrap();
        for other in Method::all() {
            for id in other.fields().into_iter().filter(|field| field.is_id()) {
                if let Named::Thing(id) = theirs.named(&other, &id.path()) {
                    assert!(!answer.contains(&id), "{}: {answer}", method.name());
                }
            }
        }
        // It was new, so it is now ours: another request cannot have it.
        let actor = method.field("actor.user_id").unwrap();
        // Who sees the same things.
        let request = actor.with_text(&request, "user-3");
        let (refusal, _) = neighbours
            .outcome(&method, &request, &[])
            .await
            .unwrap_err();
        assert_eq!(refusal.why(), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
        tried += 1;
    }
    assert!(tried >= 2, "{tried}");
    assert_eq!(content(&database, &theirs.schema).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_for_one_tenant_administers_no_other() {
    let keys = Keys::new();
    let server = TestServer::start_trusting(&keys).await;
    let everything = keys.metadata(json!({"scope": Method::scopes().join(" ")}));
    let ours = Filled::new(&server, &everything).await;
    let theirs = Filled::new(&server, &everything).await;
    let limited = keys.metadata(json!({
        "scope": Method::scopes().join(" "),
        "tenants": [ours.slug, ours.deleted],
    }));
    let database = admin().await;
    let directory = "SELECT t::text FROM directory.tenants t WHERE slug = $1";
    let row = async || -> String {
        let row = database.query_one(directory, &[&theirs.slug]).await;
        row.unwrap().get(0)
    };
    let before = (row().await, content(&database, &theirs.schema).await);
    let mut tried = 0;
    for method in Method::all().into_iter().filter(Method::is_admin) {
        let request = theirs.example(&method);
        let status = method
            .call(&server.channel, &request, &limited)
            .await
            .unwrap_err();
        let refusal = Refusal::of(&status);
        let denied = (Code::PermissionDenied, "TENANT_NOT_ALLOWED");
        assert_eq!(refusal.why(), denied, "{}", method.name());
        // Not even whether there is such a tenant can be told from it.
        if let Some(tenant) = method.field("tenant") {
            let nobody = format!("n{}", Uuid::now_v7().simple());
            let request = tenant.with_text(&request, &nobody);
            let status = method
                .call(&server.channel, &request, &limited)
                .await
                .unwrap_err();
            let absent = Refusal::of(&status);
            assert_eq!(absent.why(), denied);
            let there = theirs.example(&method);
            let there = there.get_field_by_name("tenant").unwrap();
            assert_eq!(
                absent.message.replace(&nobody, ""),
                refusal.message.replace(there.as_str().unwrap(), "")
            );
            let own = ours.example(&method);
            method.call(&server.channel, &own, &limited).await.unwrap();
        }
        tried += 1;
    }
    // All tenants are more than the one.
    let migrate = crate::harness::method("MigrateTenants");
    let all = migrate.request(json!({"validateOnly": true}));
    let status = migrate.call(&server.channel, &all, &limited).await;
    let refusal = Refusal::of(&status.unwrap_err());
    let denied = (Code::PermissionDenied, "TENANT_NOT_ALLOWED");
    assert_eq!(refusal.why(), denied);
    assert!(tried >= 8, "{tried}");
    assert_eq!(
        (row().await, content(&database, &theirs.schema).await),
        before
    );
}
