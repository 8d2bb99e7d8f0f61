ALTER TABLE chat_entries DROP COLUMN pinned_at, DROP COLUMN pinned_by_kind, DROP COLUMN pinned_by_id;
