//! Tenants come and go: suspended, resumed, deleted, brought back, purged.

use communication_service::pb::connect_channel_account_request::Settings;
use communication_service::pb::{
    DeleteTenantRequest, GetConversationRequest, GetTenantRequest, InitializeTenantRequest,
    ListTenantsRequest, PurgeTenantRequest, ResumeTenantRequest, SuspendTenantRequest, Tenant,
    TenantIsolation, TenantState, UndeleteTenantRequest,
};
use prost_types::Duration as Period;
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tonic::Code;
use uuid::Uuid;

use crate::harness::{
    Folder, Refusal, Tables, TestServer, TestTenant, Whatsapp, admin, connect, content, durable,
    eventually, refusal,
};

const DAY: i64 = 24 * 60 * 60;

/// Short ways to change a tenant.
impl TestServer {
    async fn suspend(&self, slug: &str) -> Tenant {
        let request = SuspendTenantRequest {
            tenant: slug.to_owned(),
            ..Default::default()
        };
        let answer = self.tenant_admin().suspend_tenant(request).await.unwrap();
        answer.into_inner().tenant.unwrap()
    }

    async fn resume(&self, slug: &str) -> Tenant {
        let request = ResumeTenantRequest {
            tenant: slug.to_owned(),
            ..Default::default()
        };
        let answer = self.tenant_admin().resume_tenant(request).await.unwrap();
        answer.into_inner().tenant.unwrap()
    }

    async fn delete(&self, slug: &str) -> Tenant {
        let request = DeleteTenantRequest {
            tenant: slug.to_owned(),
            ..Default::default()
        };
        let answer = self.tenant_admin().delete_tenant(request).await.unwrap();
        answer.into_inner().tenant.unwrap()
    }

    async fn undelete(&self, slug: &str) -> Tenant {
        let request = UndeleteTenantRequest {
            tenant: slug.to_owned(),
            ..Default::default()
        };
        let answer = self.tenant_admin().undelete_tenant(request).await.unwrap();
        answer.into_inner().tenant.unwrap()
    }

    async fn purge(&self, slug: &str) {
        let request = PurgeTenantRequest {
            tenant: slug.to_owned(),
            force: true,
            ..Default::default()
        };
        self.tenant_admin().purge_tenant(request).await.unwrap();
    }

    async fn read(&self, slug: &str) -> Tenant {
        let request = GetTenantRequest {
            tenant: slug.to_owned(),
        };
        let answer = self.tenant_admin().get_tenant(request).await.unwrap();
        answer.into_inner().tenant.unwrap()
    }

    /// What a call inside a tenant is answered.
    async fn reach(&self, tenant: &TestTenant, conversation_id: &str) -> (Code, String) {
        let request = GetConversationRequest {
            tenant: tenant.slug(),
            conversation_id: conversation_id.to_owned(),
            ..Default::default()
        };
        match self.inbox().get_conversation(request).await {
            Ok(_) => (Code::Ok, String::new()),
            Err(status) => {
                let refusal = Refusal::of(&status);
                (refusal.code, refusal.reason)
            }
        }
    }
}

/// What of a tenant the database still has: its schema, its role, its row in the directory.
async fn traces(database: &Client, tables: &Tables) -> (i64, i64, i64) {
    let counts = "SELECT
        (SELECT count(*) FROM pg_namespace WHERE nspname = $1),
        (SELECT count(*) FROM pg_roles WHERE rolname = $2),
        (SELECT count(*) FROM directory.tenants WHERE number = $3)";
    let row = database
        .query_one(counts, &[&tables.schema, &tables.role, &tables.number])
        .await
        .unwrap();
    (row.get(0), row.get(1), row.get(2))
}

fn suspended() -> (Code, String) {
    (Code::FailedPrecondition, "TENANT_SUSPENDED".to_owned())
}

fn absent() -> (Code, String) {
    (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_tenant_is_closed_on_every_node_and_resumes_as_it_was() {
    let (server, other) = (TestServer::start().await, TestServer::start().await);
    let tenant = server.tenant().await;
    let tables = Tables::of(&tenant).await;
    let conversation = tenant.conversation().await;
    tenant.reply(&conversation, "Hello").await;
    assert_eq!(other.reach(&tenant, &conversation.id).await.0, Code::Ok);
    assert!(tables.sessions("true").await >= 2);
    let before = content(&tables.admin, &tables.schema).await;

    let tenant_now = server.suspend(&tenant.slug()).await;
    assert_eq!(tenant_now.state(), TenantState::Suspended);
    assert!(tenant_now.suspend_time.is_some());
    assert_eq!(tables.sessions("true").await, 0);
    assert_eq!(server.reach(&tenant, &conversation.id).await, suspended());
    // The other node knows within half a second; until then the database keeps it out.
    let begun = std::time::Instant::now();
    eventually("the other node refuses", async || {
        let answer = other.reach(&tenant, &conversation.id).await;
        assert_ne!(answer.0, Code::Ok);
        answer == suspended()
    })
    .await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(1));

    // Once more is no error, and changes nothing.
    assert_eq!(server.suspend(&tenant.slug()).await, tenant_now);
    // Nor does initializing open it again.
    assert_eq!(server.initialize(&tenant.slug()).await, tenant_now);

    let resumed = server.resume(&tenant.slug()).await;
    assert_eq!(resumed.state(), TenantState::Active);
    assert_eq!(resumed.suspend_time, None);
    assert_eq!(server.resume(&tenant.slug()).await, resumed);
    assert_eq!(server.reach(&tenant, &conversation.id).await.0, Code::Ok);
    eventually("the other node lets calls in", async || {
        other.reach(&tenant, &conversation.id).await.0 == Code::Ok
    })
    .await;
    assert_eq!(content(&tables.admin, &tables.schema).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_way_ends_when_its_tenant_is_suspended() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let conversation = tenant.conversation().await;
    let tables = Tables::of(&tenant).await;
    let lock = format!("BEGIN; LOCK TABLE {}.inbox_messages", tables.schema);
    tables.admin.batch_execute(&lock).await.unwrap();
    let request = tenant.new_message(&conversation, "Hello");
    let mut inbox = server.inbox();
    let waiting = tokio::spawn(async move { inbox.create_message(request).await });
    eventually("the call waits", async || {
        tables.sessions("wait_event_type = 'Lock'").await == 1
    })
    .await;
    server.suspend(&tenant.slug()).await;
    let (code, reason, _) = refusal(waiting.await.unwrap());
    assert_eq!(
        (code, reason.as_str()),
        (Code::Unavailable, "DATABASE_UNAVAILABLE")
    );
    tables.admin.batch_execute("ROLLBACK").await.unwrap();
    server.resume(&tenant.slug()).await;
    assert_eq!(tenant.messages(&conversation).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_tenant_is_gone_for_its_callers_and_comes_back_byte_for_byte() {
    let (server, other) = (TestServer::start().await, TestServer::start().await);
    let tenant = server.tenant().await;
    let slug = tenant.slug();
    let tables = Tables::of(&tenant).await;
    let conversation = tenant.conversation().await;
    tenant.reply(&conversation, "Hello").await;
    assert_eq!(other.reach(&tenant, &conversation.id).await.0, Code::Ok);
    let before = content(&tables.admin, &tables.schema).await;

    let deleted = server.delete(&slug).await;
    assert_eq!(deleted.state(), TenantState::Deleted);
    let (deleted_at, purge_at) = (deleted.delete_time.unwrap(), deleted.purge_time.unwrap());
    assert_eq!(purge_at.seconds - deleted_at.seconds, 30 * DAY);
    assert_eq!(tables.sessions("true").await, 0);
    assert_eq!(server.reach(&tenant, &conversation.id).await, absent());
    eventually("the other node refuses", async || {
        let answer = other.reach(&tenant, &conversation.id).await;
        assert_ne!(answer.0, Code::Ok);
        answer == absent()
    })
    .await;

    // Those who administer tenants see it.
    assert_eq!(server.read(&slug).await, deleted);
    let listed = async |show_deleted| {
        let mut page_token = String::new();
        let mut found = false;
        loop {
            let request = ListTenantsRequest {
                page_size: 500,
                page_token,
                show_deleted,
            };
            let page = server.tenant_admin().list_tenants(request).await.unwrap();
            let page = page.into_inner();
            found |= page.tenants.iter().any(|tenant| tenant.slug == slug);
            if page.next_page_token.is_empty() {
                return found;
            }
            page_token = page.next_page_token;
        }
    };
    assert!(!listed(false).await);
    assert!(listed(true).await);

    // It can neither be made anew nor suspended nor deleted once more.
    let request = InitializeTenantRequest {
        tenant: slug.clone(),
        ..Default::default()
    };
    let refused = server.tenant_admin().initialize_tenant(request).await;
    assert_eq!(refusal(refused).1, "TENANT_DELETED");
    let request = SuspendTenantRequest {
        tenant: slug.clone(),
        ..Default::default()
    };
    let refused = server.tenant_admin().suspend_tenant(request).await;
    assert_eq!(refusal(refused).1, "TENANT_DELETED");
    let mut request = DeleteTenantRequest {
        tenant: slug.clone(),
        ..Default::default()
    };
    let refused = server.tenant_admin().delete_tenant(request.clone()).await;
    assert_eq!(refusal(refused).0, Code::NotFound);
    request.allow_missing = true;
    let answer = server.tenant_admin().delete_tenant(request).await.unwrap();
    assert_eq!(answer.into_inner().tenant.as_ref(), Some(&deleted));

    let back = server.undelete(&slug).await;
    assert_eq!(back.state(), TenantState::Active);
    assert_eq!((back.delete_time, back.purge_time), (None, None));
    assert_eq!(server.reach(&tenant, &conversation.id).await.0, Code::Ok);
    assert_eq!(content(&tables.admin, &tables.schema).await, before);
    assert_eq!(tenant.reply(&conversation, "Again").await.sequence, 2);

    let request = UndeleteTenantRequest {
        tenant: slug.clone(),
        ..Default::default()
    };
    let refused = server.tenant_admin().undelete_tenant(request).await;
    let (code, reason, _) = refusal(refused);
    assert_eq!(
        (code, reason.as_str()),
        (Code::AlreadyExists, "TENANT_LIVE")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_deleted_while_suspended_comes_back_suspended() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let slug = tenant.slug();
    let suspended_at = server.suspend(&slug).await.suspend_time;
    server.delete(&slug).await;
    let back = server.undelete(&slug).await;
    assert_eq!(back.state(), TenantState::Suspended);
    assert_eq!(back.suspend_time, suspended_at);
    let tables = Tables::of(&tenant).await;
    let may_log_in = format!(
        "SELECT count(*) FROM pg_roles WHERE rolname = '{}' AND rolcanlogin",
        tables.role
    );
    assert_eq!(tables.count(&may_log_in).await, 0);
    server.resume(&slug).await;
    assert_eq!(tables.count(&may_log_in).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_purged_tenant_and_its_slug_is_free() {
    let (server, other) = (TestServer::start().await, TestServer::start().await);
    let tenant = server.tenant().await;
    let slug = tenant.slug();
    let tables = Tables::of(&tenant).await;
    let conversation = tenant.conversation().await;
    assert_eq!(other.reach(&tenant, &conversation.id).await.0, Code::Ok);
    let mut request = PurgeTenantRequest {
        tenant: slug.clone(),
        ..Default::default()
    };
    let refused = server.tenant_admin().purge_tenant(request.clone()).await;
    assert_eq!(refusal(refused).1, "TENANT_NOT_DELETED");
    let deleted = server.delete(&slug).await;
    let refused = server.tenant_admin().purge_tenant(request.clone()).await;
    let refused = Refusal::of(&refused.unwrap_err());
    assert_eq!(refused.reason, "PURGE_TIME_NOT_REACHED");
    assert!(refused.metadata["purge_time"].ends_with('Z'));
    assert_eq!(traces(&tables.admin, &tables).await, (1, 1, 1));

    request.force = true;
    let answer = server.tenant_admin().purge_tenant(request.clone()).await;
    assert_eq!(answer.unwrap().into_inner().tenant, Some(deleted));
    assert_eq!(traces(&tables.admin, &tables).await, (0, 0, 0));
    assert_eq!(server.reach(&tenant, &conversation.id).await, absent());
    eventually("the other node has forgotten it", async || {
        other.reach(&tenant, &conversation.id).await == absent()
    })
    .await;
    let again = server.tenant_admin().purge_tenant(request.clone()).await;
    assert_eq!(refusal(again).0, Code::NotFound);
    request.allow_missing = true;
    let again = server.tenant_admin().purge_tenant(request).await.unwrap();
    assert_eq!(again.into_inner().tenant, None);

    let anew = TestTenant::new(&server, server.initialize(&slug).await);
    assert_ne!(anew.tenant.id, tenant.tenant.id);
    assert_ne!(anew.tenant.etag, tenant.tenant.etag);
    assert_eq!(server.reach(&anew, &conversation.id).await, absent());
    let conversation = anew.conversation().await;
    eventually("the other node knows the new one", async || {
        other.reach(&anew, &conversation.id).await.0 == Code::Ok
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_cannot_have_everything_takes_nothing() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let slug = tenant.slug();
    let tables = Tables::of(&tenant).await;
    tenant.conversation().await;
    let before = content(&tables.admin, &tables.schema).await;
    server.delete(&slug).await;
    let holder = admin().await;
    let lock = format!("BEGIN; LOCK TABLE {}.requests", tables.schema);
    holder.batch_execute(&lock).await.unwrap();
    let request = PurgeTenantRequest {
        tenant: slug.clone(),
        force: true,
        ..Default::default()
    };
    let refused = server.tenant_admin().purge_tenant(request).await;
    let (code, reason, _) = refusal(refused);
    assert_eq!((code, reason.as_str()), (Code::Aborted, "CONFLICT"));
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(traces(&tables.admin, &tables).await, (1, 1, 1));
    assert_eq!(content(&tables.admin, &tables.schema).await, before);
    server.purge(&slug).await;
    assert_eq!(traces(&tables.admin, &tables).await, (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_left_half_way_is_purged_without_the_schema_of_somebody_else() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let database = admin().await;
    let schema = format!("foreign_{}", Uuid::now_v7().simple());
    database
        .batch_execute(&format!("CREATE SCHEMA {schema}"))
        .await
        .unwrap();
    let slug = format!("t{}", Uuid::now_v7().simple());
    // As an initialization leaves it that ended right after it had named the tenant.
    let claim = "INSERT INTO directory.tenants (id, slug, schema_name, isolation, state)
        VALUES ($1::text::uuid, $2, $3, 'search_path', 'provisioning')";
    let id = Uuid::now_v7().to_string();
    database
        .execute(claim, &[&id, &slug, &schema])
        .await
        .unwrap();
    for allowed in [false, true] {
        let request = SuspendTenantRequest {
            tenant: slug.clone(),
            ..Default::default()
        };
        let refused = server.tenant_admin().suspend_tenant(request).await;
        assert_eq!(refusal(refused).1, "TENANT_NOT_READY");
        server.delete(&slug).await;
        if !allowed {
            assert_eq!(
                server.undelete(&slug).await.state(),
                TenantState::Provisioning
            );
        }
    }
    server.purge(&slug).await;
    let left = "SELECT count(*) FROM pg_namespace WHERE nspname = $1";
    let left: i64 = database.query_one(left, &[&schema]).await.unwrap().get(0);
    assert_eq!(left, 1);
    assert_eq!(server.read(&tenant.slug()).await, tenant.tenant);
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_wait_while_a_tenant_is_closed_and_a_purge_takes_its_accounts_and_apps() {
    let server = TestServer::start().await;
    let account = Whatsapp::connected(&server).await;
    let slug = account.tenant.slug();
    server.suspend(&slug).await;
    account.post_sample(&server, "02_text.json").await;
    server.resume(&slug).await;
    eventually("the customer's message is there", async || {
        account.conversations().await.len() == 1
    })
    .await;

    let mut request = Whatsapp::new(account.tenant.clone()).request();
    if let Some(Settings::Whatsapp(settings)) = &mut request.settings {
        settings.own_app = true;
    }
    let connected = server.tenant_admin().connect_channel_account(request).await;
    connected.unwrap();
    let database = admin().await;
    let rows = async || -> (i64, i64) {
        let count = "SELECT
            (SELECT count(*) FROM directory.channel_accounts WHERE tenant_id = $1::text::uuid),
            (SELECT count(*) FROM directory.provider_apps WHERE tenant_id = $1::text::uuid)";
        let id = &account.tenant.tenant.id;
        let row = database.query_one(count, &[id]).await.unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!(rows().await, (2, 1));
    server.delete(&slug).await;
    server.purge(&slug).await;
    assert_eq!(rows().await, (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_at_once_leave_a_tenant_that_is_whole() {
    let servers = [TestServer::start().await, TestServer::start().await];
    let tenant = servers[0].tenant().await;
    let (slug, database) = (tenant.slug(), admin().await);
    for round in 0..4_usize {
        let mut changes = JoinSet::new();
        for number in 0..14 {
            let mut admin = servers[number % 2].tenant_admin();
            let tenant = slug.clone();
            // Another order in each round.
            let kind = (number * (2 * round + 3)) % 7;
            changes.spawn(async move {
                let (etag, validate_only) = (String::new(), false);
                let answer = match kind {
                    0 => admin
                        .suspend_tenant(SuspendTenantRequest {
                            tenant,
                            etag,
                            validate_only,
                        })
                        .await
                        .map(drop),
                    1 => admin
                        .resume_tenant(ResumeTenantRequest {
                            tenant,
                            etag,
                            validate_only,
                        })
                        .await
                        .map(drop),
                    2 | 3 => admin
                        .delete_tenant(DeleteTenantRequest {
                            tenant,
                            ..Default::default()
                        })
                        .await
                        .map(drop),
                    4 => admin
                        .undelete_tenant(UndeleteTenantRequest {
                            tenant,
                            etag,
                            validate_only,
                        })
                        .await
                        .map(drop),
                    5 => admin
                        .purge_tenant(PurgeTenantRequest {
                            tenant,
                            force: true,
                            ..Default::default()
                        })
                        .await
                        .map(drop),
                    _ => admin
                        .initialize_tenant(InitializeTenantRequest {
                            tenant,
                            ..Default::default()
                        })
                        .await
                        .map(drop),
                };
                answer.map_or_else(|status| status.code(), |()| Code::Ok)
            });
        }
        for code in changes.join_all().await {
            let fair = [
                Code::Ok,
                Code::NotFound,
                Code::AlreadyExists,
                Code::FailedPrecondition,
                Code::Aborted,
            ];
            assert!(fair.contains(&code), "{code:?}");
        }
        // Of one that is built, role and schema are there, and the role logs in if it should; of
        // one that was deleted before it was built, neither is.
        let odd = "SELECT t.state || ' ' || t.schema_version FROM directory.tenants t
            LEFT JOIN pg_roles r ON r.rolname = t.role_name
            LEFT JOIN pg_namespace n ON n.nspname = t.schema_name
            WHERE t.slug = $1 AND CASE t.schema_version
                WHEN '' THEN r.oid IS NOT NULL OR n.oid IS NOT NULL
                ELSE t.state = 'provisioning' OR r.oid IS NULL OR n.oid IS NULL
                    OR r.rolcanlogin <> (t.state = 'active') END";
        let odd = database.query_opt(odd, &[&slug]).await.unwrap();
        assert_eq!(odd.map(|row| row.get::<_, String>(0)), None);
        // From wherever it stands it can be brought back into use.
        let undelete = UndeleteTenantRequest {
            tenant: slug.clone(),
            ..Default::default()
        };
        let _ = servers[1].tenant_admin().undelete_tenant(undelete).await;
        let now = servers[0].initialize(&slug).await;
        servers[1].resume(&slug).await;
        for server in &servers {
            let now = TestTenant::new(server, now.clone());
            eventually("both nodes serve it", async || {
                let request = now.new_conversation();
                let answer = now.inbox.clone().create_conversation(request).await;
                answer.is_ok()
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_roles_the_state_alone_closes_a_tenant() {
    let folder = Folder::new();
    let postgres = durable(&folder).await;
    let database = connect(postgres.url()).await;
    let unprivileged = "ALTER ROLE communication NOCREATEROLE";
    database.batch_execute(unprivileged).await.unwrap();
    let url = postgres.url().to_owned();
    let server = TestServer::start_with(|config| config.database_url = Some(url)).await;
    let tenant = server.tenant().await;
    let slug = tenant.slug();
    assert_eq!(tenant.tenant.isolation(), TenantIsolation::SearchPath);
    let conversation = tenant.conversation().await;
    server.suspend(&slug).await;
    assert_eq!(server.reach(&tenant, &conversation.id).await, suspended());
    server.resume(&slug).await;
    assert_eq!(server.reach(&tenant, &conversation.id).await.0, Code::Ok);
    server.delete(&slug).await;
    assert_eq!(server.reach(&tenant, &conversation.id).await, absent());
    server.purge(&slug).await;
    let left = "SELECT (SELECT count(*) FROM directory.tenants)
        + (SELECT count(*) FROM pg_namespace WHERE nspname = $1)";
    let schema = &tenant.tenant.schema_name;
    let left: i64 = database.query_one(left, &[schema]).await.unwrap().get(0);
    assert_eq!(left, 0);
    server.stop().await;
    postgres.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_etag_changes_nothing_and_a_check_neither() {
    let server = TestServer::start().await;
    let tenant = server.tenant().await;
    let slug = tenant.slug();
    let fresh = tenant.tenant.etag.clone();
    server.suspend(&slug).await;
    let resumed = server.resume(&slug).await;
    assert_ne!(resumed.etag, fresh);
    let mut request = DeleteTenantRequest {
        tenant: slug.clone(),
        etag: fresh,
        ..Default::default()
    };
    let refused = server.tenant_admin().delete_tenant(request.clone()).await;
    let (code, reason, _) = refusal(refused);
    assert_eq!((code, reason.as_str()), (Code::Aborted, "ETAG_MISMATCH"));

    request.etag = resumed.etag.clone();
    request.validate_only = true;
    let checked = server.tenant_admin().delete_tenant(request.clone()).await;
    let checked = checked.unwrap().into_inner().tenant.unwrap();
    assert_eq!(checked.state(), TenantState::Deleted);
    assert_eq!(server.read(&slug).await, resumed);
    tenant.conversation().await;

    request.validate_only = false;
    server.tenant_admin().delete_tenant(request).await.unwrap();
    let request = PurgeTenantRequest {
        tenant: slug.clone(),
        force: true,
        validate_only: true,
        ..Default::default()
    };
    server.tenant_admin().purge_tenant(request).await.unwrap();
    assert_eq!(server.read(&slug).await.state(), TenantState::Deleted);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grace_period_is_the_callers_choice_within_bounds() {
    let server = TestServer::start().await;
    let slug = server.tenant().await.slug();
    let with = |seconds, nanos| DeleteTenantRequest {
        tenant: slug.clone(),
        grace_period: Some(Period { seconds, nanos }),
        ..Default::default()
    };
    let (hour, year) = (3600, 365 * DAY);
    let wrong = [
        (0, 0),
        (-1, 0),
        (hour - 1, 999_999_999),
        (year, 1),
        (i64::MAX, 999_999_999),
        (i64::MIN, i32::MIN),
    ];
    for (seconds, nanos) in wrong {
        let refused = server
            .tenant_admin()
            .delete_tenant(with(seconds, nanos))
            .await;
        let (code, _, fields) = refusal(refused);
        assert_eq!(code, Code::InvalidArgument, "{seconds}");
        assert_eq!(fields, ["grace_period"]);
    }
    for seconds in [hour, year] {
        let deleted = server.tenant_admin().delete_tenant(with(seconds, 0)).await;
        let deleted = deleted.unwrap().into_inner().tenant.unwrap();
        let kept = deleted.purge_time.unwrap().seconds - deleted.delete_time.unwrap().seconds;
        assert_eq!(kept, seconds);
        server.undelete(&slug).await;
    }
}
