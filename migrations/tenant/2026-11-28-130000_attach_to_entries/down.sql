UPDATE attachments SET state = 'deleted' WHERE of_chat;
ALTER TABLE chat_entries DROP COLUMN attachments;
DROP INDEX attachments_unused_idx;
CREATE INDEX attachments_unused_idx ON attachments (created_at) WHERE message_id IS NULL AND state <> 'deleted';
ALTER TABLE attachments DROP COLUMN chat_entry_id;
ALTER TABLE attachments DROP COLUMN of_chat;
