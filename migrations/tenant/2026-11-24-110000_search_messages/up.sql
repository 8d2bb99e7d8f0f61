CREATE SEQUENCE inbox_message_words_number_seq MINVALUE 1099511627776;
CREATE SEQUENCE inbox_message_words_earlier_seq INCREMENT -1 MINVALUE 1 MAXVALUE 1099511627775;

CREATE TABLE inbox_message_words (
    message_id uuid NOT NULL,
    number bigint NOT NULL,
    created_at timestamptz NOT NULL,
    words tsvector NOT NULL,
    CONSTRAINT inbox_message_words_pkey PRIMARY KEY (message_id),
    CONSTRAINT inbox_message_words_message_id_fkey FOREIGN KEY (message_id) REFERENCES inbox_messages (id) ON DELETE CASCADE
);
COMMENT ON TABLE inbox_message_words IS 'By which words messages are found. Apart from the messages, whose every change of state would write the index anew.';
COMMENT ON COLUMN inbox_message_words.number IS 'The order of search: later messages have higher ones.';
COMMENT ON COLUMN inbox_message_words.words IS 'The words of the text, made by the service; and with a dot before it what is filtered by: blocks of numbers (a: 4,096, b: 131,072), channel, direction, days (e: 1, f: 32, g: 1,024), contact identity (k), account (n), type, conversation (v), writer.';
-- Each search looks through the pending list several times, so it is short.
CREATE INDEX inbox_message_words_words_idx ON inbox_message_words USING gin (words) WITH (fastupdate = on, gin_pending_list_limit = 64);

CREATE TABLE inbox_message_words_backfill (
    before_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT inbox_message_words_backfill_pkey PRIMARY KEY (before_id)
);
COMMENT ON TABLE inbox_message_words_backfill IS 'One row while messages from before this table lack their words: those with a lower id.';
INSERT INTO inbox_message_words_backfill (before_id, created_at)
SELECT 'ffffffff-ffff-ffff-ffff-ffffffffffff', directory.now() WHERE EXISTS (SELECT FROM inbox_messages);
