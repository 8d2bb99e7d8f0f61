CREATE TABLE inbox_quick_replies (
    id uuid NOT NULL,
    shortcut text NOT NULL,
    title text NOT NULL,
    text text NOT NULL,
    metadata jsonb NOT NULL,
    usage_count bigint NOT NULL DEFAULT 0,
    version bigint NOT NULL DEFAULT 1,
    edit_version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz,
    CONSTRAINT inbox_quick_replies_pkey PRIMARY KEY (id)
);
CREATE UNIQUE INDEX inbox_quick_replies_shortcut_key ON inbox_quick_replies (shortcut) WHERE deleted_at IS NULL;
