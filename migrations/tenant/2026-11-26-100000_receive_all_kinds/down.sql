DROP INDEX inbox_conversations_thread_key_idx;
DROP TABLE receipt_watermarks;
DELETE FROM message_amendments WHERE kind IN ('reaction', 'call');
ALTER TABLE message_amendments DROP CONSTRAINT message_amendments_kind_check;
ALTER TABLE message_amendments ADD CONSTRAINT message_amendments_kind_check CHECK (kind IN ('edit', 'withdrawal'));
ALTER TABLE inbox_messages DROP COLUMN reactions;
DELETE FROM provider_events WHERE kind IN ('referral', 'thread_state');
ALTER TABLE provider_events DROP CONSTRAINT provider_events_kind_check;
ALTER TABLE provider_events ADD CONSTRAINT provider_events_kind_check CHECK (kind IN ('message', 'receipt', 'new_identity'));
