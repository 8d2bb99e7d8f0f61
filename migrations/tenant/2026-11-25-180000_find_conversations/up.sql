CREATE TABLE conversation_words (
    word text COLLATE "C" NOT NULL,
    conversation_id uuid NOT NULL,
    CONSTRAINT conversation_words_pkey PRIMARY KEY (word, conversation_id),
    CONSTRAINT conversation_words_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES inbox_conversations (id) ON DELETE CASCADE
);
COMMENT ON TABLE conversation_words IS 'The words of each subject, made in Rust as those of contact_words.';
CREATE INDEX conversation_words_conversation_id_idx ON conversation_words (conversation_id);
INSERT INTO conversation_words (word, conversation_id)
    SELECT DISTINCT left(w.word, 64), c.id
    FROM inbox_conversations c, regexp_split_to_table(lower(c.subject), '[[:space:][:punct:]]+') AS w (word)
    WHERE c.subject <> '' AND w.word <> '';
