ALTER TABLE mentions DROP COLUMN created_at;
