DROP TABLE events;
DROP SEQUENCE events_id_seq;
