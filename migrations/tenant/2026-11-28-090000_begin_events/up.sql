-- An entry's place is behind itself: so the place before all others has one, too, as long as nothing
-- behind it was removed.
INSERT INTO events (id, event_id, kind, resource_kind, resource_id, version, changed, actor_kind,
    actor_id, caller, correlation_id, at)
VALUES (0, '00000000-0000-0000-0000-000000000000', 'log.began', 'log',
    '00000000-0000-0000-0000-000000000000', 1, '{}', 'service', 'communication-service',
    'communication-service', 'migration', directory.now());
COMMENT ON TABLE events IS 'What happened, in commit-safe order, without content: that is joined when an event is sent. The oldest entry is nobody''s news: it is the place that all that is kept comes behind.';
