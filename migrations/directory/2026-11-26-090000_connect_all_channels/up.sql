-- safe: the new constraint allows all that the old one did.
ALTER TABLE directory.provider_apps DROP CONSTRAINT provider_apps_provider_check;
ALTER TABLE directory.provider_apps ADD CONSTRAINT provider_apps_provider_check CHECK (provider IN ('meta', 'twilio', 'postmark', 'mailgun', 'sendgrid', 'ses', 'google', 'zendesk', 'sunshine', 'waha', 'evolution', 'web')) NOT VALID;
ALTER TABLE directory.provider_apps ADD COLUMN previous_expires_at timestamptz;
COMMENT ON COLUMN directory.provider_apps.previous_expires_at IS 'Until when the secret before is valid beside the present one.';

ALTER TABLE directory.channel_accounts ADD COLUMN disabled_at timestamptz;
ALTER TABLE directory.channel_accounts ADD COLUMN provider_state text NOT NULL DEFAULT '';
ALTER TABLE directory.channel_accounts ADD COLUMN provider_state_at timestamptz;
COMMENT ON COLUMN directory.channel_accounts.disabled_at IS 'Since when its webhooks wait in quarantine; none while it is in use.';
COMMENT ON COLUMN directory.channel_accounts.provider_state IS 'What the provider last said of it, in its own word; empty if nothing.';

ALTER TABLE directory.deliveries ADD COLUMN provider text NOT NULL DEFAULT 'meta';
ALTER TABLE directory.deliveries ADD COLUMN account_id uuid;
ALTER TABLE directory.deliveries ADD COLUMN route_prefix text NOT NULL DEFAULT '';
COMMENT ON COLUMN directory.deliveries.account_id IS 'The account that its address named, if it named one.';
COMMENT ON COLUMN directory.deliveries.route_prefix IS 'What stands before the keys in its body, where they are unique for the app alone.';
