DROP INDEX provider_events_new_identity_idx;
DROP INDEX contacts_updated_at_idx;
DROP INDEX contacts_created_at_idx;
DROP TABLE contact_erasures;
DROP TABLE contact_merge_identities;
DROP TABLE contact_merges;
DROP TABLE contact_words;
ALTER TABLE contact_identities DROP COLUMN kind;
ALTER TABLE contacts
    DROP COLUMN merged_at,
    DROP COLUMN merged_into_id,
    DROP COLUMN edit_version,
    DROP COLUMN name_folded,
    DROP COLUMN metadata,
    DROP COLUMN notes,
    DROP COLUMN language,
    DROP COLUMN company;
COMMENT ON COLUMN contacts.deleted_at IS NULL;
