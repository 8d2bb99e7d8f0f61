CREATE TABLE directory.purged_files (
    tenant_id uuid NOT NULL,
    purged_at timestamptz NOT NULL DEFAULT directory.now(),
    removed_at timestamptz,
    CONSTRAINT purged_files_pkey PRIMARY KEY (tenant_id)
);
COMMENT ON TABLE directory.purged_files IS 'Tenants that were purged within a day: committed with that, so that none of their files is forgotten, nor one that was on its way.';
COMMENT ON COLUMN directory.purged_files.removed_at IS 'When their files were removed; that is done once more when the day is over.';
