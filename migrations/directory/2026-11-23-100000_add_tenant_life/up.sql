-- safe: the new check allows all that the old one did, and the table is short
ALTER TABLE directory.tenants
    DROP CONSTRAINT tenants_state_check,
    ADD COLUMN edit_version bigint NOT NULL DEFAULT 1,
    ADD COLUMN suspended_at timestamptz,
    ADD COLUMN deleted_at timestamptz,
    ADD COLUMN purge_at timestamptz,
    ADD COLUMN cleaned_at timestamptz NOT NULL DEFAULT directory.now(),
    ADD CONSTRAINT tenants_state_check CHECK (state IN ('provisioning', 'active', 'suspended', 'deleted')),
    ADD CONSTRAINT tenants_suspended_check CHECK (state <> 'suspended' OR suspended_at IS NOT NULL),
    ADD CONSTRAINT tenants_deleted_check CHECK ((state = 'deleted') = (deleted_at IS NOT NULL) AND (deleted_at IS NULL) = (purge_at IS NULL));
COMMENT ON COLUMN directory.tenants.suspended_at IS 'Stays while the tenant is deleted, so that undeleting brings it back as it was.';
COMMENT ON COLUMN directory.tenants.purge_at IS 'From when on it may be removed for good.';
COMMENT ON COLUMN directory.tenants.cleaned_at IS 'When a node last took it on to remove what was kept long enough.';

ALTER TABLE directory.installation ADD COLUMN purged_epoch bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN directory.installation.purged_epoch IS 'The epoch at which a tenant was last removed for good: its row cannot tell.';
