CREATE TABLE thread_states (
    channel_account_id uuid NOT NULL,
    thread_key text NOT NULL,
    archived boolean NOT NULL,
    changed_at timestamptz NOT NULL,
    CONSTRAINT thread_states_pkey PRIMARY KEY (channel_account_id, thread_key),
    CONSTRAINT thread_states_channel_account_id_fkey FOREIGN KEY (channel_account_id) REFERENCES channel_accounts (id)
);
COMMENT ON TABLE thread_states IS 'Where a thread stands with its provider: also of threads whose messages are still to come.';
COMMENT ON COLUMN thread_states.archived IS 'Whether it is closed there.';
COMMENT ON COLUMN thread_states.changed_at IS 'Since when, as the provider says; what it tells later and is older changes nothing.';
