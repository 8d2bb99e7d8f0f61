DELETE FROM directory.mailboxes m USING directory.channel_accounts a
WHERE a.id = m.account_id AND a.channel IN ('twilio_whatsapp', 'twilio_call');
