//! One line in the log: a single write to descriptor 2, which the supervisor reads, dates and prefixes with the service's name.

/// The longest line in bytes; longer ones are cut. Also the size up to which a pipe write is not torn (PIPE_BUF, pipe(7)).
pub const LINE_BYTES_MAX: usize = 4_096;

/// Writes `text` as one line of `level`. A log that cannot be written is no reason to stop serving, so errors are dropped.
pub fn line(level: &str, text: std::fmt::Arguments<'_>) {
    let mut line = format!("{level}: {text}").replace('\n', " | ");
    if line.len() >= LINE_BYTES_MAX {
        let end = (0..LINE_BYTES_MAX - 1)
            .rev()
            .find(|at| line.is_char_boundary(*at))
            .unwrap_or(0);
        line.truncate(end);
    }
    line.push('\n');
    let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
}

/// From here on a panic is a last line in the log and exit status 101. The library's own end of it, abort(3), makes system
/// calls that no profile allows, and would look like an attack.
pub fn end_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        line("error", format_args!("{panic}"));
        std::process::exit(101);
    }));
}

/// What an operator may want to know of a healthy service.
#[macro_export]
macro_rules! info { ($($part:tt)*) => { $crate::log::line("info", format_args!($($part)*)) } }
/// What should not happen, and was handled.
#[macro_export]
macro_rules! warn { ($($part:tt)*) => { $crate::log::line("warn", format_args!($($part)*)) } }
/// What ends a process, or loses something for its user.
#[macro_export]
macro_rules! error { ($($part:tt)*) => { $crate::log::line("error", format_args!($($part)*)) } }
