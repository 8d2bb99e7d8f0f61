//! Adds the words of messages that are older than the index of words, in small steps, the newest
//! first.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Text, Uuid as SqlUuid};
use diesel_async::{
    AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _, TransactionManager,
};
use uuid::Uuid;

use super::provision::{LOCK_TIMEOUT, Transactions, begin};
use super::schema_name::SchemaName;
use crate::error::Error;
use crate::search::index::index_messages;
use crate::search::vector;

/// How many messages one transaction adds.
const STEP: i64 = 500;

/// A message without words.
#[derive(QueryableByName)]
struct Wordless {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    text: String,
}

/// Adds the words of all messages of a tenant that lack them.
///
/// # Errors
/// The database cannot be reached, or the tables are locked.
pub async fn run(conn: &mut AsyncPgConnection, schema: &SchemaName) -> Result<(), Error> {
    loop {
        begin(conn, LOCK_TIMEOUT).await?;
        conn.batch_execute(&format!("SET LOCAL search_path = {schema}"))
            .await?;
        let added = step(conn).await?;
        Transactions::commit_transaction(conn).await?;
        if !added {
            return Ok(());
        }
    }
}

/// Adds some; tells whether there may be more.
async fn step(conn: &mut AsyncPgConnection) -> Result<bool, Error> {
    // Not in the first minute: a server of the version before may still be adding messages, which
    // it does only until it has heard of the migration. Who comes while another adds leaves it to
    // that.
    let wordless: Vec<Wordless> = diesel::sql_query(
        "WITH pending AS MATERIALIZED (
             SELECT before_id FROM inbox_message_words_backfill
             WHERE created_at < directory.now() - interval '1 minute'
             FOR UPDATE SKIP LOCKED
         )
         SELECT m.id, m.text FROM pending CROSS JOIN LATERAL (
             SELECT id, text FROM inbox_messages WHERE id < pending.before_id
             ORDER BY id DESC LIMIT $1
         ) m",
    )
    .bind::<BigInt, _>(STEP)
    .load(conn)
    .await?;
    let Some(last) = wordless.last() else {
        // With a message left, the row was locked or is too young.
        diesel::sql_query(
            "DELETE FROM inbox_message_words_backfill b
             WHERE created_at < directory.now() - interval '1 minute'
                 AND NOT EXISTS (SELECT FROM inbox_messages WHERE id < b.before_id)",
        )
        .execute(conn)
        .await?;
        return Ok(false);
    };
    let ids: Vec<Uuid> = wordless.iter().map(|message| message.id).collect();
    let words: Vec<String> = wordless
        .iter()
        .map(|message| vector(&message.text))
        .collect();
    // In their order, so that the numbers, which go down, follow the messages.
    let add = concat!(
        "WITH indexable AS (
             SELECT m.id, m.conversation_id, m.direction, m.type, m.actor_kind, m.actor_id,
                 m.created_at, given.words
             FROM unnest($1, $2) WITH ORDINALITY AS given (id, words, place)
             JOIN inbox_messages m ON m.id = given.id ORDER BY given.place
         )",
        index_messages!("nextval('inbox_message_words_earlier_seq')", "NOTHING"),
        "UPDATE inbox_message_words_backfill SET before_id = $3"
    );
    diesel::sql_query(add)
        .bind::<Array<SqlUuid>, _>(&ids)
        .bind::<Array<Text>, _>(&words)
        .bind::<SqlUuid, _>(last.id)
        .execute(conn)
        .await?;
    Ok(true)
}
