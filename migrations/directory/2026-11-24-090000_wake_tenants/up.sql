CREATE TABLE directory.alarms (
    tenant_id uuid NOT NULL,
    due_at timestamptz NOT NULL,
    leased_until timestamptz,
    CONSTRAINT alarms_pkey PRIMARY KEY (tenant_id, due_at),
    CONSTRAINT alarms_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES directory.tenants (id) ON DELETE CASCADE
);
COMMENT ON TABLE directory.alarms IS 'When something in a tenant may be due: set before what is due is stored, so that a crash leaves an alarm too many and never one too few.';
COMMENT ON COLUMN directory.alarms.leased_until IS 'How long whoever is at work has it; then somebody else may take it.';
CREATE INDEX alarms_due_at_idx ON directory.alarms (due_at);
