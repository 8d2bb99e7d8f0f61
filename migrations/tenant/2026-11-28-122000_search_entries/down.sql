DROP TABLE chat_entry_words;
