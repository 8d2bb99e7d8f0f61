ALTER TABLE inbox_quick_replies DROP COLUMN attachments;
ALTER TABLE attachments DROP COLUMN quick_reply_id;
