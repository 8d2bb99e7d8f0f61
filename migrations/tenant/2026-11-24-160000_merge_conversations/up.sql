CREATE TABLE conversation_merges (
    id uuid NOT NULL,
    source_conversation_id uuid NOT NULL,
    target_conversation_id uuid NOT NULL,
    source_status text NOT NULL,
    source_archived_at timestamptz,
    source_snoozed_until timestamptz,
    source_waiting_since timestamptz,
    actor_kind text NOT NULL,
    actor_id text NOT NULL,
    created_at timestamptz NOT NULL,
    undone_at timestamptz,
    CONSTRAINT conversation_merges_pkey PRIMARY KEY (id),
    CONSTRAINT conversation_merges_source_conversation_id_fkey FOREIGN KEY (source_conversation_id) REFERENCES inbox_conversations (id),
    CONSTRAINT conversation_merges_target_conversation_id_fkey FOREIGN KEY (target_conversation_id) REFERENCES inbox_conversations (id),
    CONSTRAINT conversation_merges_source_check CHECK (source_conversation_id <> target_conversation_id),
    CONSTRAINT conversation_merges_actor_kind_check CHECK (actor_kind IN ('user', 'bot', 'service'))
);
COMMENT ON TABLE conversation_merges IS 'Which conversation was merged into which, and how the first one stood before, for who undoes it. Messages stay where they are.';
CREATE INDEX conversation_merges_source_conversation_id_idx ON conversation_merges (source_conversation_id, id);
CREATE INDEX conversation_merges_target_conversation_id_idx ON conversation_merges (target_conversation_id, id);
