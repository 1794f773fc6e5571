//! One connection at work: what each operation sends, and how its answer is checked.

use crate::client::{Answer, Connection, Request};
use crate::error::Error;
use crate::options::Payload;
use s3_wire::aws_chunked;
use s3_wire::checksum::{Algorithm, of};
use s3_wire::sigv4::PayloadHash;
use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Keys in a listing.
pub(super) const LIST_KEYS: usize = 1000;
/// Bytes at the beginning of each object that make it different from all others, so that nothing
/// can be shared.
const STAMP_BYTES: usize = 16;

/// What is done to an object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Put,
    Get,
    Head,
    List,
    Delete,
}

/// One connection and its object under construction.
pub(super) struct Worker {
    pub(super) connection: Connection,
    /// Bytes that do not compress; the first of them are the stamp.
    pub(super) data: Vec<u8>,
    pub(super) latency_ns: Vec<u64>,
}

/// One case of one pass.
pub(super) struct Job<'a> {
    pub(super) verb: Verb,
    pub(super) bucket: &'a str,
    /// Where the keys of this size and pass lie.
    pub(super) prefix: &'a str,
    /// How many keys there are; operation `n` goes to key `n % keys`.
    pub(super) keys: usize,
    pub(super) count: usize,
    pub(super) payload: Payload,
}

/// Does the operations of a job, each worker taking the next one.
pub(super) fn run_job(workers: &mut [Worker], job: &Job<'_>) -> Result<(), Error> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = workers
            .iter_mut()
            .map(|worker| {
                let next = &next;
                scope.spawn(move || -> Result<(), Error> {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= job.count {
                            return Ok(());
                        }
                        worker.operation(job, number)?;
                    }
                })
            })
            .collect();
        for thread in threads {
            thread
                .join()
                .map_err(|_| Error::Answer("a thread of the client panicked".to_owned()))??;
        }
        Ok(())
    })
}

impl Worker {
    /// Makes the data have the right length.
    pub(super) fn prepare(&mut self, bytes: usize) {
        if self.data.len() < bytes {
            // xorshift64*: enough that nothing compresses or repeats.
            let mut state = 0x9E37_79B9_7F4A_7C15_u64;
            self.data.clear();
            while self.data.len() < bytes {
                state ^= state >> 12;
                state ^= state << 25;
                state ^= state >> 27;
                let word = state.wrapping_mul(0x2545_F491_4F6C_DD1D);
                self.data.extend_from_slice(&word.to_le_bytes());
            }
        }
        self.data.truncate(bytes);
    }

    fn operation(&mut self, job: &Job<'_>, number: usize) -> Result<(), Error> {
        let key = number.checked_rem(job.keys).unwrap_or(0);
        let path = format!("/{}/{}{key:06}", job.bucket, job.prefix);
        let answer = match job.verb {
            Verb::Put => {
                stamp(&mut self.data, job.prefix, key);
                put(&mut self.connection, &path, &self.data, job.payload)?
            }
            Verb::Get => {
                let answer = self.connection.expect(&plain("GET", &path, ""), &[200])?;
                stamp(&mut self.data, job.prefix, key);
                if self.connection.body() != self.data {
                    return Err(Error::Answer(format!(
                        "{path} has other bytes than were put"
                    )));
                }
                answer
            }
            Verb::Head => self.connection.expect(&plain("HEAD", &path, ""), &[200])?,
            Verb::Delete => self
                .connection
                .expect(&plain("DELETE", &path, ""), &[204])?,
            Verb::List => {
                let prefix = job.prefix.replace('/', "%2F");
                let query = format!("list-type=2&max-keys={LIST_KEYS}&prefix={prefix}");
                let request = plain("GET", &path, &query);
                let bucket = format!("/{}", job.bucket);
                let answer = self.connection.expect(
                    &Request {
                        path: &bucket,
                        ..request
                    },
                    &[200],
                )?;
                let keys = count(self.connection.body(), b"<Contents>");
                if keys != LIST_KEYS {
                    return Err(Error::Answer(format!("a listing of {keys} keys")));
                }
                answer
            }
        };
        self.latency_ns.push(answer.elapsed_ns);
        Ok(())
    }
}

/// Sends an object with its body protected as asked.
fn put(
    connection: &mut Connection,
    path: &str,
    data: &[u8],
    payload: Payload,
) -> Result<Answer, Error> {
    let plain = plain("PUT", path, "");
    match payload {
        Payload::Signed => connection.expect(&signed(path, data), &[200]),
        Payload::Unsigned => connection.expect(
            &Request {
                body: data,
                ..plain
            },
            &[200],
        ),
        Payload::Chunked => {
            let checksum = of(Algorithm::Crc64Nvme, data);
            let body = aws_chunked::encode(data, 1 << 20, None, Some(&checksum));
            let headers = [
                ("content-encoding", "aws-chunked".to_owned()),
                ("x-amz-decoded-content-length", data.len().to_string()),
                ("x-amz-trailer", checksum.algorithm().header().to_owned()),
                (
                    "x-amz-sdk-checksum-algorithm",
                    checksum.algorithm().name().to_owned(),
                ),
            ];
            let payload = PayloadHash::Streaming {
                signed: false,
                trailer: true,
            };
            connection.expect(
                &Request {
                    headers: &headers,
                    body: &body,
                    payload,
                    ..plain
                },
                &[200],
            )
        }
    }
}

/// A request without body. Its payload is declared unsigned, which costs neither side a hash.
pub(crate) fn plain<'a>(method: &'a str, path: &'a str, query: &'a str) -> Request<'a> {
    Request {
        method,
        path,
        query,
        headers: &[],
        body: b"",
        payload: PayloadHash::Unsigned,
    }
}

/// A PUT whose signature covers the SHA-256 of its body, as SDKs send it over http.
pub(crate) fn signed<'a>(path: &'a str, body: &'a [u8]) -> Request<'a> {
    Request {
        body,
        payload: PayloadHash::Signed(Sha256::digest(body).into()),
        ..plain("PUT", path, "")
    }
}

/// Makes the object of a key different from all others of this run.
fn stamp(data: &mut [u8], prefix: &str, key: usize) {
    let hash = Sha256::digest(format!("{} {prefix} {key}", std::process::id()));
    for (to, from) in data.iter_mut().zip(hash.iter().take(STAMP_BYTES)) {
        *to = *from;
    }
}

/// How often `needle` stands in `text`.
fn count(text: &[u8], needle: &[u8]) -> usize {
    text.windows(needle.len())
        .filter(|window| *window == needle)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_differ_from_each_other() {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        stamp(&mut a, "p/", 1);
        stamp(&mut b, "p/", 2);
        assert_ne!(a, b);
        assert_eq!(count(b"<a><a>b<a>", b"<a>"), 3);
    }
}
