CREATE TABLE statistics_folds (
    generation integer NOT NULL,
    is_current boolean NOT NULL,
    position bigint NOT NULL,
    hours jsonb NOT NULL,
    changes_position bigint,
    messages_at timestamptz,
    differences bigint,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    CONSTRAINT statistics_folds_pkey PRIMARY KEY (generation)
);
COMMENT ON TABLE statistics_folds IS 'The rollups of which the statistics are read, and the ones that are built to take their place.';
COMMENT ON COLUMN statistics_folds.position IS 'What the log tells up to this event is in.';
COMMENT ON COLUMN statistics_folds.hours IS 'The business hours that its durations were counted by.';
COMMENT ON COLUMN statistics_folds.changes_position IS 'While it is built: the changes up to this one are in.';
COMMENT ON COLUMN statistics_folds.messages_at IS 'While it is built: the messages before this time are in.';
COMMENT ON COLUMN statistics_folds.differences IS 'How many rows of the one before it were found to be different.';
CREATE UNIQUE INDEX statistics_folds_is_current_key ON statistics_folds (is_current) WHERE is_current;
INSERT INTO statistics_folds (generation, is_current, position, hours, started_at, finished_at)
VALUES (1, true, 0, '[]', directory.now(), directory.now());

CREATE TABLE statistics_states (
    generation integer NOT NULL,
    label text NOT NULL,
    status text NOT NULL,
    channel_account_id uuid NOT NULL,
    assignee_id text NOT NULL,
    team_id text NOT NULL,
    priority text NOT NULL,
    is_qualified boolean NOT NULL,
    is_unread boolean NOT NULL,
    is_waiting boolean NOT NULL,
    is_snoozed boolean NOT NULL,
    conversations bigint NOT NULL,
    CONSTRAINT statistics_states_pkey PRIMARY KEY (generation, label, status, channel_account_id, assignee_id, team_id, priority, is_qualified, is_unread, is_waiting, is_snoozed)
);
COMMENT ON TABLE statistics_states IS 'How many conversations are in each state. Disposable: no foreign keys.';
COMMENT ON COLUMN statistics_states.label IS 'Each conversation counts once under the empty label, and once under each of its own.';

CREATE TABLE statistics_counts (
    generation integer NOT NULL,
    facet text NOT NULL,
    minutes smallint NOT NULL,
    bucket timestamptz NOT NULL,
    value text NOT NULL,
    measure text NOT NULL,
    count bigint NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    CONSTRAINT statistics_counts_pkey PRIMARY KEY (generation, facet, minutes, bucket, value, measure)
);
COMMENT ON TABLE statistics_counts IS 'How often each thing happened, by time: messages, and what people did. Disposable: no foreign keys.';
COMMENT ON COLUMN statistics_counts.facet IS 'What it is counted by: account or actor.';
COMMENT ON COLUMN statistics_counts.minutes IS 'How long the bucket is: the same is counted in short ones and in long ones.';

CREATE TABLE statistics_durations (
    generation integer NOT NULL,
    facet text NOT NULL,
    minutes smallint NOT NULL,
    bucket timestamptz NOT NULL,
    value text NOT NULL,
    measure text NOT NULL,
    count bigint NOT NULL,
    wall_total bigint NOT NULL,
    wall_longest bigint NOT NULL,
    wall_histogram bytea NOT NULL,
    business_total bigint NOT NULL,
    business_longest bigint NOT NULL,
    business_histogram bytea NOT NULL,
    CONSTRAINT statistics_durations_pkey PRIMARY KEY (generation, facet, minutes, bucket, value, measure)
);
COMMENT ON TABLE statistics_durations IS 'How long customers waited and episodes lasted, in milliseconds, by time. Disposable: no foreign keys.';
COMMENT ON COLUMN statistics_durations.facet IS 'What it is counted by: all, agent, team, account or label.';
COMMENT ON COLUMN statistics_durations.wall_histogram IS 'Logarithmic: bins and how many are in them, as variable-length numbers.';

CREATE TABLE business_hours (
    id uuid NOT NULL,
    team_id text NOT NULL,
    time_zone text NOT NULL,
    intervals jsonb NOT NULL,
    holidays date[] NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT business_hours_pkey PRIMARY KEY (id),
    CONSTRAINT business_hours_team_id_key UNIQUE (team_id)
);
COMMENT ON COLUMN business_hours.team_id IS 'Empty: of every team that has none of its own.';
COMMENT ON COLUMN business_hours.intervals IS 'Triples: the weekday from Monday, 0, and the minutes of the day of its beginning and end.';

-- The ends of a range that no bucket fits are read from the log.
CREATE INDEX conversation_changes_at_idx ON conversation_changes (at);
CREATE INDEX inbox_messages_created_at_idx ON inbox_messages (created_at);

-- Conversations that were made before there was a log enter it as they were at its first word of
-- them, under the event of their making.
INSERT INTO conversation_changes (id, conversation_id, kind, rule, changed, actor_kind, actor_id, caller,
    correlation_id, at, status, priority, assignee_id, team_id, labels, snoozed_until, was_qualified,
    is_qualified, was_unread, is_unread, was_waiting, is_waiting, episode, episode_started_at,
    is_first_response)
SELECT DISTINCT ON (c.id) e.id, c.id, 'created', '', '{}', e.actor_kind, e.actor_id, e.caller,
    e.correlation_id, e.at, coalesce(f.old_status, c.status), coalesce(f.old_priority, c.priority),
    CASE WHEN f.id IS NULL THEN c.assignee_id ELSE f.old_assignee_id END,
    CASE WHEN f.id IS NULL THEN c.team_id ELSE f.old_team_id END,
    coalesce(f.old_labels, c.labels),
    CASE WHEN f.id IS NULL THEN c.snoozed_until ELSE f.old_snoozed_until END,
    false, coalesce(f.was_qualified, c.qualified_at IS NOT NULL),
    false, coalesce(f.was_unread, c.last_inbound_sequence > c.read_sequence),
    false, coalesce(f.was_waiting, c.waiting_since IS NOT NULL),
    1, c.created_at, false
FROM inbox_conversations c
JOIN events e ON e.resource_id = c.id AND e.kind = 'conversation.created'
LEFT JOIN LATERAL (
    SELECT * FROM conversation_changes f WHERE f.conversation_id = c.id ORDER BY f.id LIMIT 1
) f ON true
WHERE f.old_status IS NOT NULL OR f.id IS NULL
ORDER BY c.id, e.id;
