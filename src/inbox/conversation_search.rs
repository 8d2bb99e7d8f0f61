//! Finds conversations by what is said in them, by whom they are with, and by their subjects.

use std::marker::PhantomData;

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::AstPass;
use diesel::sql_types::{self, Array, BigInt, Text};
use diesel_async::RunQueryDsl;

use super::contact_words::beyond;
use crate::database::statement::statement;
use crate::error::Error;
use crate::ids::ConversationId;
use crate::search::Query;
use crate::tenant::TenantConn;

/// How many messages, conversations of people and subjects are gathered; of more, a page of a list
/// is found by looking at its conversations one after the other.
const MOST: i64 = 5_000;

/// What to find.
#[derive(Debug)]
pub struct TextFilter {
    /// What a message says.
    pub query: Query,
    /// Or what each begins a word of: of the person's name and identifiers, or of the subject.
    pub words: Vec<String>,
}

/// Where it was found.
#[derive(Debug)]
pub enum Found<'a> {
    /// In these conversations.
    In(Vec<ConversationId>),
    /// In too many to gather.
    Often(Often<'a>),
}

/// What is to be looked for in each conversation.
#[derive(Debug)]
pub struct Often<'a> {
    query: String,
    words: &'a [String],
    beyond: Vec<String>,
}

statement! {
    // The words are walked by themselves: for their groups the database would rather read the index
    // of all conversations. What the newest messages say often is not gathered: the index would
    // first list all that say it. The words know their conversation, which is many times faster
    // than to ask the messages.
    /// Gathers the conversations that some words are found in: how many messages, conversations of
    /// people and subjects there are at least, and which conversations.
    Gather<'a> -> (BigInt, BigInt, BigInt, Array<sql_types::Uuid>) {
        query: &'a str => Text,
        words: &'a [String] => Array<Text>,
        beyond: &'a [String] => Array<Text>,
        rows: i64 => BigInt,
    }
    "
    , wanted AS (
        SELECT u.word, u.beyond, u.number
        FROM input, unnest(input.words, input.beyond) WITH ORDINALITY AS u (word, beyond, number)
    ), newest AS MATERIALIZED (
        SELECT ('''.a' || (last_value >> 12) || '''|''.a' || (last_value >> 12) - 1 || '''')::tsquery AS numbers,
            last_value - 1099511627776 > 100000 AS are_many
        FROM inbox_message_words_number_seq
    ), often AS MATERIALIZED (
        SELECT count(*) >= 256 AS said FROM (
            SELECT FROM inbox_message_words w
            WHERE (SELECT are_many FROM newest) AND w.words @@ (SELECT numbers FROM newest)
                AND w.words @@ (SELECT query::tsquery FROM input)
            LIMIT 256
        ) w
    ), said AS MATERIALIZED (
        SELECT w.words FROM inbox_message_words w
        WHERE NOT (SELECT said FROM often) AND w.words @@ (SELECT query::tsquery FROM input)
        LIMIT (SELECT rows FROM input)
    ), with_whom AS MATERIALIZED (
        SELECT c.id
        FROM (
            SELECT f.contact_id FROM wanted w CROSS JOIN LATERAL (
                SELECT f.contact_id FROM contact_words f
                WHERE f.word >= w.word AND f.word < w.beyond
                OFFSET 0
            ) f
            GROUP BY f.contact_id
            HAVING count(DISTINCT w.number) = (SELECT count(*) FROM wanted)
        ) p
        JOIN contact_identities i ON i.contact_id = p.contact_id
        JOIN inbox_conversations c ON c.contact_identity_id = i.id
        LIMIT (SELECT rows FROM input)
    ), about AS MATERIALIZED (
        SELECT f.conversation_id FROM wanted w CROSS JOIN LATERAL (
            SELECT f.conversation_id FROM conversation_words f
            WHERE f.word >= w.word AND f.word < w.beyond
            OFFSET 0
        ) f
        GROUP BY f.conversation_id
        HAVING count(DISTINCT w.number) = (SELECT count(*) FROM wanted)
        LIMIT (SELECT rows FROM input)
    )
    SELECT CASE WHEN often.said THEN input.rows ELSE (SELECT count(*) FROM said) END,
        (SELECT count(*) FROM with_whom), (SELECT count(*) FROM about), ARRAY(
            SELECT substr(u.word, 3)::uuid
            FROM said, unnest(tsvector_to_array(said.words)) AS u (word)
            WHERE u.word LIKE '.v%'
            UNION SELECT id FROM with_whom
            UNION SELECT conversation_id FROM about
        )
    FROM input, often"
}

/// Gathers the conversations that a text is found in, unless it is found very often.
pub async fn find<'a>(conn: &mut TenantConn, text: &'a TextFilter) -> Result<Found<'a>, Error> {
    let often = Often {
        query: text.query.exact(),
        words: &text.words,
        beyond: text.words.iter().map(|word| beyond(word)).collect(),
    };
    let gather = Gather {
        query: &often.query,
        words: often.words,
        beyond: &often.beyond,
        rows: MOST + 1,
        life: PhantomData,
    };
    let (said, with_whom, about, ids): (i64, i64, i64, Vec<ConversationId>) =
        gather.get_result(conn).await?;
    Ok(
        if [said, with_whom, about].iter().all(|rows| *rows <= MOST) {
            Found::In(ids)
        } else {
            Found::Often(often)
        },
    )
}

impl Often<'_> {
    /// Writes the condition on a conversation `p`.
    pub fn walk<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        // The index finds a conversation's messages, of which each is looked at: both in one question
        // take ten times as long where the words are common. Counted, because for a first one alone
        // the database would rather read the table from its beginning.
        out.push_sql(
            "((
                SELECT count(*) FROM (
                    SELECT words FROM inbox_message_words
                    WHERE words @@ ('''.v' || p.id || '''')::tsquery OFFSET 0
                ) w WHERE w.words @@ ",
        );
        out.push_bind_param::<Text, _>(&self.query)?;
        out.push_sql("::tsquery) > 0");
        let tables = [
            ("contact_words", "contact_id = p.contact_id"),
            ("conversation_words", "conversation_id = p.id"),
        ];
        for (table, condition) in tables {
            if self.words.is_empty() {
                continue;
            }
            out.push_sql(" OR NOT EXISTS (SELECT FROM unnest(");
            out.push_bind_param::<Array<Text>, _>(self.words)?;
            out.push_sql(", ");
            out.push_bind_param::<Array<Text>, _>(&self.beyond)?;
            out.push_sql(") AS u (word, beyond) WHERE NOT EXISTS (SELECT FROM ");
            out.push_sql(table);
            out.push_sql(" f WHERE f.");
            out.push_sql(condition);
            out.push_sql(" AND f.word >= u.word AND f.word < u.beyond))");
        }
        out.push_sql(")");
        Ok(())
    }
}
