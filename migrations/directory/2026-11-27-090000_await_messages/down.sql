DROP FUNCTION directory.awaiting(uuid, text);
