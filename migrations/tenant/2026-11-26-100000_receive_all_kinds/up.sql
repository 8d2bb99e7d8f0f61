ALTER TABLE inbox_messages ADD COLUMN reactions jsonb NOT NULL DEFAULT '[]';
COMMENT ON COLUMN inbox_messages.reactions IS 'Who reacted with what, the newest of each: an array of objects with by, emoji (empty: taken back) and place, the order in which one person''s reactions came.';

-- safe: the new constraint allows all that the old one did.
ALTER TABLE message_amendments DROP CONSTRAINT message_amendments_kind_check;
ALTER TABLE message_amendments ADD CONSTRAINT message_amendments_kind_check CHECK (kind IN ('edit', 'withdrawal', 'reaction', 'call')) NOT VALID;

CREATE TABLE receipt_watermarks (
    channel_account_id uuid NOT NULL,
    identifier text NOT NULL,
    status text NOT NULL,
    until timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT receipt_watermarks_pkey PRIMARY KEY (channel_account_id, identifier, status),
    CONSTRAINT receipt_watermarks_channel_account_id_fkey FOREIGN KEY (channel_account_id) REFERENCES channel_accounts (id),
    CONSTRAINT receipt_watermarks_status_check CHECK (status IN ('delivered', 'read'))
);
COMMENT ON TABLE receipt_watermarks IS 'Until when what a person was sent has come so far: also what we learn of later.';
COMMENT ON COLUMN receipt_watermarks.identifier IS 'By what the provider knows the person.';

-- safe: the new constraint allows all that the old one did.
ALTER TABLE provider_events DROP CONSTRAINT provider_events_kind_check;
ALTER TABLE provider_events ADD CONSTRAINT provider_events_kind_check CHECK (kind IN ('message', 'receipt', 'new_identity', 'referral', 'thread_state')) NOT VALID;

CREATE INDEX inbox_conversations_thread_key_idx ON inbox_conversations (thread_key) WHERE thread_key <> '';
