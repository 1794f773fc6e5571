//! The log of all processes: each line dated, printed on the standard error, and the last ones kept for `trousseau logs`.

use machine::Console;
use protocol::inspect::{LIST_MAX, TEXT_BYTES_MAX};
use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

/// So many lines are kept.
const LINES_MAX: usize = 4_096;
/// And so many bytes of them: a node has 1 GB for everything.
const BYTES_MAX: usize = 512 * 1024;

/// The last lines of every process.
#[derive(Default)]
pub(crate) struct Log {
    lines: VecDeque<String>,
    bytes: usize,
    /// On a machine: where people see what matters. Elsewhere every line goes to the standard error.
    console: Option<Console>,
}

impl Log {
    pub(crate) fn on(console: Option<Console>) -> Self {
        Self {
            console,
            ..Self::default()
        }
    }

    /// Shows what a slow console could not take before.
    pub(crate) fn flush(&mut self) {
        if let Some(console) = &mut self.console {
            console.flush();
        }
    }

    /// A line for whoever stands before the machine; as it is.
    pub(crate) fn announce(&mut self, text: &str) {
        if let Some(console) = &mut self.console {
            console.line(text);
        }
    }

    /// A line of `daemon`. The orchestrator's lines name their service themselves.
    pub(crate) fn line(&mut self, daemon: &str, text: &str) {
        let line = match daemon {
            "orchestrator" if !has_level(text) => format!("{} {text}", now()),
            _ => format!("{} {daemon}: {text}", now()),
        };
        match &mut self.console {
            None => {
                let _ = rustix::io::write(rustix::stdio::stderr(), format!("{line}\n").as_bytes());
            }
            Some(console) if daemon != "orchestrator" || has_level(text) || !is_info(text) => {
                console.line(&line);
            }
            Some(_) => {}
        }
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.lines.len() > LINES_MAX || self.bytes > BYTES_MAX {
            self.bytes -= self.lines.pop_front().map_or(0, |line| line.len());
        }
    }

    /// The last `count` lines, of `service` or of all, oldest first, within one message.
    pub(crate) fn last(&self, service: Option<&str>, count: u32) -> Vec<String> {
        let count = (count as usize).min(LIST_MAX);
        let of_service = |line: &&String| match service {
            None => true,
            Some(service) => line
                .split(' ')
                .nth(1)
                .is_some_and(|word| word.trim_end_matches(':') == service),
        };
        let mut room = TEXT_BYTES_MAX;
        let mut last: Vec<String> = self
            .lines
            .iter()
            .rev()
            .filter(of_service)
            .take(count)
            .take_while(|line| {
                let fits = line.len() <= room;
                room = room.saturating_sub(line.len());
                fits
            })
            .cloned()
            .collect();
        last.reverse();
        last
    }
}

fn has_level(text: &str) -> bool {
    ["info: ", "warn: ", "error: "]
        .iter()
        .any(|level| text.starts_with(level))
}

/// Whether a line of a service (`<service>: info: …`) is about nothing that has gone wrong.
fn is_info(text: &str) -> bool {
    text.split_once(": ")
        .is_some_and(|(_, rest)| rest.starts_with("info: "))
}

/// UTC in ISO 8601, to the millisecond.
fn now() -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_millis()
    )
}

/// Days since 1970 as a date of the Gregorian calendar (H. Hinnant, "chrono-compatible low-level date algorithms").
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dated_by_the_calendar() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(19_782), (2024, 2, 29));
        assert_eq!(date(20_779), (2026, 11, 22));
    }

    #[test]
    fn a_flooded_log_stays_bounded_and_keeps_the_last_lines() {
        let mut log = Log::default();
        for number in 0..10_000 {
            let line = format!("date bus: line {number} {}", "x".repeat(100));
            log.bytes += line.len();
            log.lines.push_back(line);
        }
        log.line("membership", "info: the last");
        assert!(log.lines.len() <= LINES_MAX && log.bytes <= BYTES_MAX);
        assert_eq!(log.last(Some("membership"), 5).len(), 1);
        assert_eq!(log.last(None, 3).len(), 3);
        assert!(log.last(None, 1)[0].ends_with("the last"));
    }
}
