ALTER TABLE inbox_conversations
    ADD COLUMN assignee_id text,
    ADD COLUMN team_id text,
    ADD COLUMN assigned_at timestamptz,
    ADD COLUMN qualified_at timestamptz,
    ADD COLUMN qualified_by_kind text,
    ADD COLUMN qualified_by_id text,
    ADD COLUMN lead_score integer,
    ADD COLUMN lead_notes text,
    ADD COLUMN labels text[] NOT NULL DEFAULT '{}',
    ADD COLUMN snoozed_until timestamptz,
    ADD COLUMN waiting_since timestamptz,
    ADD COLUMN last_inbound_sequence bigint NOT NULL DEFAULT 0,
    ADD COLUMN read_sequence bigint NOT NULL DEFAULT 0,
    ADD COLUMN episode integer NOT NULL DEFAULT 1,
    ADD COLUMN episode_started_at timestamptz,
    ADD COLUMN first_replied_at timestamptz,
    ADD COLUMN previous_conversation_id uuid,
    ADD COLUMN merged_into_id uuid,
    ADD CONSTRAINT inbox_conversations_previous_conversation_id_fkey FOREIGN KEY (previous_conversation_id) REFERENCES inbox_conversations (id) NOT VALID,
    ADD CONSTRAINT inbox_conversations_merged_into_id_fkey FOREIGN KEY (merged_into_id) REFERENCES inbox_conversations (id) NOT VALID,
    ADD CONSTRAINT inbox_conversations_merged_check CHECK (merged_into_id IS NULL OR archived_at IS NOT NULL) NOT VALID,
    ADD CONSTRAINT inbox_conversations_qualified_check CHECK ((qualified_at IS NULL) = (qualified_by_kind IS NULL) AND (qualified_at IS NULL) = (qualified_by_id IS NULL)) NOT VALID;
COMMENT ON COLUMN inbox_conversations.waiting_since IS 'The customer''s first message that no person has answered.';
COMMENT ON COLUMN inbox_conversations.last_inbound_sequence IS 'The sequence of the customer''s newest message.';
COMMENT ON COLUMN inbox_conversations.read_sequence IS 'How far anybody of the team has read.';
COMMENT ON COLUMN inbox_conversations.episode IS 'From its beginning or a reopening to its archiving.';
COMMENT ON COLUMN inbox_conversations.episode_started_at IS 'Of the first episode: none, it is created_at.';
COMMENT ON COLUMN inbox_conversations.first_replied_at IS 'When a person first answered the customer in this episode.';
COMMENT ON COLUMN inbox_conversations.previous_conversation_id IS 'The archived one that this one goes on from.';
COMMENT ON COLUMN inbox_conversations.merged_into_id IS 'The one that goes on in its place.';
CREATE INDEX inbox_conversations_previous_conversation_id_idx ON inbox_conversations (previous_conversation_id) WHERE previous_conversation_id IS NOT NULL;
CREATE INDEX inbox_conversations_merged_into_id_idx ON inbox_conversations (merged_into_id) WHERE merged_into_id IS NOT NULL;
CREATE INDEX inbox_conversations_assignee_id_idx ON inbox_conversations (assignee_id) WHERE assignee_id IS NOT NULL AND archived_at IS NULL;
CREATE INDEX inbox_conversations_team_id_idx ON inbox_conversations (team_id) WHERE team_id IS NOT NULL AND archived_at IS NULL;
CREATE INDEX inbox_conversations_labels_idx ON inbox_conversations USING gin (labels) WHERE labels <> '{}';
CREATE INDEX inbox_conversations_priority_idx ON inbox_conversations (status, (array_position('{urgent,high,normal,low}'::text[], priority)), number) WHERE deleted_at IS NULL;
CREATE INDEX inbox_conversations_status_number_idx ON inbox_conversations (status, number) WHERE deleted_at IS NULL;
CREATE INDEX inbox_conversations_waiting_since_idx ON inbox_conversations (waiting_since, id) WHERE waiting_since IS NOT NULL AND archived_at IS NULL;
CREATE INDEX inbox_conversations_snoozed_until_idx ON inbox_conversations (snoozed_until) WHERE snoozed_until IS NOT NULL;

UPDATE inbox_conversations c SET last_inbound_sequence = m.sequence
FROM (SELECT conversation_id, max(sequence) AS sequence FROM inbox_messages WHERE direction = 'inbound' GROUP BY conversation_id) m
WHERE m.conversation_id = c.id;

CREATE TABLE conversation_read_marks (
    conversation_id uuid NOT NULL,
    user_id text NOT NULL,
    sequence bigint NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT conversation_read_marks_pkey PRIMARY KEY (conversation_id, user_id),
    CONSTRAINT conversation_read_marks_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES inbox_conversations (id)
);
COMMENT ON TABLE conversation_read_marks IS 'How far each user has read; what is unread is counted from here.';

CREATE TABLE conversation_changes (
    id bigint NOT NULL,
    conversation_id uuid NOT NULL,
    kind text NOT NULL,
    rule text NOT NULL,
    sequence bigint,
    changed text[] NOT NULL,
    actor_kind text NOT NULL,
    actor_id text NOT NULL,
    caller text NOT NULL,
    correlation_id text NOT NULL,
    at timestamptz NOT NULL,
    old_status text,
    status text NOT NULL,
    old_priority text,
    priority text NOT NULL,
    old_assignee_id text,
    assignee_id text,
    old_team_id text,
    team_id text,
    old_labels text[],
    labels text[] NOT NULL,
    old_snoozed_until timestamptz,
    snoozed_until timestamptz,
    was_qualified boolean NOT NULL,
    is_qualified boolean NOT NULL,
    was_unread boolean NOT NULL,
    is_unread boolean NOT NULL,
    was_waiting boolean NOT NULL,
    is_waiting boolean NOT NULL,
    episode integer NOT NULL,
    episode_started_at timestamptz NOT NULL,
    waited_since timestamptz,
    is_first_response boolean NOT NULL,
    CONSTRAINT conversation_changes_pkey PRIMARY KEY (id),
    CONSTRAINT conversation_changes_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES inbox_conversations (id),
    CONSTRAINT conversation_changes_kind_check CHECK (kind IN ('created', 'message', 'updated', 'assigned', 'qualified', 'disqualified', 'archived', 'reopened', 'read', 'woken', 'merged', 'unmerged')),
    CONSTRAINT conversation_changes_actor_kind_check CHECK (actor_kind IN ('user', 'bot', 'service'))
);
COMMENT ON TABLE conversation_changes IS 'What happened to each conversation, only ever appended: its timeline, and the log that statistics are folded from.';
COMMENT ON COLUMN conversation_changes.id IS 'That of its event: the order in which changes are final.';
COMMENT ON COLUMN conversation_changes.rule IS 'What made it happen, where it was nobody''s own wish.';
COMMENT ON COLUMN conversation_changes.sequence IS 'Of the message that brought it about.';
COMMENT ON COLUMN conversation_changes.old_status IS 'None: the conversation was made.';
COMMENT ON COLUMN conversation_changes.waited_since IS 'A person answered the customer, who had waited since then.';
COMMENT ON COLUMN conversation_changes.is_first_response IS 'Whether that was the first answer of the episode.';
CREATE INDEX conversation_changes_conversation_id_idx ON conversation_changes (conversation_id, id);

ALTER TABLE channel_accounts
    ADD COLUMN reopen_policy text NOT NULL DEFAULT 'always',
    ADD COLUMN reopen_days integer,
    ADD CONSTRAINT channel_accounts_reopen_policy_check CHECK (reopen_policy IN ('always', 'within', 'never')) NOT VALID,
    ADD CONSTRAINT channel_accounts_reopen_days_check CHECK ((reopen_policy = 'within') = (reopen_days IS NOT NULL)) NOT VALID;
COMMENT ON COLUMN channel_accounts.reopen_policy IS 'Whether a customer''s message goes on with an archived conversation or begins a new one.';
