ALTER TABLE chat_entries ADD COLUMN reactions jsonb NOT NULL DEFAULT '[]';
COMMENT ON COLUMN chat_entries.reactions IS 'What chat_reactions says, so that a list of entries needs no join: an array of objects with emoji, count and user_ids, the first ten, in the order in which the kinds came. Changed under the channel''s lock.';

CREATE TABLE chat_reactions (
    chat_entry_id uuid NOT NULL,
    emoji text NOT NULL,
    user_id text NOT NULL,
    number integer NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT chat_reactions_pkey PRIMARY KEY (chat_entry_id, emoji, user_id),
    CONSTRAINT chat_reactions_number_key UNIQUE (chat_entry_id, number),
    CONSTRAINT chat_reactions_chat_entry_id_fkey FOREIGN KEY (chat_entry_id) REFERENCES chat_entries (id) ON DELETE CASCADE
);
COMMENT ON TABLE chat_reactions IS 'Who reacted to entries that are not deleted, and with what.';
COMMENT ON COLUMN chat_reactions.number IS 'The order in which those of an entry came, given under the channel''s lock.';
