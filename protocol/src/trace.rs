//! What a process did while it was traced: calls it served and asked, and the descriptors that came and went with them.
//!
//! Counted in the process by its runtime library, only while a trace is on, and sent with its heartbeat on the start channel;
//! summed up by its supervisor, who adds the system calls that it denied. Not a conversation of its own: parts of [`crate::start`] and
//! [`crate::inspect`].

use serde::{Deserialize, Serialize};

/// The longest trace, in milliseconds: a process does not count for ever because somebody went away.
pub const TRACE_MS_MAX: u64 = 60_000;
/// The most rows of one report; what does not fit is counted in one row named [`OTHER`].
pub const ROWS_MAX: usize = 256;
/// The longest name in a row, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// The conversation of the row that counts what found no row of its own.
pub const OTHER: &str = "other";

/// Which end of a call the traced process was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Side {
    /// It answered.
    Served,
    /// It asked.
    Asked,
}

impl Side {
    /// As people are told.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Asked => "asked",
        }
    }
}

/// All calls of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Which end the traced process was.
    pub side: Side,
    /// The conversation, for example `blocks`; `s3` for a client's request.
    pub conversation: String,
    /// The call in it, for example `Open`.
    pub call: String,
    /// How many.
    pub count: u64,
    /// From call to answer, all together, in microseconds.
    pub total_us: u64,
    /// The longest, in microseconds.
    pub longest_us: u64,
    /// Descriptors that came with the calls, or with their answers.
    pub received: u64,
    /// Descriptors that went with the answers, or with the calls.
    pub given: u64,
}

impl Row {
    /// Adds what another row of the same kind has counted.
    pub fn add(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.total_us = self.total_us.saturating_add(other.total_us);
        self.longest_us = self.longest_us.max(other.longest_us);
        self.received = self.received.saturating_add(other.received);
        self.given = self.given.saturating_add(other.given);
    }

    /// Adds this row to `rows`, which stay bounded whatever is counted: to the row of its kind, to a new one, or to [`OTHER`]'s.
    pub fn add_to(mut self, rows: &mut Vec<Self>) {
        for name in [&mut self.conversation, &mut self.call] {
            let end = (0..=NAME_BYTES_MAX.min(name.len()))
                .rev()
                .find(|at| name.is_char_boundary(*at));
            name.truncate(end.unwrap_or(0));
        }
        let known = |row: &Self, of: &Self| {
            (row.side, &row.conversation, &row.call) == (of.side, &of.conversation, &of.call)
        };
        if let Some(row) = rows.iter_mut().find(|row| known(row, &self)) {
            return row.add(&self);
        }
        // The last places are kept for the two rows that count what finds no other.
        if rows.len() < ROWS_MAX - 2 {
            return rows.push(self);
        }
        (self.conversation, self.call) = (OTHER.into(), OTHER.into());
        match rows.iter_mut().find(|row| known(row, &self)) {
            Some(row) => row.add(&self),
            None => rows.push(self),
        }
    }
}

/// What a trace has found so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// Nothing more will come.
    pub over: bool,
    /// The time that the rows cover, in milliseconds.
    pub covered_ms: u64,
    /// At most [`ROWS_MAX`].
    pub rows: Vec<Row>,
    /// System calls that were denied meanwhile: name and how often. A denied call ends the process.
    pub denied: Vec<(String, u32)>,
    /// Why the process ended meanwhile, once for each end, the last 16.
    pub ended: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(call: String, count: u64) -> Row {
        Row {
            side: Side::Served,
            conversation: "blocks".into(),
            call,
            count,
            total_us: 2,
            longest_us: 2,
            received: 0,
            given: 1,
        }
    }

    #[test]
    fn rows_of_one_kind_are_summed_and_their_number_is_bounded() {
        let mut rows = Vec::new();
        for number in 0..1_000 {
            row(format!("Call{}", number % 500), 1).add_to(&mut rows);
        }
        assert!(rows.len() <= ROWS_MAX);
        assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), 1_000);
        assert_eq!(rows[0].count, 2);
        assert_eq!(
            (rows[0].total_us, rows[0].longest_us, rows[0].given),
            (4, 2, 2)
        );
        assert_eq!(rows.last().map(|row| row.call.as_str()), Some(OTHER));
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let mut rows = Vec::new();
        row("ä".repeat(NAME_BYTES_MAX), 1).add_to(&mut rows);
        assert_eq!(rows[0].call.len(), NAME_BYTES_MAX);
        row("x".to_owned() + &"ä".repeat(NAME_BYTES_MAX), 1).add_to(&mut rows);
        assert_eq!(rows[1].call.len(), NAME_BYTES_MAX - 1);
    }
}
