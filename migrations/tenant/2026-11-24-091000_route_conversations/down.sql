DROP TABLE channel_account_agents;
DROP TABLE agents;
ALTER TABLE channel_accounts
    DROP COLUMN routing,
    DROP COLUMN routing_assignee_id,
    DROP COLUMN routing_team_id,
    DROP COLUMN policy_version;
