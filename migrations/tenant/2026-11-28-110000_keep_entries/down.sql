DROP TABLE thread_follows, chat_entry_revisions;
