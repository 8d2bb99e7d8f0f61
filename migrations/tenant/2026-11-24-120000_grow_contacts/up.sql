ALTER TABLE contacts
    ADD COLUMN company text NOT NULL DEFAULT '',
    ADD COLUMN language text NOT NULL DEFAULT '',
    ADD COLUMN notes text NOT NULL DEFAULT '',
    ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN name_folded text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN edit_version bigint NOT NULL DEFAULT 1,
    ADD COLUMN merged_into_id uuid CONSTRAINT contacts_merged_into_id_fkey REFERENCES contacts (id),
    ADD COLUMN merged_at timestamptz;
COMMENT ON COLUMN contacts.name_folded IS 'The beginning of the name without regard to case, made in Rust: the order of names.';
COMMENT ON COLUMN contacts.edit_version IS 'Bumped by edits of callers alone: the etag.';
COMMENT ON COLUMN contacts.merged_into_id IS 'Who this person turned out to be.';
COMMENT ON COLUMN contacts.deleted_at IS 'When the person was erased: the row is empty and keeps the keys of others.';
-- As far as the server's locale knows letters; what is written from now on is folded in Rust.
UPDATE contacts SET name_folded = lower(left(name, 64)) WHERE name <> '';
CREATE INDEX contacts_name_folded_idx ON contacts (name_folded, id) WHERE deleted_at IS NULL;
CREATE INDEX contacts_created_at_idx ON contacts (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX contacts_updated_at_idx ON contacts (updated_at, id) WHERE deleted_at IS NULL;
CREATE INDEX contacts_merged_into_id_idx ON contacts (merged_into_id) WHERE merged_into_id IS NOT NULL;

ALTER TABLE contact_identities
    ADD COLUMN kind text NOT NULL DEFAULT 'other' CONSTRAINT contact_identities_kind_check CHECK (kind IN ('phone', 'email', 'scoped_id', 'username', 'visitor', 'other'));
UPDATE contact_identities i SET kind = CASE
        WHEN a.channel IN ('email', 'gmail') OR a.channel IN ('web', 'zendesk') AND i.value LIKE '%_@_%' THEN 'email'
        WHEN a.channel = 'web' THEN 'visitor'
        WHEN i.value LIKE '@_%' THEN 'username'
        WHEN a.channel IN ('whatsapp', 'twilio_whatsapp', 'twilio_call', 'personal_whatsapp') AND i.value ~ '^\+?[0-9]+$' THEN 'phone'
        WHEN a.channel IN ('messenger', 'instagram') AND i.value !~ '^[0-9]+$' THEN 'username'
        ELSE 'scoped_id' END
    FROM channel_accounts a WHERE a.id = i.channel_account_id;

CREATE TABLE contact_words (
    word text COLLATE "C" NOT NULL,
    contact_id uuid NOT NULL,
    CONSTRAINT contact_words_pkey PRIMARY KEY (word, contact_id),
    CONSTRAINT contact_words_contact_id_fkey FOREIGN KEY (contact_id) REFERENCES contacts (id)
);
COMMENT ON TABLE contact_words IS 'The words by which a person is found, of the name and of all identifiers, made in Rust.';
CREATE INDEX contact_words_contact_id_idx ON contact_words (contact_id);
INSERT INTO contact_words (word, contact_id)
    SELECT DISTINCT left(w.word, 64), w.contact_id
    FROM (
        SELECT regexp_split_to_table(lower(name), '[[:space:][:punct:]]+') AS word, id AS contact_id FROM contacts
        UNION ALL
        SELECT regexp_split_to_table(lower(value), '[[:space:][:punct:]]+'), contact_id FROM contact_identities
    ) w
    WHERE w.word <> '';

CREATE TABLE contact_merges (
    id uuid NOT NULL,
    source_id uuid NOT NULL,
    target_id uuid NOT NULL,
    filled text[] NOT NULL,
    actor_kind text NOT NULL,
    actor_id text NOT NULL,
    caller text NOT NULL,
    created_at timestamptz NOT NULL,
    undone_at timestamptz,
    CONSTRAINT contact_merges_pkey PRIMARY KEY (id),
    CONSTRAINT contact_merges_source_id_fkey FOREIGN KEY (source_id) REFERENCES contacts (id),
    CONSTRAINT contact_merges_target_id_fkey FOREIGN KEY (target_id) REFERENCES contacts (id),
    CONSTRAINT contact_merges_actor_kind_check CHECK (actor_kind IN ('user', 'bot', 'service'))
);
COMMENT ON COLUMN contact_merges.filled IS 'The fields that the target had nothing in and took from the source.';
CREATE UNIQUE INDEX contact_merges_source_key ON contact_merges (source_id) WHERE undone_at IS NULL;
CREATE INDEX contact_merges_source_id_idx ON contact_merges (source_id, id);
CREATE INDEX contact_merges_target_id_idx ON contact_merges (target_id, id);

CREATE TABLE contact_merge_identities (
    merge_id uuid NOT NULL,
    identity_id uuid NOT NULL,
    CONSTRAINT contact_merge_identities_pkey PRIMARY KEY (merge_id, identity_id),
    CONSTRAINT contact_merge_identities_merge_id_fkey FOREIGN KEY (merge_id) REFERENCES contact_merges (id),
    CONSTRAINT contact_merge_identities_identity_id_fkey FOREIGN KEY (identity_id) REFERENCES contact_identities (id) ON DELETE CASCADE
);
COMMENT ON TABLE contact_merge_identities IS 'What a merge moved, and its undoing moves back.';
CREATE INDEX contact_merge_identities_identity_id_idx ON contact_merge_identities (identity_id);

CREATE TABLE contact_erasures (
    id uuid NOT NULL,
    contact_id uuid NOT NULL,
    identifiers text[] NOT NULL,
    actor_kind text NOT NULL,
    actor_id text NOT NULL,
    caller text NOT NULL,
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    contacts bigint NOT NULL DEFAULT 0,
    identities bigint NOT NULL DEFAULT 0,
    conversations bigint NOT NULL DEFAULT 0,
    messages bigint NOT NULL DEFAULT 0,
    answers bigint NOT NULL DEFAULT 0,
    deliveries bigint NOT NULL DEFAULT 0,
    quarantined_items bigint NOT NULL DEFAULT 0,
    CONSTRAINT contact_erasures_pkey PRIMARY KEY (id),
    CONSTRAINT contact_erasures_contact_id_fkey FOREIGN KEY (contact_id) REFERENCES contacts (id),
    CONSTRAINT contact_erasures_contact_id_key UNIQUE (contact_id),
    CONSTRAINT contact_erasures_actor_kind_check CHECK (actor_kind IN ('user', 'bot', 'service')),
    CONSTRAINT contact_erasures_identifiers_check CHECK (finished_at IS NULL OR identifiers = '{}')
);
COMMENT ON TABLE contact_erasures IS 'Receipts: what went when a person was erased, and by whom; nothing of the person.';
COMMENT ON COLUMN contact_erasures.identifiers IS 'What deliveries are searched for, until it is finished.';
COMMENT ON COLUMN contact_erasures.answers IS 'Answers to request ids.';

-- Few in number; a delivery that tells of a new identifier is found by nothing else.
CREATE INDEX provider_events_new_identity_idx ON provider_events (channel_account_id) WHERE kind = 'new_identity';
