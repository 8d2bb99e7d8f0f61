ALTER TABLE inbox_messages DROP COLUMN provider_at;
DROP TABLE parked_receipts;
DROP TABLE provider_events;
