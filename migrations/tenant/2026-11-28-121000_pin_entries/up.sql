ALTER TABLE chat_entries ADD COLUMN pinned_at timestamptz;
ALTER TABLE chat_entries ADD COLUMN pinned_by_kind text;
ALTER TABLE chat_entries ADD COLUMN pinned_by_id text;
ALTER TABLE chat_entries ADD CONSTRAINT chat_entries_pinned_by_kind_check CHECK (pinned_by_kind IN ('user', 'bot', 'service')) NOT VALID;
COMMENT ON COLUMN chat_entries.pinned_at IS 'When the channel was told to keep it in view; changed under the channel''s lock.';
CREATE INDEX chat_entries_pinned_at_idx ON chat_entries (channel_id, pinned_at, id) WHERE pinned_at IS NOT NULL;
