CREATE SCHEMA IF NOT EXISTS directory;
COMMENT ON SCHEMA directory IS 'What all tenants share: who they are and where their data is.';

-- Everybody may ask for the time, and nothing else: a grant to each tenant's role would make this
-- row of the catalog grow with every tenant, and initializations collide on it.
GRANT USAGE ON SCHEMA directory TO PUBLIC;

-- The one clock of what is stored, leased or scheduled. Tests move it for one database or role:
-- ALTER DATABASE … SET communication.clock_offset = '3 days'.
CREATE FUNCTION directory.now() RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN pg_catalog.now()
        + coalesce(nullif(pg_catalog.current_setting('communication.clock_offset', true), '')::interval, interval '0');

CREATE TABLE directory.installation (
    singleton boolean NOT NULL DEFAULT true,
    id uuid NOT NULL,
    epoch bigint NOT NULL DEFAULT 0,
    key_check bytea NOT NULL,
    role_name text NOT NULL,
    role_password bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT directory.now(),
    CONSTRAINT installation_pkey PRIMARY KEY (singleton),
    CONSTRAINT installation_singleton_check CHECK (singleton)
);
COMMENT ON TABLE directory.installation IS 'One row: this database as a home of tenants.';
COMMENT ON COLUMN directory.installation.epoch IS 'Goes up, under the row''s lock, with every change of a tenant: a node that has seen it has seen all before.';
COMMENT ON COLUMN directory.installation.key_check IS 'Sealed by the master key: opens only with the key that this installation was made with.';
COMMENT ON COLUMN directory.installation.role_name IS 'The role that reads and writes the directory, and nothing else.';

CREATE TABLE directory.tenants (
    id uuid NOT NULL,
    number integer NOT NULL GENERATED ALWAYS AS IDENTITY,
    slug text NOT NULL,
    schema_name text NOT NULL,
    role_name text,
    role_password bytea,
    isolation text NOT NULL,
    state text NOT NULL,
    schema_version text NOT NULL DEFAULT '',
    epoch bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT directory.now(),
    updated_at timestamptz NOT NULL DEFAULT directory.now(),
    CONSTRAINT tenants_pkey PRIMARY KEY (id),
    CONSTRAINT tenants_number_key UNIQUE (number),
    CONSTRAINT tenants_slug_key UNIQUE (slug),
    CONSTRAINT tenants_schema_name_key UNIQUE (schema_name),
    CONSTRAINT tenants_role_name_key UNIQUE (role_name),
    CONSTRAINT tenants_isolation_check CHECK (isolation IN ('role', 'search_path')),
    CONSTRAINT tenants_state_check CHECK (state IN ('provisioning', 'active')),
    CONSTRAINT tenants_role_check CHECK ((isolation = 'role') = (role_name IS NOT NULL) AND (role_name IS NULL) = (role_password IS NULL))
);
COMMENT ON COLUMN directory.tenants.number IS 'Small and never used again: names the tenant in advisory locks.';
COMMENT ON COLUMN directory.tenants.role_password IS 'Sealed by the master key, bound to this row.';

CREATE INDEX tenants_epoch_idx ON directory.tenants (epoch);
