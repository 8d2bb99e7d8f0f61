-- safe: the new check allows all that the old one did, so no row needs to be looked at
ALTER TABLE conversation_changes
    DROP CONSTRAINT conversation_changes_kind_check,
    ADD CONSTRAINT conversation_changes_kind_check CHECK (kind IN ('created', 'message', 'updated', 'assigned', 'qualified', 'disqualified', 'archived', 'reopened', 'read', 'woken', 'merged', 'unmerged', 'erased')) NOT VALID;
