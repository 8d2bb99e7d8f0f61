DROP TABLE scheduled_entries;
