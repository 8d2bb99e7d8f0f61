//! Finds messages by their words, over all history: the newest first, or where several words make
//! some better than others, in windows of a thousand of the newest.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use diesel::expression::Expression;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{self, BigInt, Bool, Integer, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use uuid::{Builder, Uuid};

use super::contact_identity;
use super::message::{Direction, Message, MessageType, message_columns};
use crate::access::Actor;
use crate::channel::Channel;
use crate::database::statement::statement;
use crate::error::Error;
use crate::ids::{ChannelAccountId, ContactId, ConversationId};
use crate::page::PageSize;
use crate::search::{Query, quote};
use crate::tenant::TenantConn;

/// How many matches are ranked at once.
const WINDOW: i64 = 1_000;
const DAY: i64 = 24 * 60 * 60;
/// The year 2200: no message is later, and a time filter without an end has one.
const LAST_DAY: i64 = 84_005;

/// Which messages to look through.
#[derive(Debug)]
pub struct SearchFilter {
    /// Of this conversation.
    pub conversation_id: Option<ConversationId>,
    /// With this person.
    pub contact_id: Option<ContactId>,
    /// Of this channel account.
    pub channel_account_id: Option<ChannelAccountId>,
    /// On one of these channels.
    pub channels: Option<Vec<Channel>>,
    /// Going one of these ways.
    pub directions: Option<Vec<Direction>>,
    /// Of one of these types.
    pub types: Option<Vec<MessageType>>,
    /// Written by this one.
    pub author: Option<Actor>,
    /// Stored at this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Stored before this time.
    pub before: Option<DateTime<Utc>>,
}

/// Where a page begins: in the window of matches that begins at a number, beyond a match.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Position {
    top: i64,
    beyond: Option<(i32, i64)>,
}

/// A page of what was found.
pub struct Found {
    /// The messages, the best first.
    pub messages: Vec<Message>,
    /// Where the next page begins, if there is one.
    pub next: Option<Position>,
}

type MessageRow = <<Message as Selectable<Pg>>::SelectExpression as Expression>::SqlType;

statement! {
    // An index of words gives no order, and a common word stands in very many messages. So the
    // numbers are walked downwards in blocks, each a lexeme beside the words, twice as wide as the
    // last while that has few: about as many matches are read as a window has, whether that takes
    // one block or, for a rare word, all. The wide blocks begin where narrow ones end. A wide block
    // that turns out to be full (what is asked for was common only long ago) is left after 1,500
    // rows and walked again in blocks an eighth as wide.
    //
    // Where only what was stored before a time is wanted, the walk first takes all that is later in
    // one stride, which finds nothing, and begins with narrow blocks where that time was: `turn`,
    // guessed by the ids, which begin with a time. A wrong guess costs time and no match.
    //
    // What the index cannot answer alone (phrases, beginnings of words) is read by what it can,
    // and checked; after 3,000 such rows the window ends, and the next page goes on below. The
    // beginning of a word is asked of the index only if it is rare in the newest block: the index
    // gathers all words that begin so first.
    /// Finds a page of a window of matches; of an empty page, where the next one begins.
    Search<'a> -> (BigInt, Nullable<BigInt>, Nullable<Integer>, Nullable<BigInt>, Nullable<MessageRow>) {
        exact: String => Text,
        probe: String => Text,
        without_prefixes: Option<String> => Nullable<Text>,
        has_prefix: bool => Bool,
        is_checked: bool => Bool,
        together: Option<String> => Nullable<Text>,
        near: Option<String> => Nullable<Text>,
        from_at: Option<DateTime<Utc>> => Nullable<Timestamptz>,
        before_at: Option<DateTime<Utc>> => Nullable<Timestamptz>,
        before_id: Option<Uuid> => Nullable<sql_types::Uuid>,
        top: Option<i64> => Nullable<BigInt>,
        beyond_tier: Option<i32> => Nullable<Integer>,
        beyond_number: Option<i64> => Nullable<BigInt>,
        enough: i64 => BigInt,
        rows: i64 => BigInt,
    }
    concat!("
        , asked AS MATERIALIZED (
            SELECT coalesce(input.top, newest.last_value) AS top, oldest.last_value AS floor,
                input.exact::tsquery AS exact, input.probe::tsquery AS probe,
                input.without_prefixes::tsquery AS without_prefixes, input.has_prefix,
                input.is_checked, input.together::tsquery AS together,
                input.near::tsquery AS near, input.from_at, input.before_at, input.enough,
                coalesce((
                    -- Of some, because a scheduled message is older than its number.
                    SELECT (((percentile_disc(0.5) WITHIN GROUP (ORDER BY w.number) >> 12) + 2) << 12) - 1
                    FROM (
                        SELECT w.number FROM inbox_message_words w
                        WHERE w.message_id < input.before_id ORDER BY w.message_id DESC LIMIT 16
                    ) w
                ), 9223372036854775807) AS turn
            FROM input, inbox_message_words_number_seq newest, inbox_message_words_earlier_seq oldest
        ), walk AS (
            SELECT asked.top, CASE WHEN asked.top > asked.turn THEN 1024 ELSE 1 END::bigint AS width,
                asked.has_prefix AS is_dense, 0::bigint AS found,
                0::bigint AS examined, NULL::bigint[] AS numbers, NULL::int[] AS tiers,
                NULL::uuid[] AS ids
            FROM asked
            UNION ALL
            SELECT
                CASE WHEN seen.is_left THEN walk.top ELSE (block.lowest << block.bits) - 1 END,
                CASE WHEN seen.is_left THEN greatest(walk.width / 8, 1)
                    WHEN block.is_later AND (block.lowest << block.bits) - 1 <= asked.turn THEN 1
                    WHEN seen.examined < 500 THEN least(walk.width * 2, 1024)
                    ELSE walk.width END,
                walk.is_dense AND (seen.is_left
                    OR coalesce(cardinality(seen.numbers), 0) * 20 >= seen.examined),
                walk.found + CASE WHEN seen.is_left THEN 0
                    ELSE coalesce(cardinality(seen.numbers), 0) END,
                walk.examined + CASE WHEN asked.is_checked THEN seen.examined ELSE 0 END,
                CASE WHEN NOT seen.is_left THEN seen.numbers END,
                CASE WHEN NOT seen.is_left THEN seen.tiers END,
                CASE WHEN NOT seen.is_left THEN seen.ids END
            FROM walk CROSS JOIN asked CROSS JOIN LATERAL (
                SELECT walk.top > asked.turn AS is_later,
                    CASE WHEN walk.width >= 32 AND (walk.top >> 12) & 31 = 31
                        AND (walk.top <= asked.turn OR walk.top >> 17 > asked.turn >> 17)
                        THEN 17 ELSE 12 END AS bits
            ) size CROSS JOIN LATERAL (
                SELECT size.is_later, size.bits, walk.top >> size.bits AS highest, greatest(
                    (walk.top >> size.bits) + 1 - CASE size.bits WHEN 17 THEN walk.width >> 5 ELSE walk.width END,
                    CASE size.bits WHEN 17 THEN asked.floor >> 17 ELSE (walk.top >> 17) << 5 END,
                    CASE WHEN size.is_later THEN (asked.turn >> size.bits) + 1 END) AS lowest
            ) block CROSS JOIN LATERAL (
                SELECT string_agg(
                    CASE block.bits WHEN 17 THEN '''.b' ELSE '''.a' END || number || '''', '|'
                )::tsquery AS numbers
                FROM generate_series(block.lowest, block.highest) number
            ) within CROSS JOIN LATERAL (
                SELECT count(*) AS examined, walk.width > 1 AND count(*) >= 1500 AS is_left,
                    array_agg(read.number) FILTER (WHERE read.matches) AS numbers,
                    array_agg(CASE
                        WHEN read.words @@ asked.together THEN 2
                        WHEN read.words @@ asked.near THEN 1
                        ELSE 0 END) FILTER (WHERE read.matches) AS tiers,
                    array_agg(read.message_id) FILTER (WHERE read.matches) AS ids
                FROM (
                    SELECT w.number, w.message_id, w.words,
                        NOT asked.is_checked OR w.words @@ asked.exact AS matches
                    FROM inbox_message_words w
                    WHERE w.words @@ within.numbers
                        AND w.words @@ CASE WHEN walk.is_dense
                            THEN coalesce(asked.without_prefixes, within.numbers)
                            ELSE asked.probe END
                        AND w.number <= walk.top
                        AND (asked.from_at IS NULL OR w.created_at >= asked.from_at)
                        AND (asked.before_at IS NULL OR w.created_at < asked.before_at)
                    LIMIT CASE WHEN walk.width > 1 THEN 1500 END
                ) read
            ) seen
            WHERE walk.found < asked.enough AND walk.examined < 3000 AND walk.top >= asked.floor
        ), window_of AS (
            SELECT u.number, u.tier, u.id
            FROM walk, unnest(walk.numbers, walk.tiers, walk.ids) AS u (number, tier, id)
            ORDER BY u.number DESC LIMIT (SELECT enough FROM asked)
        ), ended AS (
            SELECT CASE
                WHEN max(walk.found) >= min(asked.enough) THEN (SELECT min(number) - 1 FROM window_of)
                WHEN min(walk.top) >= min(asked.floor) THEN min(walk.top) END AS below
            FROM walk, asked
        ), page AS (
            SELECT f.* FROM window_of f, input
            WHERE input.beyond_number IS NULL
                OR (f.tier, f.number) < (input.beyond_tier, input.beyond_number)
            ORDER BY f.tier DESC, f.number DESC LIMIT (SELECT rows FROM input)
        )
        SELECT asked.top, ended.below, page.tier, page.number, ", message_columns!(), "
        FROM asked CROSS JOIN ended LEFT JOIN page ON true
        LEFT JOIN inbox_messages m ON m.id = page.id AND m.deleted_at IS NULL
        ORDER BY page.tier DESC, page.number DESC")
}

/// Finds messages beyond a position.
pub async fn search(
    conn: &mut TenantConn,
    query: &Query,
    filter: &SearchFilter,
    beyond: Option<Position>,
    size: PageSize,
) -> Result<Found, Error> {
    type Row = (i64, Option<i64>, Option<i32>, Option<i64>, Option<Message>);
    let Some(facets) = facets(conn, filter).await? else {
        return Ok(Found {
            messages: Vec::new(),
            next: None,
        });
    };
    let with_facets = |query: String| {
        let parts = std::iter::once(&query).chain(&facets);
        let parts: Vec<_> = parts.filter(|part| !part.is_empty()).cloned().collect();
        parts.join(" & ")
    };
    let without_prefixes = query.probe_without_prefixes();
    let together = query.together();
    let near = query.near();
    let is_ranked = together.is_some() || near.is_some();
    let (beyond_tier, beyond_number) = beyond.and_then(|position| position.beyond).unzip();
    let statement = Search {
        exact: query.exact(),
        probe: with_facets(query.probe()),
        has_prefix: without_prefixes.is_some(),
        without_prefixes: without_prefixes
            .map(with_facets)
            .filter(|probe| !probe.is_empty()),
        is_checked: query.is_checked(),
        together,
        near,
        from_at: filter.from,
        before_at: filter.before,
        before_id: filter.before.map(first_id_at),
        top: beyond.map(|position| position.top),
        beyond_tier,
        beyond_number,
        enough: if is_ranked { WINDOW } else { size.rows() },
        rows: size.rows(),
        life: PhantomData,
    };
    let mut rows: Vec<Row> = statement.load(conn).await?;
    let items = usize::try_from(size.items()).map_err(Error::internal)?;
    let next = match rows.as_slice() {
        [.., last] if rows.len() <= items => last.1.map(|top| Position { top, beyond: None }),
        _ => {
            rows.truncate(items);
            rows.last().map(|(top, _, tier, number, _)| match number {
                Some(number) if !is_ranked => Position {
                    top: number - 1,
                    beyond: None,
                },
                _ => Position {
                    top: *top,
                    beyond: tier.zip(*number),
                },
            })
        }
    };
    Ok(Found {
        messages: rows.into_iter().filter_map(|row| row.4).collect(),
        next,
    })
}

/// What the filter says in the words of the index; `None` where nothing can match.
async fn facets(
    conn: &mut TenantConn,
    filter: &SearchFilter,
) -> Result<Option<Vec<String>>, Error> {
    let mut facets = Vec::new();
    if let Some(id) = filter.conversation_id {
        facets.push(quote(&format!(".v{id}")));
    }
    if let Some(id) = filter.channel_account_id {
        facets.push(quote(&format!(".n{id}")));
    }
    if let Some(author) = &filter.author {
        facets.push(quote(&format!(".w{} {}", author.kind(), author.id())));
    }
    if let Some(channels) = &filter.channels {
        facets.push(any(".c", channels.iter().map(|channel| channel.as_str())));
    }
    if let Some(directions) = &filter.directions {
        let directions = directions.iter().map(|direction| direction.as_str());
        facets.push(any(".d", directions));
    }
    if let Some(types) = &filter.types {
        facets.push(any(".t", types.iter().map(|kind| kind.as_str())));
    }
    if let Some(id) = filter.contact_id {
        let identities = contact_identity::of(conn, &[id]).await?;
        if identities.is_empty() {
            return Ok(None);
        }
        facets.push(any(".k", identities.iter().map(|identity| identity.id)));
    }
    if filter.from.is_some() || filter.before.is_some() {
        let day = |time: DateTime<Utc>| time.timestamp().div_euclid(DAY);
        let days = days(
            filter.from.map_or(0, day),
            filter.before.map_or(LAST_DAY, day),
        );
        if days.is_empty() {
            return Ok(None);
        }
        facets.push(any(".", days.iter()));
    }
    Ok(Some(facets))
}

/// The days from the first to the last, as few lexemes: whole spans of 1,024 and of 32 days by
/// theirs. The first and the last day are looked at by the hour when a row is read.
fn days(first: i64, last: i64) -> Vec<String> {
    let mut days = Vec::new();
    let (mut day, last) = (first, last.min(LAST_DAY));
    while day <= last {
        let spans = [('g', 1024), ('f', 32), ('e', 1)];
        let fits = |(_, length): &(char, i64)| day % length == 0 && day + length - 1 <= last;
        let (kind, length) = spans.into_iter().find(fits).unwrap_or(('e', 1));
        days.push(format!("{kind}{}", day / length));
        day += length;
    }
    days
}

/// The lowest id of those that were made at a time or later.
fn first_id_at(time: DateTime<Utc>) -> Uuid {
    let millis = u64::try_from(time.timestamp_millis()).unwrap_or_default();
    Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid()
}

fn any<T: std::fmt::Display>(kind: &str, values: impl Iterator<Item = T>) -> String {
    let values = values.map(|value| quote(&format!("{kind}{value}")));
    format!("({})", values.collect::<Vec<_>>().join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_days_is_covered_by_few_lexemes_and_no_other_day() {
        assert_eq!(days(20_000, 20_000), ["e20000"]);
        assert_eq!(days(31, 65), ["e31", "f1", "e64", "e65"]);
        assert_eq!(days(0, 1_055), ["g0", "f32"]);
        assert!(days(5, 4).is_empty());
        for (first, last) in [(20_451, 20_777), (1_023, 4_097), (19_999, 99_999)] {
            let covered: i64 = days(first, last)
                .iter()
                .map(|day| match &day[..1] {
                    "g" => 1_024,
                    "f" => 32,
                    _ => 1,
                })
                .sum();
            assert_eq!(covered, last.min(LAST_DAY) - first + 1);
        }
        assert!(days(1, LAST_DAY).len() < 256);
    }
}
