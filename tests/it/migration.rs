//! Tenants of an older version are brought to the newest, whatever happens meanwhile.

use std::collections::BTreeMap;

use communication_service::pb::tenant_admin_service_client::TenantAdminServiceClient;
use communication_service::pb::{
    DeleteTenantRequest, InitializeTenantRequest, ListTenantsRequest, MigrateTenantsRequest,
    MigrateTenantsResponse, SuspendTenantRequest, Tenant, TenantState, UndeleteTenantRequest,
};
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::{
    Folder, Service, TestServer, TestTenant, admin, connect, durable, eventually, refusal,
};
use crate::schema::migrations;

/// The migration that an aged tenant lacks first.
const LACKING: &str = "2026-11-23-090300_create_chat";

/// Takes a tenant back to an older version, as a release of then left it.
pub async fn age(database: &Client, tenant: &Tenant) {
    let schema = &tenant.schema_name;
    let mut down = migrations("tenant", "down.sql");
    let down: String = down.split_off(LACKING).into_values().rev().collect();
    let version: String = LACKING.chars().filter(char::is_ascii_digit).collect();
    let sql = format!(
        "BEGIN;
         SET LOCAL search_path = \"{schema}\";
         {down}
         DELETE FROM __diesel_schema_migrations WHERE version >= '{version}';
         UPDATE directory.installation SET epoch = epoch + 1;
         UPDATE directory.tenants SET
             epoch = (SELECT epoch FROM directory.installation),
             schema_version = (SELECT max(version) FROM __diesel_schema_migrations)
         WHERE schema_name = '{schema}';
         COMMIT"
    );
    database.batch_execute(&sql).await.unwrap();
}

/// How many tables a tenant has, and which version the directory knows of.
async fn shape(database: &Client, schema: &str) -> (i64, String) {
    let shape = "SELECT (SELECT count(*) FROM pg_tables WHERE schemaname = $1), schema_version
        FROM directory.tenants WHERE schema_name = $1";
    let row = database.query_one(shape, &[&schema]).await.unwrap();
    (row.get(0), row.get(1))
}

fn all() -> MigrateTenantsRequest {
    MigrateTenantsRequest::default()
}

fn one(tenant: &TestTenant) -> MigrateTenantsRequest {
    MigrateTenantsRequest {
        tenant: tenant.slug(),
        ..Default::default()
    }
}

/// Migrates, and returns all that is told on the way.
async fn migrate(channel: &Channel, request: MigrateTenantsRequest) -> Vec<MigrateTenantsResponse> {
    let answer = TenantAdminServiceClient::new(channel.clone())
        .migrate_tenants(request)
        .await
        .unwrap();
    let mut progress = answer.into_inner();
    let mut told = Vec::new();
    while let Some(next) = progress.message().await.unwrap() {
        told.push(next);
    }
    told
}

fn counts(progress: &MigrateTenantsResponse) -> (i32, i32, i32, i32, bool) {
    let p = progress;
    (p.total, p.done, p.failed, p.remaining, p.finished)
}

async fn listed(channel: &Channel) -> Vec<Tenant> {
    let request = ListTenantsRequest {
        page_size: 500,
        show_deleted: true,
        ..Default::default()
    };
    let answer = TenantAdminServiceClient::new(channel.clone())
        .list_tenants(request)
        .await
        .unwrap();
    answer.into_inner().tenants
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tenant_that_fails_is_told_of_and_the_others_are_migrated() {
    let folder = Folder::new();
    let postgres = durable(&folder).await;
    let database = connect(postgres.url()).await;
    let url = postgres.url().to_owned();
    let server = TestServer::start_with(|config| config.database_url = Some(url)).await;
    let mut tenants = Vec::new();
    for name in ["active", "broken", "deleted", "plain", "suspended"] {
        let tenant = TestTenant::new(&server, server.initialize(name).await);
        tenant.conversation().await;
        tenants.push(tenant);
    }
    let newest = shape(&database, &tenants[0].tenant.schema_name).await;
    let mut admin = server.tenant_admin();
    let suspend = SuspendTenantRequest {
        tenant: "suspended".to_owned(),
        ..Default::default()
    };
    admin.suspend_tenant(suspend).await.unwrap();
    let delete = DeleteTenantRequest {
        tenant: "deleted".to_owned(),
        ..Default::default()
    };
    admin.delete_tenant(delete).await.unwrap();
    for tenant in &tenants {
        age(&database, &tenant.tenant).await;
    }
    let broken = tenants[1].tenant.schema_name.clone();
    let in_the_way = format!("CREATE TABLE \"{broken}\".channels ()");
    database.batch_execute(&in_the_way).await.unwrap();

    // The server of the newer release refuses what is older.
    let active = &tenants[0];
    eventually("the tenant is too old for a call", async || {
        let request = active.new_conversation();
        let answer = active.inbox.clone().create_conversation(request).await;
        answer.is_err() && refusal(answer).1 == "TENANT_NOT_MIGRATED"
    })
    .await;

    let dry = MigrateTenantsRequest {
        validate_only: true,
        ..Default::default()
    };
    let told = migrate(&server.channel, dry).await;
    assert_eq!(told.len(), 6);
    assert_eq!(counts(&told[0]), (5, 0, 0, 5, false));
    assert_eq!(counts(&told[5]), (5, 0, 0, 5, true));
    let old = shape(&database, &active.tenant.schema_name).await;
    assert_ne!(old, newest);

    let told = migrate(&server.channel, all()).await;
    assert_eq!(told.len(), 6);
    assert_eq!(counts(&told[0]), (5, 0, 0, 5, false));
    assert_eq!(counts(&told[5]), (5, 4, 1, 0, true));
    assert!(told.iter().all(|told| told.schema_version == newest.1));
    let of: BTreeMap<_, _> = told
        .into_iter()
        .filter_map(|told| told.migration)
        .map(|migration| (migration.tenant, (migration.from_version, migration.error)))
        .collect();
    for tenant in &tenants {
        let (from, error) = &of[&tenant.slug()];
        assert_eq!(*from, old.1);
        let now = shape(&database, &tenant.tenant.schema_name).await;
        if tenant.slug() == "broken" {
            let failed = format!("migration `{LACKING}` failed");
            assert!(error.starts_with(&failed), "{error}");
            assert!(!error.contains("already exists"), "{error}");
            assert_eq!(now, (old.0 + 1, old.1.clone()));
        } else {
            assert_eq!(error, "");
            assert_eq!(now, newest);
        }
    }
    active.conversation().await;
    let states: Vec<_> = listed(&server.channel)
        .await
        .iter()
        .map(Tenant::state)
        .collect();
    use TenantState::{Active, Deleted, Suspended};
    assert_eq!(states, [Active, Active, Deleted, Active, Suspended]);
    let undelete = UndeleteTenantRequest {
        tenant: "deleted".to_owned(),
        ..Default::default()
    };
    admin.undelete_tenant(undelete).await.unwrap();
    tenants[2].conversation().await;

    // What failed is tried again when somebody has seen to it, and what is done is done.
    let clear = format!("DROP TABLE \"{broken}\".channels");
    database.batch_execute(&clear).await.unwrap();
    let told = migrate(&server.channel, all()).await;
    assert_eq!(counts(told.last().unwrap()), (1, 1, 0, 0, true));
    assert_eq!(shape(&database, &broken).await, newest);
    let told = migrate(&server.channel, all()).await;
    assert_eq!(told.len(), 1);
    assert_eq!(counts(&told[0]), (0, 0, 0, 0, true));

    // A server that is told to migrates at its start.
    age(&database, &active.tenant).await;
    let url = postgres.url().to_owned();
    let next = TestServer::start_with(|config| {
        config.database_url = Some(url);
        config.migrate_at_start = Some(true);
    })
    .await;
    eventually("the tenant is migrated", async || {
        shape(&database, &active.tenant.schema_name).await == newest
    })
    .await;
    next.stop().await;
    server.stop().await;
    postgres.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_gives_way_and_comes_back() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let (database, holder) = (admin().await, admin().await);
    let schema = tenant.tenant.schema_name.clone();
    let newest = shape(&database, &schema).await;
    age(&database, &tenant.tenant).await;
    let lock = format!("BEGIN; LOCK TABLE \"{schema}\".__diesel_schema_migrations");
    holder.batch_execute(&lock).await.unwrap();
    let (channel, request) = (server.channel.clone(), one(&tenant));
    let migrating = tokio::spawn(async move { migrate(&channel, request).await });
    // Each attempt has a session of its own: a second one means that the first gave up.
    let waiting = "SELECT pid FROM pg_locks WHERE NOT granted
        AND relation = (quote_ident($1) || '.__diesel_schema_migrations')::regclass";
    let mut attempts = std::collections::BTreeSet::<i32>::new();
    eventually("the migration has come back", async || {
        let rows = database.query(waiting, &[&schema]).await.unwrap();
        attempts.extend(rows.iter().map(|row| row.get::<_, i32>(0)));
        attempts.len() >= 2
    })
    .await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    let told = migrating.await.unwrap();
    assert_eq!(counts(told.last().unwrap()), (1, 1, 0, 0, true));
    assert_eq!(shape(&database, &schema).await, newest);
}

#[tokio::test(flavor = "multi_thread")]
async fn initializing_and_migrating_at_once_migrate_once() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let database = admin().await;
    let newest = shape(&database, &tenant.tenant.schema_name).await;
    age(&database, &tenant.tenant).await;
    let mut calls = JoinSet::new();
    for _ in 0..5 {
        let (channel, request) = (server.channel.clone(), one(&tenant));
        calls.spawn(async move {
            let told = migrate(&channel, request).await;
            let last = told.last().unwrap();
            assert_eq!((last.failed, last.finished), (0, true));
        });
        let mut admin = server.tenant_admin();
        let request = InitializeTenantRequest {
            tenant: tenant.slug(),
            ..Default::default()
        };
        calls.spawn(async move {
            let answer = admin.initialize_tenant(request).await.unwrap().into_inner();
            assert!(!answer.created);
        });
    }
    calls.join_all().await;
    assert_eq!(shape(&database, &tenant.tenant.schema_name).await, newest);
    tenant.conversation().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_to_migrate_must_be_there_and_made() {
    let server = TestServer::start().await;
    let mut request = all();
    request.tenant = "nobody".to_owned();
    let mut admin = server.tenant_admin();
    let refused = admin.migrate_tenants(request).await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    let tenant = server.tenant().await;
    let told = migrate(&server.channel, one(&tenant)).await;
    assert_eq!(counts(&told[0]), (0, 0, 0, 0, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_killed_while_it_makes_and_migrates_tenants_leaves_none_half_way() {
    let folder = Folder::new();
    let postgres = durable(&folder).await;
    let database = connect(postgres.url()).await;
    let mut service = Service::start(&folder, postgres.url()).await;
    let slugs: Vec<_> = (0..16)
        .map(|number| format!("tenant-{number:02}"))
        .collect();
    let initialize = |slug: &String| InitializeTenantRequest {
        tenant: slug.clone(),
        ..Default::default()
    };

    // Kill it after a few more tenants each time, until all are there.
    for round in 1..=4 {
        let mut calls = JoinSet::new();
        for slug in &slugs {
            let mut admin = TenantAdminServiceClient::new(service.channel.clone());
            let request = initialize(slug);
            calls.spawn(async move { admin.initialize_tenant(request).await.is_ok() });
        }
        let mut made = 0;
        while made < round * 4 - 1 {
            let Some(answered) = calls.join_next().await else {
                break;
            };
            made += usize::from(answered.unwrap());
        }
        service.kill().await;
        service = Service::start(&folder, postgres.url()).await;
        // Whole or not begun: the schema is there with all its tables, or not at all.
        for tenant in listed(&service.channel).await {
            let (tables, version) = shape(&database, &tenant.schema_name).await;
            let whole = tenant.state() == TenantState::Active;
            assert_eq!((tables > 10, !version.is_empty()), (whole, whole));
        }
    }
    for slug in &slugs {
        let mut admin = TenantAdminServiceClient::new(service.channel.clone());
        admin.initialize_tenant(initialize(slug)).await.unwrap();
    }
    let tenants = listed(&service.channel).await;
    assert_eq!(tenants.len(), slugs.len());
    let newest = shape(&database, &tenants[0].schema_name).await;
    for tenant in &tenants {
        assert_eq!(shape(&database, &tenant.schema_name).await, newest);
        age(&database, tenant).await;
    }
    let old = shape(&database, &tenants[0].schema_name).await;

    let mut done = 0;
    for _ in 0..3 {
        let mut admin = TenantAdminServiceClient::new(service.channel.clone());
        let mut progress = admin.migrate_tenants(all()).await.unwrap().into_inner();
        let first = progress.message().await.unwrap().unwrap();
        assert!(usize::try_from(first.total).unwrap() <= slugs.len() - done);
        while let Ok(Some(told)) = progress.message().await {
            if told.done == 4 {
                break;
            }
        }
        service.kill().await;
        service = Service::start(&folder, postgres.url()).await;
        done = 0;
        for tenant in &tenants {
            let now = shape(&database, &tenant.schema_name).await;
            assert!(now == old || now == newest, "{now:?}");
            done += usize::from(now == newest);
        }
    }
    assert!(done >= 12, "{done}");
    let told = migrate(&service.channel, all()).await;
    let last = told.last().unwrap();
    assert_eq!((last.failed, last.finished), (0, true));
    for tenant in &tenants {
        assert_eq!(shape(&database, &tenant.schema_name).await, newest);
    }
    service.kill().await;
    postgres.stop().await.unwrap();
}
