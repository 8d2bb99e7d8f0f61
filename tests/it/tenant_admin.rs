//! The life of tenants.

use communication_service::pb::{
    GetTenantRequest, InitializeTenantRequest, ListTenantsRequest, TenantIsolation, TenantState,
};
use tonic::Code;
use uuid::Uuid;

use crate::harness::{TestServer, admin, refusal};

fn initialize(tenant: &str, schema_name: &str) -> InitializeTenantRequest {
    InitializeTenantRequest {
        tenant: tenant.to_owned(),
        schema_name: schema_name.to_owned(),
    }
}

fn slug() -> String {
    format!("t{}", Uuid::now_v7().simple())
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_initializations_at_once_make_one_complete_schema() {
    let server = TestServer::start().await;
    let slug = slug();
    let calls = (0..20).map(|_| {
        let mut client = server.tenant_admin();
        let request = initialize(&slug, "");
        tokio::spawn(async move {
            client
                .initialize_tenant(request)
                .await
                .unwrap()
                .into_inner()
        })
    });
    let mut answers = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        answers.push(call.await.unwrap());
    }
    assert_eq!(answers.iter().filter(|answer| answer.created).count(), 1);
    let tenant = answers[0].tenant.clone().unwrap();
    assert!(
        answers
            .iter()
            .all(|answer| answer.tenant.as_ref() == Some(&tenant))
    );
    assert_eq!(tenant.state(), TenantState::Active);
    assert_eq!(tenant.isolation(), TenantIsolation::Role);

    let other = server.tenant().await.tenant;
    let tables = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE n.nspname = $1";
    let database = admin().await;
    let count = async |schema: &str| -> i64 {
        database.query_one(tables, &[&schema]).await.unwrap().get(0)
    };
    assert_eq!(
        count(&tenant.schema_name).await,
        count(&other.schema_name).await
    );
    assert!(count(&tenant.schema_name).await > 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_name_of_the_callers_own_is_used_and_kept() {
    let server = TestServer::start().await;
    let mut client = server.tenant_admin();
    let (slug, schema) = (slug(), format!("tenant_{}", Uuid::now_v7().simple()));
    let made = client
        .initialize_tenant(initialize(&slug, &schema))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(made.tenant.unwrap().schema_name, schema);

    let other_schema = client.initialize_tenant(initialize(&slug, "another")).await;
    let (code, reason, _) = refusal(other_schema);
    assert_eq!(
        (code, reason.as_str()),
        (Code::AlreadyExists, "TENANT_EXISTS")
    );

    let taken = client
        .initialize_tenant(initialize(&self::slug(), &schema))
        .await;
    let (code, reason, _) = refusal(taken);
    assert_eq!(
        (code, reason.as_str()),
        (Code::AlreadyExists, "SCHEMA_NAME_TAKEN")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_somebody_else_is_not_taken_over() {
    let server = TestServer::start().await;
    let schema = format!("foreign_{}", Uuid::now_v7().simple());
    admin()
        .await
        .batch_execute(&format!("CREATE SCHEMA {schema}"))
        .await
        .unwrap();
    let slug = slug();
    let refused = server
        .tenant_admin()
        .initialize_tenant(initialize(&slug, &schema))
        .await;
    assert_eq!(refusal(refused).1, "SCHEMA_NAME_TAKEN");
    // Nothing is left of the attempt, so the slug is free for a better one.
    let tenant = server.initialize(&slug).await;
    assert_ne!(tenant.schema_name, schema);
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_found_and_listed_in_pages() {
    let server = TestServer::start().await;
    let mut client = server.tenant_admin();
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(server.tenant().await.slug());
    }
    let request = GetTenantRequest {
        tenant: made[0].clone(),
    };
    let found = client
        .get_tenant(request)
        .await
        .unwrap()
        .into_inner()
        .tenant
        .unwrap();
    assert_eq!(found.slug, made[0]);
    let request = GetTenantRequest {
        tenant: "nobody".to_owned(),
    };
    assert_eq!(refusal(client.get_tenant(request).await).0, Code::NotFound);

    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListTenantsRequest {
            page_size: 2,
            page_token,
            ..Default::default()
        };
        let page = client.list_tenants(request).await.unwrap().into_inner();
        assert!(page.tenants.len() <= 2);
        listed.extend(page.tenants.into_iter().map(|tenant| tenant.slug));
        if page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
    }
    assert!(listed.is_sorted());
    assert!(made.iter().all(|slug| listed.contains(slug)));
}
