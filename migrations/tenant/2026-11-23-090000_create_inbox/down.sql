DROP TABLE requests;
DROP TABLE inbox_messages;
DROP TABLE inbox_conversations;
DROP SEQUENCE inbox_conversations_number_seq;
DROP TABLE contact_identities;
DROP TABLE contacts;
DROP TABLE channel_accounts;
