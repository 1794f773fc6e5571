//! A trace of one process as its supervisor sums it up: what the process counted, which calls it was denied, and its ends.

use crate::Reason;
use protocol::start::{HEARTBEAT_MS, Order, Say};
use protocol::trace::{Row, TRACE_MS_MAX, Trace};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The process says its last counts with a heartbeat; one that does not within this is not waited for.
const LAST_WORD_WITHIN: Duration = Duration::from_millis(3 * HEARTBEAT_MS);
/// So many ends are remembered.
const ENDED_MAX: usize = 16;

/// A trace under way, or the last one.
pub(crate) struct Tracing {
    until: Instant,
    rows: Vec<Row>,
    covered_ms: u64,
    over: bool,
    /// What was denied before it began.
    denied_before: BTreeMap<String, u32>,
    ended: Vec<String>,
}

impl Tracing {
    pub(crate) fn new(now: Instant, span: Duration, denied: BTreeMap<String, u32>) -> Self {
        Self {
            until: now + span.min(Duration::from_millis(TRACE_MS_MAX)),
            rows: Vec::new(),
            covered_ms: 0,
            over: false,
            denied_before: denied,
            ended: Vec::new(),
        }
    }

    /// For the process: count for as long as is left.
    pub(crate) fn order(&self, now: Instant) -> Order {
        let left = self.until.saturating_duration_since(now);
        Order::Trace {
            for_ms: u64::try_from(left.as_millis()).unwrap_or(TRACE_MS_MAX),
        }
    }

    /// The same for a successor, if anything is left.
    pub(crate) fn again(&self, now: Instant) -> Option<Order> {
        (!self.over && now < self.until).then(|| self.order(now))
    }

    /// The process tells its counts. Bounded whatever it says, and however often.
    pub(crate) fn hear(&mut self, say: Say) {
        let Say::Traced {
            rows,
            covered_ms,
            over,
        } = say
        else {
            return;
        };
        if self.over {
            return;
        }
        for row in rows {
            row.add_to(&mut self.rows);
        }
        self.covered_ms = self.covered_ms.saturating_add(covered_ms);
        self.over = over;
    }

    pub(crate) fn ended(&mut self, now: Instant, reason: &Reason) {
        if now < self.until && self.ended.len() < ENDED_MAX {
            self.ended.push(reason.to_string());
        }
    }

    pub(crate) fn report(&self, now: Instant, denied: &BTreeMap<String, u32>) -> Trace {
        let since = |(call, count): (&String, &u32)| {
            let before = self.denied_before.get(call).copied().unwrap_or(0);
            (*count > before).then(|| (call.clone(), count - before))
        };
        Trace {
            over: self.over || now > self.until + LAST_WORD_WITHIN,
            covered_ms: self.covered_ms,
            rows: self.rows.clone(),
            denied: denied.iter().filter_map(since).collect(),
            ended: self.ended.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::trace::{ROWS_MAX, Side};

    fn said(call: &str, over: bool) -> Say {
        let row = Row {
            side: Side::Served,
            conversation: "blocks".into(),
            call: call.into(),
            count: 1,
            total_us: 1,
            longest_us: 1,
            received: 0,
            given: 0,
        };
        Say::Traced {
            rows: vec![row],
            covered_ms: 1_000,
            over,
        }
    }

    #[test]
    fn a_process_that_lies_about_its_counts_stays_bounded() {
        let now = Instant::now();
        let mut trace = Tracing::new(now, Duration::from_secs(3_600), BTreeMap::new());
        assert!(matches!(trace.order(now), Order::Trace { for_ms } if for_ms <= TRACE_MS_MAX));
        for number in 0..2_000 {
            trace.hear(said(&format!("Call{number}"), false));
            trace.ended(now, &Reason::Hang);
        }
        let report = trace.report(now, &BTreeMap::new());
        assert!(!report.over && report.rows.len() <= ROWS_MAX && report.ended.len() <= ENDED_MAX);
    }

    #[test]
    fn what_was_denied_before_is_not_told_and_what_follows_is() {
        let now = Instant::now();
        let mut denied = BTreeMap::from([("socket".to_owned(), 2)]);
        let mut trace = Tracing::new(now, Duration::from_secs(5), denied.clone());
        assert_eq!(trace.report(now, &denied).denied, []);
        denied.insert("socket".into(), 3);
        denied.insert("openat".into(), 1);
        trace.ended(now, &Reason::FilterViolation("socket".into()));
        let report = trace.report(now, &denied);
        assert_eq!(report.denied, [("openat".into(), 1), ("socket".into(), 1)]);
        assert_eq!(report.ended, ["filter violation socket"]);
        assert!(trace.again(now).is_some());
    }

    #[test]
    fn it_is_over_when_the_process_says_so_or_has_nothing_more_to_say() {
        let now = Instant::now();
        let mut trace = Tracing::new(now, Duration::from_secs(1), BTreeMap::new());
        let later = now + Duration::from_secs(1) + LAST_WORD_WITHIN * 2;
        assert!(trace.report(later, &BTreeMap::new()).over);
        assert!(!trace.report(now, &BTreeMap::new()).over);
        trace.hear(said("Open", true));
        trace.hear(said("Late", false));
        let report = trace.report(now, &BTreeMap::new());
        assert!(report.over && report.rows.len() == 1 && report.covered_ms == 1_000);
        assert!(trace.again(now).is_none());
    }
}
