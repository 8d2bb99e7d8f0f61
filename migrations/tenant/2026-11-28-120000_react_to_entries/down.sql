DROP TABLE chat_reactions;
ALTER TABLE chat_entries DROP COLUMN reactions;
