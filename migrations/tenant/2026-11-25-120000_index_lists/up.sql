-- A message moves its conversation in every index that the conversation is in, because the time of
-- the last message is in one of them: what counts is how many rows an index has that are at work,
-- and not what it holds of them.
CREATE INDEX inbox_conversations_assignee_id_status_idx ON inbox_conversations (assignee_id, status, last_message_at DESC, id DESC) WHERE assignee_id IS NOT NULL AND archived_at IS NULL;
CREATE INDEX inbox_conversations_team_id_status_idx ON inbox_conversations (team_id, status, last_message_at DESC, id DESC) WHERE team_id IS NOT NULL AND archived_at IS NULL;
-- safe: the ones above have the same rows and begin with the same column
DROP INDEX inbox_conversations_assignee_id_idx;
-- safe: as before
DROP INDEX inbox_conversations_team_id_idx;
CREATE INDEX inbox_conversations_archived_assignee_id_idx ON inbox_conversations (assignee_id, last_message_at DESC, id DESC) WHERE assignee_id IS NOT NULL AND archived_at IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX inbox_conversations_archived_team_id_idx ON inbox_conversations (team_id, last_message_at DESC, id DESC) WHERE team_id IS NOT NULL AND archived_at IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX inbox_conversations_unassigned_idx ON inbox_conversations (status, last_message_at DESC, id DESC) WHERE assignee_id IS NULL AND deleted_at IS NULL;
CREATE INDEX inbox_conversations_unread_idx ON inbox_conversations (status, last_message_at DESC, id DESC) WHERE last_inbound_sequence - read_sequence > 0 AND deleted_at IS NULL;
CREATE INDEX inbox_conversations_qualified_at_idx ON inbox_conversations (status, last_message_at DESC, id DESC) WHERE qualified_at IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX inbox_conversations_channel_idx ON inbox_conversations (channel, status, last_message_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX inbox_conversations_updated_at_idx ON inbox_conversations (status, updated_at) WHERE deleted_at IS NULL;
-- How many are unread or urgent is a guess without these.
CREATE STATISTICS inbox_conversations_unread_stat ON (last_inbound_sequence - read_sequence) FROM inbox_conversations;
CREATE STATISTICS inbox_conversations_rank_stat ON (array_position('{urgent,high,normal,low}'::text[], priority)) FROM inbox_conversations;
