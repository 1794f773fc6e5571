//! The `aws-chunked` transfer form: a body in chunks, perhaps each with a signature, perhaps with
//! checksums behind it.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html> and
//! `sigv4-streaming-trailers.html`.

#[cfg(test)]
mod tests;

use crate::checksum::{Algorithm, Checksum};
use crate::error::{ErrorCode, S3Error};
use crate::headers::{Headers, single};
use crate::sigv4::{ChunkContext, PayloadHash};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Most bytes of a chunk's header or of a line of the trailer.
pub const LINE_BYTES_MAX: usize = 512;
/// Most lines in a trailer; real ones have two.
pub const TRAILER_LINES_MAX: usize = 4;
/// Most empty lines' bytes that may follow the end: minio-go sends one line end too many.
const REST_BYTES_MAX: usize = 4;

/// Takes the chunks apart, piece by piece as they arrive, without copying their data.
///
/// Data is released before the signature of its chunk is checked: nothing that is uploaded becomes
/// visible before [`Decoder::finish`] has succeeded, and holding a chunk back would mean to buffer
/// it. After an error the decoder must be dropped; it answers every further call with an error.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// The chain of signatures, for signed chunks.
    chunks: Option<ChunkContext>,
    /// Whether a trailer follows, and the one checksum that was announced for it.
    trailer: Option<Option<Algorithm>>,
    /// Decoded bytes that are still to come.
    remaining: u64,
    /// The beginning of a line whose end has not arrived.
    line: Vec<u8>,
    /// Of the data of the current chunk; only for signed chunks.
    sha256: Sha256,
    /// What the header of the current chunk claims.
    signature: Option<[u8; 32]>,
    found: Trailer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the size of a chunk.
    Header,
    /// In a chunk; so many bytes to come.
    Data(u64),
    /// Before the line end behind a chunk's data.
    DataEnd,
    /// Behind the last chunk.
    Trailer,
    /// All is there.
    Done { rest_bytes: usize },
    /// An error was returned.
    Failed,
}

/// What was found behind the last chunk.
#[derive(Debug, Default)]
struct Trailer {
    lines: usize,
    checksum: Option<Checksum>,
    /// Of `name:value\n`, for the trailer's signature.
    sha256: Sha256,
    signature_seen: bool,
    empty_line_seen: bool,
}

impl Decoder {
    /// A decoder for `decoded_bytes` bytes of data.
    ///
    /// `chunks` comes from [`crate::sigv4::Verified`] and is `None` for unsigned chunks. `trailer`
    /// is `None` when no trailer may follow, else the algorithm that `x-amz-trailer` announces, if
    /// any.
    pub fn new(
        chunks: Option<ChunkContext>,
        trailer: Option<Option<Algorithm>>,
        decoded_bytes: u64,
    ) -> Decoder {
        Decoder {
            state: State::Header,
            chunks,
            trailer,
            remaining: decoded_bytes,
            line: Vec::new(),
            sha256: Sha256::new(),
            signature: None,
            found: Trailer::default(),
        }
    }

    /// The decoder that a request needs; `None` when its body is not `aws-chunked`.
    ///
    /// # Errors
    /// `MissingContentLength` without `x-amz-decoded-content-length`, `InvalidArgument` when it is
    /// no number, `InvalidRequest` for a signed body without its [`ChunkContext`].
    pub fn for_request(
        payload: PayloadHash,
        chunks: Option<ChunkContext>,
        announced: Option<Algorithm>,
        headers: &dyn Headers,
    ) -> Result<Option<Decoder>, S3Error> {
        let PayloadHash::Streaming { signed, trailer } = payload else {
            return Ok(None);
        };
        if signed != chunks.is_some() {
            let message = "Signed chunks need a signed request";
            return Err(S3Error::with(ErrorCode::InvalidRequest, message));
        }
        let decoded_bytes = decoded_content_length(headers)?;
        Ok(Some(Decoder::new(
            chunks,
            trailer.then_some(announced),
            decoded_bytes,
        )))
    }

    /// Takes the next piece of data from the front of `input`. `None` means that `input` is used
    /// up.
    ///
    /// # Errors
    /// `InvalidRequest` for broken framing, `IncompleteBody` for more data than announced,
    /// `SignatureDoesNotMatch`, `MalformedTrailerError`.
    pub fn decode(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, S3Error> {
        let decoded = self.advance(input);
        if decoded.is_err() {
            self.state = State::Failed;
        }
        decoded
    }

    fn advance(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, S3Error> {
        while !input.is_empty() {
            match self.state {
                State::Data(to_come) => {
                    let here = usize::try_from(to_come)
                        .unwrap_or(usize::MAX)
                        .min(input.len());
                    let data = input.split_to(here);
                    if self.chunks.is_some() {
                        self.sha256.update(&data);
                    }
                    let taken = u64::try_from(here).unwrap_or(u64::MAX);
                    self.state = match to_come.saturating_sub(taken) {
                        0 => State::DataEnd,
                        left => State::Data(left),
                    };
                    return Ok(Some(data));
                }
                State::Header => {
                    let Some(line) = self.take_line(input)? else {
                        return Ok(None);
                    };
                    self.begin_chunk(&line)?;
                }
                State::DataEnd => {
                    let Some(line) = self.take_line(input)? else {
                        return Ok(None);
                    };
                    if line.as_ref() != b"\r\n" {
                        return Err(framing("a chunk is longer than its header says"));
                    }
                    self.end_chunk()?;
                    self.state = State::Header;
                }
                State::Trailer => {
                    let Some(line) = self.take_line(input)? else {
                        return Ok(None);
                    };
                    self.trailer_line(&line)?;
                }
                State::Done { rest_bytes } => {
                    let rest_bytes = rest_bytes.saturating_add(input.len());
                    let only_line_ends = input.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
                    if rest_bytes > REST_BYTES_MAX || !only_line_ends {
                        return Err(framing("something follows the last chunk"));
                    }
                    input.clear();
                    self.state = State::Done { rest_bytes };
                }
                State::Failed => return Err(framing("decoding has failed before")),
            }
        }
        Ok(None)
    }

    /// Ends the body: the checksum of the trailer, if there was one.
    ///
    /// # Errors
    /// `IncompleteBody` when something is missing, `MalformedTrailerError` for an announced
    /// checksum that did not come.
    pub fn finish(self) -> Result<Option<Checksum>, S3Error> {
        if !matches!(self.state, State::Done { .. }) {
            let message = "The request body terminated unexpectedly";
            return Err(S3Error::with(ErrorCode::IncompleteBody, message));
        }
        if self.remaining > 0 {
            return Err(wrong_length());
        }
        match (self.trailer.flatten(), self.found.checksum) {
            (Some(_), None) => Err(ErrorCode::MalformedTrailerError.into()),
            (_, found) => Ok(found),
        }
    }

    /// The next whole line with its end, or `None` when `input` is used up first.
    fn take_line(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, S3Error> {
        let end = input
            .iter()
            .position(|byte| *byte == b'\n')
            .map(|at| at + 1);
        let length = self.line.len().saturating_add(end.unwrap_or(input.len()));
        if length > LINE_BYTES_MAX {
            return Err(framing("a line is too long"));
        }
        let Some(end) = end else {
            self.line.extend_from_slice(input);
            input.clear();
            return Ok(None);
        };
        let line = input.split_to(end);
        if self.line.is_empty() {
            return Ok(Some(line));
        }
        self.line.extend_from_slice(&line);
        Ok(Some(Bytes::from(std::mem::take(&mut self.line))))
    }

    /// `10000;chunk-signature=ad80c730…\r\n`, or without signature `10000\r\n`.
    fn begin_chunk(&mut self, line: &[u8]) -> Result<(), S3Error> {
        let text = std::str::from_utf8(line)
            .ok()
            .and_then(|line| line.strip_suffix("\r\n"))
            .ok_or_else(|| framing("the header of a chunk is malformed"))?;
        let (size, signature) = match text.split_once(';') {
            Some((size, extension)) => (size, extension.trim().strip_prefix("chunk-signature=")),
            None => (text, None),
        };
        let size = chunk_size(size).ok_or_else(|| framing("the size of a chunk is malformed"))?;
        self.signature = match (&self.chunks, signature) {
            (Some(_), Some(signature)) => Some(parse_signature(signature)?),
            (Some(_), None) => return Err(framing("a chunk has no signature")),
            (None, None) if !text.contains(';') => None,
            (None, _) => return Err(framing("an unsigned chunk has an extension")),
        };
        self.remaining = self.remaining.checked_sub(size).ok_or_else(wrong_length)?;
        if size > 0 {
            self.state = State::Data(size);
            return Ok(());
        }
        self.end_chunk()?;
        self.state = State::Trailer;
        Ok(())
    }

    /// Checks the signature of the chunk whose data has gone by.
    fn end_chunk(&mut self) -> Result<(), S3Error> {
        let Some(chunks) = &mut self.chunks else {
            return Ok(());
        };
        let computed = chunks.sign_chunk(&self.sha256.finalize_reset().into());
        let claimed = self.signature.take().unwrap_or_default();
        if bool::from(computed.ct_eq(&claimed)) {
            Ok(())
        } else {
            Err(S3Error::new(ErrorCode::SignatureDoesNotMatch)
                .and("SignatureProvided", hex::encode(claimed)))
        }
    }

    /// A line behind the last chunk: `x-amz-checksum-crc32c:wdBDMA==`, `x-amz-trailer-signature:…`,
    /// or the empty one at the end.
    fn trailer_line(&mut self, line: &[u8]) -> Result<(), S3Error> {
        let malformed = || S3Error::new(ErrorCode::MalformedTrailerError);
        let line = std::str::from_utf8(line).map_err(|_| malformed())?.trim();
        if line.is_empty() {
            return self.empty_trailer_line();
        }
        self.found.lines += 1;
        if self.trailer.is_none() || self.found.lines > TRAILER_LINES_MAX {
            return Err(malformed());
        }
        let (name, value) = line.split_once(':').ok_or_else(malformed)?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if name == "x-amz-trailer-signature" {
            return self.trailer_signature(value);
        }
        // Nothing but the announced checksum is expected; another header could be meant to change
        // something.
        let announced = self.trailer.flatten();
        let algorithm = announced
            .filter(|a| a.header() == name)
            .ok_or_else(malformed)?;
        if self.found.checksum.is_some() || self.found.signature_seen {
            return Err(malformed());
        }
        self.found.checksum = Some(Checksum::from_base64(algorithm, value).ok_or_else(malformed)?);
        for part in [name.as_bytes(), b":", value.as_bytes(), b"\n"] {
            self.found.sha256.update(part);
        }
        Ok(())
    }

    fn trailer_signature(&mut self, value: &str) -> Result<(), S3Error> {
        let claimed = parse_signature(value)?;
        match &mut self.chunks {
            Some(chunks) if !self.found.signature_seen => {
                let computed = chunks.sign_trailers(&self.found.sha256.finalize_reset().into());
                if !bool::from(computed.ct_eq(&claimed)) {
                    return Err(ErrorCode::SignatureDoesNotMatch.into());
                }
                self.found.signature_seen = true;
                Ok(())
            }
            _ => Err(ErrorCode::MalformedTrailerError.into()),
        }
    }

    /// The end, unless the signature of the trailer is still to come: minio-go puts an empty line
    /// before it.
    fn empty_trailer_line(&mut self) -> Result<(), S3Error> {
        let wants_signature = self.chunks.is_some() && self.trailer.is_some();
        if !wants_signature || self.found.signature_seen {
            self.state = State::Done { rest_bytes: 0 };
            return Ok(());
        }
        if self.found.empty_line_seen || self.found.lines == 0 {
            return Err(ErrorCode::MalformedTrailerError.into());
        }
        self.found.empty_line_seen = true;
        Ok(())
    }
}

/// The length of the data without its framing, which every `aws-chunked` request must tell.
///
/// # Errors
/// `MissingContentLength`, or `InvalidArgument` when it is no number.
pub fn decoded_content_length(headers: &dyn Headers) -> Result<u64, S3Error> {
    let name = "x-amz-decoded-content-length";
    let text = single(headers, name)?.ok_or(ErrorCode::MissingContentLength)?;
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| {
        S3Error::argument(
            "x-amz-decoded-content-length must be a number of bytes",
            name,
            text,
        )
    })
}

/// 1 to 16 hexadecimal digits.
fn chunk_size(text: &str) -> Option<u64> {
    let digits = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    if digits {
        u64::from_str_radix(text, 16).ok()
    } else {
        None
    }
}

/// 64 hexadecimal digits.
fn parse_signature(text: &str) -> Result<[u8; 32], S3Error> {
    let mut signature = [0; 32];
    match hex::decode_to_slice(text, &mut signature) {
        Ok(()) => Ok(signature),
        Err(_) => Err(S3Error::new(ErrorCode::SignatureDoesNotMatch)),
    }
}

fn framing(reason: &str) -> S3Error {
    let message = format!("The aws-chunked body is malformed: {reason}");
    S3Error::with(ErrorCode::InvalidRequest, message)
}

fn wrong_length() -> S3Error {
    let message = "You did not provide the number of bytes specified by the \
                   x-amz-decoded-content-length HTTP header";
    S3Error::with(ErrorCode::IncompleteBody, message)
}

/// Encodes `data`, for tests and benchmarks: chunks of `chunk_bytes`, signed when `chunks` is
/// given, with the trailer.
pub fn encode(
    data: &[u8],
    chunk_bytes: usize,
    mut chunks: Option<ChunkContext>,
    trailer: Option<&Checksum>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + data.len() / chunk_bytes.max(1) * 100 + 300);
    // The last chunk is empty.
    for chunk in data.chunks(chunk_bytes.max(1)).chain([&[][..]]) {
        out.extend_from_slice(format!("{:x}", chunk.len()).as_bytes());
        if let Some(chunks) = &mut chunks {
            let signature = chunks.sign_chunk(&Sha256::digest(chunk).into());
            out.extend_from_slice(b";chunk-signature=");
            out.extend_from_slice(hex::encode(signature).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        if !chunk.is_empty() {
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
        }
    }
    if let Some(checksum) = trailer {
        let line = format!("{}:{}", checksum.algorithm().header(), checksum.to_base64());
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"\r\n");
        if let Some(chunks) = &mut chunks {
            let signature = chunks.sign_trailers(&Sha256::digest(format!("{line}\n")).into());
            out.extend_from_slice(b"x-amz-trailer-signature:");
            out.extend_from_slice(hex::encode(signature).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}
