DROP TABLE directory.purged_files;
