//! A tenant as the service's own account sees it, for what the wire cannot show.

use tokio_postgres::Client;

use super::{TestTenant, admin};

/// Holds for a mailbox that nobody reads: a server whose test has ended leaves one leased for five
/// minutes.
pub const MAILBOX_IS_FREE: &str =
    "(lease IS NULL OR leased_until < directory.now() + interval '290 s')";

/// A tenant's place in the database.
pub struct Tables {
    /// A connection of the service's own account.
    pub admin: Client,
    /// The tenant's number in advisory locks.
    pub number: i32,
    /// The tenant's schema.
    pub schema: String,
    /// The role that the tenant's connections log in as.
    pub role: String,
}

impl Tables {
    /// Finds a tenant in the directory.
    pub async fn of(tenant: &TestTenant) -> Self {
        let admin = admin().await;
        let found = "SELECT number, schema_name, role_name FROM directory.tenants WHERE slug = $1";
        let row = admin.query_one(found, &[&tenant.slug()]).await.unwrap();
        Self {
            admin,
            number: row.get(0),
            schema: row.get(1),
            role: row.get(2),
        }
    }

    /// Counts what a query with a single number finds; `{schema}` stands for the tenant's.
    pub async fn count(&self, query: &str) -> i64 {
        let query = query.replace("{schema}", &self.schema);
        self.admin.query_one(&query, &[]).await.unwrap().get(0)
    }

    /// Counts the sessions of the tenant's role that fulfil a condition on `pg_stat_activity`.
    pub async fn sessions(&self, condition: &str) -> i64 {
        let role = &self.role;
        self.count(&format!(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}' AND {condition}"
        ))
        .await
    }

    /// All rows of a schema, as text.
    pub async fn dump(&self, schema: &str) -> String {
        let found = "SELECT tablename::text FROM pg_tables WHERE schemaname = $1";
        let mut dump = String::new();
        for row in self.admin.query(found, &[&schema]).await.unwrap() {
            let table: String = row.get(0);
            let rows = format!(
                "SELECT coalesce(string_agg(t::text, E'\\n'), '') FROM \"{schema}\".\"{table}\" t"
            );
            let rows: String = self.admin.query_one(&rows, &[]).await.unwrap().get(0);
            dump.push_str(&format!("{table}\n{rows}\n"));
        }
        dump
    }

    /// Lets the alarms of the tenant be heard that a server of another test has taken with it.
    pub async fn hear(&self) {
        let again = "UPDATE directory.alarms SET leased_until = NULL
            WHERE tenant_id = (SELECT id FROM directory.tenants WHERE number = $1)";
        self.admin.execute(again, &[&self.number]).await.unwrap();
    }
}
