DROP TABLE inbox_quick_replies;
