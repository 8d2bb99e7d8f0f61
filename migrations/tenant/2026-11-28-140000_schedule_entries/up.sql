CREATE TABLE scheduled_entries (
    id uuid NOT NULL,
    channel_id uuid NOT NULL,
    thread_root_id uuid,
    type text NOT NULL,
    text text NOT NULL,
    metadata jsonb NOT NULL,
    attachment_ids uuid[] NOT NULL,
    mentioned_user_ids text[] NOT NULL,
    mentions_everyone boolean NOT NULL,
    mentions_here boolean NOT NULL,
    send_at timestamptz NOT NULL,
    failure_reason text,
    failure_message text,
    author_kind text NOT NULL,
    author_id text NOT NULL,
    caller text NOT NULL,
    correlation_id text NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT scheduled_entries_pkey PRIMARY KEY (id),
    CONSTRAINT scheduled_entries_channel_id_fkey FOREIGN KEY (channel_id) REFERENCES channels (id) ON DELETE CASCADE,
    CONSTRAINT scheduled_entries_type_check CHECK (type IN ('message', 'system')),
    CONSTRAINT scheduled_entries_author_kind_check CHECK (author_kind IN ('user', 'bot', 'service'))
);
COMMENT ON TABLE scheduled_entries IS 'Entries that are to be posted at a time. Each becomes an entry of the same id then, and its row goes.';
COMMENT ON COLUMN scheduled_entries.thread_root_id IS 'May be gone when its time has come, and then it fails.';
COMMENT ON COLUMN scheduled_entries.failure_reason IS 'Why it could not be posted when its time had come; until it is changed it stays.';
COMMENT ON COLUMN scheduled_entries.attachment_ids IS 'Files that are kept for it.';
CREATE INDEX scheduled_entries_due_idx ON scheduled_entries (send_at, id) WHERE failure_reason IS NULL;
CREATE INDEX scheduled_entries_author_id_idx ON scheduled_entries (author_id, send_at, id);
CREATE INDEX scheduled_entries_channel_id_idx ON scheduled_entries (channel_id);
CREATE INDEX scheduled_entries_attachment_ids_idx ON scheduled_entries USING gin (attachment_ids) WHERE attachment_ids <> '{}';
COMMENT ON COLUMN requests.message_ids IS 'The messages or entries whose words are in the answer, where it was not kept with the only one.';
