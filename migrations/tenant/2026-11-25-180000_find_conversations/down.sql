DROP TABLE conversation_words;
