CREATE TABLE attachments (
    id uuid NOT NULL,
    state text NOT NULL,
    message_id uuid,
    file_name text NOT NULL,
    content_type text NOT NULL,
    size_bytes bigint,
    sha256 text,
    actor_kind text NOT NULL,
    actor_id text NOT NULL,
    caller text NOT NULL,
    correlation_id text NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT attachments_pkey PRIMARY KEY (id),
    CONSTRAINT attachments_message_id_fkey FOREIGN KEY (message_id) REFERENCES inbox_messages (id) ON DELETE SET NULL,
    CONSTRAINT attachments_state_check CHECK (state IN ('uploading', 'ready', 'deleted')),
    CONSTRAINT attachments_ready_check CHECK (state <> 'ready' OR size_bytes IS NOT NULL AND sha256 IS NOT NULL),
    CONSTRAINT attachments_actor_kind_check CHECK (actor_kind IN ('user', 'bot', 'service'))
);
COMMENT ON TABLE attachments IS 'Files, whose content is in the store of files under the tenant''s id and theirs. A row is there before its file and goes after it, so that no file is lost track of.';
COMMENT ON COLUMN attachments.state IS 'uploading: the file may be there or not; ready: it is; deleted: it is about to go, then the row.';
COMMENT ON COLUMN attachments.message_id IS 'The one message that it belongs to; without one it goes after a day.';
COMMENT ON COLUMN attachments.sha256 IS 'Of the content, in hexadecimal digits.';
CREATE INDEX attachments_message_id_idx ON attachments (message_id) WHERE message_id IS NOT NULL;
CREATE INDEX attachments_unused_idx ON attachments (created_at) WHERE message_id IS NULL AND state <> 'deleted';
CREATE INDEX attachments_deleted_idx ON attachments (id) WHERE state = 'deleted';

ALTER TABLE inbox_messages ADD COLUMN attachments jsonb;
COMMENT ON COLUMN inbox_messages.attachments IS 'What attachments says of its files, in their order: that never changes, and a list of messages needs no join. None: it has none.';
CREATE INDEX inbox_messages_deleted_at_idx ON inbox_messages (deleted_at) WHERE deleted_at IS NOT NULL;
