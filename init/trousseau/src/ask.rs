//! Asking the running node, over the control socket in its data directory.

use protocol::Channel;
use protocol::channel::ReceiveBuffer;
use protocol::inspect::{INPUT_BYTES_MAX, Operator, Outcome, Verb};
use protocol::verbs::Role;
use protocol::wire::Numbered;
use rustix::fs::{Mode, OFlags};
use rustix::net::sockopt::Timeout;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect,
    socket_with,
};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// A verb that waits for something slow (a sweep, a service that restarts) still answers within this.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// The socket's place in the data directory. Its directory is the bus's own root.
fn control_socket(data: &Path) -> PathBuf {
    data.join("run/control.sock")
}

/// Asks the node that runs on `data` and shows what it says.
pub(crate) fn ask(data: &Path, words: &[String], json: bool) -> ExitCode {
    let input = match input(words) {
        Ok(input) => input,
        Err(why) => {
            eprintln!("trousseau: {why}");
            return ExitCode::FAILURE;
        }
    };
    match say(data, words, json, input) {
        Ok((status, text)) => show(status, &text),
        Err(why) => {
            eprintln!("trousseau: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The file behind `--file`, which is read here: the node opens nothing of its operator's.
fn input(words: &[String]) -> Result<Option<String>, String> {
    let mut words = words.iter().skip_while(|word| *word != "--file").skip(1);
    let Some(path) = words.next() else {
        return Ok(None);
    };
    let fails = |error: std::io::Error| format!("{path}: {error}");
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(fails)?;
    let bound = INPUT_BYTES_MAX as u64 + 1;
    file.take(bound).read_to_string(&mut text).map_err(fails)?;
    match text.len() > INPUT_BYTES_MAX {
        true => Err(format!("{path}: longer than {INPUT_BYTES_MAX} bytes")),
        false => Ok(Some(text)),
    }
}

/// Shows an answer where it belongs, and gives its status.
pub(crate) fn show(status: u8, text: &str) -> ExitCode {
    match status {
        0 => crate::words::print(text),
        status => {
            eprint!("{text}");
            ExitCode::from(status)
        }
    }
}

/// One verb: its exit status and its whole text.
pub(crate) fn say(
    data: &Path,
    words: &[String],
    json: bool,
    input: Option<String>,
) -> Result<(u8, String), String> {
    let mut question = Question::ask(data, words, json, input)?;
    loop {
        match question.hear(RecvFlags::empty())? {
            Heard::All(status, text) => return Ok((status, text)),
            Heard::Piece => {}
            Heard::Nothing => {
                return Err(format!(
                    "no answer within {} seconds; see `trousseau logs`",
                    ANSWER_WITHIN.as_secs()
                ));
            }
        }
    }
}

/// A verb that was said, and what was heard of its answer so far.
pub(crate) struct Question {
    channel: Channel,
    buffer: ReceiveBuffer,
    text: String,
}

/// What came of an answer.
pub(crate) enum Heard {
    /// The exit status and the whole text.
    All(u8, String),
    /// A piece, which is kept.
    Piece,
    /// Nothing, for now.
    Nothing,
}

impl Question {
    /// Says a verb to the node that runs on `data`.
    pub(crate) fn ask(
        data: &Path,
        words: &[String],
        json: bool,
        input: Option<String>,
    ) -> Result<Self, String> {
        let path = control_socket(data);
        let fails = |what: &str| {
            format!(
                "{}: {what}; does a node run on {}? (`trousseau up`)",
                path.display(),
                data.display()
            )
        };
        let channel = open(&path).map_err(|errno| fails(&errno.to_string()))?;
        let bounded =
            rustix::net::sockopt::set_socket_timeout(&channel, Timeout::Recv, Some(ANSWER_WITHIN));
        bounded.map_err(|errno| fails(&errno.to_string()))?;
        let call = Numbered {
            id: 0,
            body: Verb {
                words: words.to_vec(),
                json,
                input,
                // Whoever may open the socket's directory owns the node.
                role: Role::Admin,
            },
        };
        channel
            .send_message::<Operator>(&call, &[], SendFlags::empty())
            .map_err(|error| fails(&error.to_string()))?;
        Ok(Self {
            channel,
            buffer: ReceiveBuffer::new(),
            text: String::new(),
        })
    }

    /// The next piece of the answer; with DONTWAIT, if there is one.
    pub(crate) fn hear(&mut self, flags: RecvFlags) -> Result<Heard, String> {
        let piece = self
            .channel
            .receive_message::<Operator, Numbered<Outcome>>(&mut self.buffer, flags);
        match piece {
            Ok(Some((Numbered { body, .. }, _))) => {
                self.text.push_str(&body.text);
                Ok(match body.more {
                    true => Heard::Piece,
                    false => Heard::All(body.status, std::mem::take(&mut self.text)),
                })
            }
            Err(error) if error.would_block() => Ok(Heard::Nothing),
            Ok(None) => Err("the console ended before it had answered; ask again".into()),
            Err(error) => Err(format!("the console's answer: {error}")),
        }
    }
}

impl AsFd for Question {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

fn open(path: &Path) -> Result<Channel, rustix::io::Errno> {
    // By way of the directory's descriptor: a socket's name holds 107 bytes (unix(7)), and a path may be longer.
    let directory = path.parent().unwrap_or(Path::new("."));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let file = path.file_name().unwrap_or_default();
    let short = Path::new("/proc/self/fd")
        .join(directory.as_raw_fd().to_string())
        .join(file);
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    connect(&socket, &SocketAddrUnix::new(short)?)?;
    Ok(socket.into())
}
