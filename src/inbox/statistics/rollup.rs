//! The rollups: what is counted, by time.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Binary, Integer, Nullable, SmallInt, Text, Timestamptz};
use diesel_async::RunQueryDsl;

use super::fact::{Duration, Facet, Lasting, Occurrence};
use super::histogram::Histogram;
use super::range::{LENGTHS, Run, bucket_of};
use crate::error::Error;
use crate::tenant::TenantConn;

/// What durations add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Durations {
    /// How many there are.
    pub count: i64,
    /// By the clock on the wall.
    pub wall: Sum,
    /// Business hours alone.
    pub business: Sum,
}

/// What some durations, in milliseconds, add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sum {
    /// All together.
    pub total: i64,
    /// The longest.
    pub longest: i64,
    /// How many there are of each length.
    pub histogram: Histogram,
}

impl Durations {
    /// Adds a duration.
    pub fn add(&mut self, duration: &Duration) {
        self.count += 1;
        self.wall.add(duration.wall);
        self.business.add(duration.business);
    }

    fn merge(&mut self, row: &DurationsRow) -> Result<(), Error> {
        self.count += row.count;
        let wall = &row.wall_histogram;
        self.wall.merge(row.wall_total, row.wall_longest, wall)?;
        let business = &row.business_histogram;
        self.business
            .merge(row.business_total, row.business_longest, business)
    }
}

impl Sum {
    fn add(&mut self, milliseconds: i64) {
        self.total += milliseconds;
        self.longest = self.longest.max(milliseconds);
        self.histogram.add(milliseconds);
    }

    fn merge(&mut self, total: i64, longest: i64, histogram: &[u8]) -> Result<(), Error> {
        self.total += total;
        self.longest = self.longest.max(longest);
        let merged = self.histogram.merge_bytes(histogram);
        merged.ok_or_else(|| Error::internal("a rollup's histogram cannot be read"))
    }
}

/// How often something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrences {
    /// How often.
    pub count: i64,
    /// When first.
    pub first_at: DateTime<Utc>,
    /// When last.
    pub last_at: DateTime<Utc>,
}

impl Occurrences {
    /// Counts once.
    pub fn once(at: DateTime<Utc>) -> Self {
        Self {
            count: 1,
            first_at: at,
            last_at: at,
        }
    }

    /// Adds others.
    pub fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.first_at = self.first_at.min(other.first_at);
        self.last_at = self.last_at.max(other.last_at);
    }
}

/// Which bucket of the rollups something is counted in: by what, how long it is, when it begins, of
/// which value, what.
type Key<M> = (Facet, i16, DateTime<Utc>, String, M);

/// What is to be added to the rollups.
#[derive(Debug, Default)]
pub struct Tally {
    counts: BTreeMap<Key<String>, Occurrences>,
    durations: BTreeMap<Key<Lasting>, Durations>,
}

impl Tally {
    /// Adds what happened.
    pub fn count(&mut self, occurrence: &Occurrence) {
        let once = Occurrences::once(occurrence.at);
        let word = occurrence.counted.word();
        for minutes in LENGTHS {
            let bucket = bucket_of(occurrence.at, minutes);
            for (facet, value) in &occurrence.by {
                let key = (*facet, minutes, bucket, value.clone(), word.clone());
                let counted = self.counts.entry(key);
                counted.and_modify(|all| all.merge(once)).or_insert(once);
            }
        }
    }

    /// Adds what lasted.
    pub fn last(&mut self, duration: &Duration) {
        for minutes in LENGTHS {
            let bucket = bucket_of(duration.at, minutes);
            for (facet, value) in &duration.by {
                let key = (*facet, minutes, bucket, value.clone(), duration.lasting);
                self.durations.entry(key).or_default().add(duration);
            }
        }
    }

    /// Adds it all to the rollups of a generation, which nobody else writes meanwhile.
    pub async fn store(mut self, conn: &mut TenantConn, generation: i32) -> Result<(), Error> {
        self.store_counts(conn, generation).await?;
        self.merge_stored(conn, generation).await?;
        self.store_durations(conn, generation).await
    }

    async fn store_counts(&self, conn: &mut TenantConn, generation: i32) -> Result<(), Error> {
        if self.counts.is_empty() {
            return Ok(());
        }
        let keys = Keys::of(&self.counts);
        let words: Vec<_> = self.counts.keys().map(|key| key.4.as_str()).collect();
        let values = || self.counts.values();
        diesel::sql_query(
            "INSERT INTO statistics_counts AS s (generation, facet, minutes, bucket, value, measure,
                 count, first_at, last_at)
             SELECT $1, n.* FROM unnest($2, $3, $4, $5, $6, $7, $8, $9) AS n
             ON CONFLICT (generation, facet, minutes, bucket, value, measure) DO UPDATE
             SET count = s.count + excluded.count,
                 first_at = least(s.first_at, excluded.first_at),
                 last_at = greatest(s.last_at, excluded.last_at)",
        )
        .bind::<Integer, _>(generation)
        .bind::<Array<Text>, _>(keys.facets)
        .bind::<Array<SmallInt>, _>(keys.minutes)
        .bind::<Array<Timestamptz>, _>(keys.buckets)
        .bind::<Array<Text>, _>(keys.values)
        .bind::<Array<Text>, _>(words)
        .bind::<Array<BigInt>, _>(values().map(|all| all.count).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(values().map(|all| all.first_at).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(values().map(|all| all.last_at).collect::<Vec<_>>())
        .execute(conn)
        .await?;
        Ok(())
    }

    /// Adds what is stored to what is to be, because no SQL can add histograms.
    async fn merge_stored(&mut self, conn: &mut TenantConn, generation: i32) -> Result<(), Error> {
        if self.durations.is_empty() {
            return Ok(());
        }
        let keys = Keys::of(&self.durations);
        let lasting: Vec<_> = self.durations.keys().map(|key| key.4).collect();
        let stored: Vec<DurationsRow> = diesel::sql_query(
            "SELECT s.* FROM unnest($2, $3, $4, $5, $6) AS n (facet, minutes, bucket, value, measure)
             CROSS JOIN LATERAL (
                 SELECT * FROM statistics_durations s
                 WHERE s.generation = $1 AND s.facet = n.facet AND s.minutes = n.minutes
                     AND s.bucket = n.bucket AND s.value = n.value AND s.measure = n.measure
                 LIMIT 1
             ) s",
        )
        .bind::<Integer, _>(generation)
        .bind::<Array<Text>, _>(keys.facets)
        .bind::<Array<SmallInt>, _>(keys.minutes)
        .bind::<Array<Timestamptz>, _>(keys.buckets)
        .bind::<Array<Text>, _>(keys.values)
        .bind::<Array<Text>, _>(lasting)
        .load(conn)
        .await?;
        for row in stored {
            let key = (
                row.facet,
                row.minutes,
                row.bucket,
                row.value.clone(),
                row.measure,
            );
            if let Some(durations) = self.durations.get_mut(&key) {
                durations.merge(&row)?;
            }
        }
        Ok(())
    }

    async fn store_durations(&self, conn: &mut TenantConn, generation: i32) -> Result<(), Error> {
        if self.durations.is_empty() {
            return Ok(());
        }
        let keys = Keys::of(&self.durations);
        let lasting: Vec<_> = self.durations.keys().map(|key| key.4).collect();
        let numbers =
            |of: fn(&Durations) -> i64| -> Vec<i64> { self.durations.values().map(of).collect() };
        let histograms = |of: fn(&Durations) -> &Sum| -> Vec<Vec<u8>> {
            let sums = self.durations.values().map(of);
            sums.map(|sum| sum.histogram.to_bytes()).collect()
        };
        diesel::sql_query(
            "INSERT INTO statistics_durations (generation, facet, minutes, bucket, value, measure,
                 count, wall_total, wall_longest, wall_histogram, business_total, business_longest,
                 business_histogram)
             SELECT $1, n.* FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) AS n
             ON CONFLICT (generation, facet, minutes, bucket, value, measure) DO UPDATE
             SET count = excluded.count, wall_total = excluded.wall_total,
                 wall_longest = excluded.wall_longest, wall_histogram = excluded.wall_histogram,
                 business_total = excluded.business_total,
                 business_longest = excluded.business_longest,
                 business_histogram = excluded.business_histogram",
        )
        .bind::<Integer, _>(generation)
        .bind::<Array<Text>, _>(keys.facets)
        .bind::<Array<SmallInt>, _>(keys.minutes)
        .bind::<Array<Timestamptz>, _>(keys.buckets)
        .bind::<Array<Text>, _>(keys.values)
        .bind::<Array<Text>, _>(lasting)
        .bind::<Array<BigInt>, _>(numbers(|all| all.count))
        .bind::<Array<BigInt>, _>(numbers(|all| all.wall.total))
        .bind::<Array<BigInt>, _>(numbers(|all| all.wall.longest))
        .bind::<Array<Binary>, _>(histograms(|all| &all.wall))
        .bind::<Array<BigInt>, _>(numbers(|all| all.business.total))
        .bind::<Array<BigInt>, _>(numbers(|all| all.business.longest))
        .bind::<Array<Binary>, _>(histograms(|all| &all.business))
        .execute(conn)
        .await?;
        Ok(())
    }
}

/// Keys by column.
struct Keys<'a> {
    facets: Vec<Facet>,
    minutes: Vec<i16>,
    buckets: Vec<DateTime<Utc>>,
    values: Vec<&'a str>,
}

impl<'a> Keys<'a> {
    fn of<M, T>(all: &'a BTreeMap<Key<M>, T>) -> Self {
        Self {
            facets: all.keys().map(|key| key.0).collect(),
            minutes: all.keys().map(|key| key.1).collect(),
            buckets: all.keys().map(|key| key.2).collect(),
            values: all.keys().map(|key| key.3.as_str()).collect(),
        }
    }
}

/// What to read of the rollups.
#[derive(Debug)]
pub struct Selection<'a> {
    /// Of which generation.
    pub generation: i32,
    /// Counted by what.
    pub facet: Facet,
    /// Of which values; `None` for all.
    pub values: Option<&'a [String]>,
    /// Of which buckets.
    pub runs: &'a [Run],
}

#[derive(Debug, QueryableByName)]
struct DurationsRow {
    #[diesel(sql_type = Text)]
    facet: Facet,
    #[diesel(sql_type = SmallInt)]
    minutes: i16,
    #[diesel(sql_type = Timestamptz)]
    bucket: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    value: String,
    #[diesel(sql_type = Text)]
    measure: Lasting,
    #[diesel(sql_type = BigInt)]
    count: i64,
    #[diesel(sql_type = BigInt)]
    wall_total: i64,
    #[diesel(sql_type = BigInt)]
    wall_longest: i64,
    #[diesel(sql_type = Binary)]
    wall_histogram: Vec<u8>,
    #[diesel(sql_type = BigInt)]
    business_total: i64,
    #[diesel(sql_type = BigInt)]
    business_longest: i64,
    #[diesel(sql_type = Binary)]
    business_histogram: Vec<u8>,
}

#[derive(Debug, QueryableByName)]
struct CountsRow {
    #[diesel(sql_type = Timestamptz)]
    bucket: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    value: String,
    #[diesel(sql_type = Text)]
    measure: String,
    #[diesel(sql_type = BigInt)]
    count: i64,
    #[diesel(sql_type = Timestamptz)]
    first_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    last_at: DateTime<Utc>,
}

/// The rows of a rollup that a selection picks: each run is a walk down the index.
macro_rules! selected {
    ($columns:literal, $table:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM unnest($1, $2, $3) AS r (minutes, from_at, to_at) CROSS JOIN LATERAL (
                SELECT * FROM ",
            $table,
            " s
                WHERE s.generation = $4 AND s.facet = $5 AND s.minutes = r.minutes
                    AND s.bucket >= r.from_at AND s.bucket < r.to_at
                    AND ($6 IS NULL OR s.value = ANY ($6))
                OFFSET 0
            ) s"
        )
    };
}

/// Binds what `selected` needs.
macro_rules! select {
    ($query:expr, $selection:expr) => {{
        let runs = $selection.runs;
        diesel::sql_query($query)
            .bind::<Array<SmallInt>, _>(runs.iter().map(|run| run.minutes).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(runs.iter().map(|run| run.span.from).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(runs.iter().map(|run| run.span.to).collect::<Vec<_>>())
            .bind::<Integer, _>($selection.generation)
            .bind::<Text, _>($selection.facet)
            .bind::<Nullable<Array<Text>>, _>($selection.values)
    }};
}

/// Adds up the durations that a selection picks, for each group that `group` puts a bucket and
/// value into.
pub async fn durations<G: std::hash::Hash + Eq>(
    conn: &mut TenantConn,
    selection: &Selection<'_>,
    mut group: impl FnMut(DateTime<Utc>, String) -> Option<G>,
) -> Result<HashMap<(G, Lasting), Durations>, Error> {
    let rows = select!(selected!("s.*", "statistics_durations"), selection);
    let mut groups: HashMap<(G, Lasting), Durations> = HashMap::new();
    for mut row in rows.load::<DurationsRow>(conn).await? {
        if let Some(of) = group(row.bucket, std::mem::take(&mut row.value)) {
            groups.entry((of, row.measure)).or_default().merge(&row)?;
        }
    }
    Ok(groups)
}

/// Adds up the counts that a selection picks, for each group that `group` puts a bucket, a value
/// and what was counted into.
pub async fn counts<G: std::hash::Hash + Eq>(
    conn: &mut TenantConn,
    selection: &Selection<'_>,
    mut group: impl FnMut(DateTime<Utc>, String, String) -> Option<G>,
) -> Result<HashMap<G, Occurrences>, Error> {
    let columns = selected!(
        "s.bucket, s.value, s.measure, s.count, s.first_at, s.last_at",
        "statistics_counts"
    );
    let mut groups: HashMap<G, Occurrences> = HashMap::new();
    for row in select!(columns, selection).load::<CountsRow>(conn).await? {
        if let Some(of) = group(row.bucket, row.value, row.measure) {
            let all = Occurrences {
                count: row.count,
                first_at: row.first_at,
                last_at: row.last_at,
            };
            let counted = groups.entry(of);
            counted.and_modify(|sum| sum.merge(all)).or_insert(all);
        }
    }
    Ok(groups)
}
