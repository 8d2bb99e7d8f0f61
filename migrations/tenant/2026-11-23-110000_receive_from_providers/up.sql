CREATE TABLE provider_events (
    channel_account_id uuid NOT NULL,
    provider_id text NOT NULL,
    kind text NOT NULL,
    occurrence text NOT NULL,
    message_id uuid,
    delivery_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT provider_events_pkey PRIMARY KEY (channel_account_id, provider_id, kind, occurrence),
    CONSTRAINT provider_events_channel_account_id_fkey FOREIGN KEY (channel_account_id) REFERENCES channel_accounts (id),
    CONSTRAINT provider_events_message_id_fkey FOREIGN KEY (message_id) REFERENCES inbox_messages (id),
    CONSTRAINT provider_events_kind_check CHECK (kind IN ('message', 'receipt', 'new_identity'))
);
COMMENT ON TABLE provider_events IS 'What providers told, one row each, committed with what it caused: the same again changes nothing.';
COMMENT ON COLUMN provider_events.occurrence IS 'Tells apart what a message has several of: its states.';
COMMENT ON COLUMN provider_events.message_id IS 'The message that the provider knows by provider_id.';
COMMENT ON COLUMN provider_events.delivery_id IS 'In directory.deliveries, which forgets sooner.';
CREATE INDEX provider_events_created_at_idx ON provider_events (created_at) WHERE kind = 'receipt';
CREATE INDEX provider_events_message_id_idx ON provider_events (message_id) WHERE message_id IS NOT NULL;

CREATE TABLE parked_receipts (
    channel_account_id uuid NOT NULL,
    provider_id text NOT NULL,
    status text NOT NULL,
    at timestamptz,
    failure_code text,
    failure_message text,
    created_at timestamptz NOT NULL,
    CONSTRAINT parked_receipts_pkey PRIMARY KEY (channel_account_id, provider_id, status),
    CONSTRAINT parked_receipts_channel_account_id_fkey FOREIGN KEY (channel_account_id) REFERENCES channel_accounts (id),
    CONSTRAINT parked_receipts_status_check CHECK (status IN ('queued', 'sent', 'delivered', 'read', 'failed'))
);
CREATE INDEX parked_receipts_created_at_idx ON parked_receipts (created_at);
COMMENT ON TABLE parked_receipts IS 'How far messages have come that the provider knows and we do not yet.';

ALTER TABLE inbox_messages ADD COLUMN provider_at timestamptz;
COMMENT ON COLUMN inbox_messages.provider_at IS 'When the provider says that it was written: for display, never for order.';
