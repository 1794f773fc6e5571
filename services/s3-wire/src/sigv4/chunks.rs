//! The chain of signatures of an `aws-chunked` body: each covers its chunk and the signature before
//! it.

use super::{SigningKey, push_hex};

/// The SHA-256 of nothing, a line of every chunk's string to sign.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What the signature of the next chunk depends on. Begins with the seed, the signature of the
/// request.
#[derive(Clone, Debug)]
pub struct ChunkContext {
    key: SigningKey,
    /// Timestamp and scope, each with its end of line.
    middle: String,
    previous: [u8; 32],
}

impl ChunkContext {
    /// Begins a chain.
    pub(super) fn new(key: SigningKey, timestamp: &str, scope: &str, seed: [u8; 32]) -> Self {
        ChunkContext {
            key,
            middle: format!("{timestamp}\n{scope}\n"),
            previous: seed,
        }
    }

    /// The signature of the next chunk, whose data has this SHA-256; the last chunk is empty.
    pub fn sign_chunk(&mut self, data_sha256: &[u8; 32]) -> [u8; 32] {
        let mut text = self.begin("AWS4-HMAC-SHA256-PAYLOAD\n");
        text.push_str(EMPTY_SHA256);
        text.push('\n');
        push_hex(&mut text, data_sha256);
        self.end(&text)
    }

    /// The signature of the trailer: `trailers_sha256` is the SHA-256 of its lines, each
    /// `name:value\n`.
    pub fn sign_trailers(&mut self, trailers_sha256: &[u8; 32]) -> [u8; 32] {
        let mut text = self.begin("AWS4-HMAC-SHA256-TRAILER\n");
        push_hex(&mut text, trailers_sha256);
        self.end(&text)
    }

    fn begin(&self, kind: &str) -> String {
        let mut text = String::with_capacity(320);
        text.push_str(kind);
        text.push_str(&self.middle);
        push_hex(&mut text, &self.previous);
        text.push('\n');
        text
    }

    fn end(&mut self, text: &str) -> [u8; 32] {
        self.previous = self.key.sign(text.as_bytes());
        self.previous
    }
}
