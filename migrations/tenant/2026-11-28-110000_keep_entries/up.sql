CREATE TABLE chat_entry_revisions (
    chat_entry_id uuid NOT NULL,
    number integer NOT NULL,
    text text NOT NULL,
    actor_kind text NOT NULL,
    actor_id text NOT NULL,
    caller text NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT chat_entry_revisions_pkey PRIMARY KEY (chat_entry_id, number),
    CONSTRAINT chat_entry_revisions_chat_entry_id_fkey FOREIGN KEY (chat_entry_id) REFERENCES chat_entries (id) ON DELETE CASCADE,
    CONSTRAINT chat_entry_revisions_actor_kind_check CHECK (actor_kind IN ('user', 'bot', 'service'))
);
COMMENT ON TABLE chat_entry_revisions IS 'What entries said before they were edited.';

CREATE TABLE thread_follows (
    id uuid NOT NULL,
    chat_entry_id uuid NOT NULL,
    user_id text NOT NULL,
    channel_id uuid NOT NULL,
    following boolean NOT NULL,
    read_sequence bigint NOT NULL,
    read_version bigint NOT NULL DEFAULT 1,
    version bigint NOT NULL DEFAULT 1,
    updated_at timestamptz NOT NULL,
    CONSTRAINT thread_follows_pkey PRIMARY KEY (id),
    CONSTRAINT thread_follows_user_id_key UNIQUE (chat_entry_id, user_id),
    CONSTRAINT thread_follows_chat_entry_id_fkey FOREIGN KEY (chat_entry_id) REFERENCES chat_entries (id) ON DELETE CASCADE
);
COMMENT ON TABLE thread_follows IS 'Who follows the thread under an entry: who asked, posted there, or was mentioned by name. Who stopped keeps the row.';
CREATE INDEX thread_follows_user_id_idx ON thread_follows (user_id, channel_id) WHERE following;
