DELETE FROM conversation_changes WHERE kind = 'erased';
ALTER TABLE conversation_changes
    DROP CONSTRAINT conversation_changes_kind_check,
    ADD CONSTRAINT conversation_changes_kind_check CHECK (kind IN ('created', 'message', 'updated', 'assigned', 'qualified', 'disqualified', 'archived', 'reopened', 'read', 'woken', 'merged', 'unmerged'));
