CREATE TABLE channel_accounts (
    id uuid NOT NULL,
    channel text NOT NULL,
    name text NOT NULL,
    is_default boolean NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT directory.now(),
    updated_at timestamptz NOT NULL DEFAULT directory.now(),
    deleted_at timestamptz,
    CONSTRAINT channel_accounts_pkey PRIMARY KEY (id),
    CONSTRAINT channel_accounts_channel_check CHECK (channel IN ('whatsapp', 'messenger', 'instagram', 'email', 'web', 'twilio_whatsapp', 'twilio_call', 'personal_whatsapp', 'gmail', 'zendesk'))
);
COMMENT ON COLUMN channel_accounts.is_default IS 'Made by itself for conversations that named no account; connected to no provider.';
CREATE UNIQUE INDEX channel_accounts_default_key ON channel_accounts (channel) WHERE is_default AND deleted_at IS NULL;

CREATE TABLE contacts (
    id uuid NOT NULL,
    name text NOT NULL DEFAULT '',
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT directory.now(),
    updated_at timestamptz NOT NULL DEFAULT directory.now(),
    deleted_at timestamptz,
    CONSTRAINT contacts_pkey PRIMARY KEY (id)
);

CREATE TABLE contact_identities (
    id uuid NOT NULL,
    contact_id uuid NOT NULL,
    channel_account_id uuid NOT NULL,
    value text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT directory.now(),
    CONSTRAINT contact_identities_pkey PRIMARY KEY (id),
    CONSTRAINT contact_identities_contact_id_fkey FOREIGN KEY (contact_id) REFERENCES contacts (id),
    CONSTRAINT contact_identities_channel_account_id_fkey FOREIGN KEY (channel_account_id) REFERENCES channel_accounts (id),
    CONSTRAINT contact_identities_value_key UNIQUE (channel_account_id, value)
);
COMMENT ON TABLE contact_identities IS 'How a channel account knows a person; a person has any number.';
CREATE INDEX contact_identities_contact_id_idx ON contact_identities (contact_id);

CREATE SEQUENCE inbox_conversations_number_seq;

CREATE TABLE inbox_conversations (
    id uuid NOT NULL,
    number bigint NOT NULL,
    contact_identity_id uuid NOT NULL,
    channel text NOT NULL,
    thread_key text NOT NULL,
    status text NOT NULL,
    priority text NOT NULL,
    subject text NOT NULL,
    metadata jsonb NOT NULL,
    last_sequence bigint NOT NULL DEFAULT 0,
    last_message_at timestamptz NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    edit_version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    archived_at timestamptz,
    deleted_at timestamptz,
    CONSTRAINT inbox_conversations_pkey PRIMARY KEY (id),
    CONSTRAINT inbox_conversations_number_key UNIQUE (number),
    CONSTRAINT inbox_conversations_contact_identity_id_fkey FOREIGN KEY (contact_identity_id) REFERENCES contact_identities (id),
    CONSTRAINT inbox_conversations_channel_check CHECK (channel IN ('whatsapp', 'messenger', 'instagram', 'email', 'web', 'twilio_whatsapp', 'twilio_call', 'personal_whatsapp', 'gmail', 'zendesk')),
    CONSTRAINT inbox_conversations_status_check CHECK (status IN ('new', 'open', 'replied', 'qualified', 'archived')),
    CONSTRAINT inbox_conversations_priority_check CHECK (priority IN ('low', 'normal', 'high', 'urgent')),
    CONSTRAINT inbox_conversations_archived_check CHECK ((status = 'archived') = (archived_at IS NOT NULL))
);
COMMENT ON COLUMN inbox_conversations.last_sequence IS 'The sequence of the newest message; the row''s lock orders the messages.';
COMMENT ON COLUMN inbox_conversations.last_message_at IS 'The creation time while there is no message.';
COMMENT ON COLUMN inbox_conversations.edit_version IS 'Bumped by edits of callers alone: the etag.';
-- The one index that may hold last_message_at: every further one would be written by each message.
CREATE INDEX inbox_conversations_status_last_message_at_idx ON inbox_conversations (status, last_message_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX inbox_conversations_contact_identity_id_idx ON inbox_conversations (contact_identity_id);
CREATE UNIQUE INDEX inbox_conversations_thread_key ON inbox_conversations (contact_identity_id, thread_key) WHERE archived_at IS NULL AND deleted_at IS NULL;

CREATE TABLE inbox_messages (
    id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    sequence bigint NOT NULL,
    direction text NOT NULL,
    type text NOT NULL,
    text text NOT NULL,
    latitude double precision,
    longitude double precision,
    location_name text,
    location_address text,
    status text,
    failure_code text,
    failure_message text,
    reply_to_message_id uuid,
    actor_kind text NOT NULL,
    actor_id text NOT NULL,
    caller text NOT NULL,
    correlation_id text NOT NULL,
    metadata jsonb NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    sent_at timestamptz,
    delivered_at timestamptz,
    read_at timestamptz,
    failed_at timestamptz,
    deleted_at timestamptz,
    CONSTRAINT inbox_messages_pkey PRIMARY KEY (id),
    CONSTRAINT inbox_messages_sequence_key UNIQUE (conversation_id, sequence),
    CONSTRAINT inbox_messages_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES inbox_conversations (id),
    CONSTRAINT inbox_messages_reply_to_message_id_fkey FOREIGN KEY (reply_to_message_id) REFERENCES inbox_messages (id),
    CONSTRAINT inbox_messages_direction_check CHECK (direction IN ('inbound', 'outbound', 'internal')),
    CONSTRAINT inbox_messages_type_check CHECK (type IN ('text', 'image', 'document', 'audio', 'video', 'location')),
    CONSTRAINT inbox_messages_status_check CHECK (status IN ('queued', 'sent', 'delivered', 'read', 'failed')),
    CONSTRAINT inbox_messages_outbound_check CHECK ((direction = 'outbound') = (status IS NOT NULL)),
    CONSTRAINT inbox_messages_location_check CHECK ((type = 'location') = (latitude IS NOT NULL) AND (latitude IS NULL) = (longitude IS NULL)),
    CONSTRAINT inbox_messages_actor_kind_check CHECK (actor_kind IN ('user', 'bot', 'service'))
);
COMMENT ON COLUMN inbox_messages.status IS 'Of outbound messages alone: what is not outbound can never be sent.';
CREATE INDEX inbox_messages_reply_to_message_id_idx ON inbox_messages (reply_to_message_id) WHERE reply_to_message_id IS NOT NULL;

CREATE TABLE requests (
    caller text NOT NULL,
    method text NOT NULL,
    request_id text NOT NULL,
    request_hash bytea NOT NULL,
    response jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT directory.now(),
    CONSTRAINT requests_pkey PRIMARY KEY (caller, method, request_id)
);
COMMENT ON TABLE requests IS 'The first answer to each request id, so that a retry makes nothing.';
CREATE INDEX requests_created_at_idx ON requests USING brin (created_at);
