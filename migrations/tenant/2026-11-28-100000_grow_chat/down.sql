DROP TABLE audit_log, mentions, chat_entries, channel_members, channels;

CREATE TABLE channels (
    id uuid NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    topic text NOT NULL,
    last_sequence bigint NOT NULL DEFAULT 0,
    version bigint NOT NULL DEFAULT 1,
    edit_version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    archived_at timestamptz,
    deleted_at timestamptz,
    CONSTRAINT channels_pkey PRIMARY KEY (id),
    CONSTRAINT channels_kind_check CHECK (kind IN ('public', 'private', 'direct', 'group'))
);

CREATE TABLE channel_members (
    channel_id uuid NOT NULL,
    user_id text NOT NULL,
    role text NOT NULL,
    joined_at timestamptz NOT NULL,
    CONSTRAINT channel_members_pkey PRIMARY KEY (channel_id, user_id),
    CONSTRAINT channel_members_channel_id_fkey FOREIGN KEY (channel_id) REFERENCES channels (id),
    CONSTRAINT channel_members_role_check CHECK (role IN ('owner', 'moderator', 'member', 'guest'))
);
CREATE INDEX channel_members_user_id_idx ON channel_members (user_id);

CREATE TABLE chat_entries (
    id uuid NOT NULL,
    channel_id uuid NOT NULL,
    sequence bigint NOT NULL,
    thread_root_id uuid,
    author_kind text NOT NULL,
    author_id text NOT NULL,
    text text NOT NULL,
    metadata jsonb NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    edited_at timestamptz,
    deleted_at timestamptz,
    CONSTRAINT chat_entries_pkey PRIMARY KEY (id),
    CONSTRAINT chat_entries_sequence_key UNIQUE (channel_id, sequence),
    CONSTRAINT chat_entries_channel_id_fkey FOREIGN KEY (channel_id) REFERENCES channels (id),
    CONSTRAINT chat_entries_thread_root_id_fkey FOREIGN KEY (thread_root_id) REFERENCES chat_entries (id),
    CONSTRAINT chat_entries_author_kind_check CHECK (author_kind IN ('user', 'bot', 'service'))
);
CREATE INDEX chat_entries_thread_root_id_idx ON chat_entries (thread_root_id) WHERE thread_root_id IS NOT NULL;

CREATE TABLE mentions (
    chat_entry_id uuid NOT NULL,
    user_id text NOT NULL,
    CONSTRAINT mentions_pkey PRIMARY KEY (chat_entry_id, user_id),
    CONSTRAINT mentions_chat_entry_id_fkey FOREIGN KEY (chat_entry_id) REFERENCES chat_entries (id)
);
CREATE INDEX mentions_user_id_idx ON mentions (user_id);
