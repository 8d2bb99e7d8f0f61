CREATE UNIQUE INDEX channel_accounts_route_key ON directory.channel_accounts (channel, route_key) WHERE disconnected_at IS NULL;
DROP INDEX directory.channel_accounts_channel_route_key_key;
ALTER TABLE directory.channel_accounts DROP COLUMN proved_at;
