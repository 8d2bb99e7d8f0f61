CREATE TABLE agents (
    id uuid NOT NULL,
    user_id text NOT NULL,
    is_available boolean NOT NULL,
    capacity integer,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT directory.now(),
    updated_at timestamptz NOT NULL DEFAULT directory.now(),
    CONSTRAINT agents_pkey PRIMARY KEY (id),
    CONSTRAINT agents_user_id_key UNIQUE (user_id),
    CONSTRAINT agents_capacity_check CHECK (capacity >= 0)
);
COMMENT ON TABLE agents IS 'Users who take conversations; whoever routes to one of them holds its row''s lock.';
COMMENT ON COLUMN agents.capacity IS 'How many conversations that are not archived they may be routed to; none: any number.';

ALTER TABLE channel_accounts
    ADD COLUMN routing text NOT NULL DEFAULT 'none',
    ADD COLUMN routing_assignee_id text,
    ADD COLUMN routing_team_id text,
    ADD COLUMN policy_version bigint NOT NULL DEFAULT 1,
    ADD CONSTRAINT channel_accounts_routing_check CHECK (routing IN ('none', 'fixed', 'round_robin', 'least_open')) NOT VALID;
COMMENT ON COLUMN channel_accounts.routing IS 'Whom new conversations are given to.';

CREATE TABLE channel_account_agents (
    channel_account_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    position integer NOT NULL,
    turn bigint NOT NULL DEFAULT 0,
    CONSTRAINT channel_account_agents_pkey PRIMARY KEY (channel_account_id, agent_id),
    CONSTRAINT channel_account_agents_channel_account_id_fkey FOREIGN KEY (channel_account_id) REFERENCES channel_accounts (id),
    CONSTRAINT channel_account_agents_agent_id_fkey FOREIGN KEY (agent_id) REFERENCES agents (id)
);
COMMENT ON TABLE channel_account_agents IS 'Whom the conversations of an account may be routed to.';
COMMENT ON COLUMN channel_account_agents.turn IS 'Grows with every conversation routed there: the smallest is next.';
CREATE INDEX channel_account_agents_agent_id_idx ON channel_account_agents (agent_id);
