//! Taking more than a share: of memory, processor, log, and kernel objects.
//!
//! Each has a bound of its own, or `amount`, so that a sandbox without limits survives it too.

use super::Attempt;
use rustix::io::Errno;
use std::time::{Duration, Instant};

const MEMORY_BYTES: usize = 1 << 30;
const LOG_LINES: usize = 100_000;
const SPIN_SECONDS: usize = 30;
const THREADS: usize = 10_000;
const STEP_BYTES: usize = 1 << 20;

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::code("memory-flood", "", |stage| {
        let mut taken: Vec<Vec<u8>> = Vec::new();
        for _ in 0..stage.amount.unwrap_or(MEMORY_BYTES) / STEP_BYTES {
            let mut more = Vec::new();
            more.try_reserve_exact(STEP_BYTES)
                .map_err(|_| Errno::NOMEM)?;
            // Touched, so that it is memory and not only a promise.
            more.resize(STEP_BYTES, 1);
            taken.push(more);
        }
        Ok(())
    }),
    Attempt::code("log-flood", "", |stage| {
        let line = "x".repeat(1000);
        for _ in 0..stage.amount.unwrap_or(LOG_LINES) {
            stage.tell(&line);
        }
        Ok(())
    }),
    Attempt::code("log-without-end-of-line", "", |stage| {
        for _ in 0..stage.amount.unwrap_or(LOG_LINES) {
            rustix::io::write(rustix::stdio::stderr(), &[b'x'; 4096])?;
        }
        Ok(())
    }),
    Attempt::code("log-terminal-codes", "", |stage| {
        stage.tell("\x1b]0;hostile\x07\x1b[2J\u{202e}\0 everything is fine");
        Ok(())
    }),
    // Silent for longer than a supervisor waits for a sign of life.
    Attempt::code("processor-flood", "", |stage| {
        let seconds = stage.amount.unwrap_or(SPIN_SECONDS) as u64;
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(seconds) {
            std::hint::spin_loop();
        }
        Ok(())
    }),
    Attempt::code("thread-flood", "", |stage| {
        for _ in 0..stage.amount.unwrap_or(THREADS) {
            let thread = std::thread::Builder::new().stack_size(16 << 10);
            thread
                .spawn(|| {
                    loop {
                        std::thread::park()
                    }
                })
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))?;
        }
        Ok(())
    }),
];
