//! What a bucket adds up to, and how the rollups keep it: a few bytes that can be put behind those
//! of other buckets, which adds them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use prost::encoding::{decode_varint, encode_varint};

use super::fact::{Counted, Duration, Lasting};
use super::histogram::Histogram;

/// What some durations, in milliseconds, add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many there are.
    pub count: i64,
    /// All together.
    pub total: i64,
    /// The longest.
    pub longest: i64,
    /// How many there are of each length.
    pub histogram: Histogram,
}

impl Sum {
    fn add(&mut self, milliseconds: i64) {
        self.count += 1;
        self.total += milliseconds;
        self.longest = self.longest.max(milliseconds);
        self.histogram.add(milliseconds);
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
        self.histogram.merge(&other.histogram);
    }
}

/// What durations add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Durations {
    /// By the clock on the wall.
    pub wall: Sum,
    /// Business hours alone.
    pub business: Sum,
}

impl Durations {
    /// Adds a duration.
    pub fn add(&mut self, duration: &Duration) {
        self.wall.add(duration.wall);
        self.business.add(duration.business);
    }

    /// Adds others.
    pub fn merge(&mut self, other: &Self) {
        self.wall.merge(&other.wall);
        self.business.merge(&other.business);
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

/// How often each thing happened.
pub type Counts = BTreeMap<Counted, Occurrences>;

/// Counts occurrences.
pub fn count(counts: &mut Counts, counted: Counted, all: Occurrences) {
    let sum = counts.entry(counted);
    sum.and_modify(|sum| sum.merge(all)).or_insert(all);
}

/// Writes counts: of each what it is, how often, and when first and last, in microseconds.
pub fn write_counts(counts: &Counts) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(counts.len() * 20);
    for (counted, all) in counts {
        encode_varint(counted.code(), &mut bytes);
        encode_varint(all.count.cast_unsigned(), &mut bytes);
        encode_varint(all.first_at.timestamp_micros().cast_unsigned(), &mut bytes);
        encode_varint(all.last_at.timestamp_micros().cast_unsigned(), &mut bytes);
    }
    bytes
}

/// Reads counts and adds those of the same; `None` where none were written.
pub fn read_counts(mut bytes: &[u8]) -> Option<Counts> {
    let mut counts = Counts::new();
    while !bytes.is_empty() {
        let counted = Counted::of(number(&mut bytes)?)?;
        let all = Occurrences {
            count: signed(&mut bytes)?,
            first_at: DateTime::from_timestamp_micros(signed(&mut bytes)?)?,
            last_at: DateTime::from_timestamp_micros(signed(&mut bytes)?)?,
        };
        count(&mut counts, counted, all);
    }
    Some(counts)
}

/// Writes sums of durations: of each what it is, how many, how long together and at most, and its
/// histogram behind its number of bins.
pub fn write_sums<'a>(sums: impl Iterator<Item = (Lasting, &'a Sum)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (lasting, sum) in sums {
        encode_varint(lasting.code(), &mut bytes);
        for number in [sum.count, sum.total, sum.longest] {
            encode_varint(number.cast_unsigned(), &mut bytes);
        }
        sum.histogram.write(&mut bytes);
    }
    bytes
}

/// Reads sums of durations and adds those of the same; `None` where none were written.
pub fn read_sums(mut bytes: &[u8]) -> Option<BTreeMap<Lasting, Sum>> {
    let mut sums: BTreeMap<Lasting, Sum> = BTreeMap::new();
    while !bytes.is_empty() {
        let lasting = Lasting::of(number(&mut bytes)?)?;
        let sum = sums.entry(lasting).or_default();
        sum.count += signed(&mut bytes)?;
        sum.total += signed(&mut bytes)?;
        sum.longest = sum.longest.max(signed(&mut bytes)?);
        sum.histogram.read(&mut bytes)?;
    }
    Some(sums)
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    decode_varint(bytes).ok()
}

fn signed(bytes: &mut &[u8]) -> Option<i64> {
    number(bytes).map(u64::cast_signed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::message::{Direction, MessageType};

    #[test]
    fn what_is_written_behind_each_other_is_added() {
        let at = |second| DateTime::from_timestamp(second, 5000).unwrap();
        let (mut counts, mut both) = <(Vec<u8>, Counts)>::default();
        for (second, counted) in [
            (9, Counted::Acted),
            (3, Counted::Message(Direction::Outbound, MessageType::Text)),
            (-7, Counted::Acted),
        ] {
            let once = Occurrences::once(at(second));
            counts.extend(write_counts(&Counts::from([(counted, once)])));
            count(&mut both, counted, once);
        }
        assert_eq!(read_counts(&counts).unwrap(), both);
        let acted = both[&Counted::Acted];
        assert_eq!(
            (acted.count, acted.first_at, acted.last_at),
            (2, at(-7), at(9))
        );

        let (mut sums, mut all) = <(Vec<u8>, Sum)>::default();
        for milliseconds in [70_000, 0, 12, 70_000] {
            let mut one = Sum::default();
            one.add(milliseconds);
            sums.extend(write_sums([(Lasting::Resolution, &one)].into_iter()));
            all.merge(&one);
        }
        assert_eq!((all.count, all.total, all.longest), (4, 140_012, 70_000));
        let read = read_sums(&sums).unwrap();
        assert_eq!(read, BTreeMap::from([(Lasting::Resolution, all.clone())]));
        let again = write_sums([(Lasting::Resolution, &all)].into_iter());
        assert_eq!(read_sums(&again).unwrap(), read);
    }

    #[test]
    fn what_was_not_written_is_not_read() {
        let mut one = Sum::default();
        one.add(5);
        let sums = write_sums([(Lasting::FirstResponse, &one)].into_iter());
        assert_eq!(read_sums(&sums[..sums.len() - 1]), None);
        assert_eq!(read_sums(&[99, 0, 0, 0, 0]), None);
        assert_eq!(read_counts(&[99, 1, 0, 0]), None);
        assert_eq!(read_counts(&[66, 1, 0]), None);
    }
}
