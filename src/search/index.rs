//! How a message enters the index: in the statement that stores it.

/// CTEs that store the words of the rows of a CTE `indexable`: `id`, `conversation_id`,
/// `direction`, `type`, `actor_kind`, `actor_id`, `created_at` of a message, and `words`, by
/// `search::vector`. The numbers come from an expression; what to do with words that are there is
/// said as SQL says it.
///
/// Beside the words go lexemes with a dot before them, which no word has, for what a search
/// filters by: so the index alone answers it. Those of the blocks let a search begin with the
/// newest messages, which an index of words alone cannot.
macro_rules! index_messages {
    ($number:literal, $known:literal) => {
        concat!(
            "
        , numbered AS (
            SELECT i.*, ",
            $number,
            " AS number,
                floor(extract(epoch FROM i.created_at) / 86400)::int AS day
            FROM indexable i WHERE i.words <> ''
        ), indexed AS (
            INSERT INTO inbox_message_words (message_id, number, created_at, words)
            SELECT n.id, n.number, n.created_at, array_to_tsvector(ARRAY[
                    '.a' || (n.number >> 12), '.b' || (n.number >> 17), '.c' || c.channel,
                    '.d' || n.direction, '.e' || n.day, '.f' || (n.day >> 5), '.g' || (n.day >> 10),
                    '.k' || c.contact_identity_id, '.n' || k.channel_account_id, '.t' || n.type,
                    '.v' || n.conversation_id, '.w' || n.actor_kind || ' ' || n.actor_id
                ]) || n.words::tsvector
            FROM numbered n
            JOIN inbox_conversations c ON c.id = n.conversation_id
            JOIN contact_identities k ON k.id = c.contact_identity_id
            ON CONFLICT (message_id) DO ",
            $known,
            "
            RETURNING message_id
        )"
        )
    };
}

pub(crate) use index_messages;
