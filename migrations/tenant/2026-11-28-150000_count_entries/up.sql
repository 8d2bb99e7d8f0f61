CREATE INDEX chat_entries_author_id_idx ON chat_entries (author_id, created_at) INCLUDE (channel_id, thread_root_id)
    WHERE author_kind = 'user' AND type = 'message' AND deleted_at IS NULL;
