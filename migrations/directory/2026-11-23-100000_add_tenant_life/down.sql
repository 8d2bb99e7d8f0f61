ALTER TABLE directory.installation DROP COLUMN purged_epoch;
ALTER TABLE directory.tenants
    DROP CONSTRAINT tenants_deleted_check,
    DROP CONSTRAINT tenants_suspended_check,
    DROP CONSTRAINT tenants_state_check;
-- The release before knows neither state. Their roles still cannot log in.
UPDATE directory.tenants SET state = 'active' WHERE state IN ('suspended', 'deleted');
ALTER TABLE directory.tenants
    DROP COLUMN cleaned_at,
    DROP COLUMN purge_at,
    DROP COLUMN deleted_at,
    DROP COLUMN suspended_at,
    DROP COLUMN edit_version,
    ADD CONSTRAINT tenants_state_check CHECK (state IN ('provisioning', 'active'));
