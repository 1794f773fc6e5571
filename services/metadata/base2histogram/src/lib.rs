//! Histograms in powers of two: as much of the crate `base2histogram` as openraft uses, in 0.5 KB each.
//!
//! The original keeps tables for 16 widths of buckets, 26 MB, made at the first use. Here a bucket is a power of two and a
//! percentile is exact to a factor of two, which is enough for statistics that nobody of us reads.
#![forbid(unsafe_code)]

use std::fmt;

/// Bucket 0 is for 0, bucket n for 2^(n-1) up to 2^n - 1.
const BUCKETS: usize = 65;

/// Counts values by their magnitude.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    data: std::marker::PhantomData<T>,
}

impl<T> Histogram<T> {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            counts: [0; BUCKETS],
            data: std::marker::PhantomData,
        }
    }

    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value so many times.
    pub fn record_n(&mut self, value: u64, times: u64) {
        let bucket = (u64::BITS - value.leading_zeros()) as usize;
        if let Some(count) = self.counts.get_mut(bucket) {
            *count = count.saturating_add(times);
        }
    }

    /// The usual percentiles, each the lower end of its bucket.
    pub fn percentile_stats(&self) -> PercentileStats {
        let samples = self
            .counts
            .iter()
            .fold(0_u64, |sum, count| sum.saturating_add(*count));
        let at = |permille: u64| {
            let rank = u64::try_from(u128::from(samples) * u128::from(permille) / 1_000);
            self.value_at(rank.unwrap_or(u64::MAX))
        };
        PercentileStats {
            samples,
            p0_1: at(1),
            p1: at(10),
            p5: at(50),
            p10: at(100),
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p99_9: at(999),
        }
    }

    /// The lower end of the bucket of the value that has `rank` smaller ones.
    fn value_at(&self, rank: u64) -> u64 {
        let mut smaller = 0_u64;
        for (bucket, count) in (0_u32..).zip(self.counts) {
            smaller = smaller.saturating_add(count);
            if smaller > rank {
                return bucket.checked_sub(1).map_or(0, |power| 1 << power);
            }
        }
        0
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// The usual percentiles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are what their names say")]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "[samples: {}, P0.1: {}, P1: {}, P5: {}, P10: {}, P50: {}, P90: {}, P99: {}, P99.9: {}]",
            self.samples,
            self.p0_1,
            self.p1,
            self.p5,
            self.p10,
            self.p50,
            self.p90,
            self.p99,
            self.p99_9
        )
    }
}

/// Several histograms, one line of percentiles each.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart {
    lines: Vec<(String, PercentileStats)>,
}

impl AsciiChart {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a line.
    #[must_use]
    pub fn add<T>(mut self, name: impl Into<String>, histogram: Histogram<T>) -> Self {
        self.lines.push((name.into(), histogram.percentile_stats()));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines
            .iter()
            .try_for_each(|(name, stats)| writeln!(f, "{name}: {stats}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_right_to_a_factor_of_two() {
        let mut histogram = Histogram::<()>::new();
        for value in 0..1_000 {
            histogram.record(value);
        }
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p50, stats.p99), (1_000, 256, 512));
    }
}
