//! The buckets that the rollups count in: quarters of an hour and hours for every clock, and the
//! days and months of the time zones in which a tenant reads its statistics.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::range::{Unit, floor, next};
use crate::error::Error;

/// How long a bucket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    /// A quarter of an hour. What zones are away from UTC today is a number of them.
    Quarter,
    /// An hour of UTC.
    Hour,
    /// A day on the wall of a zone.
    Day(Tz),
    /// A month on the wall of a zone.
    Month(Tz),
}

impl Grain {
    /// The beginning of the bucket that a moment is in.
    pub fn begin(self, at: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::Quarter => multiple(at, 15),
            Self::Hour => multiple(at, 60),
            Self::Day(zone) => within(at, Unit::Day, zone),
            Self::Month(zone) => within(at, Unit::Month, zone),
        }
    }

    /// The end of the bucket that begins at a moment.
    pub fn end(self, begin: DateTime<Utc>) -> DateTime<Utc> {
        let end = match self {
            Self::Quarter => begin.checked_add_signed(TimeDelta::minutes(15)),
            Self::Hour => begin.checked_add_signed(TimeDelta::hours(1)),
            Self::Day(zone) => next(begin, Unit::Day, zone),
            Self::Month(zone) => next(begin, Unit::Month, zone),
        };
        end.unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

fn multiple(at: DateTime<Utc>, minutes: i64) -> DateTime<Utc> {
    let length = minutes * 60;
    let second = at.timestamp().div_euclid(length) * length;
    DateTime::from_timestamp(second, 0).unwrap_or(at)
}

/// The last beginning of a unit that is not after a moment. Where a clock was set back over
/// midnight, the moments that it repeats are in the day that has begun.
fn within(at: DateTime<Utc>, unit: Unit, zone: Tz) -> DateTime<Utc> {
    let mut begin = floor(at, unit, zone);
    while let Some(next) = next(begin, unit, zone).filter(|next| *next <= at) {
        begin = next;
    }
    begin
}

/// The zones whose days and months some rollups have, UTC first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar(Vec<Tz>);

impl Calendar {
    /// Reads the names of the zones.
    ///
    /// # Errors
    /// One of them is no zone.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let parse = |name: &str| name.parse::<Tz>();
        let zones: Result<Vec<_>, _> = names.into_iter().map(parse).collect();
        zones
            .map(Self)
            .map_err(|_| Error::internal("a time zone of the rollups is not known"))
    }

    /// Its zones.
    pub fn zones(&self) -> &[Tz] {
        &self.0
    }

    /// All its grains, each with the number that the rollups know it by.
    pub fn grains(&self) -> Vec<(i16, Grain)> {
        let mut grains = vec![(0, Grain::Quarter), (1, Grain::Hour)];
        for (number, zone) in (2..).step_by(2).zip(&self.0) {
            grains.push((number, Grain::Day(*zone)));
            grains.push((number + 1, Grain::Month(*zone)));
        }
        grains
    }

    /// The grains to read what a zone asks for, the longest first: its own days, or those of UTC.
    pub fn grains_for(&self, zone: Tz) -> Vec<(i16, Grain)> {
        let zone = if self.0.contains(&zone) {
            zone
        } else {
            Tz::UTC
        };
        let mut grains = self.grains();
        grains.retain(|(_, grain)| match grain {
            Grain::Day(of) | Grain::Month(of) => *of == zone,
            Grain::Quarter | Grain::Hour => true,
        });
        grains.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        grains
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_moment_is_in_one_bucket_of_each_grain() {
        let names = [
            "UTC",
            "Europe/Berlin",
            "Asia/Kathmandu",
            "Pacific/Apia",
            "America/Sao_Paulo",
            "America/St_Johns",
            "Australia/Lord_Howe",
            "America/Havana",
        ];
        let calendar = Calendar::of(names).unwrap();
        for (_, grain) in calendar.grains() {
            let mut at: DateTime<Utc> = "2009-11-20T00:00:07Z".parse().unwrap();
            let end: DateTime<Utc> = "2012-03-01T00:00:00Z".parse().unwrap();
            let mut begin = grain.begin(at);
            while at < end {
                let next = grain.end(begin);
                assert!(begin <= at, "{grain:?} {at}");
                if at >= next {
                    // Without a gap.
                    begin = next;
                }
                assert_eq!(grain.begin(at), begin, "{grain:?} {at}");
                assert_eq!(grain.begin(begin), begin, "{grain:?} {at}");
                at += TimeDelta::minutes(15);
            }
        }
    }

    #[test]
    fn a_zone_reads_its_own_days_or_those_of_utc() {
        let calendar = Calendar::of(["UTC", "Europe/Berlin"]).unwrap();
        let berlin = Tz::Europe__Berlin;
        let of_berlin = [
            (5, Grain::Month(berlin)),
            (4, Grain::Day(berlin)),
            (1, Grain::Hour),
            (0, Grain::Quarter),
        ];
        assert_eq!(calendar.grains_for(berlin), of_berlin);
        let of_utc = calendar.grains_for(Tz::UTC);
        assert_eq!(of_utc[0], (3, Grain::Month(Tz::UTC)));
        assert_eq!(calendar.grains_for(Tz::Asia__Tokyo), of_utc);
        assert!(Calendar::of(["Europe/Atlantis"]).is_err());
    }
}
