DROP TABLE conversation_merges;
