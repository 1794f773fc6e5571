//! ListMultipartUploads: the uploads under way in a bucket, by key and then by time.
//!
//! Uploads are few, so common prefixes are rolled up here and not by metadata.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html>

use super::{OWNER, algorithm_of};
use crate::answer::{self, Answer};
use crate::metadata::unexpected;
use crate::request::Request;
use protocol::metadata::{Operation, PAGE_MAX, Reply, Upload};
use s3_wire::error::S3Error;
use s3_wire::query::Query;
use s3_wire::xml::{EncodingType, ListMultipartUploadsResult, ListedUpload};

/// A page of a thousand entries and its document.
const KIB: u32 = 2 * 1024;

/// One line of the answer.
enum Line {
    Upload(Upload),
    /// A common prefix, and the last upload under it.
    Prefix {
        prefix: String,
        last: (String, String),
    },
}

/// What is asked.
struct Question<'a> {
    prefix: Option<&'a str>,
    delimiter: Option<&'a str>,
    encoding: EncodingType,
    max_uploads: u32,
    key_marker: &'a str,
    upload_id_marker: &'a str,
}

/// See the module.
pub(super) async fn list_uploads(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let question = Question::from_query(request.query)?;
    let _share = request.worker.budget.take(KIB).await?;
    let (lines, is_truncated) = question.ask(request).await?;

    let next = lines.last().filter(|_| is_truncated).map(Line::place);
    let result = ListMultipartUploadsResult {
        bucket: request.bucket_name(),
        key_marker: question.key_marker,
        upload_id_marker: question.upload_id_marker,
        next,
        prefix: question.prefix,
        delimiter: question.delimiter,
        encoding: question.encoding,
        max_uploads: question.max_uploads,
        is_truncated,
        uploads: lines.iter().filter_map(Line::upload).collect(),
        common_prefixes: lines.iter().filter_map(Line::prefix).collect(),
    };
    Ok(answer::xml(result.to_xml()))
}

impl<'a> Question<'a> {
    fn from_query(query: &'a Query<'_>) -> Result<Self, S3Error> {
        let given = |name: &str| query.get(name).filter(|value| !value.is_empty());
        let key_marker = given("key-marker").unwrap_or_default();
        // Without a key it says nothing, and AWS ignores it.
        let upload_id_marker = given("upload-id-marker").filter(|_| !key_marker.is_empty());
        Ok(Self {
            prefix: given("prefix"),
            delimiter: given("delimiter"),
            encoding: EncodingType::from_query(query)?,
            max_uploads: query.number("max-uploads", PAGE_MAX, PAGE_MAX)?,
            key_marker,
            upload_id_marker: upload_id_marker.unwrap_or_default(),
        })
    }

    /// The lines of the answer, and whether there are more.
    async fn ask(&self, request: &Request<'_>) -> Result<(Vec<Line>, bool), S3Error> {
        let marker = (self.key_marker.to_owned(), self.upload_id_marker.to_owned());
        let mut after = Some(marker).filter(|(key, _)| !key.is_empty());
        let mut lines: Vec<Line> = Vec::new();
        if self.max_uploads == 0 {
            return Ok((lines, false));
        }
        loop {
            let operation = Operation::ListUploads {
                bucket: request.admission.bucket()?.id,
                prefix: self.prefix.unwrap_or_default().to_owned(),
                after: after.take(),
                limit: PAGE_MAX,
            };
            let (uploads, more) = match request.admission.read(operation).await? {
                Reply::Uploads { uploads, more } => (uploads, more),
                other => return Err(unexpected(&other)),
            };
            after = uploads
                .last()
                .map(|last| (last.key.clone(), last.upload.clone()));
            for upload in uploads {
                if !self.add(&mut lines, upload) {
                    return Ok((lines, true));
                }
            }
            if !more || after.is_none() {
                return Ok((lines, false));
            }
        }
    }

    /// Adds one upload to the lines, or to the last of them; false where it needs a line too many.
    fn add(&self, lines: &mut Vec<Line>, upload: Upload) -> bool {
        let rolled = self.roll_up(&upload.key);
        // A marker that is a common prefix stands for everything under it: it was an entry of an
        // earlier page.
        if rolled
            .is_some_and(|rolled| self.upload_id_marker.is_empty() && rolled == self.key_marker)
        {
            return true;
        }
        if let (Some(rolled), Some(Line::Prefix { prefix, last })) = (rolled, lines.last_mut())
            && prefix == rolled
        {
            *last = (upload.key, upload.upload);
            return true;
        }
        if lines.len() >= self.max_uploads as usize {
            return false;
        }
        lines.push(match rolled {
            Some(rolled) => Line::Prefix {
                prefix: rolled.to_owned(),
                last: (upload.key, upload.upload),
            },
            None => Line::Upload(upload),
        });
        true
    }

    /// The common prefix of `key`, delimiter included.
    fn roll_up<'k>(&self, key: &'k str) -> Option<&'k str> {
        let start = self.prefix.unwrap_or_default().len();
        let delimiter = self.delimiter?;
        let at = key.get(start..)?.find(delimiter)?;
        key.get(..start + at + delimiter.len())
    }
}

impl Line {
    /// Key and upload behind which the next page begins.
    fn place(&self) -> (&str, &str) {
        match self {
            Self::Upload(upload) => (&upload.key, &upload.upload),
            Self::Prefix {
                last: (key, upload),
                ..
            } => (key, upload),
        }
    }

    fn prefix(&self) -> Option<&str> {
        match self {
            Self::Prefix { prefix, .. } => Some(prefix),
            Self::Upload(_) => None,
        }
    }

    fn upload(&self) -> Option<ListedUpload<'_>> {
        match self {
            Self::Prefix { .. } => None,
            Self::Upload(upload) => Some(ListedUpload {
                key: &upload.key,
                upload_id: &upload.upload,
                initiator: OWNER,
                initiated_ms: upload.initiated_ms,
                checksum: upload.checksum.as_ref().and_then(algorithm_of),
            }),
        }
    }
}
