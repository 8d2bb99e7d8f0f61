DROP INDEX inbox_messages_deleted_at_idx;
ALTER TABLE inbox_messages DROP COLUMN attachments;
DROP TABLE attachments;
