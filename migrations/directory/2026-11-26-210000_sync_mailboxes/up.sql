CREATE TABLE directory.mailboxes (
    account_id uuid NOT NULL,
    cursor bigint,
    watched_at timestamptz,
    due_at timestamptz NOT NULL,
    lease uuid,
    leased_until timestamptz,
    failures integer NOT NULL DEFAULT 0,
    CONSTRAINT mailboxes_pkey PRIMARY KEY (account_id),
    CONSTRAINT mailboxes_account_id_fkey FOREIGN KEY (account_id) REFERENCES directory.channel_accounts (id) ON DELETE CASCADE
);
COMMENT ON TABLE directory.mailboxes IS 'How far mailboxes are read that only tell that there is something new.';
COMMENT ON COLUMN directory.mailboxes.cursor IS 'Gmail''s number of the last change that was read; none before the first time.';
COMMENT ON COLUMN directory.mailboxes.watched_at IS 'When Gmail was last asked to tell of changes, which it does for a week.';
COMMENT ON COLUMN directory.mailboxes.due_at IS 'When it is to be read next, if nothing is told before.';
CREATE INDEX mailboxes_due_at_idx ON directory.mailboxes (due_at);
