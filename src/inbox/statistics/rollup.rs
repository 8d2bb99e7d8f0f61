//! The rollups: what is counted, by time.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, Binary, Integer, Nullable, SmallInt, Text, Timestamptz};
use diesel_async::RunQueryDsl;

use super::calendar::{Calendar, Grain};
use super::fact::{Counted, Duration, Facet, Lasting, Occurrence};
use super::range::Run;
use super::sums::{self, Counts, Durations, Occurrences, Sum};
use crate::error::Error;
use crate::tenant::TenantConn;

/// What a bucket adds up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums {
    /// How often each thing happened.
    pub counts: Counts,
    /// How long each thing took.
    pub durations: BTreeMap<Lasting, Durations>,
}

/// How the rollups keep sums.
#[derive(Debug, QueryableByName)]
struct Kept {
    #[diesel(sql_type = Nullable<Binary>)]
    counts: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    wall: Option<Vec<u8>>,
    /// Left out where it is as the wall.
    #[diesel(sql_type = Nullable<Binary>)]
    business: Option<Vec<u8>>,
}

impl Sums {
    fn count(&mut self, counted: Counted, at: DateTime<Utc>) {
        sums::count(&mut self.counts, counted, Occurrences::once(at));
    }

    fn merge(&mut self, other: Self) {
        for (counted, all) in other.counts {
            sums::count(&mut self.counts, counted, all);
        }
        for (lasting, durations) in other.durations {
            self.durations.entry(lasting).or_default().merge(&durations);
        }
    }

    fn write(&self) -> Kept {
        let written = |of: fn(&Durations) -> &Sum| {
            let sums = self.durations.iter();
            sums::write_sums(sums.map(|(lasting, durations)| (*lasting, of(durations))))
        };
        let there = |bytes: Vec<u8>| (!bytes.is_empty()).then_some(bytes);
        let wall = there(written(|durations| &durations.wall));
        let business = there(written(|durations| &durations.business));
        Kept {
            counts: there(sums::write_counts(&self.counts)),
            business: business.filter(|business| Some(business) != wall.as_ref()),
            wall,
        }
    }

    fn read(kept: &Kept) -> Result<Self, Error> {
        let unreadable = || Error::internal("a rollup cannot be read");
        let counts = sums::read_counts(kept.counts.as_deref().unwrap_or_default());
        let read = |bytes: Option<&[u8]>| {
            sums::read_sums(bytes.unwrap_or_default()).ok_or_else(unreadable)
        };
        let walls = read(kept.wall.as_deref())?;
        let mut businesses = match &kept.business {
            None => None,
            business => Some(read(business.as_deref())?),
        };
        let durations = walls.into_iter().map(|(lasting, wall)| {
            let business = match &mut businesses {
                None => Some(wall.clone()),
                Some(sums) => sums.remove(&lasting),
            };
            let business = business.unwrap_or_default();
            (lasting, Durations { wall, business })
        });
        Ok(Self {
            counts: counts.ok_or_else(unreadable)?,
            durations: durations.collect(),
        })
    }
}

/// Which bucket of the rollups something is counted in: by what, how long it is, when it begins, of
/// which value.
type Key = (Facet, i16, DateTime<Utc>, String);

/// What is to be added to the rollups.
#[derive(Debug)]
pub struct Tally {
    grains: Vec<(i16, Grain)>,
    rows: BTreeMap<Key, Sums>,
}

impl Tally {
    /// Begins with nothing.
    pub fn new(calendar: &Calendar) -> Self {
        Self {
            grains: calendar.grains(),
            rows: BTreeMap::new(),
        }
    }

    /// Adds what happened.
    pub fn count(&mut self, occurrence: &Occurrence) {
        self.add(occurrence.at, &occurrence.by, |sums| {
            sums.count(occurrence.counted, occurrence.at);
        });
    }

    /// Adds what lasted.
    pub fn last(&mut self, duration: &Duration) {
        self.add(duration.at, &duration.by, |sums| {
            let durations = sums.durations.entry(duration.lasting);
            durations.or_default().add(duration);
        });
    }

    fn add(&mut self, at: DateTime<Utc>, by: &[(Facet, String)], add: impl Fn(&mut Sums)) {
        for (number, grain) in &self.grains {
            let bucket = grain.begin(at);
            for (facet, value) in by {
                let key = (*facet, *number, bucket, value.clone());
                add(self.rows.entry(key).or_default());
            }
        }
    }

    /// Adds it all to the rollups of a generation, which nobody else writes meanwhile.
    pub async fn store(mut self, conn: &mut TenantConn, generation: i32) -> Result<(), Error> {
        if self.rows.is_empty() {
            return Ok(());
        }
        self.merge_stored(conn, generation).await?;
        let keys = Keys::of(&self.rows);
        let kept: Vec<_> = self.rows.values().map(Sums::write).collect();
        let column = |of: fn(&Kept) -> Option<&Vec<u8>>| kept.iter().map(of).collect::<Vec<_>>();
        diesel::sql_query(
            "INSERT INTO statistics_rollups (generation, facet, grain, bucket, value, counts, wall,
                 business)
             SELECT $1, n.* FROM unnest($2, $3, $4, $5, $6, $7, $8) AS n
             ON CONFLICT (generation, facet, grain, bucket, value) DO UPDATE
             SET counts = excluded.counts, wall = excluded.wall, business = excluded.business",
        )
        .bind::<Integer, _>(generation)
        .bind::<Array<Text>, _>(keys.facets)
        .bind::<Array<SmallInt>, _>(keys.grains)
        .bind::<Array<Timestamptz>, _>(keys.buckets)
        .bind::<Array<Text>, _>(keys.values)
        .bind::<Array<Nullable<Binary>>, _>(column(|kept| kept.counts.as_ref()))
        .bind::<Array<Nullable<Binary>>, _>(column(|kept| kept.wall.as_ref()))
        .bind::<Array<Nullable<Binary>>, _>(column(|kept| kept.business.as_ref()))
        .execute(conn)
        .await?;
        Ok(())
    }

    /// Adds what is stored to what is to be, because no SQL can add histograms.
    async fn merge_stored(&mut self, conn: &mut TenantConn, generation: i32) -> Result<(), Error> {
        let keys = Keys::of(&self.rows);
        let stored: Vec<Stored> = diesel::sql_query(
            "SELECT s.* FROM unnest($2, $3, $4, $5) AS n (facet, grain, bucket, value)
             CROSS JOIN LATERAL (
                 SELECT * FROM statistics_rollups s
                 WHERE s.generation = $1 AND s.facet = n.facet AND s.grain = n.grain
                     AND s.bucket = n.bucket AND s.value = n.value
                 LIMIT 1
             ) s",
        )
        .bind::<Integer, _>(generation)
        .bind::<Array<Text>, _>(keys.facets)
        .bind::<Array<SmallInt>, _>(keys.grains)
        .bind::<Array<Timestamptz>, _>(keys.buckets)
        .bind::<Array<Text>, _>(keys.values)
        .load(conn)
        .await?;
        for row in stored {
            let key = (row.facet, row.grain, row.bucket, row.value);
            if let Some(sums) = self.rows.get_mut(&key) {
                sums.merge(Sums::read(&row.kept)?);
            }
        }
        Ok(())
    }
}

/// Keys by column.
struct Keys<'a> {
    facets: Vec<Facet>,
    grains: Vec<i16>,
    buckets: Vec<DateTime<Utc>>,
    values: Vec<&'a str>,
}

impl<'a> Keys<'a> {
    fn of(all: &'a BTreeMap<Key, Sums>) -> Self {
        Self {
            facets: all.keys().map(|key| key.0).collect(),
            grains: all.keys().map(|key| key.1).collect(),
            buckets: all.keys().map(|key| key.2).collect(),
            values: all.keys().map(|key| key.3.as_str()).collect(),
        }
    }
}

#[derive(Debug, QueryableByName)]
struct Stored {
    #[diesel(sql_type = Text)]
    facet: Facet,
    #[diesel(sql_type = SmallInt)]
    grain: i16,
    #[diesel(sql_type = Timestamptz)]
    bucket: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    value: String,
    #[diesel(embed)]
    kept: Kept,
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
    /// What of them.
    pub wanted: Wanted,
}

/// Which sums to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// How often things happened.
    Counts,
    /// How long things took.
    Durations,
    /// Both.
    Both,
}

/// What a value adds up to in one bucket of a range.
#[derive(Debug)]
pub struct Cell {
    /// The number of the bucket.
    pub bucket: usize,
    /// The value.
    pub value: String,
    /// What it adds up to.
    pub sums: Sums,
}

#[derive(Debug, QueryableByName)]
struct CellRow {
    #[diesel(sql_type = Integer)]
    number: i32,
    #[diesel(sql_type = Text)]
    value: String,
    #[diesel(embed)]
    kept: Kept,
}

/// The rows that a selection picks, put behind each other for each bucket of the range and value:
/// each run is a walk down the index.
macro_rules! selected {
    ($counts:expr, $durations:expr) => {
        concat!(
            "SELECT r.number, s.value, ",
            $counts,
            " AS counts, ",
            $durations,
            "
            FROM unnest($1, $2, $3, $4) AS r (number, grain, from_at, to_at) CROSS JOIN LATERAL (
                SELECT * FROM statistics_rollups s
                WHERE s.generation = $5 AND s.facet = $6 AND s.grain = r.grain
                    AND s.bucket >= r.from_at AND s.bucket < r.to_at
                    AND ($7 IS NULL OR s.value = ANY ($7))
                OFFSET 0
            ) s GROUP BY r.number, s.value"
        )
    };
}

macro_rules! all_counts {
    () => {
        "string_agg(s.counts, '')"
    };
}

macro_rules! all_durations {
    () => {
        "string_agg(s.wall, '') AS wall, CASE WHEN count(s.business) > 0
            THEN string_agg(coalesce(s.business, s.wall), '') END AS business"
    };
}

/// Adds up what a selection picks.
pub async fn cells(conn: &mut TenantConn, selection: &Selection<'_>) -> Result<Vec<Cell>, Error> {
    let query = match selection.wanted {
        Wanted::Counts => selected!(
            all_counts!(),
            "NULL::bytea AS wall, NULL::bytea AS business"
        ),
        Wanted::Durations => selected!("NULL::bytea", all_durations!()),
        Wanted::Both => selected!(all_counts!(), all_durations!()),
    };
    let runs = selection.runs;
    let numbers = runs.iter().map(|run| i32::try_from(run.bucket));
    let numbers: Result<Vec<_>, _> = numbers.collect();
    let rows: Vec<CellRow> = diesel::sql_query(query)
        .bind::<Array<Integer>, _>(numbers.map_err(Error::internal)?)
        .bind::<Array<SmallInt>, _>(runs.iter().map(|run| run.grain).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(runs.iter().map(|run| run.span.from).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(runs.iter().map(|run| run.span.to).collect::<Vec<_>>())
        .bind::<Integer, _>(selection.generation)
        .bind::<Text, _>(selection.facet)
        .bind::<Nullable<Array<Text>>, _>(selection.values)
        .load(conn)
        .await?;
    let cell = |row: CellRow| {
        Ok(Cell {
            bucket: usize::try_from(row.number).map_err(Error::internal)?,
            value: row.value,
            sums: Sums::read(&row.kept)?,
        })
    };
    rows.into_iter().map(cell).collect()
}
