ALTER TABLE inbox_messages
    ADD COLUMN edits integer NOT NULL DEFAULT 0,
    ADD COLUMN edited_at timestamptz,
    ADD COLUMN provider_edit bigint,
    ADD COLUMN reply_to_provider_id text;
COMMENT ON COLUMN inbox_messages.edits IS 'How often the text was changed; what it was before is in message_revisions.';
COMMENT ON COLUMN inbox_messages.provider_edit IS 'The newest edit that the provider told of, by its number or time: an older one comes too late.';
COMMENT ON COLUMN inbox_messages.reply_to_provider_id IS 'What the provider calls the message that this one answers, which may still be on its way.';
CREATE INDEX inbox_messages_reply_to_provider_id_idx ON inbox_messages (reply_to_provider_id) WHERE reply_to_provider_id IS NOT NULL AND reply_to_message_id IS NULL;

CREATE TABLE message_revisions (
    message_id uuid NOT NULL,
    number integer NOT NULL,
    kind text NOT NULL,
    text text NOT NULL,
    latitude double precision,
    longitude double precision,
    location_name text,
    location_address text,
    metadata jsonb,
    redacted_at timestamptz,
    actor_kind text NOT NULL,
    actor_id text NOT NULL,
    caller text NOT NULL,
    correlation_id text NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT message_revisions_pkey PRIMARY KEY (message_id, number),
    CONSTRAINT message_revisions_message_id_fkey FOREIGN KEY (message_id) REFERENCES inbox_messages (id) ON DELETE CASCADE,
    CONSTRAINT message_revisions_kind_check CHECK (kind IN ('edit', 'deletion')),
    CONSTRAINT message_revisions_actor_kind_check CHECK (actor_kind IN ('user', 'bot', 'service'))
);
COMMENT ON TABLE message_revisions IS 'What messages said before each edit and before they were deleted, and who did that.';
COMMENT ON COLUMN message_revisions.redacted_at IS 'When what it said was taken away for good.';

CREATE TABLE message_amendments (
    channel_account_id uuid NOT NULL,
    provider_id text NOT NULL,
    kind text NOT NULL,
    occurrence text NOT NULL,
    place bigint NOT NULL,
    text text NOT NULL,
    identifiers text[] NOT NULL,
    delivery_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    applied_at timestamptz,
    CONSTRAINT message_amendments_pkey PRIMARY KEY (channel_account_id, provider_id, kind, occurrence),
    CONSTRAINT message_amendments_channel_account_id_fkey FOREIGN KEY (channel_account_id) REFERENCES channel_accounts (id),
    CONSTRAINT message_amendments_kind_check CHECK (kind IN ('edit', 'withdrawal'))
);
COMMENT ON TABLE message_amendments IS 'What providers told of messages that were edited or withdrawn, one row each: the same again changes nothing. One that is not applied waits for its message.';
COMMENT ON COLUMN message_amendments.provider_id IS 'What the provider calls the message.';
COMMENT ON COLUMN message_amendments.occurrence IS 'What the provider calls the edit, or its number: a message has several.';
COMMENT ON COLUMN message_amendments.place IS 'The order of the edits of a message: their numbers or times.';
COMMENT ON COLUMN message_amendments.text IS 'Empty once it is applied.';
COMMENT ON COLUMN message_amendments.identifiers IS 'Of whose message it is, for who erases them; empty once it is applied.';
CREATE INDEX message_amendments_waiting_idx ON message_amendments (created_at) WHERE applied_at IS NULL;
CREATE INDEX message_amendments_created_at_idx ON message_amendments USING brin (created_at);
