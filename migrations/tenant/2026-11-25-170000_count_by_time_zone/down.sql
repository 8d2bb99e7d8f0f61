DROP TABLE statistics_rollups;
DROP TABLE statistics_time_zones;
ALTER TABLE statistics_folds DROP COLUMN time_zones;
UPDATE statistics_folds SET position = 0;
DELETE FROM statistics_states;

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
