ALTER TABLE inbox_messages ADD COLUMN imported boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN inbox_messages.imported IS 'It was written elsewhere and before: it counts as read, and in no statistics.';

CREATE TABLE message_imports (
    channel_account_id uuid NOT NULL,
    import_id text NOT NULL,
    message_id uuid NOT NULL,
    CONSTRAINT message_imports_pkey PRIMARY KEY (channel_account_id, import_id),
    CONSTRAINT message_imports_channel_account_id_fkey FOREIGN KEY (channel_account_id) REFERENCES channel_accounts (id),
    CONSTRAINT message_imports_message_id_fkey FOREIGN KEY (message_id) REFERENCES inbox_messages (id) ON DELETE CASCADE
);
COMMENT ON TABLE message_imports IS 'What imported messages are called where they come from, so that the same import again makes nothing.';
CREATE INDEX message_imports_message_id_idx ON message_imports (message_id);
