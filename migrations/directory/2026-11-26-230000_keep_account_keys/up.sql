ALTER TABLE directory.channel_accounts ADD COLUMN proved_at timestamptz;
COMMENT ON COLUMN directory.channel_accounts.proved_at IS 'When its provider first proved that it is this account: from then on it is its tenant''s, also while it is disconnected.';
-- Where one key was connected by several tenants one after the other, the last one keeps it.
UPDATE directory.channel_accounts a
SET proved_at = a.created_at
WHERE NOT EXISTS (
    SELECT FROM directory.channel_accounts b
    WHERE b.channel = a.channel AND b.route_key = a.route_key AND b.id <> a.id
        AND (b.disconnected_at IS NULL OR b.disconnected_at > a.disconnected_at)
);
CREATE UNIQUE INDEX channel_accounts_channel_route_key_key ON directory.channel_accounts (channel, route_key) WHERE disconnected_at IS NULL OR proved_at IS NOT NULL;
COMMENT ON INDEX directory.channel_accounts_channel_route_key_key IS 'By one key, one account is connected or kept for its tenant.';
-- safe: the index above finds the same, and refuses more.
DROP INDEX directory.channel_accounts_route_key;
