//! A session without a command: the same verbs, one after the other, with a line to edit where there is a terminal. Never a shell.

use crate::House;
use crate::editor::{Editor, Event};
use crate::person::{Login, Way};
use crate::words::{self, LINE_BYTES_MAX};
use protocol::verbs;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What a person has typed, or done to the terminal.
pub(crate) enum Input {
    /// Bytes of the terminal, or of a pipe.
    Bytes(Vec<u8>),
    /// The terminal is so wide now.
    Columns(u32),
    /// Nothing more will come.
    End,
}

/// So many inputs wait while a verb is under way; more is more than a person types.
pub(crate) const INPUTS_MAX: usize = 32;

/// How a line, or the session, ended.
enum Next {
    Line(String),
    End,
}

/// Talks to one person until they go. `terminal`: its width, if there is one. Gives the exit status: that of the last verb.
pub(crate) async fn talk(
    house: Arc<House>,
    login: Login,
    way: Way,
    terminal: Option<u32>,
    inputs: mpsc::Receiver<Input>,
) -> u8 {
    let mut talk = Talk {
        way,
        terminal: terminal.map(|columns| {
            let mut editor = Editor::new(format!("{}> ", house.node));
            editor.set_columns(columns);
            editor
        }),
        house,
        login,
        inputs,
        waiting: Vec::new(),
        line: Vec::new(),
        ended: false,
    };
    let role = talk.login.role.as_str();
    let node = talk.house.node.clone();
    talk.note(&format!(
        "Trousseau {node}, role {role}. `help` lists the verbs; Ctrl-D ends.\n"
    ))
    .await;
    let mut status = 0;
    loop {
        talk.prompt().await;
        match talk.next().await {
            Next::End => return status,
            Next::Line(line) => match line.trim() {
                "" => {}
                "exit" | "quit" | "logout" => return status,
                line => status = talk.say(line).await,
            },
        }
    }
}

struct Talk {
    house: Arc<House>,
    login: Login,
    way: Way,
    terminal: Option<Editor>,
    inputs: mpsc::Receiver<Input>,
    /// Bytes that came and were not looked at yet.
    waiting: Vec<u8>,
    /// Without a terminal: the line so far.
    line: Vec<u8>,
    ended: bool,
}

impl Talk {
    /// For a person at a terminal only.
    async fn note(&self, text: &str) {
        if self.terminal.is_some() {
            self.way.show(0, text, true).await;
        }
    }

    async fn prompt(&self) {
        if let Some(editor) = &self.terminal {
            self.way.raw(editor.draw()).await;
        }
    }

    /// The next line, or the end.
    async fn next(&mut self) -> Next {
        loop {
            let waiting = std::mem::take(&mut self.waiting);
            let mut bytes = waiting.into_iter();
            let mut shown = String::new();
            while let Some(byte) = bytes.next() {
                let (echo, event) = match &mut self.terminal {
                    Some(editor) => editor.feed(byte),
                    None => (String::new(), self.plain(byte)),
                };
                // Each echo draws the row afresh, so of many only the last counts; but the end of a line stays.
                match event.is_some() || !echo.starts_with('\r') {
                    true => shown.push_str(&echo),
                    false => shown = echo,
                }
                let next = match event {
                    Some(Event::Line(line)) => Next::Line(line),
                    Some(Event::End) => Next::End,
                    Some(Event::Interrupt) => Next::Line(String::new()),
                    None => continue,
                };
                self.waiting = bytes.collect();
                self.way.raw(shown).await;
                return next;
            }
            self.way.raw(shown).await;
            if self.ended {
                // A last line without its end.
                let line = std::mem::take(&mut self.line);
                return match line.is_empty() {
                    true => Next::End,
                    false => Next::Line(String::from_utf8_lossy(&line).into_owned()),
                };
            }
            let input = self.inputs.recv().await;
            self.take(input);
        }
    }

    fn plain(&mut self, byte: u8) -> Option<Event> {
        match byte {
            b'\n' => {
                let line = std::mem::take(&mut self.line);
                let line = String::from_utf8_lossy(&line);
                Some(Event::Line(line.trim_end_matches('\r').to_owned()))
            }
            // One byte more than a line may have: it will be refused, and the rest of it is not kept.
            _ if self.line.len() <= LINE_BYTES_MAX => {
                self.line.push(byte);
                None
            }
            _ => None,
        }
    }

    fn take(&mut self, input: Option<Input>) {
        match input {
            Some(Input::Bytes(bytes)) => self.waiting.extend(bytes),
            Some(Input::Columns(columns)) => {
                if let Some(editor) = &mut self.terminal {
                    editor.set_columns(columns);
                }
            }
            Some(Input::End) | None => self.ended = true,
        }
    }

    /// Does what a line says; its status. Ctrl-C at a terminal ends the waiting, not what was begun.
    async fn say(&mut self, line: &str) -> u8 {
        let terminal = self.terminal.is_some();
        if line == "help" || line == "?" {
            let text = verbs::help(self.login.role) + HELP;
            self.way.show(0, &text, terminal).await;
            return 0;
        }
        let said = match words::split(line) {
            Ok(said) => said,
            Err(why) => {
                let text = format!("trousseau: {why}\n");
                self.way.show(2, &text, terminal).await;
                return 2;
            }
        };
        let mut answer = self.login.ask(&self.house, said).await;
        loop {
            tokio::select! {
                piece = answer.next() => match piece {
                    Some(piece) => {
                        self.way.show(piece.status, &piece.text, terminal).await;
                        if !piece.more {
                            return piece.status;
                        }
                    }
                    None => return 1,
                },
                input = self.inputs.recv(), if !self.ended => {
                    self.take(input);
                    if terminal && let Some(at) = self.waiting.iter().position(|byte| *byte == 3) {
                        self.waiting.drain(..=at);
                        self.way.show(1, "^C\n", terminal).await;
                        return 1;
                    }
                }
            }
        }
    }
}

/// Behind the verbs.
const HELP: &str = "\
  help                                these lines
  exit                                end the session
Each verb takes --json. Arrows edit and recall lines; Ctrl-C ends waiting for an answer.
";
