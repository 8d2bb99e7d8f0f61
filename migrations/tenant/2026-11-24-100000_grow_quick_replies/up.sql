ALTER TABLE inbox_quick_replies
    ADD COLUMN team_id text NOT NULL DEFAULT '',
    ADD COLUMN user_id text NOT NULL DEFAULT '',
    ADD COLUMN shortcut_key text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN title_key text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN folded text NOT NULL DEFAULT '',
    ADD COLUMN language text NOT NULL DEFAULT '',
    ADD COLUMN languages text[] NOT NULL DEFAULT '{}',
    ADD COLUMN variants jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN variables jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN last_used_at timestamptz,
    ADD CONSTRAINT inbox_quick_replies_scope_check CHECK (team_id = '' OR user_id = '') NOT VALID;
COMMENT ON COLUMN inbox_quick_replies.team_id IS 'The team that it belongs to; empty for everybody or a user.';
COMMENT ON COLUMN inbox_quick_replies.user_id IS 'The user that it belongs to, for whom alone it exists; empty for everybody or a team.';
COMMENT ON COLUMN inbox_quick_replies.shortcut_key IS 'The shortcut without the case of its letters, made by the service: no locale is asked.';
COMMENT ON COLUMN inbox_quick_replies.title_key IS 'The title without the case of its letters.';
COMMENT ON COLUMN inbox_quick_replies.folded IS 'All that a search looks at, without the case of its letters.';
COMMENT ON COLUMN inbox_quick_replies.languages IS 'The tags of the text and of its variants.';
COMMENT ON COLUMN inbox_quick_replies.edit_version IS 'Bumped by edits of callers alone, not by uses: the etag.';

-- safe: no release has had a call that reads or writes this table
DROP INDEX inbox_quick_replies_shortcut_key;
CREATE UNIQUE INDEX inbox_quick_replies_shortcut_key ON inbox_quick_replies (user_id, team_id, shortcut_key) WHERE deleted_at IS NULL;
CREATE INDEX inbox_quick_replies_shortcut_idx ON inbox_quick_replies (user_id, shortcut_key, id);
CREATE INDEX inbox_quick_replies_title_idx ON inbox_quick_replies (user_id, title_key, id);
CREATE INDEX inbox_quick_replies_usage_count_idx ON inbox_quick_replies (user_id, usage_count DESC, id DESC);

CREATE TABLE inbox_quick_reply_uses (
    id uuid NOT NULL,
    quick_reply_id uuid NOT NULL,
    conversation_id uuid,
    message_id uuid,
    language text NOT NULL,
    actor_kind text NOT NULL,
    actor_id text NOT NULL,
    caller text NOT NULL,
    correlation_id text NOT NULL,
    used_at timestamptz NOT NULL,
    CONSTRAINT inbox_quick_reply_uses_pkey PRIMARY KEY (id),
    CONSTRAINT inbox_quick_reply_uses_quick_reply_id_fkey FOREIGN KEY (quick_reply_id) REFERENCES inbox_quick_replies (id),
    CONSTRAINT inbox_quick_reply_uses_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES inbox_conversations (id),
    CONSTRAINT inbox_quick_reply_uses_message_id_fkey FOREIGN KEY (message_id) REFERENCES inbox_messages (id),
    CONSTRAINT inbox_quick_reply_uses_actor_kind_check CHECK (actor_kind IN ('user', 'bot', 'service'))
);
COMMENT ON TABLE inbox_quick_reply_uses IS 'Who used which quick reply when; rows are added and never changed.';
CREATE INDEX inbox_quick_reply_uses_used_at_idx ON inbox_quick_reply_uses (used_at DESC, id DESC);
CREATE INDEX inbox_quick_reply_uses_quick_reply_id_idx ON inbox_quick_reply_uses (quick_reply_id, used_at DESC, id DESC);
CREATE INDEX inbox_quick_reply_uses_user_idx ON inbox_quick_reply_uses (actor_id, used_at DESC, id DESC) WHERE actor_kind = 'user';
CREATE INDEX inbox_quick_reply_uses_conversation_id_idx ON inbox_quick_reply_uses (conversation_id) WHERE conversation_id IS NOT NULL;
CREATE INDEX inbox_quick_reply_uses_message_id_idx ON inbox_quick_reply_uses (message_id) WHERE message_id IS NOT NULL;
