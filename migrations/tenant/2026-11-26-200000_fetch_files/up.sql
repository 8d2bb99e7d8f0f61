-- safe: the new constraint allows all that the old one did.
ALTER TABLE attachments DROP CONSTRAINT attachments_state_check;
ALTER TABLE attachments ADD CONSTRAINT attachments_state_check CHECK (state IN ('uploading', 'pending', 'ready', 'failed', 'deleted')) NOT VALID;
ALTER TABLE attachments ADD COLUMN failure text;
ALTER TABLE attachments ADD COLUMN content_id text;
COMMENT ON COLUMN attachments.state IS 'uploading: the file may be there or not; pending: it is with a provider and is to be fetched; ready: it is there; failed: it could not be fetched; deleted: it is about to go, then the row.';
COMMENT ON COLUMN attachments.failure IS 'Why it could not be fetched.';
COMMENT ON COLUMN attachments.content_id IS 'By what the HTML of its mail shows it.';
COMMENT ON COLUMN inbox_messages.attachments IS 'What attachments says of its files, in their order, so that a list of messages needs no join. None: it has none.';

CREATE TABLE media_fetches (
    attachment_id uuid NOT NULL,
    channel_account_id uuid NOT NULL,
    delivery_id uuid NOT NULL,
    source jsonb NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL,
    lease uuid,
    CONSTRAINT media_fetches_pkey PRIMARY KEY (attachment_id),
    CONSTRAINT media_fetches_attachment_id_fkey FOREIGN KEY (attachment_id) REFERENCES attachments (id) ON DELETE CASCADE
);
COMMENT ON TABLE media_fetches IS 'Files that are to be fetched from providers. A row goes when its file is there, cannot be had or is not wanted any more.';
COMMENT ON COLUMN media_fetches.delivery_id IS 'The webhook that told of it, in directory.deliveries for as long as that is kept.';
COMMENT ON COLUMN media_fetches.source IS 'Where it is: url, media (the provider''s id of it), or inline (in the webhook itself: of which message, and its place).';
COMMENT ON COLUMN media_fetches.due_at IS 'When it is to be tried next; while somebody tries, when somebody else may.';
COMMENT ON COLUMN media_fetches.lease IS 'Of whoever tries.';
CREATE INDEX media_fetches_due_at_idx ON media_fetches (due_at);
