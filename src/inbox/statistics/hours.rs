//! Business hours, as arithmetic.

use chrono::{DateTime, Datelike as _, Days, NaiveDate, NaiveTime, Offset as _, TimeDelta, Utc};
use chrono::{NaiveDateTime, TimeZone as _, Timelike as _};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// When a team works. A moment is open if the clock on its wall is within an interval of that
/// weekday and the day is no holiday; so an hour that the clock repeats counts twice, and one that
/// it leaves out does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hours {
    /// The team; empty for those that have none of their own.
    pub team_id: String,
    /// Where its wall is.
    #[serde(with = "zone")]
    pub time_zone: Tz,
    /// When it works.
    pub intervals: Vec<Interval>,
    /// When it does not.
    pub holidays: Vec<NaiveDate>,
}

/// A part of a weekday, as the database keeps it: the weekday, 0 for Monday, and the minutes of the
/// day at which it begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Interval(pub u8, pub u16, pub u16);

/// A time zone by its name.
mod zone {
    use chrono_tz::Tz;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(zone: &Tz, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(zone.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tz, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

impl Hours {
    /// How much of a span of time is open. Without intervals, all of it is.
    pub fn open(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> TimeDelta {
        if self.intervals.is_empty() {
            return to - from;
        }
        let mut open = TimeDelta::zero();
        let mut start = from;
        while start < to {
            let end = to.min(next_utc_day(start));
            for (start, end) in steady(self.time_zone, start, end) {
                let shift = offset(self.time_zone, start);
                open += self.open_on_wall(start.naive_utc() + shift, end.naive_utc() + shift);
            }
            start = end;
        }
        open
    }

    /// How much is open of a span that the clock on the wall goes through without a jump.
    fn open_on_wall(&self, from: NaiveDateTime, to: NaiveDateTime) -> TimeDelta {
        let mut open = TimeDelta::zero();
        let mut day = from.date();
        while day.and_time(NaiveTime::MIN) < to {
            if !self.holidays.contains(&day) {
                let weekday = day.weekday().num_days_from_monday();
                for Interval(on, begins, ends) in &self.intervals {
                    if u32::from(*on) == weekday {
                        let midnight = day.and_time(NaiveTime::MIN);
                        let begin = from.max(midnight + TimeDelta::minutes((*begins).into()));
                        let end = to.min(midnight + TimeDelta::minutes((*ends).into()));
                        open += (end - begin).max(TimeDelta::zero());
                    }
                }
            }
            let Some(next) = day.checked_add_days(Days::new(1)) else {
                break;
            };
            day = next;
        }
        open
    }
}

/// How much of a span is open for a team, by its own hours or else everybody's.
pub fn open(
    hours: &[Hours],
    team_id: Option<&str>,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> TimeDelta {
    let of = |team: &str| hours.iter().find(|hours| hours.team_id == team);
    match team_id.and_then(of).or_else(|| of("")) {
        Some(hours) => hours.open(from, to),
        None => to - from,
    }
}

/// How far the clock on the wall is ahead of UTC.
pub fn offset(zone: Tz, at: DateTime<Utc>) -> TimeDelta {
    let offset = zone.offset_from_utc_datetime(&at.naive_utc());
    TimeDelta::seconds(offset.fix().local_minus_utc().into())
}

fn next_utc_day(at: DateTime<Utc>) -> DateTime<Utc> {
    let since_midnight = TimeDelta::seconds(at.num_seconds_from_midnight().into())
        + TimeDelta::nanoseconds(at.nanosecond().into());
    at - since_midnight + TimeDelta::days(1)
}

/// Cuts a span of a day at most where the clock on the wall jumps, once at most.
fn steady(zone: Tz, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<(DateTime<Utc>, DateTime<Utc>)> {
    let before = offset(zone, from);
    if before == offset(zone, to - TimeDelta::nanoseconds(1)) {
        return vec![(from, to)];
    }
    // The jump is at a full second: the first one that has another offset.
    let (mut low, mut high) = (from.timestamp(), to.timestamp() + 1);
    while high - low > 1 {
        let middle = i64::midpoint(low, high);
        let at = DateTime::from_timestamp(middle, 0).unwrap_or(to);
        if offset(zone, at) == before {
            low = middle;
        } else {
            high = middle;
        }
    }
    let jump = DateTime::from_timestamp(high, 0).unwrap_or(to).min(to);
    vec![(from, jump), (jump, to)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// Counts the open minutes one by one.
    fn counted(hours: &Hours, from: DateTime<Utc>, to: DateTime<Utc>) -> i64 {
        let mut open = 0;
        let mut minute = from;
        while minute < to {
            let wall = minute.with_timezone(&hours.time_zone);
            let of_day = u16::try_from(wall.hour() * 60 + wall.minute()).unwrap();
            let weekday = wall.weekday().num_days_from_monday();
            let within = |Interval(on, begins, ends): &Interval| {
                u32::from(*on) == weekday && (*begins..*ends).contains(&of_day)
            };
            if !hours.holidays.contains(&wall.date_naive()) && hours.intervals.iter().any(within) {
                open += 1;
            }
            minute += TimeDelta::minutes(1);
        }
        open
    }

    fn office(zone: Tz) -> Hours {
        Hours {
            team_id: String::new(),
            time_zone: zone,
            intervals: (0..5)
                .flat_map(|day| [Interval(day, 540, 720), Interval(day, 780, 1080)])
                .collect(),
            holidays: vec![NaiveDate::from_ymd_opt(2026, 12, 25).unwrap()],
        }
    }

    #[test]
    fn nights_weekends_lunch_and_holidays_do_not_count() {
        let hours = office(Tz::Europe__Berlin);
        let open = |from, to| hours.open(at(from), at(to)).num_minutes();
        // A Thursday, 17:30 to 9:10 the next Monday; Friday is a holiday.
        let over_the_weekend = open("2026-12-24T16:30:00Z", "2026-12-28T08:10:00Z");
        assert_eq!(over_the_weekend, 30 + 10);
        let over_lunch = open("2026-12-21T10:30:00Z", "2026-12-21T12:30:00Z");
        assert_eq!(over_lunch, 30 + 30);
        let at_night = open("2026-12-21T20:00:00Z", "2026-12-22T06:00:00Z");
        assert_eq!(at_night, 0);
        assert_eq!(open("2026-12-21T00:00:00Z", "2026-12-22T00:00:00Z"), 480);
    }

    #[test]
    fn without_intervals_all_time_is_open() {
        let mut hours = office(Tz::UTC);
        hours.intervals.clear();
        let (from, to) = (at("2026-12-24T16:30:00Z"), at("2026-12-28T08:10:00Z"));
        assert_eq!(hours.open(from, to), to - from);
    }

    #[test]
    fn an_hour_that_the_clock_repeats_counts_twice_and_one_that_it_skips_not_at_all() {
        let open = |interval| {
            let mut hours = office(Tz::Europe__Berlin);
            hours.intervals = vec![interval];
            let spring = (at("2026-03-28T12:00:00Z"), at("2026-03-29T12:00:00Z"));
            let autumn = (at("2026-10-24T12:00:00Z"), at("2026-10-25T12:00:00Z"));
            [spring, autumn].map(|(from, to)| hours.open(from, to).num_minutes())
        };
        assert_eq!(open(Interval(6, 60, 240)), [120, 240]);
        assert_eq!(open(Interval(6, 150, 180)), [0, 60]);
    }

    #[test]
    fn a_team_without_hours_of_its_own_has_those_of_all_and_without_any_works_always() {
        let all = office(Tz::UTC);
        let mut night = office(Tz::UTC);
        night.team_id = "night".to_owned();
        night.intervals = vec![Interval(0, 0, 60)];
        let (from, to) = (at("2026-12-21T00:00:00Z"), at("2026-12-22T00:00:00Z"));
        let both = [all, night];
        let open = |hours: &[Hours], team| open(hours, team, from, to).num_minutes();
        assert_eq!(open(&both, Some("night")), 60);
        assert_eq!(open(&both, Some("day")), 480);
        assert_eq!(open(&both, None), 480);
        assert_eq!(open(&both[1..], Some("day")), 1440);
        assert_eq!(open(&[], None), 1440);
    }

    #[test]
    fn random_hours_agree_with_a_count_of_minutes() {
        let zones = [
            Tz::UTC,
            Tz::Europe__Berlin,
            Tz::America__New_York,
            Tz::Australia__Lord_Howe,
            Tz::Asia__Kathmandu,
            Tz::Pacific__Apia,
            Tz::America__Sao_Paulo,
        ];
        // A plain generator, so that what fails fails again.
        let mut state = 42_u64;
        let mut draw = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        let first = at("2011-12-25T00:00:00Z");
        let span = 60 * 24 * 365 * 16;
        for round in 0..400 {
            let mut hours = office(zones[usize::try_from(draw(7)).unwrap()]);
            hours.intervals = vec![Interval(0, 0, 1)];
            for day in 1..7 {
                let mut ends: Vec<_> = (0..4).map(|_| draw(1441)).collect();
                ends.sort_unstable();
                let minute = |end: u64| u16::try_from(end).unwrap();
                for (from, to) in [(ends[0], ends[1]), (ends[2], ends[3])] {
                    hours
                        .intervals
                        .push(Interval(day, minute(from), minute(to)));
                }
            }
            // Every other span begins shortly before a jump of the clock.
            let minutes = |count: u64| TimeDelta::minutes(i64::try_from(count).unwrap());
            let from = if round % 2 == 0 {
                first + minutes(draw(span))
            } else {
                let jumps = [
                    "2026-03-28T22:00:00Z",
                    "2026-10-24T22:00:00Z",
                    "2026-11-01T03:00:00Z",
                    "2026-04-04T12:00:00Z",
                    "2011-12-29T20:00:00Z",
                    "2018-11-03T22:00:00Z",
                ];
                at(jumps[usize::try_from(draw(6)).unwrap()]) + minutes(draw(300))
            };
            let to = from + minutes(draw(60 * 24 * 5));
            let open = hours.open(from, to).num_minutes();
            assert_eq!(open, counted(&hours, from, to), "{hours:?} {from} {to}");
        }
    }
}
