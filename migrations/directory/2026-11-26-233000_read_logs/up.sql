INSERT INTO directory.mailboxes (account_id, due_at)
SELECT id, directory.now() FROM directory.channel_accounts
WHERE channel IN ('twilio_whatsapp', 'twilio_call')
ON CONFLICT DO NOTHING;
COMMENT ON TABLE directory.mailboxes IS 'How far mailboxes and logs of accounts are read that do not tell all that is in them.';
