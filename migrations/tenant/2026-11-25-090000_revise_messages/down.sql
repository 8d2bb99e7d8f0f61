DROP TABLE message_amendments;
DROP TABLE message_revisions;
ALTER TABLE inbox_messages
    DROP COLUMN reply_to_provider_id,
    DROP COLUMN provider_edit,
    DROP COLUMN edited_at,
    DROP COLUMN edits;
