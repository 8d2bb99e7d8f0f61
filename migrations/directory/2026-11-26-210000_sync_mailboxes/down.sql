DROP TABLE directory.mailboxes;
