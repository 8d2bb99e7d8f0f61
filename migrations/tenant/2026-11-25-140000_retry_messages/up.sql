ALTER TABLE inbox_messages ADD COLUMN tries integer NOT NULL DEFAULT 1;
COMMENT ON COLUMN inbox_messages.tries IS 'How often it was to be sent: the number of its newest attempt, of an outbound one.';

CREATE TABLE message_attempts (
    message_id uuid NOT NULL,
    number integer NOT NULL,
    outcome text,
    failure_code text,
    failure_message text,
    actor_kind text NOT NULL,
    actor_id text NOT NULL,
    caller text NOT NULL,
    correlation_id text NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    CONSTRAINT message_attempts_pkey PRIMARY KEY (message_id, number),
    CONSTRAINT message_attempts_message_id_fkey FOREIGN KEY (message_id) REFERENCES inbox_messages (id) ON DELETE CASCADE,
    CONSTRAINT message_attempts_outcome_check CHECK (outcome IN ('sent', 'failed')),
    CONSTRAINT message_attempts_ended_check CHECK ((outcome IS NULL) = (ended_at IS NULL)),
    CONSTRAINT message_attempts_actor_kind_check CHECK (actor_kind IN ('user', 'bot', 'service'))
);
COMMENT ON TABLE message_attempts IS 'Each try to send a message, once it has an outcome or is a repeated one.';
COMMENT ON COLUMN message_attempts.actor_kind IS 'Who wanted it: of the first, who wrote the message.';
