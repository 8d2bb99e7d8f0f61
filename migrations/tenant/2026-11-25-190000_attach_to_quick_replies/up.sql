ALTER TABLE attachments ADD COLUMN quick_reply_id uuid
    CONSTRAINT attachments_quick_reply_id_fkey REFERENCES inbox_quick_replies (id) ON DELETE SET NULL;
COMMENT ON COLUMN attachments.quick_reply_id IS 'The one quick reply that it belongs to; messages that are made of that get copies.';
CREATE INDEX attachments_quick_reply_id_idx ON attachments (quick_reply_id) WHERE quick_reply_id IS NOT NULL;

ALTER TABLE inbox_quick_replies ADD COLUMN attachments jsonb NOT NULL DEFAULT '[]';
COMMENT ON COLUMN inbox_quick_replies.attachments IS 'What attachments says of its files, in their order.';
