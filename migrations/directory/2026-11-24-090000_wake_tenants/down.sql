DROP TABLE directory.alarms;
