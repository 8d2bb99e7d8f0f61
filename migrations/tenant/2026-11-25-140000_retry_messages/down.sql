DROP TABLE message_attempts;
ALTER TABLE inbox_messages DROP COLUMN tries;
