DROP TABLE message_imports;
ALTER TABLE inbox_messages DROP COLUMN imported;
