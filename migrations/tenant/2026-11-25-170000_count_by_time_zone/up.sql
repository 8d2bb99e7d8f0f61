-- The rollups are disposable, and no release has had them: they are folded from the log anew.
DROP TABLE statistics_counts; -- safe: no release has this table
DROP TABLE statistics_durations; -- safe: no release has this table
DELETE FROM statistics_states;
DELETE FROM statistics_folds WHERE NOT is_current;
UPDATE statistics_folds SET position = 0;

ALTER TABLE statistics_folds ADD COLUMN time_zones text[] NOT NULL DEFAULT '{UTC}';
COMMENT ON COLUMN statistics_folds.time_zones IS 'The zones whose days and months are counted, UTC first.';

CREATE TABLE statistics_time_zones (
    time_zone text NOT NULL,
    asked_at timestamptz NOT NULL,
    CONSTRAINT statistics_time_zones_pkey PRIMARY KEY (time_zone)
);
COMMENT ON TABLE statistics_time_zones IS 'The zones in which statistics are read, beside UTC.';
COMMENT ON COLUMN statistics_time_zones.asked_at IS 'When they last were, to a day.';

CREATE TABLE statistics_rollups (
    generation integer NOT NULL,
    facet text NOT NULL,
    grain smallint NOT NULL,
    bucket timestamptz NOT NULL,
    value text NOT NULL,
    counts bytea,
    wall bytea,
    business bytea,
    CONSTRAINT statistics_rollups_pkey PRIMARY KEY (generation, facet, grain, bucket, value)
);
COMMENT ON TABLE statistics_rollups IS 'How often each thing happened and how long it took, by time. Disposable: no foreign keys.';
COMMENT ON COLUMN statistics_rollups.facet IS 'What it is counted by: all, actor, team, account or label.';
COMMENT ON COLUMN statistics_rollups.grain IS 'How long the bucket is: 0 a quarter of an hour, 1 an hour, from 2 on the day and the month of each zone in turn.';
COMMENT ON COLUMN statistics_rollups.bucket IS 'When it begins.';
COMMENT ON COLUMN statistics_rollups.counts IS 'What happened, as variable-length numbers: messages, and what people did.';
COMMENT ON COLUMN statistics_rollups.wall IS 'How long customers waited and episodes lasted, in milliseconds, with logarithmic histograms, as variable-length numbers.';
COMMENT ON COLUMN statistics_rollups.business IS 'The same in business hours, where that is not the same.';
