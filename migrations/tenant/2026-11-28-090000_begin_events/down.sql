DELETE FROM events WHERE id = 0;
COMMENT ON TABLE events IS 'What happened, in commit-safe order, without content: that is joined when an event is sent.';
