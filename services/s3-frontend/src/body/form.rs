//! The body of a form upload: its fields, then the file, as they arrive.

use super::incoming::{Pace, content_length};
use bytes::Bytes;
use hyper::body::Incoming;
use s3_wire::body::{BodyChecks, BodySummary};
use s3_wire::checksum::{Algorithm, Expected};
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::form::{Event, Fields, FormReader, boundary};
use s3_wire::headers::{Headers, single};
use s3_wire::sigv4::PayloadHash;

/// A form that is being received.
pub(crate) struct FormUpload<'a> {
    body: &'a mut Incoming,
    reader: FormReader,
    /// Bytes of the body that have not arrived.
    left: u64,
    pace: Pace,
}

/// What stands before the file's bytes.
pub(crate) struct FormHead {
    /// All fields but the file.
    pub(crate) fields: Fields,
    /// The file's name, as the browser tells it.
    pub(crate) filename: String,
    /// The file's type, as the browser guesses it.
    pub(crate) content_type: Option<String>,
}

impl<'a> FormUpload<'a> {
    /// Reads what the headers say about the body.
    ///
    /// # Errors
    /// `MissingContentLength`, and those of [`boundary`].
    pub(crate) fn new(body: &'a mut Incoming, headers: &dyn Headers) -> Result<Self, S3Error> {
        let left = content_length(headers)?.ok_or(ErrorCode::MissingContentLength)?;
        let content_type = single(headers, "content-type")?.unwrap_or_default();
        Ok(Self {
            body,
            reader: FormReader::new(&boundary(content_type)?),
            left,
            pace: Pace::default(),
        })
    }

    async fn event(&mut self) -> Result<Event, S3Error> {
        loop {
            if let Some(event) = self.reader.next_event()? {
                return Ok(event);
            }
            match self.pace.next_frame(self.body).await? {
                Some(data) => {
                    self.left = self.left.saturating_sub(data.len() as u64);
                    self.reader.push(&data);
                }
                None => return Err(ErrorCode::IncompleteBody.into()),
            }
        }
    }

    /// Everything up to the file.
    ///
    /// # Errors
    /// Those of [`FormReader::next`] and [`Fields::add`].
    pub(crate) async fn head(&mut self) -> Result<FormHead, S3Error> {
        let mut fields = Fields::default();
        loop {
            match self.event().await? {
                Event::Field { name, value } => fields.add(&name, value)?,
                Event::File {
                    filename,
                    content_type,
                } => {
                    return Ok(FormHead {
                        fields,
                        filename,
                        content_type,
                    });
                }
                Event::Data(_) | Event::End => return Err(ErrorCode::MalformedPOSTRequest.into()),
            }
        }
    }

    /// How many bytes the file has at most: a form does not tell how many exactly.
    pub(crate) fn file_bytes_max(&self) -> u64 {
        let rest = self.left.saturating_add(self.reader.buffered());
        rest.saturating_sub(self.reader.tail_bytes_min())
    }

    /// The next bytes of the file; `None` behind the last.
    ///
    /// # Errors
    /// `RequestTimeout`, `IncompleteBody`.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, S3Error> {
        match self.event().await? {
            Event::Data(data) => Ok(Some(data)),
            _ => Ok(None),
        }
    }
}

/// The digests of a file, which the form's fields may announce as headers would.
pub(crate) struct FileChecks(BodyChecks);

impl FileChecks {
    /// Begins.
    ///
    /// # Errors
    /// Those of [`Expected::from_headers`].
    pub(crate) fn new(headers: &dyn Headers, default: Algorithm) -> Result<Self, S3Error> {
        let expected = Expected::from_headers(headers)?;
        let checks = BodyChecks::new(expected, PayloadHash::Unsigned, Some(default));
        Ok(Self(checks))
    }

    /// Adds bytes, of which there may be `bytes_max`.
    ///
    /// # Errors
    /// `EntityTooLarge`.
    pub(crate) fn update(&mut self, data: &[u8], bytes_max: u64) -> Result<(), S3Error> {
        self.0.update(data);
        match self.0.bytes() > bytes_max {
            true => Err(S3Error::new(ErrorCode::EntityTooLarge)
                .and("ProposedSize", self.0.bytes().to_string())
                .and("MaxSizeAllowed", bytes_max.to_string())),
            false => Ok(()),
        }
    }

    /// Compares what was announced.
    ///
    /// # Errors
    /// `EntityTooSmall`, and those of [`BodyChecks::finish`].
    pub(crate) fn finish(self, bytes_min: u64) -> Result<BodySummary, S3Error> {
        if self.0.bytes() < bytes_min {
            return Err(S3Error::new(ErrorCode::EntityTooSmall)
                .and("ProposedSize", self.0.bytes().to_string())
                .and("MinSizeAllowed", bytes_min.to_string()));
        }
        self.0.finish(None)
    }
}
