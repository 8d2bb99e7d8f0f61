ALTER TABLE attachments ADD COLUMN of_chat boolean NOT NULL DEFAULT false;
ALTER TABLE attachments ADD COLUMN chat_entry_id uuid
    CONSTRAINT attachments_chat_entry_id_fkey REFERENCES chat_entries (id) ON DELETE SET NULL;
ALTER TABLE attachments ADD CONSTRAINT attachments_of_chat_check
    CHECK (CASE WHEN of_chat THEN message_id IS NULL AND quick_reply_id IS NULL ELSE chat_entry_id IS NULL END) NOT VALID;
COMMENT ON COLUMN attachments.of_chat IS 'It was stored for the team''s chat: it can be of an entry alone, and is seen by who sees that, or by who stored it while it is of none.';
COMMENT ON COLUMN attachments.chat_entry_id IS 'The one entry that it belongs to; without one it goes after a day.';
CREATE INDEX attachments_chat_entry_id_idx ON attachments (chat_entry_id) WHERE chat_entry_id IS NOT NULL;
-- safe: it is made anew at once, without the files that are of something; the release before finds unused ones by a scan, once an hour.
DROP INDEX attachments_unused_idx;
CREATE INDEX attachments_unused_idx ON attachments (created_at)
    WHERE message_id IS NULL AND quick_reply_id IS NULL AND chat_entry_id IS NULL AND state <> 'deleted';

ALTER TABLE chat_entries ADD COLUMN attachments jsonb;
COMMENT ON COLUMN chat_entries.attachments IS 'What attachments says of its files, in their order, so that a list of entries needs no join. None: it has none.';
