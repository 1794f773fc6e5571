//! A pipe of bytes from a process cut into lines, bounded whatever the process writes.

use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// A longer line is cut here: its rest becomes the next line.
const LINE_BYTES_MAX: usize = 4_096;
/// So much is read in one turn, so that a process that floods its log cannot hold up its supervisor.
const TURN_BYTES_MAX: usize = 64 * 1024;

/// The bytes of the line that is not complete yet.
#[derive(Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Reads what is there from a non-blocking pipe and gives each complete line.
    pub(crate) fn read(&mut self, pipe: &OwnedFd, mut line: impl FnMut(String)) {
        let mut buffer = [0; 4_096];
        let mut total = 0;
        while total < TURN_BYTES_MAX {
            let count = match rustix::io::read(pipe, &mut buffer) {
                Ok(0) => return,
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(_) => return,
            };
            total += count;
            for byte in buffer.iter().take(count) {
                if *byte == b'\n' || self.partial.len() >= LINE_BYTES_MAX {
                    self.flush(&mut line);
                }
                if *byte != b'\n' {
                    self.partial.push(*byte);
                }
            }
        }
    }

    /// Gives what is left as a line: its writer has ended.
    pub(crate) fn flush(&mut self, mut line: impl FnMut(String)) {
        if !self.partial.is_empty() {
            // What a process writes is not trusted: no escape sequence reaches the operator's terminal.
            let text = String::from_utf8_lossy(&self.partial);
            line(
                text.chars()
                    .map(|c| if c.is_control() { '\u{fffd}' } else { c })
                    .collect(),
            );
            self.partial.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    #[test]
    fn a_flood_without_line_ends_stays_bounded_and_control_characters_go() {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        rustix::io::write(&write, &[b'x'; 10_000]).unwrap();
        rustix::io::write(&write, b"\nplain\n\x1b[2Jevil").unwrap();
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        lines.read(&read, |line| seen.push(line));
        lines.flush(|line| seen.push(line));
        let lengths: Vec<usize> = seen.iter().map(String::len).collect();
        assert_eq!(
            lengths[..3],
            [LINE_BYTES_MAX, LINE_BYTES_MAX, 10_000 - 2 * LINE_BYTES_MAX]
        );
        assert_eq!(seen[3..], ["plain", "\u{fffd}[2Jevil"]);
    }
}
