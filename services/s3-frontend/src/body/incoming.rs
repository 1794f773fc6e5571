//! The body of a request: decoded, measured, compared with every digest that the client gave, and
//! never trusted to come.

use crate::limits::{BODY_BYTES_PER_S_MIN, BODY_STALL, DRAIN, DRAIN_BYTES_MAX};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use s3_wire::aws_chunked::{Decoder, decoded_content_length};
use s3_wire::body::{BodyChecks, BodySummary};
use s3_wire::checksum::{Algorithm, Expected};
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::headers::{Headers, single};
use s3_wire::sigv4::{PayloadHash, Verified};
use std::time::{Duration, Instant};

/// A body that is being received. Nothing is read, and no "100 Continue" sent, before the first
/// [`Upload::next`].
pub(crate) struct Upload<'a> {
    body: &'a mut Incoming,
    decoder: Option<Decoder>,
    checks: BodyChecks,
    /// Decoded bytes as announced.
    length: u64,
    /// Received and not yet decoded.
    undecoded: Bytes,
    pace: Pace,
}

impl<'a> Upload<'a> {
    /// Reads what the headers say about the body. `default` is the checksum to compute where the
    /// client chose none.
    ///
    /// # Errors
    /// `MissingContentLength`, `InvalidDigest`, `InvalidRequest` and `InvalidArgument` for headers
    /// that contradict each other.
    pub(crate) fn new(
        body: &'a mut Incoming,
        headers: &dyn Headers,
        verified: &Verified,
        default: Option<Algorithm>,
    ) -> Result<Self, S3Error> {
        let length = match verified.payload {
            PayloadHash::Streaming { .. } => decoded_content_length(headers)?,
            _ => content_length(headers)?.ok_or(ErrorCode::MissingContentLength)?,
        };
        Self::of_length(body, headers, verified, default, length)
    }

    /// The same for a body that is a document: without one, its length need not be told.
    pub(crate) fn document(
        body: &'a mut Incoming,
        headers: &dyn Headers,
        verified: &Verified,
    ) -> Result<Self, S3Error> {
        if body.is_end_stream() && content_length(headers)?.is_none() {
            return Self::of_length(body, headers, verified, None, 0);
        }
        Self::new(body, headers, verified, None)
    }

    fn of_length(
        body: &'a mut Incoming,
        headers: &dyn Headers,
        verified: &Verified,
        default: Option<Algorithm>,
        length: u64,
    ) -> Result<Self, S3Error> {
        let expected = Expected::from_headers(headers)?;
        let payload = verified.payload;
        let trailer_comes = matches!(payload, PayloadHash::Streaming { trailer: true, .. });
        if expected.trailer.is_some() && !trailer_comes {
            // The value would come behind a body that has nothing behind it.
            return Err(ErrorCode::MalformedTrailerError.into());
        }
        let chunks = verified.chunks.clone();
        let decoder = Decoder::for_request(payload, chunks, expected.trailer, headers)?;
        Ok(Self {
            body,
            decoder,
            checks: BodyChecks::new(expected, payload, default),
            length,
            undecoded: Bytes::new(),
            pace: Pace::default(),
        })
    }

    /// How many decoded bytes there will be.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The next decoded bytes; `None` at the end. The digests are not compared before
    /// [`Upload::finish`].
    ///
    /// # Errors
    /// `RequestTimeout`, `IncompleteBody`, and those of [`Decoder::decode`].
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, S3Error> {
        loop {
            let piece = match &mut self.decoder {
                Some(decoder) => decoder.decode(&mut self.undecoded)?,
                None => Some(std::mem::take(&mut self.undecoded)).filter(|rest| !rest.is_empty()),
            };
            if let Some(piece) = piece {
                self.checks.update(&piece);
                if self.checks.bytes() > self.length {
                    return Err(ErrorCode::IncompleteBody.into());
                }
                return Ok(Some(piece));
            }
            match self.pace.next_frame(self.body).await? {
                Some(data) => self.undecoded = data,
                None => return Ok(None),
            }
        }
    }

    /// Compares length and digests, behind the last byte.
    ///
    /// # Errors
    /// `IncompleteBody` and those of [`Decoder::finish`] and [`BodyChecks::finish`].
    pub(crate) fn finish(self) -> Result<BodySummary, S3Error> {
        let trailer = match self.decoder {
            Some(decoder) => decoder.finish()?,
            None => None,
        };
        if self.checks.bytes() != self.length {
            return Err(ErrorCode::IncompleteBody.into());
        }
        self.checks.finish(trailer)
    }

    /// The whole body, where it is a document of at most `bytes_max` bytes.
    ///
    /// # Errors
    /// `MaxMessageLengthExceeded`, and as [`Upload::finish`].
    pub(crate) async fn collect(mut self, bytes_max: usize) -> Result<Vec<u8>, S3Error> {
        if self.length > bytes_max as u64 {
            return Err(S3Error::new(ErrorCode::MaxMessageLengthExceeded)
                .and("MaxMessageLengthBytes", bytes_max.to_string()));
        }
        let mut document = Vec::new();
        while let Some(piece) = self.next().await? {
            document.extend_from_slice(&piece);
        }
        self.finish()?;
        Ok(document)
    }
}

/// `Content-Length`. hyper has compared it with what it reads, so a wrong one does not get here.
pub(super) fn content_length(headers: &dyn Headers) -> Result<Option<u64>, S3Error> {
    let text = single(headers, "content-length")?;
    text.map(|text| {
        text.parse()
            .map_err(|_| ErrorCode::MissingContentLength.into())
    })
    .transpose()
}

/// Whether the client sends as fast as must be. Only the time that we wait for it counts.
#[derive(Default)]
pub(super) struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    pub(super) async fn next_frame(
        &mut self,
        body: &mut Incoming,
    ) -> Result<Option<Bytes>, S3Error> {
        loop {
            let earned = Duration::from_secs(self.bytes / BODY_BYTES_PER_S_MIN);
            let patience = (BODY_STALL + earned)
                .saturating_sub(self.waited)
                .min(BODY_STALL);
            let began = Instant::now();
            let frame = tokio::time::timeout(patience, body.frame()).await;
            self.waited += began.elapsed();
            match frame {
                Err(_) => return Err(ErrorCode::RequestTimeout.into()),
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(ErrorCode::IncompleteBody.into()),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        self.bytes += data.len() as u64;
                        return Ok(Some(data));
                    }
                    // Trailers of HTTP's own; S3 knows only those of aws-chunked.
                    Err(_) => continue,
                },
            }
        }
    }
}

/// Reads away what an error left unread, if it is little; whether the connection can go on.
pub(crate) async fn drain(body: &mut Incoming) -> bool {
    if body.is_end_stream() {
        return true;
    }
    if body
        .size_hint()
        .upper()
        .is_none_or(|left| left > DRAIN_BYTES_MAX)
    {
        return false;
    }
    let mut pace = Pace::default();
    let drained = async {
        loop {
            match pace.next_frame(body).await {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    };
    tokio::time::timeout(DRAIN, drained).await.unwrap_or(false)
}
