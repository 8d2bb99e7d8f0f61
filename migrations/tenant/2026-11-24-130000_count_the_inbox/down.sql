DROP INDEX inbox_messages_created_at_idx;
DROP INDEX conversation_changes_at_idx;
DROP TABLE business_hours;
DROP TABLE statistics_durations;
DROP TABLE statistics_counts;
DROP TABLE statistics_states;
DROP TABLE statistics_folds;
