DROP TABLE mentions;
DROP TABLE chat_entries;
DROP TABLE channel_members;
DROP TABLE channels;
