-- safe: no release has used these tables, which have no rows.
DROP TABLE mentions, chat_entries, channel_members, channels;

CREATE TABLE channels (
    id uuid NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    name_key text NOT NULL,
    topic text NOT NULL,
    metadata jsonb NOT NULL,
    conversation_id uuid,
    user_ids text[] NOT NULL,
    users_hash bytea,
    posting_policy text NOT NULL,
    broadcast_policy text NOT NULL,
    invite_policy text NOT NULL,
    retention_days integer NOT NULL,
    member_count integer NOT NULL,
    removals bigint NOT NULL DEFAULT 0,
    last_sequence bigint NOT NULL DEFAULT 0,
    last_entry_at timestamptz,
    actor_kind text NOT NULL,
    actor_id text NOT NULL,
    caller text NOT NULL,
    correlation_id text NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    edit_version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    archived_at timestamptz,
    deleted_at timestamptz,
    CONSTRAINT channels_pkey PRIMARY KEY (id),
    CONSTRAINT channels_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES inbox_conversations (id),
    CONSTRAINT channels_kind_check CHECK (kind IN ('public', 'private', 'direct', 'group')),
    CONSTRAINT channels_posting_policy_check CHECK (posting_policy IN ('members', 'moderators')),
    CONSTRAINT channels_broadcast_policy_check CHECK (broadcast_policy IN ('members', 'moderators')),
    CONSTRAINT channels_invite_policy_check CHECK (invite_policy IN ('members', 'moderators')),
    CONSTRAINT channels_actor_kind_check CHECK (actor_kind IN ('user', 'bot', 'service')),
    CONSTRAINT channels_users_hash_check CHECK ((kind IN ('direct', 'group')) = (users_hash IS NOT NULL))
);
COMMENT ON COLUMN channels.name_key IS 'The name without its case, made by the service.';
COMMENT ON COLUMN channels.user_ids IS 'The users of a direct or group channel, in order.';
COMMENT ON COLUMN channels.users_hash IS 'The SHA-256 of those, so that they have one channel.';
COMMENT ON COLUMN channels.retention_days IS 'After how many days entries go for good; 0 for never.';
COMMENT ON COLUMN channels.removals IS 'How often a member left or lost a right: who has read memberships and then waited for this row sees that they have to be read again.';
COMMENT ON COLUMN channels.deleted_at IS 'When it was erased with the customer that it was about.';
COMMENT ON COLUMN channels.version IS 'Goes up with every change but entries, whose own events tell of last_sequence and last_entry_at.';
CREATE UNIQUE INDEX channels_name_key_key ON channels (name_key) WHERE kind = 'public' AND archived_at IS NULL AND deleted_at IS NULL;
CREATE UNIQUE INDEX channels_users_hash_key ON channels (users_hash) WHERE users_hash IS NOT NULL;
CREATE INDEX channels_public_idx ON channels (name_key, id) WHERE kind = 'public';
CREATE INDEX channels_name_key_idx ON channels (name_key, id);
CREATE INDEX channels_conversation_id_idx ON channels (conversation_id) WHERE conversation_id IS NOT NULL;
CREATE INDEX channels_retention_days_idx ON channels (id) WHERE retention_days > 0;

CREATE TABLE channel_members (
    id uuid NOT NULL,
    channel_id uuid NOT NULL,
    user_id text NOT NULL,
    role text NOT NULL,
    notification_level text NOT NULL DEFAULT 'all',
    muted boolean NOT NULL DEFAULT false,
    joined_sequence bigint NOT NULL,
    read_sequence bigint NOT NULL,
    read_version bigint NOT NULL DEFAULT 1,
    version bigint NOT NULL DEFAULT 1,
    joined_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    left_at timestamptz,
    CONSTRAINT channel_members_pkey PRIMARY KEY (id),
    CONSTRAINT channel_members_user_id_key UNIQUE (channel_id, user_id),
    CONSTRAINT channel_members_channel_id_fkey FOREIGN KEY (channel_id) REFERENCES channels (id) ON DELETE CASCADE,
    CONSTRAINT channel_members_role_check CHECK (role IN ('owner', 'moderator', 'member', 'guest')),
    CONSTRAINT channel_members_notification_level_check CHECK (notification_level IN ('all', 'mentions', 'none'))
);
COMMENT ON TABLE channel_members IS 'Users in channels. Who left keeps the row, so that the event of it can say who it was.';
COMMENT ON COLUMN channel_members.joined_sequence IS 'The channel''s last sequence when they came: what was before is not unread.';
COMMENT ON COLUMN channel_members.read_version IS 'Goes up when entries are marked unread: what was read according to an older one is not news.';
CREATE INDEX channel_members_user_id_idx ON channel_members (user_id, channel_id);
CREATE INDEX channel_members_owner_idx ON channel_members (channel_id) WHERE role = 'owner' AND left_at IS NULL;

CREATE TABLE chat_entries (
    id uuid NOT NULL,
    channel_id uuid NOT NULL,
    sequence bigint NOT NULL,
    thread_root_id uuid,
    type text NOT NULL,
    text text NOT NULL,
    metadata jsonb NOT NULL,
    mentioned_user_ids text[] NOT NULL,
    mentions_everyone boolean NOT NULL,
    mentions_here boolean NOT NULL,
    reply_count integer NOT NULL DEFAULT 0,
    last_reply_sequence bigint NOT NULL DEFAULT 0,
    last_reply_at timestamptz,
    author_kind text NOT NULL,
    author_id text NOT NULL,
    caller text NOT NULL,
    correlation_id text NOT NULL,
    edits integer NOT NULL DEFAULT 0,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    edited_at timestamptz,
    deleted_at timestamptz,
    CONSTRAINT chat_entries_pkey PRIMARY KEY (id),
    CONSTRAINT chat_entries_sequence_key UNIQUE (channel_id, sequence),
    CONSTRAINT chat_entries_channel_id_fkey FOREIGN KEY (channel_id) REFERENCES channels (id) ON DELETE CASCADE,
    CONSTRAINT chat_entries_thread_root_id_fkey FOREIGN KEY (thread_root_id) REFERENCES chat_entries (id) ON DELETE CASCADE,
    CONSTRAINT chat_entries_type_check CHECK (type IN ('message', 'system')),
    CONSTRAINT chat_entries_author_kind_check CHECK (author_kind IN ('user', 'bot', 'service'))
);
COMMENT ON COLUMN chat_entries.reply_count IS 'Of the thread under it, without deleted replies; changed under the channel''s lock.';
CREATE INDEX chat_entries_unread_idx ON chat_entries (channel_id, sequence)
    WHERE thread_root_id IS NULL AND deleted_at IS NULL AND type = 'message';
CREATE INDEX chat_entries_thread_root_id_idx ON chat_entries (thread_root_id, sequence) WHERE thread_root_id IS NOT NULL;

CREATE TABLE mentions (
    chat_entry_id uuid NOT NULL,
    user_id text NOT NULL,
    channel_id uuid NOT NULL,
    sequence bigint NOT NULL,
    thread_root_id uuid,
    CONSTRAINT mentions_pkey PRIMARY KEY (chat_entry_id, user_id),
    CONSTRAINT mentions_chat_entry_id_fkey FOREIGN KEY (chat_entry_id) REFERENCES chat_entries (id) ON DELETE CASCADE
);
COMMENT ON TABLE mentions IS 'Whom entries mention that are not deleted, but for their author: a row for each user named, and one without a user for everyone.';
CREATE INDEX mentions_user_id_idx ON mentions (user_id, channel_id, sequence);

CREATE TABLE audit_log (
    id uuid NOT NULL,
    call text NOT NULL,
    resource_kind text NOT NULL,
    resource_id uuid,
    actor_kind text NOT NULL,
    actor_id text NOT NULL,
    caller text NOT NULL,
    correlation_id text NOT NULL,
    at timestamptz NOT NULL,
    CONSTRAINT audit_log_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE audit_log IS 'What was seen or done past the rules, in the transaction that did it.';
COMMENT ON COLUMN audit_log.call IS 'The path of the gRPC method.';
COMMENT ON COLUMN audit_log.resource_id IS 'None: it was a list of them.';
