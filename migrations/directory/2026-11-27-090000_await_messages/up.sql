-- Who adds a message and who tells something of it take turns until the end of their transactions,
-- and each statement in here sees what was committed before its own turn, not before the caller's
-- statement: of the two, the later one finds the other.
CREATE FUNCTION directory.awaiting(
    account uuid, provider_id text,
    OUT message_id uuid, OUT amended boolean, OUT answered boolean
)
    LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(account || ' ' || provider_id, 0));
    message_id := (
        SELECT e.message_id FROM provider_events e
        WHERE e.channel_account_id = account AND e.provider_id = awaiting.provider_id
            AND e.kind = 'message'
    );
    amended := EXISTS (
        SELECT FROM message_amendments a
        WHERE a.channel_account_id = account AND a.provider_id = awaiting.provider_id
            AND a.applied_at IS NULL
    );
    answered := EXISTS (
        SELECT FROM inbox_messages r
        WHERE r.reply_to_provider_id = awaiting.provider_id AND r.reply_to_message_id IS NULL
    );
END
$$;
COMMENT ON FUNCTION directory.awaiting(uuid, text) IS 'What awaits a message of the caller''s tenant that a provider told of: the message if it is there, amendments, replies.';
