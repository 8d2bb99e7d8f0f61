-- The answer to CreateMessage is found by its time, which is that of the message; others are kept
-- earlier or later than the messages that they tell of.
ALTER TABLE requests ADD COLUMN message_ids uuid[];
COMMENT ON COLUMN requests.message_ids IS 'The messages whose words are in the answer, where it was not kept with the only one.';
CREATE INDEX requests_message_ids_idx ON requests USING gin (message_ids) WHERE message_ids IS NOT NULL;
