DROP TABLE media_fetches;
UPDATE attachments SET state = 'deleted' WHERE state IN ('pending', 'failed');
ALTER TABLE attachments DROP COLUMN content_id;
ALTER TABLE attachments DROP COLUMN failure;
ALTER TABLE attachments DROP CONSTRAINT attachments_state_check;
ALTER TABLE attachments ADD CONSTRAINT attachments_state_check CHECK (state IN ('uploading', 'ready', 'deleted'));
