//! Time servers answer anything, and the clock stays sane. For qemu-tests/fuzz.

use crate::sntp::{
    Correction, Instant, MESSAGE_BYTES, Sample, TIME_MAX, TIME_MIN, agree, correction, question,
    understand,
};

/// What the question had in it; answers repeat it.
const COOKIE: u64 = 7;
const SECOND: Instant = 1_000_000_000;
const SENT: Instant = 1_800_000_000 * SECOND;
const RECEIVED: Instant = SENT + SECOND / 100;

/// The bytes are answers of [`MESSAGE_BYTES`] each; whether one of them was believed to be one.
pub fn hear(bytes: &[u8]) -> bool {
    let answers = bytes.chunks(MESSAGE_BYTES);
    let heard = answers.filter_map(|bytes| understand(bytes, COOKIE, SENT, RECEIVED));
    let samples: Vec<Sample> = heard.collect();
    for sample in &samples {
        assert!((0..=SECOND).contains(&sample.error), "{sample:?}");
        let theirs = (RECEIVED + sample.offset) / SECOND;
        assert!(
            (TIME_MIN - 2..=TIME_MAX + 2).contains(&theirs),
            "{sample:?}"
        );
    }
    if let Some(offset) = agree(&samples) {
        let near = |one: &&Sample| (one.offset - offset).abs() <= one.error + SECOND;
        assert!(samples.iter().filter(near).count() * 2 > samples.len());
        let doubted = correction(offset, None, true);
        assert!(
            doubted != Correction::Step,
            "one round moves no clock that was set"
        );
    }
    !samples.is_empty()
}

/// The answers of one server, and of three of which one lies.
pub fn seeds() -> Vec<Vec<u8>> {
    let three = [answer(0), answer(90_000 * SECOND), answer(SECOND / 10)];
    vec![answer(SECOND), three.concat()]
}

/// Of a server whose clock is `ahead`.
fn answer(ahead: Instant) -> Vec<u8> {
    let stamp = |at: Instant| {
        const TO_UNIX: Instant = 2_208_988_800;
        let seconds = ((at / SECOND + TO_UNIX) as u64) << 32;
        (seconds | (((at % SECOND) << 32) / SECOND) as u64).to_be_bytes()
    };
    let mut bytes = vec![0x24, 2];
    bytes.extend_from_slice(&question(COOKIE)[2..24]);
    bytes.extend_from_slice(&COOKIE.to_be_bytes());
    bytes.extend_from_slice(&stamp(SENT + ahead + SECOND / 1_000));
    bytes.extend_from_slice(&stamp(SENT + ahead + SECOND / 500));
    bytes
}
