CREATE TABLE scheduled_messages (
    id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    direction text NOT NULL,
    type text NOT NULL,
    text text NOT NULL,
    latitude double precision,
    longitude double precision,
    location_name text,
    location_address text,
    reply_to_message_id uuid,
    metadata jsonb NOT NULL,
    attachment_ids uuid[] NOT NULL,
    send_at timestamptz NOT NULL,
    failure_reason text,
    failure_message text,
    actor_kind text NOT NULL,
    actor_id text NOT NULL,
    caller text NOT NULL,
    correlation_id text NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT scheduled_messages_pkey PRIMARY KEY (id),
    CONSTRAINT scheduled_messages_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES inbox_conversations (id),
    CONSTRAINT scheduled_messages_direction_check CHECK (direction IN ('outbound', 'internal')),
    CONSTRAINT scheduled_messages_type_check CHECK (type IN ('text', 'image', 'document', 'audio', 'video', 'location')),
    CONSTRAINT scheduled_messages_actor_kind_check CHECK (actor_kind IN ('user', 'bot', 'service'))
);
COMMENT ON TABLE scheduled_messages IS 'Messages that are to be sent at a time. Each becomes a message of the same id then, and its row goes.';
COMMENT ON COLUMN scheduled_messages.failure_reason IS 'Why it could not be sent when its time had come; until it is changed it stays.';
COMMENT ON COLUMN scheduled_messages.attachment_ids IS 'Files that are kept for it.';
CREATE INDEX scheduled_messages_due_idx ON scheduled_messages (send_at, id) WHERE failure_reason IS NULL;
CREATE INDEX scheduled_messages_send_at_idx ON scheduled_messages (send_at, id);
CREATE INDEX scheduled_messages_conversation_id_idx ON scheduled_messages (conversation_id, send_at, id);
CREATE INDEX scheduled_messages_attachment_ids_idx ON scheduled_messages USING gin (attachment_ids) WHERE attachment_ids <> '{}';
