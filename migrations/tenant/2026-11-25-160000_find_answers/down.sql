ALTER TABLE requests DROP COLUMN message_ids;
