//! A line that a person edits: keys in, what the terminal shown out. Pure: bytes both ways.
//!
//! Understands what terminals send for letters, backspace, arrows, home, end, delete, and the usual control keys. The line is always shown
//! in one row, as much of it as fits around the cursor, so that nothing depends on how a terminal wraps.

use crate::words::LINE_BYTES_MAX;
use std::collections::VecDeque;

/// Lines that are remembered.
const HISTORY_MAX: usize = 50;
/// The longest sequence of a key (`ESC [ … letter`), in bytes.
const SEQUENCE_BYTES_MAX: usize = 16;
/// Where the terminal does not say how wide it is, or lies.
const COLUMNS: usize = 80;
const COLUMNS_MIN: usize = 20;
const COLUMNS_MAX: usize = 1_000;

/// What a key has brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Enter: the line.
    Line(String),
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D on an empty line.
    End,
}

/// The line, the cursor, and the lines before.
pub(crate) struct Editor {
    prompt: String,
    columns: usize,
    line: Vec<char>,
    cursor: usize,
    history: VecDeque<String>,
    /// Which line of the history is shown; its length: the new line.
    shown: usize,
    /// The new line, while one of the history is shown.
    kept: Vec<char>,
    sequence: Option<Vec<u8>>,
    /// A character of several bytes that is not complete.
    partial: Vec<u8>,
    /// The last byte was a carriage return: a line feed behind it is the same key.
    returned: bool,
}

impl Editor {
    pub(crate) fn new(prompt: String) -> Self {
        Self {
            prompt,
            columns: COLUMNS,
            line: Vec::new(),
            cursor: 0,
            history: VecDeque::new(),
            shown: 0,
            kept: Vec::new(),
            sequence: None,
            partial: Vec::new(),
            returned: false,
        }
    }

    /// How wide the terminal is; 0 if it does not say.
    pub(crate) fn set_columns(&mut self, columns: u32) {
        self.columns = match columns as usize {
            0 => COLUMNS,
            columns => columns.clamp(COLUMNS_MIN, COLUMNS_MAX),
        };
    }

    /// The prompt and the line as they are, drawn afresh.
    pub(crate) fn draw(&self) -> String {
        let room = self.columns.saturating_sub(self.prompt.chars().count() + 1);
        let from = self.cursor.saturating_sub(room.max(1) - 1);
        let shown: String = self.line.iter().skip(from).take(room.max(1)).collect();
        let behind = shown.chars().count().saturating_sub(self.cursor - from);
        let back = match behind {
            0 => String::new(),
            count => format!("\x1b[{count}D"),
        };
        format!("\r{}{shown}\x1b[K{back}", self.prompt)
    }

    /// One byte of the terminal: what is to be shown, and what it means.
    pub(crate) fn feed(&mut self, byte: u8) -> (String, Option<Event>) {
        if let Some(sequence) = &mut self.sequence {
            sequence.push(byte);
            return match is_complete(sequence) {
                false => (String::new(), None),
                true => {
                    let sequence = self.sequence.take().unwrap_or_default();
                    self.obey(&sequence)
                }
            };
        }
        let after_return = std::mem::replace(&mut self.returned, byte == b'\r');
        match byte {
            b'\n' if after_return => (String::new(), None),
            b'\r' | b'\n' => self.enter(),
            3 => {
                self.clear();
                ("^C\r\n".into(), Some(Event::Interrupt))
            }
            4 if self.line.is_empty() => ("\r\n".into(), Some(Event::End)),
            4 => self.change(Self::delete),
            8 | 127 => self.change(Self::backspace),
            1 => self.change(|editor| editor.cursor = 0),
            5 => self.change(|editor| editor.cursor = editor.line.len()),
            2 => self.change(Self::left),
            6 => self.change(Self::right),
            11 => self.change(|editor| editor.line.truncate(editor.cursor)),
            21 => self.change(|editor| {
                editor.line.drain(..editor.cursor);
                editor.cursor = 0;
            }),
            23 => self.change(Self::delete_word),
            12 => (format!("\x1b[2J\x1b[H{}", self.draw()), None),
            14 => self.change(|editor| editor.go(1)),
            16 => self.change(|editor| editor.go(-1)),
            27 => {
                self.partial.clear();
                self.sequence = Some(Vec::new());
                (String::new(), None)
            }
            0..=31 => ("\x07".into(), None),
            _ => self.letter(byte),
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut Self)) -> (String, Option<Event>) {
        self.partial.clear();
        change(self);
        (self.draw(), None)
    }

    fn letter(&mut self, byte: u8) -> (String, Option<Event>) {
        self.partial.push(byte);
        let c = match std::str::from_utf8(&self.partial) {
            Ok(text) => text.chars().next(),
            // More bytes of the same character may follow.
            Err(error) if error.error_len().is_none() => return (String::new(), None),
            Err(_) => None,
        };
        self.partial.clear();
        let bytes: usize = self.line.iter().map(|c| c.len_utf8()).sum();
        match c.filter(|c| !c.is_control() && bytes + c.len_utf8() <= LINE_BYTES_MAX) {
            None => ("\x07".into(), None),
            Some(c) => self.change(|editor| {
                editor.line.insert(editor.cursor, c);
                editor.cursor += 1;
            }),
        }
    }

    fn enter(&mut self) -> (String, Option<Event>) {
        let line: String = self.line.iter().collect();
        self.clear();
        let is_new = !line.trim().is_empty() && self.history.back() != Some(&line);
        if is_new {
            self.history.push_back(line.clone());
        }
        if self.history.len() > HISTORY_MAX {
            self.history.pop_front();
        }
        self.shown = self.history.len();
        ("\r\n".into(), Some(Event::Line(line)))
    }

    fn clear(&mut self) {
        self.line.clear();
        self.partial.clear();
        self.cursor = 0;
        self.shown = self.history.len();
    }

    fn obey(&mut self, sequence: &[u8]) -> (String, Option<Event>) {
        match sequence {
            b"[A" | b"OA" => self.change(|editor| editor.go(-1)),
            b"[B" | b"OB" => self.change(|editor| editor.go(1)),
            b"[C" | b"OC" => self.change(Self::right),
            b"[D" | b"OD" => self.change(Self::left),
            b"[H" | b"OH" | b"[1~" | b"[7~" => self.change(|editor| editor.cursor = 0),
            b"[F" | b"OF" | b"[4~" | b"[8~" => {
                self.change(|editor| editor.cursor = editor.line.len())
            }
            b"[3~" => self.change(Self::delete),
            _ => (String::new(), None),
        }
    }

    fn left(&mut self) {
        self.cursor = self.cursor.saturating_sub(1);
    }

    fn right(&mut self) {
        self.cursor = (self.cursor + 1).min(self.line.len());
    }

    fn delete(&mut self) {
        if self.cursor < self.line.len() {
            self.line.remove(self.cursor);
        }
    }

    fn backspace(&mut self) {
        if self.cursor > 0 {
            self.cursor -= 1;
            self.line.remove(self.cursor);
        }
    }

    fn delete_word(&mut self) {
        let before = self.line.iter().take(self.cursor);
        let blanks = |c: &&char| c.is_whitespace();
        let gap = before.clone().rev().take_while(blanks).count();
        let word = before.rev().skip(gap).take_while(|c| !blanks(c)).count();
        let from = self.cursor - gap - word;
        self.line.drain(from..self.cursor);
        self.cursor = from;
    }

    /// To an older line (-1) or a newer one (1).
    fn go(&mut self, by: isize) {
        let Some(to) = self.shown.checked_add_signed(by) else {
            return;
        };
        if to > self.history.len() {
            return;
        }
        if self.shown == self.history.len() {
            self.kept = std::mem::take(&mut self.line);
        }
        self.line = match self.history.get(to) {
            Some(line) => line.chars().collect(),
            None => std::mem::take(&mut self.kept),
        };
        self.shown = to;
        self.cursor = self.line.len();
    }
}

/// Whether the bytes behind ESC are all of a key (ECMA-48: `[`, parameters, one final byte; `O` and one byte).
fn is_complete(sequence: &[u8]) -> bool {
    match sequence {
        [] => false,
        [b'['] | [b'O'] => false,
        [b'[', .., last] => (0x40..=0x7e).contains(last) || sequence.len() >= SEQUENCE_BYTES_MAX,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Types `keys`; the lines that came of them.
    fn check(keys: &str, expected: &[&str]) {
        let mut editor = Editor::new("> ".into());
        let mut lines = Vec::new();
        for byte in keys.bytes() {
            if let (_, Some(Event::Line(line))) = editor.feed(byte) {
                lines.push(line);
            }
        }
        assert_eq!(lines, expected, "{keys:?}");
    }

    #[test]
    fn keys_edit_the_line() {
        check("status\r", &["status"]);
        check("status\r\nfds\n", &["status", "fds"]);
        check("stats\x7f\x08tus\r", &["status"]);
        check("fds\x1b[D\x1b[D\x7fx\r", &["xds"]);
        check("ds\x01f\x05 x\r", &["fds x"]);
        check("ab\x1b[H\x1b[3~\r", &["b"]);
        check("one two  \x17three\r", &["one three"]);
        check("gone\x15here\r", &["here"]);
        check("keep this\x1bOH\x06\x06\x06\x06\x0b\r", &["keep"]);
        check("key create ä€😀\x7f\r", &["key create ä€"]);
        check("a\x03b\r", &["b"]);
        check("\x1b[200~x\x1b[201~\r", &["x"]);
    }

    #[test]
    fn history_goes_back_and_forth_and_forgets_the_oldest() {
        let (up, down) = ("\x1b[A", "\x1b[B");
        check(&format!("one\rtwo\r{up}{up}\r"), &["one", "two", "one"]);
        check(
            &format!("one\rtwo\rthr{up}{up}{down}{down}ee\r"),
            &["one", "two", "three"],
        );
        check(&format!("{up}{down}x\r"), &["x"]);
        let mut editor = Editor::new(String::new());
        for number in 0..3 * HISTORY_MAX {
            format!("line {number}\r")
                .bytes()
                .for_each(|byte| drop(editor.feed(byte)));
        }
        assert_eq!(editor.history.len(), HISTORY_MAX);
    }

    #[test]
    fn interrupt_and_end_are_told() {
        let mut editor = Editor::new(String::new());
        assert_eq!(editor.feed(3).1, Some(Event::Interrupt));
        editor.feed(b'x');
        assert_eq!(editor.feed(4).1, None, "on a line it deletes");
        editor.feed(127);
        assert_eq!(editor.feed(4).1, Some(Event::End));
    }

    #[test]
    fn a_long_line_is_shown_around_the_cursor() {
        let mut editor = Editor::new("node> ".into());
        editor.set_columns(30);
        let mut last = String::new();
        for byte in "abcdefghijklmnopqrstuvwxyz0123456789".bytes() {
            last = editor.feed(byte).0;
        }
        assert!(last.contains("56789") && !last.contains("abc"), "{last:?}");
        let home = editor.feed(1).0;
        assert!(home.contains("abc") && !home.contains('9'), "{home:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_leave_a_bounded_line_in_one_row(bytes in proptest::collection::vec(any::<u8>(), 0..6_000), columns: u32) {
            let mut editor = Editor::new("node> ".into());
            editor.set_columns(columns);
            for byte in bytes {
                let (shown, event) = editor.feed(byte);
                let width = shown.chars().count();
                prop_assert!(width <= COLUMNS_MAX + 30, "{width}");
                if let Some(Event::Line(line)) = event {
                    prop_assert!(line.len() <= LINE_BYTES_MAX);
                    prop_assert!(!line.chars().any(char::is_control));
                }
                prop_assert!(editor.cursor <= editor.line.len());
            }
        }
    }
}
