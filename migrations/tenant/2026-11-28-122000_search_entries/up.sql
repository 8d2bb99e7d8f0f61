CREATE TABLE chat_entry_words (
    chat_entry_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    words tsvector NOT NULL,
    CONSTRAINT chat_entry_words_pkey PRIMARY KEY (chat_entry_id),
    CONSTRAINT chat_entry_words_chat_entry_id_fkey FOREIGN KEY (chat_entry_id) REFERENCES chat_entries (id) ON DELETE CASCADE
);
COMMENT ON TABLE chat_entry_words IS 'By which words entries are found that are not deleted. Apart from the entries, whose every reaction and reply would write the index anew.';
COMMENT ON COLUMN chat_entry_words.created_at IS 'When the entry was posted: the order of search.';
COMMENT ON COLUMN chat_entry_words.words IS 'The words of the text, made by the service; and with a dot before it what is filtered by: channel, 32 days (f), kind of the channel, root of the thread, writer.';
-- Each search looks through the pending list several times, so it is short.
CREATE INDEX chat_entry_words_words_idx ON chat_entry_words USING gin (words) WITH (fastupdate = on, gin_pending_list_limit = 64);
