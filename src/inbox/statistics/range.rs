//! A range of time, cut into the buckets that were asked for, and what has to be read for it.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike as _, Days, Months, NaiveDate, NaiveTime, TimeDelta, Utc};
use chrono::{NaiveDateTime, TimeZone as _, Timelike as _};
use chrono_tz::Tz;

use super::calendar::Grain;
use super::hours::offset;
use crate::error::Error;

/// The most buckets that a range may be cut into.
pub const MAX_BUCKETS: usize = 1000;

/// How long the buckets of an answer are, by the clock on the wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// One bucket for all.
    Whole,
    /// Hours.
    Hour,
    /// Days.
    Day,
    /// Weeks from Monday.
    Week,
    /// Months.
    Month,
}

/// A span of time, without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its beginning.
    pub from: DateTime<Utc>,
    /// Its end.
    pub to: DateTime<Utc>,
}

/// A range as it was asked for.
#[derive(Debug)]
pub struct Asked {
    /// Its beginning; 30 days before its end if left out.
    pub from: Option<DateTime<Utc>>,
    /// Its end; now if left out.
    pub to: Option<DateTime<Utc>>,
    /// How long its buckets are.
    pub unit: Unit,
    /// On the clock of where.
    pub zone: Tz,
}

impl Asked {
    /// Cuts it.
    ///
    /// # Errors
    /// It ends before it begins, or has too many buckets.
    pub fn cut(&self, now: DateTime<Utc>) -> Result<Range, Error> {
        let to = self.to.unwrap_or(now);
        let from = self.from.unwrap_or(to - TimeDelta::days(30));
        if from >= to {
            return Err(Error::invalid("start_time", "must be before `end_time`"));
        }
        let range = Range::cut(Span { from, to }, self.unit, self.zone);
        let too_many = format!("makes more than {MAX_BUCKETS} buckets of this range");
        range.ok_or_else(|| Error::invalid("interval", too_many))
    }
}

/// A range of time, cut into buckets.
#[derive(Debug)]
pub struct Range(Vec<DateTime<Utc>>);

/// Buckets of the rollups, of one grain and side by side, in one bucket of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The number of the range's bucket.
    pub bucket: usize,
    /// The number of the grain.
    pub grain: i16,
    /// Where they lie.
    pub span: Span,
}

impl Range {
    /// Cuts a span that is not empty; `None` if that makes too many buckets.
    pub fn cut(span: Span, unit: Unit, zone: Tz) -> Option<Self> {
        let mut bounds = vec![span.from];
        let mut at = floor(span.from, unit, zone);
        while let Some(next) = next(at, unit, zone).filter(|next| *next < span.to) {
            if bounds.len() == MAX_BUCKETS {
                return None;
            }
            if next > span.from {
                bounds.push(next);
            }
            at = next;
        }
        bounds.push(span.to);
        Some(Self(bounds))
    }

    /// Its buckets.
    pub fn buckets(&self) -> impl Iterator<Item = Span> {
        self.0.windows(2).map(|bounds| Span {
            from: bounds[0],
            to: bounds[1],
        })
    }

    /// The number of the bucket that a moment is in, if it is in the range.
    pub fn bucket(&self, at: DateTime<Utc>) -> Option<usize> {
        let after = self.0.partition_point(|bound| *bound <= at);
        (1..self.0.len()).contains(&after).then(|| after - 1)
    }

    /// Puts what was found of each bucket's number and group in order, with its bucket; where there
    /// is but the one group, every bucket is there.
    pub fn laid_out<G: Ord, T: Default>(
        &self,
        mut found: BTreeMap<(usize, G), T>,
        only: Option<fn() -> G>,
    ) -> Vec<(Span, G, T)> {
        if let Some(only) = only {
            for number in 0..self.buckets().count() {
                found.entry((number, only())).or_default();
            }
        }
        let buckets: Vec<_> = self.buckets().collect();
        let found = found.into_iter();
        found
            .map(|((number, group), value)| (buckets[number], group, value))
            .collect()
    }

    /// What the rollups have of it, in as long buckets as fit of the grains, the longest first; and
    /// the ends that none fits.
    pub fn parts(&self, grains: &[(i16, Grain)]) -> (Vec<Run>, Vec<Span>) {
        let mut runs = Vec::new();
        let mut ends = Vec::new();
        for (number, bucket) in self.buckets().enumerate() {
            fill(number, bucket, grains, &mut runs, &mut ends);
        }
        (runs, ends)
    }
}

fn fill(
    bucket: usize,
    span: Span,
    grains: &[(i16, Grain)],
    runs: &mut Vec<Run>,
    ends: &mut Vec<Span>,
) {
    if span.from >= span.to {
        return;
    }
    let Some(((number, grain), shorter)) = grains.split_first() else {
        ends.push(span);
        return;
    };
    let mut begin = grain.begin(span.from);
    if begin < span.from {
        begin = grain.end(begin);
    }
    let below = grain.begin(span.to);
    if begin >= below {
        fill(bucket, span, shorter, runs, ends);
        return;
    }
    let of = |from, to| Span { from, to };
    fill(bucket, of(span.from, begin), shorter, runs, ends);
    runs.push(Run {
        bucket,
        grain: *number,
        span: of(begin, below),
    });
    fill(bucket, of(below, span.to), shorter, runs, ends);
}

/// The beginning of the unit that a moment is in, or some moment before it.
pub fn floor(at: DateTime<Utc>, unit: Unit, zone: Tz) -> DateTime<Utc> {
    let wall = at.naive_utc() + offset(zone, at);
    let day = wall.date();
    let first = match unit {
        Unit::Whole => return at,
        Unit::Hour => {
            let past = i64::from(wall.minute()) * 60 + i64::from(wall.second());
            let within = TimeDelta::nanoseconds(wall.nanosecond().into());
            return at - TimeDelta::seconds(past) - within;
        }
        Unit::Day => Some(day),
        Unit::Week => {
            let since_monday = day.weekday().num_days_from_monday();
            day.checked_sub_days(Days::new(since_monday.into()))
        }
        Unit::Month => day.with_day(1),
    };
    first.map_or(at, |first| midnight(first, zone))
}

/// The beginning of the next unit after one's beginning; `None` at the end of time.
pub fn next(at: DateTime<Utc>, unit: Unit, zone: Tz) -> Option<DateTime<Utc>> {
    let wall = at.naive_utc() + offset(zone, at);
    // Where the clock jumps by less than an hour, the hour that it lands in is shorter.
    if unit == Unit::Hour {
        let left = 60 - i64::from(wall.minute());
        return at.checked_add_signed(TimeDelta::minutes(left));
    }
    let day = wall.date();
    let mut first = match unit {
        Unit::Whole | Unit::Hour => return None,
        Unit::Day => day.succ_opt()?,
        Unit::Week => day.checked_add_days(Days::new(7))?,
        Unit::Month => day.with_day(1)?.checked_add_months(Months::new(1))?,
    };
    // A day that the zone left out has no beginning of its own.
    loop {
        let next = midnight(first, zone);
        if next > at {
            return Some(next);
        }
        first = first.succ_opt()?;
    }
}

/// When a day begins: at its first moment, whatever the clock says then.
fn midnight(day: NaiveDate, zone: Tz) -> DateTime<Utc> {
    let mut wall: NaiveDateTime = day.and_time(NaiveTime::MIN);
    // A clock that jumps over midnight lands within the day; over a whole day, in the next.
    for _ in 0..=96 {
        if let Some(at) = zone.from_local_datetime(&wall).earliest() {
            return at.to_utc();
        }
        wall += TimeDelta::minutes(15);
    }
    day.and_time(NaiveTime::MIN).and_utc()
}

#[cfg(test)]
mod tests {
    use super::super::calendar::Calendar;
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn span(from: &str, to: &str) -> Span {
        Span {
            from: at(from),
            to: at(to),
        }
    }

    fn hours(from: &str, to: &str, unit: Unit, zone: Tz) -> Vec<i64> {
        let range = Range::cut(span(from, to), unit, zone).unwrap();
        let length = |bucket: Span| (bucket.to - bucket.from).num_minutes();
        range.buckets().map(|bucket| length(bucket) / 60).collect()
    }

    #[test]
    fn days_have_23_and_25_hours_where_the_clock_jumps() {
        let berlin = Tz::Europe__Berlin;
        let days = hours(
            "2026-03-27T23:00:00Z",
            "2026-03-30T22:00:00Z",
            Unit::Day,
            berlin,
        );
        assert_eq!(days, [24, 23, 24]);
        let days = hours(
            "2026-10-23T22:00:00Z",
            "2026-10-26T23:00:00Z",
            Unit::Day,
            berlin,
        );
        assert_eq!(days, [24, 25, 24]);
        // Midnight itself is left out in São Paulo, a whole day on Samoa.
        let days = hours(
            "2018-11-03T03:00:00Z",
            "2018-11-05T02:00:00Z",
            Unit::Day,
            Tz::America__Sao_Paulo,
        );
        assert_eq!(days, [24, 23]);
        let days = hours(
            "2011-12-29T10:00:00Z",
            "2012-01-01T10:00:00Z",
            Unit::Day,
            Tz::Pacific__Apia,
        );
        assert_eq!(days, [24, 24, 24]);
    }

    #[test]
    fn ranges_begin_and_end_where_they_were_asked_to() {
        let range = Range::cut(
            span("2026-01-01T10:20:30.5Z", "2026-01-03T00:00:00.1Z"),
            Unit::Day,
            Tz::UTC,
        )
        .unwrap();
        let buckets: Vec<_> = range.buckets().collect();
        let expected = [
            span("2026-01-01T10:20:30.5Z", "2026-01-02T00:00:00Z"),
            span("2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"),
            span("2026-01-03T00:00:00Z", "2026-01-03T00:00:00.1Z"),
        ];
        assert_eq!(buckets, expected);
        assert_eq!(range.bucket(at("2026-01-01T10:20:30.4Z")), None);
        assert_eq!(range.bucket(at("2026-01-01T10:20:30.5Z")), Some(0));
        assert_eq!(range.bucket(at("2026-01-02T00:00:00Z")), Some(1));
        assert_eq!(range.bucket(at("2026-01-03T00:00:00.1Z")), None);
    }

    #[test]
    fn hours_weeks_and_months_begin_on_the_clock_of_the_zone() {
        let kathmandu = Tz::Asia__Kathmandu;
        let range = Range::cut(
            span("2026-01-01T00:00:00Z", "2026-01-01T02:00:00Z"),
            Unit::Hour,
            kathmandu,
        );
        let starts: Vec<_> = range.unwrap().buckets().map(|bucket| bucket.from).collect();
        let expected = [
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:15:00Z",
            "2026-01-01T01:15:00Z",
        ];
        assert_eq!(starts, expected.map(at));
        let weeks = hours(
            "2026-10-18T22:00:00Z",
            "2026-11-01T23:00:00Z",
            Unit::Week,
            Tz::Europe__Berlin,
        );
        assert_eq!(weeks, [169, 168]);
        let months = hours(
            "2026-01-31T23:00:00Z",
            "2026-03-31T22:00:00Z",
            Unit::Month,
            Tz::Europe__Berlin,
        );
        assert_eq!(months, [28 * 24, 31 * 24 - 1]);
        // An hour on Lord Howe Island is half as long when the clock jumps half an hour on.
        let range = Range::cut(
            span("2026-10-03T14:30:00Z", "2026-10-03T17:00:00Z"),
            Unit::Hour,
            Tz::Australia__Lord_Howe,
        );
        let minutes: Vec<_> = range
            .unwrap()
            .buckets()
            .map(|bucket| (bucket.to - bucket.from).num_minutes())
            .collect();
        assert_eq!(minutes, [60, 30, 60]);
    }

    #[test]
    fn too_many_buckets_are_refused() {
        let days = |days| {
            let from = at("2020-01-01T00:00:00Z");
            let to = from + TimeDelta::days(days);
            Range::cut(Span { from, to }, Unit::Day, Tz::UTC)
        };
        assert_eq!(days(1000).unwrap().buckets().count(), 1000);
        assert!(days(1001).is_none());
    }

    #[test]
    fn parts_cover_each_moment_of_a_range_once() {
        let zones = [Tz::UTC, Tz::Europe__Berlin, Tz::Asia__Kathmandu];
        let units = [Unit::Whole, Unit::Hour, Unit::Day, Unit::Week, Unit::Month];
        let mut state = 7_i64;
        let mut draw = |below: i64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33).rem_euclid(below)
        };
        for round in 0..200 {
            let from = at("2026-02-01T00:00:00Z") + TimeDelta::milliseconds(draw(9_000_000_000));
            let length = [1_000, 900_000, 90_000_000, 3_000_000_000][round % 4];
            let to = from + TimeDelta::milliseconds(1 + draw(length));
            let span = Span { from, to };
            let range = Range::cut(span, units[round % 5], zones[round % 3]).unwrap();
            let calendar = Calendar::of(["UTC", "Europe/Berlin"]).unwrap();
            let grains = calendar.grains_for(zones[round % 3]);
            let (runs, ends) = range.parts(&grains);
            // In order, each begins where the one before has ended, and none lies across a bound.
            let mut spans: Vec<Span> = ends;
            for run in runs {
                let grain = grains.iter().find(|(number, _)| *number == run.grain);
                let (_, grain) = grain.unwrap();
                assert_eq!(range.bucket(run.span.from), Some(run.bucket));
                let mut from = run.span.from;
                while from < run.span.to {
                    assert_eq!(grain.begin(from), from);
                    let to = grain.end(from);
                    spans.push(Span { from, to });
                    from = to;
                }
            }
            spans.sort_by_key(|span| span.from);
            assert_eq!(spans.first().unwrap().from, from);
            assert_eq!(spans.last().unwrap().to, to);
            for pair in spans.windows(2) {
                assert_eq!(pair[0].to, pair[1].from);
            }
            for span in spans {
                let last = span.to - TimeDelta::nanoseconds(1);
                assert_eq!(range.bucket(span.from), range.bucket(last));
            }
        }
    }
}
