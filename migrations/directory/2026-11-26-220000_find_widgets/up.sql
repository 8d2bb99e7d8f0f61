CREATE INDEX channel_accounts_allowed_origins_idx ON directory.channel_accounts USING gin ((settings -> 'allowed_origins')) WHERE channel = 'web' AND disconnected_at IS NULL;
COMMENT ON INDEX directory.channel_accounts_allowed_origins_idx IS 'A browser asks whether a page may call before it says which widget it is.';
