CREATE TABLE directory.provider_apps (
    id uuid NOT NULL,
    provider text NOT NULL,
    external_id text NOT NULL,
    tenant_id uuid,
    secrets bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT directory.now(),
    updated_at timestamptz NOT NULL DEFAULT directory.now(),
    CONSTRAINT provider_apps_pkey PRIMARY KEY (id),
    CONSTRAINT provider_apps_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES directory.tenants (id) ON DELETE CASCADE,
    CONSTRAINT provider_apps_provider_check CHECK (provider IN ('meta'))
);
COMMENT ON TABLE directory.provider_apps IS 'The apps that providers sign their webhooks for.';
COMMENT ON COLUMN directory.provider_apps.external_id IS 'What the provider calls the app.';
COMMENT ON COLUMN directory.provider_apps.tenant_id IS 'Whose own app it is; none for those of the deployment, which serve any tenant.';
COMMENT ON COLUMN directory.provider_apps.secrets IS 'Sealed by the master key, bound to this row.';
CREATE UNIQUE INDEX provider_apps_shared_key ON directory.provider_apps (provider, external_id) WHERE tenant_id IS NULL;
CREATE UNIQUE INDEX provider_apps_own_key ON directory.provider_apps (tenant_id, provider, external_id) WHERE tenant_id IS NOT NULL;

CREATE TABLE directory.channel_accounts (
    id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    app_id uuid NOT NULL,
    channel text NOT NULL,
    route_key text NOT NULL,
    name text NOT NULL,
    settings jsonb NOT NULL,
    secrets bytea NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT directory.now(),
    updated_at timestamptz NOT NULL DEFAULT directory.now(),
    disconnected_at timestamptz,
    CONSTRAINT channel_accounts_pkey PRIMARY KEY (id),
    CONSTRAINT channel_accounts_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES directory.tenants (id) ON DELETE CASCADE,
    CONSTRAINT channel_accounts_app_id_fkey FOREIGN KEY (app_id) REFERENCES directory.provider_apps (id),
    CONSTRAINT channel_accounts_channel_check CHECK (channel IN ('whatsapp', 'messenger', 'instagram', 'email', 'web', 'twilio_whatsapp', 'twilio_call', 'personal_whatsapp', 'gmail', 'zendesk'))
);
COMMENT ON TABLE directory.channel_accounts IS 'Which account of a provider is whose. The tenant''s schema has a row of the same id for its keys to refer to.';
COMMENT ON COLUMN directory.channel_accounts.route_key IS 'By what the provider''s webhooks name the account.';
COMMENT ON COLUMN directory.channel_accounts.secrets IS 'Sealed by the tenant''s key, bound to this row.';
CREATE UNIQUE INDEX channel_accounts_route_key ON directory.channel_accounts (channel, route_key) WHERE disconnected_at IS NULL;
CREATE INDEX channel_accounts_tenant_id_idx ON directory.channel_accounts (tenant_id, id);
CREATE INDEX channel_accounts_app_id_idx ON directory.channel_accounts (app_id);

CREATE TABLE directory.deliveries (
    id uuid NOT NULL,
    app_id uuid NOT NULL,
    channel text NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    correlation_id text NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    received_at timestamptz NOT NULL DEFAULT directory.now(),
    due_at timestamptz,
    lease uuid,
    last_error text,
    CONSTRAINT deliveries_pkey PRIMARY KEY (id),
    CONSTRAINT deliveries_app_id_fkey FOREIGN KEY (app_id) REFERENCES directory.provider_apps (id) ON DELETE CASCADE
);
COMMENT ON TABLE directory.deliveries IS 'Webhooks as they came, verified and not yet read: committed before the provider hears that we have them.';
COMMENT ON COLUMN directory.deliveries.body IS 'Sealed by the master key, bound to this row.';
COMMENT ON COLUMN directory.deliveries.due_at IS 'When it may be taken up, again if somebody has: whoever has it puts this ahead while at work. None: done.';
COMMENT ON COLUMN directory.deliveries.lease IS 'Of whoever is at work; another has no say any more.';
CREATE INDEX deliveries_due_at_idx ON directory.deliveries (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX deliveries_received_at_idx ON directory.deliveries (received_at) WHERE due_at IS NULL;
CREATE INDEX deliveries_app_id_idx ON directory.deliveries (app_id);

CREATE TABLE directory.quarantine (
    delivery_id uuid NOT NULL,
    item integer NOT NULL,
    tenant_id uuid,
    channel text NOT NULL,
    route_key text NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT directory.now(),
    replayed_at timestamptz,
    CONSTRAINT quarantine_pkey PRIMARY KEY (delivery_id, item),
    CONSTRAINT quarantine_delivery_id_fkey FOREIGN KEY (delivery_id) REFERENCES directory.deliveries (id) ON DELETE CASCADE,
    CONSTRAINT quarantine_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES directory.tenants (id) ON DELETE CASCADE,
    CONSTRAINT quarantine_reason_check CHECK (reason IN ('unknown_account', 'unsupported', 'unreadable', 'failed'))
);
COMMENT ON TABLE directory.quarantine IS 'Items of deliveries that could not be applied, each alone.';
COMMENT ON COLUMN directory.quarantine.item IS 'Its place in the delivery, from 1; 0 for a body that is unreadable as a whole.';
COMMENT ON COLUMN directory.quarantine.tenant_id IS 'Whose it is, where that is known.';
CREATE INDEX quarantine_unknown_account_idx ON directory.quarantine (channel, route_key, delivery_id, item) WHERE replayed_at IS NULL AND reason = 'unknown_account';
CREATE INDEX quarantine_tenant_id_idx ON directory.quarantine (tenant_id, delivery_id, item);
