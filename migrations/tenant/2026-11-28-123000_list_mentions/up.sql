ALTER TABLE mentions ADD COLUMN created_at timestamptz NOT NULL DEFAULT '-infinity';
UPDATE mentions n SET created_at = e.created_at FROM chat_entries e WHERE e.id = n.chat_entry_id;
COMMENT ON COLUMN mentions.created_at IS 'When the entry was posted.';
CREATE INDEX mentions_created_at_idx ON mentions (user_id, channel_id, created_at, chat_entry_id);
