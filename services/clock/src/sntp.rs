//! SNTP messages and what is believed of their answers (RFC 5905, section 14 and figure 8). Pure.

use std::time::Duration;

/// An answer without extensions.
pub(crate) const MESSAGE_BYTES: usize = 48;
/// Seconds from 1900, the beginning of NTP's era 0, to 1970.
const TO_UNIX: i128 = 2_208_988_800;
const NANOS: i128 = 1_000_000_000;
/// A server farther than that from its own reference knows no better than we do. In nanoseconds.
const ROOT_DISTANCE_MAX: i128 = NANOS;
/// An answer that took longer tells too little. In nanoseconds.
const DELAY_MAX: i128 = NANOS;
/// No clock that is right shows an earlier time than this program was written (2026-01-01), or a later one than it will run (2100-01-01). Unix seconds.
pub(crate) const TIME_MIN: i128 = 1_767_225_600;
pub(crate) const TIME_MAX: i128 = 4_102_444_800;

/// Nanoseconds since 1970; a clock may be anywhere.
pub(crate) type Instant = i128;

/// What one server has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Its clock minus ours, in nanoseconds.
    pub(crate) offset: i128,
    /// How far off that may be, in nanoseconds.
    pub(crate) error: i128,
}

/// A question. `cookie` is random and comes back in the answer: who cannot see the question cannot answer it, and our own time is nobody's business.
pub(crate) fn question(cookie: u64) -> [u8; MESSAGE_BYTES] {
    let mut bytes = [0; MESSAGE_BYTES];
    let [first, .., _, _, _, _, _, _, _, _] = &mut bytes;
    *first = 0x23; // no leap, version 4, mode 3 (client)
    if let Some(place) = bytes.last_chunk_mut() {
        *place = cookie.to_be_bytes();
    }
    bytes
}

/// The sample in an answer to the question with `cookie`, which was sent and received at these times of our clock.
pub(crate) fn understand(
    bytes: &[u8],
    cookie: u64,
    sent: Instant,
    received: Instant,
) -> Option<Sample> {
    let [flags, stratum, ..] = *bytes else {
        return None;
    };
    let word = |at: usize| {
        bytes
            .get(at..at + 8)?
            .try_into()
            .ok()
            .map(u64::from_be_bytes)
    };
    let half = |at: usize| {
        bytes
            .get(at..at + 4)?
            .try_into()
            .ok()
            .map(u32::from_be_bytes)
    };
    let (leap, mode) = (flags >> 6, flags & 7);
    // 3: its clock is not set. Stratum 0 is a refusal ("kiss of death"), 16 unset.
    let is_answer = mode == 4 && leap != 3 && (1..16).contains(&stratum);
    if !is_answer || word(24) != Some(cookie) {
        return None;
    }
    // 16.16 bits of seconds.
    let root_delay = (i128::from(half(4)?) * NANOS) >> 16;
    let root_dispersion = (i128::from(half(8)?) * NANOS) >> 16;
    let (theirs_received, theirs_sent) = (time(word(32)?), time(word(40)?));
    let delay = (received - sent) - (theirs_sent - theirs_received);
    let error = delay / 2 + root_delay / 2 + root_dispersion;
    let is_sane = (TIME_MIN * NANOS..TIME_MAX * NANOS).contains(&theirs_sent)
        && theirs_sent >= theirs_received
        && (0..=DELAY_MAX).contains(&delay)
        && error <= ROOT_DISTANCE_MAX;
    is_sane.then_some(Sample {
        offset: ((theirs_received - sent) + (theirs_sent - received)) / 2,
        error,
    })
}

/// 32.32 bits of seconds since 1900; small numbers are of era 1, which begins in 2036.
fn time(timestamp: u64) -> Instant {
    let seconds = i128::from(timestamp >> 32);
    let era = if seconds < 1 << 31 { 1_i128 << 32 } else { 0 };
    let fraction = (i128::from(timestamp & 0xFFFF_FFFF) * NANOS) >> 32;
    (seconds + era - TO_UNIX) * NANOS + fraction
}

/// The offset that most servers agree on: of the largest set of samples whose ranges have a point in common, the one that is sure of itself the most.
/// A server alone among others that contradict it is not believed; `None` if no majority agrees.
pub(crate) fn agree(samples: &[Sample]) -> Option<i128> {
    let meets = |one: &Sample, point: i128| (point - one.offset).abs() <= one.error;
    // Where most ranges meet, one of them begins (K. Marzullo).
    let ends = samples.iter().map(|one| one.offset - one.error);
    let point = ends.max_by_key(|point| samples.iter().filter(|one| meets(one, *point)).count())?;
    let agreeing: Vec<&Sample> = samples.iter().filter(|one| meets(one, point)).collect();
    if agreeing.len() * 2 <= samples.len() {
        return None;
    }
    agreeing
        .iter()
        .min_by_key(|one| one.error)
        .map(|one| one.offset)
}

/// What to do about an offset.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Correction {
    /// Set the clock.
    Step,
    /// Let it run a little faster or slower.
    Slew,
    /// Nothing yet: such a jump is believed only when it is seen again.
    Doubt,
}

/// What can be made up for by running at most 500 ppm differently, in an acceptable time. In nanoseconds.
const SLEW_MAX: i128 = 500_000_000;

/// Decides. `before` is the last offset, `is_set` whether the clock was ever set.
pub(crate) fn correction(offset: i128, before: Option<i128>, is_set: bool) -> Correction {
    if is_set && offset.abs() <= SLEW_MAX {
        return Correction::Slew;
    }
    let is_seen_again = before.is_some_and(|before| (before - offset).abs() <= SLEW_MAX);
    if !is_set || is_seen_again {
        Correction::Step
    } else {
        Correction::Doubt
    }
}

/// How long to the next question: often until the clock is set, then rarely.
pub(crate) fn pause(is_set: bool, rounds_failed: u32) -> Duration {
    match (is_set, rounds_failed) {
        (false, _) => Duration::from_secs(u64::from(rounds_failed.clamp(1, 16)) * 4),
        (true, 0) => Duration::from_secs(1_024),
        (true, _) => Duration::from_secs(64),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "a panic is how a test fails")]
    use super::*;
    use proptest::prelude::*;

    const NOW: Instant = 1_800_000_000 * NANOS;
    const MS: i128 = 1_000_000;

    fn stamp(at: Instant) -> [u8; 8] {
        let seconds = ((at / NANOS + TO_UNIX) as u64) << 32;
        let fraction = ((at % NANOS) << 32) / NANOS;
        (seconds | fraction as u64).to_be_bytes()
    }

    /// The answer of a server whose clock is `ahead`, to a question that arrived 5 ms after it was sent.
    fn answer(cookie: u64, ahead: i128) -> Vec<u8> {
        let mut bytes = question(cookie).to_vec();
        bytes[0] = 0x24;
        bytes[1] = 2;
        bytes[24..32].copy_from_slice(&cookie.to_be_bytes());
        bytes[32..40].copy_from_slice(&stamp(NOW + ahead + 5 * MS));
        bytes[40..48].copy_from_slice(&stamp(NOW + ahead + 6 * MS));
        bytes
    }

    fn heard(bytes: &[u8]) -> Option<Sample> {
        understand(bytes, 7, NOW, NOW + 11 * MS)
    }

    #[test]
    fn a_servers_lead_is_measured() {
        let sample = heard(&answer(7, 3 * NANOS)).unwrap_or(Sample {
            offset: 0,
            error: 0,
        });
        assert!((sample.offset - 3 * NANOS).abs() < MS, "{sample:?}");
        assert!(sample.error >= 5 * MS - MS && sample.error < 6 * MS);
        assert_eq!(time(0), (i128::from(u32::MAX) + 1 - TO_UNIX) * NANOS); // 2036
    }

    #[test]
    fn nonsense_is_refused() {
        let wrong = |at: usize, byte: u8| {
            let mut bytes = answer(7, 0);
            bytes[at] = byte;
            heard(&bytes)
        };
        assert!(heard(&answer(7, 0)).is_some());
        assert_eq!(heard(&answer(8, 0)), None); // to another question
        assert_eq!(wrong(0, 0x23), None); // a question
        assert_eq!(wrong(0, 0xE4), None); // its clock is not set
        assert_eq!(wrong(1, 0), None); // a refusal
        assert_eq!(wrong(1, 16), None);
        assert_eq!(wrong(5, 9), None); // 9 s from its own reference
        assert_eq!(heard(&answer(7, -20 * 365 * 86_400 * NANOS)), None); // 2007
        assert_eq!(understand(&answer(7, 0), 7, NOW, NOW + 3 * NANOS), None); // on its way too long
    }

    #[test]
    fn one_liar_among_three_is_not_believed() {
        let sample = |offset, error| Sample { offset, error };
        let good = [sample(100 * MS, 20 * MS), sample(105 * MS, 10 * MS)];
        assert_eq!(agree(&good), Some(105 * MS));
        assert_eq!(
            agree(&[good[0], sample(90_000 * MS, MS), good[1]]),
            Some(105 * MS)
        );
        assert_eq!(agree(&[good[0], sample(90_000 * MS, MS)]), None);
        assert_eq!(agree(&good[..1]), Some(100 * MS));
        assert_eq!(agree(&[]), None);
    }

    #[test]
    fn the_clock_is_set_once_and_then_led_gently() {
        assert_eq!(correction(9 * NANOS, None, false), Correction::Step);
        assert_eq!(correction(100 * MS, Some(0), true), Correction::Slew);
        assert_eq!(correction(9 * NANOS, Some(0), true), Correction::Doubt);
        assert_eq!(
            correction(9 * NANOS, Some(9 * NANOS), true),
            Correction::Step
        );
        assert!(pause(false, 0) < pause(true, 1) && pause(true, 1) < pause(true, 0));
    }

    proptest! {
        #[test]
        fn any_datagram_is_a_sane_sample_or_nothing(mut bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Some(place) = bytes.get_mut(24..32) {
                place.copy_from_slice(&7_u64.to_be_bytes());
            }
            if let Some(sample) = heard(&bytes) {
                prop_assert!((0..=ROOT_DISTANCE_MAX).contains(&sample.error));
            }
        }
    }
}
