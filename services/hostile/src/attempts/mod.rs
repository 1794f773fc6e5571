//! The attempts: each a name, the system call that it comes down to, and the deed.

mod channels;
mod files;
mod floods;
mod kernel;
mod memory;
mod processes;
mod rings;
mod sockets;

use crate::stage::Stage;
use crate::sys::{self, Arg};
use rustix::io::Errno;

/// Something that no service may do.
#[derive(Debug)]
pub struct Attempt {
    /// What to ask for it by.
    pub name: &'static str,
    /// The system call that is to be refused. Empty where none is: the attempt breaks the
    /// protocol, or eats more than its share, with calls that every service has.
    pub call: &'static str,
    deed: Deed,
}

#[derive(Clone, Copy)]
enum Deed {
    /// One system call.
    Call(libc::c_long, &'static [Arg]),
    /// More than that.
    Code(fn(&mut Stage) -> Result<(), Errno>),
    /// An operation of the ring that the supervisor made.
    Ring(fn() -> io_uring::squeue::Entry),
}

impl std::fmt::Debug for Deed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Call(..) => "Call",
            Self::Code(_) => "Code",
            Self::Ring(_) => "Ring",
        })
    }
}

impl Attempt {
    const fn call(
        name: &'static str,
        call: &'static str,
        number: libc::c_long,
        args: &'static [Arg],
    ) -> Self {
        Self {
            name,
            call,
            deed: Deed::Call(number, args),
        }
    }

    const fn code(
        name: &'static str,
        call: &'static str,
        code: fn(&mut Stage) -> Result<(), Errno>,
    ) -> Self {
        Self {
            name,
            call,
            deed: Deed::Code(code),
        }
    }

    const fn ring(name: &'static str, entry: fn() -> io_uring::squeue::Entry) -> Self {
        Self {
            name,
            call: "io_uring_setup",
            deed: Deed::Ring(entry),
        }
    }

    /// Whether it needs the ring that a service may have; without one, it is refused that.
    pub fn needs_ring(&self) -> bool {
        matches!(self.deed, Deed::Ring(_))
    }

    /// Does it. Returns only if the process survives.
    pub(crate) fn run(&self, stage: &mut Stage) -> Result<(), Errno> {
        match self.deed {
            Deed::Call(number, args) => sys::call(number, args).map(drop),
            Deed::Code(code) => code(stage),
            Deed::Ring(entry) => stage.submit(&entry()),
        }
    }
}

/// All attempts.
pub fn all() -> impl Iterator<Item = &'static Attempt> {
    [
        files::ATTEMPTS,
        sockets::ATTEMPTS,
        processes::ATTEMPTS,
        kernel::ATTEMPTS,
        memory::ATTEMPTS,
        rings::ATTEMPTS,
        channels::ATTEMPTS,
        floods::ATTEMPTS,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::all;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<&str> = all().map(|attempt| attempt.name).collect();
        assert_eq!(names.len(), all().count());
    }
}
