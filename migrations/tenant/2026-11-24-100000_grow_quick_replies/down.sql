DROP TABLE inbox_quick_reply_uses;
DROP INDEX inbox_quick_replies_usage_count_idx;
DROP INDEX inbox_quick_replies_title_idx;
DROP INDEX inbox_quick_replies_shortcut_idx;
DROP INDEX inbox_quick_replies_shortcut_key;
-- The release before knows one scope only.
DELETE FROM inbox_quick_replies WHERE team_id <> '' OR user_id <> '';
CREATE UNIQUE INDEX inbox_quick_replies_shortcut_key ON inbox_quick_replies (shortcut) WHERE deleted_at IS NULL;
COMMENT ON COLUMN inbox_quick_replies.edit_version IS NULL;
ALTER TABLE inbox_quick_replies
    DROP CONSTRAINT inbox_quick_replies_scope_check,
    DROP COLUMN last_used_at,
    DROP COLUMN variables,
    DROP COLUMN variants,
    DROP COLUMN languages,
    DROP COLUMN language,
    DROP COLUMN folded,
    DROP COLUMN title_key,
    DROP COLUMN shortcut_key,
    DROP COLUMN user_id,
    DROP COLUMN team_id;
