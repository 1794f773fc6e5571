//! Counting what this process does, while its supervisor wants to know: calls served and asked, descriptors received and given.
//!
//! Off, it costs one load of a flag per call. On, one short lock. The supervisor says when ([`protocol::start::Order::Trace`]); the counts go
//! to it with each heartbeat, and the counting ends by itself, also if nobody asks for the result.

use protocol::start::Say;
use protocol::trace::{Row, Side, TRACE_MS_MAX};
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

static ON: AtomicBool = AtomicBool::new(false);
static COUNTING: Mutex<Option<Counting>> = Mutex::new(None);

struct Counting {
    rows: Vec<Row>,
    until: Instant,
    /// Up to when the rows were told.
    told: Instant,
}

/// A call that began, to be counted when it is over. Nothing but `None` inside while no trace is on.
pub struct Begun(Option<(Instant, Row)>);

/// A call begins: which end of it we are, and what it is, named by the first word of its `Debug` form.
pub fn begin(side: Side, conversation: &str, kind: &dyn fmt::Debug) -> Begun {
    if !ON.load(Ordering::Relaxed) {
        return Begun(None);
    }
    let row = Row {
        side,
        conversation: conversation.into(),
        call: first_word(kind),
        count: 1,
        total_us: 0,
        longest_us: 0,
        received: 0,
        given: 0,
    };
    Begun(Some((Instant::now(), row)))
}

impl Begun {
    /// The call is over: how many descriptors came and went with it.
    pub fn over(self, received: usize, given: usize) {
        let Some((at, mut row)) = self.0 else {
            return;
        };
        let us = u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX);
        (row.total_us, row.longest_us) = (us, us);
        (row.received, row.given) = (received as u64, given as u64);
        if let Some(counting) = counting().as_mut() {
            row.add_to(&mut counting.rows);
        }
    }
}

/// Counts from now on, for at most [`TRACE_MS_MAX`].
pub(crate) fn start(for_ms: u64) {
    let now = Instant::now();
    *counting() = Some(Counting {
        rows: Vec::new(),
        until: now + Duration::from_millis(for_ms.min(TRACE_MS_MAX)),
        told: now,
    });
    ON.store(true, Ordering::Relaxed);
}

/// What was counted since the last time; `None` while no trace is on.
pub(crate) fn take() -> Option<Say> {
    if !ON.load(Ordering::Relaxed) {
        return None;
    }
    let mut counting = counting();
    let now = Instant::now();
    let (say, over) = counting.as_mut().map(|counting| {
        let over = now >= counting.until;
        let covered = now.duration_since(std::mem::replace(&mut counting.told, now));
        let say = Say::Traced {
            rows: std::mem::take(&mut counting.rows),
            covered_ms: u64::try_from(covered.as_millis()).unwrap_or(u64::MAX),
            over,
        };
        (say, over)
    })?;
    if over {
        ON.store(false, Ordering::Relaxed);
        *counting = None;
    }
    Some(say)
}

fn counting() -> MutexGuard<'static, Option<Counting>> {
    // A panic of another thread in between leaves counts that are off by one call.
    COUNTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first word of a value's `Debug` form, which for an enum is the name of the variant. The rest is not even written.
fn first_word(value: &dyn fmt::Debug) -> String {
    struct Word(String);
    impl Write for Word {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '"');
            let part = text.split(|c| !is_part(c)).next().unwrap_or_default();
            self.0.push_str(part.trim_matches('"'));
            if part.len() < text.len() {
                return Err(fmt::Error); // the word is over
            }
            Ok(())
        }
    }
    let mut word = Word(String::new());
    let _ = write!(word, "{value:?}");
    word.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::inspect::{InspectCall, Power};

    #[test]
    fn a_call_is_named_by_its_variant() {
        let call = InspectCall::Logs {
            service: Some("x".repeat(1_000)),
            lines: 3,
        };
        assert_eq!(first_word(&call), "Logs");
        assert_eq!(first_word(&InspectCall::Power(Power::Off)), "Power");
        assert_eq!(first_word(&InspectCall::Node), "Node");
        assert_eq!(first_word(&"PutObject"), "PutObject");
        assert_eq!(first_word(&"two words"), "two");
    }

    /// One test, because what it is about is one for the whole process.
    #[test]
    fn nothing_is_counted_but_while_a_trace_is_on_and_it_ends_by_itself() {
        let count = || begin(Side::Served, "test", &InspectCall::Node).over(2, 1);
        count();
        assert!(take().is_none());
        start(60_000);
        count();
        count();
        let Some(Say::Traced { rows, over, .. }) = take() else {
            panic!("a trace is on");
        };
        assert!(!over);
        let row = rows.iter().find(|row| row.conversation == "test").unwrap();
        assert_eq!(
            (row.call.as_str(), row.count, row.received, row.given),
            ("Node", 2, 4, 2)
        );
        start(0);
        assert!(matches!(take(), Some(Say::Traced { over: true, .. })));
        count();
        assert!(take().is_none());
    }
}
