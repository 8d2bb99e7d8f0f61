//! Logarithmic histograms: quantiles of durations within 2 percent, in little room.
//!
//! A bin holds what is up to 4 percent longer than the bin before, and its middle stands for all of
//! them.

use std::iter::repeat_n;

use prost::encoding::{decode_varint, encode_varint};

/// How much longer each bin is than the one before: (1 + e) / (1 - e) for an error e of 2 percent.
const GROWTH: f64 = 1.02 / 0.98;

/// How many durations there are of each length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// The bin that the counts begin with.
    first: u16,
    /// How many are in each bin from there on; neither the first nor the last is 0.
    counts: Vec<u64>,
}

impl Histogram {
    /// Adds a duration, in milliseconds.
    pub fn add(&mut self, milliseconds: i64) {
        self.add_to(bin(milliseconds), 1);
    }

    fn add_to(&mut self, bin: u16, count: u64) {
        if self.counts.is_empty() {
            self.first = bin;
        }
        if bin < self.first {
            let missing = usize::from(self.first - bin);
            self.counts.splice(0..0, repeat_n(0, missing));
            self.first = bin;
        }
        let index = usize::from(bin - self.first);
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] += count;
    }

    /// The duration that this share of all, 0 to 1, does not exceed; `None` where there are none.
    pub fn quantile(&self, share: f64) -> Option<i64> {
        let total: u64 = self.counts.iter().sum();
        if total == 0 {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank among what was counted"
        )]
        let rank = ((share * total as f64).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        self.bins().find_map(|(bin, count)| {
            seen += count;
            (seen >= rank).then(|| middle(bin))
        })
    }

    /// Writes the bins that are not empty: how many, and each as its distance from the one before and
    /// its count, seven bits a byte.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        let filled = self.counts.iter().filter(|count| **count > 0).count();
        encode_varint(filled as u64, bytes);
        let mut before = 0;
        for (bin, count) in self.bins() {
            encode_varint(u64::from(bin - before), bytes);
            encode_varint(count, bytes);
            before = bin;
        }
    }

    /// Adds what `write` has written, and takes it away; `None` where it has not.
    pub fn read(&mut self, bytes: &mut &[u8]) -> Option<()> {
        let mut bin = 0_u16;
        for _ in 0..decode_varint(bytes).ok()? {
            let distance = decode_varint(bytes).ok()?;
            let count = decode_varint(bytes).ok()?;
            bin = bin.checked_add(u16::try_from(distance).ok()?)?;
            self.add_to(bin, count);
        }
        Some(())
    }

    /// Adds another.
    pub fn merge(&mut self, other: &Self) {
        for (bin, count) in other.bins() {
            self.add_to(bin, count);
        }
    }

    fn bins(&self) -> impl Iterator<Item = (u16, u64)> {
        let counted = (self.first..).zip(&self.counts);
        counted.filter_map(|(bin, count)| (*count > 0).then_some((bin, *count)))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a logarithm of 64 bits is small and here not negative"
)]
fn bin(milliseconds: i64) -> u16 {
    match milliseconds {
        ..=0 => 0,
        _ => ((milliseconds as f64).ln() / GROWTH.ln()).ceil() as u16 + 1,
    }
}

/// What stands for a bin: as far, relatively, from its shortest as from its longest.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the bin of a number of 64 bits"
)]
fn middle(bin: u16) -> i64 {
    match bin {
        0 => 0,
        _ => (2.0 * GROWTH.powi(i32::from(bin) - 1) / (GROWTH + 1.0)).round() as i64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_a_duration_is_within_two_percent_of_it() {
        let mut milliseconds = 0_i64;
        while milliseconds < 1 << 40 {
            let mut one = Histogram::default();
            one.add(milliseconds);
            let found = one.quantile(0.5).unwrap();
            let off = (found - milliseconds).abs();
            // And half a millisecond, because it is a whole one.
            assert!(
                off * 100 <= milliseconds * 2 + 50,
                "{milliseconds}: {found}"
            );
            milliseconds += 1 + milliseconds / 97;
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_durations() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for milliseconds in (0..1000).rev() {
            histogram.add(milliseconds * milliseconds);
        }
        for (share, rank) in [(0.0, 1), (0.5, 500), (0.9, 900), (0.99, 990), (1.0, 1000)] {
            let exact = i64::pow(rank - 1, 2);
            let found = histogram.quantile(share).unwrap();
            assert!((found - exact).abs() * 100 <= exact * 2, "{share}: {found}");
        }
    }

    #[test]
    fn histograms_come_back_from_their_bytes_and_add_up() {
        let (mut one, mut other, mut both) = <(Histogram, Histogram, Histogram)>::default();
        for number in 0..500_i64 {
            let milliseconds = (number * 7919) % 100_000 * number;
            let half = if number % 3 == 0 {
                &mut one
            } else {
                &mut other
            };
            half.add(milliseconds);
            both.add(milliseconds);
        }
        let bytes = |histogram: &Histogram| {
            let mut bytes = Vec::new();
            histogram.write(&mut bytes);
            bytes
        };
        let mut read = Histogram::default();
        read.read(&mut bytes(&one).as_slice()).unwrap();
        assert_eq!(read, one);
        read.read(&mut bytes(&other).as_slice()).unwrap();
        assert_eq!(read, both);
        one.merge(&other);
        assert_eq!(one, both);
        assert_eq!(read.read(&mut [1, 0x80].as_slice()), None);
    }
}
