-- CACHE 1, because a cached number would be drawn before the lock that orders it.
CREATE SEQUENCE events_id_seq CACHE 1;

CREATE TABLE events (
    id bigint NOT NULL,
    event_id uuid NOT NULL,
    kind text NOT NULL,
    resource_kind text NOT NULL,
    resource_id uuid NOT NULL,
    parent_id uuid,
    sequence bigint,
    version bigint NOT NULL,
    changed text[] NOT NULL,
    actor_kind text NOT NULL,
    actor_id text NOT NULL,
    caller text NOT NULL,
    correlation_id text NOT NULL,
    at timestamptz NOT NULL,
    CONSTRAINT events_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE events IS 'What happened, in commit-safe order, without content: that is joined when an event is sent.';
COMMENT ON COLUMN events.id IS 'Drawn from events_id_seq under the tenant''s shared advisory lock.';
COMMENT ON COLUMN events.event_id IS 'Random: tells this history from one that was restored.';
COMMENT ON COLUMN events.resource_id IS 'No foreign key: an event outlives what it tells of.';
COMMENT ON COLUMN events.parent_id IS 'The conversation or channel that orders the resource.';
