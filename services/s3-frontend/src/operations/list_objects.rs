//! ListObjects and ListObjectsV2: keys in byte order, rolled up at a delimiter, page by page.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>

use super::{OWNER, algorithm_of};
use crate::answer::{self, Answer};
use crate::metadata::unexpected;
use crate::request::Request;
use protocol::metadata::{After, Entries, Entry, Operation, PAGE_MAX, Reply};
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::query::{self, Query};
use s3_wire::xml::{EncodingType, ListObjectsResult, ListObjectsV2Result, ListedObject};

/// A page of a thousand entries and its document.
pub(super) const KIB: u32 = 2 * 1024;

/// What both versions, and the listing of versions, ask.
pub(super) struct Question<'a> {
    pub(super) prefix: &'a str,
    pub(super) delimiter: Option<&'a str>,
    pub(super) encoding: EncodingType,
    pub(super) max_keys: u32,
}

impl<'a> Question<'a> {
    pub(super) fn from_query(query: &'a Query<'_>) -> Result<Self, S3Error> {
        Ok(Self {
            prefix: query.get("prefix").unwrap_or_default(),
            delimiter: query
                .get("delimiter")
                .filter(|delimiter| !delimiter.is_empty()),
            encoding: EncodingType::from_query(query)?,
            max_keys: query.number("max-keys", PAGE_MAX, PAGE_MAX)?,
        })
    }

    /// Where to go on behind a key that the client names. If that is a common prefix as this
    /// listing would roll it up, it stands for all of its keys: it was an entry of an earlier page.
    pub(super) fn behind(&self, key: &str) -> After {
        let is_rolled_up = self.delimiter.is_some_and(|delimiter| {
            key.strip_prefix(self.prefix)
                .and_then(|rest| {
                    rest.find(delimiter)
                        .map(|at| at + delimiter.len() == rest.len())
                })
                .unwrap_or(false)
        });
        match is_rolled_up {
            true => After::Prefix(key.to_owned()),
            false => After::Key(key.to_owned()),
        }
    }

    /// Asks until there are `max_keys` entries or no more: metadata's pages may be shorter than
    /// wanted.
    async fn ask(
        &self,
        request: &Request<'_>,
        mut after: Option<After>,
    ) -> Result<(Vec<Entries>, Option<After>), S3Error> {
        let bucket = request.admission.bucket()?.id;
        let mut found = Vec::new();
        loop {
            let here: usize = found.iter().map(Entries::count).sum();
            let missing = (self.max_keys as usize).saturating_sub(here);
            if missing == 0 {
                // Nothing was asked for (`max-keys=0`), so nothing is left out.
                return Ok((found, after.filter(|_| self.max_keys > 0)));
            }
            let operation = Operation::ListObjects {
                bucket,
                prefix: self.prefix.to_owned(),
                delimiter: self.delimiter.unwrap_or_default().to_owned(),
                after: after.clone(),
                limit: missing as u32, // at most PAGE_MAX
            };
            match request.admission.read(operation).await? {
                Reply::Page { entries, next } => {
                    found.push(entries);
                    if next.is_none() {
                        return Ok((found, None));
                    }
                    after = next;
                }
                other => return Err(unexpected(&other)),
            }
        }
    }
}

/// The entries apart: objects, and common prefixes.
///
/// # Errors
/// `InternalError` for what is no entry.
fn split(
    pages: &[Entries],
    with_owner: bool,
) -> Result<(Vec<ListedObject<'_>>, Vec<&str>), S3Error> {
    // A count comes from a peer; memory is for what is there.
    let count: usize = pages.iter().map(Entries::count).sum();
    let mut objects = Vec::with_capacity(count.min(PAGE_MAX as usize));
    let mut prefixes = Vec::new();
    for entry in pages.iter().flat_map(Entries::iter) {
        let entry = entry.map_err(|error| {
            runtime::error!("metadata: an entry of a listing: {error}");
            S3Error::from(ErrorCode::InternalError)
        })?;
        match entry {
            Entry::Prefix(prefix) => prefixes.push(prefix),
            Entry::Object {
                key,
                size,
                etag,
                modified_ms,
                checksum,
            } => {
                objects.push(ListedObject {
                    key,
                    modified_ms,
                    etag,
                    size,
                    checksum: checksum.as_ref().and_then(algorithm_of),
                    owner: with_owner.then_some(OWNER),
                });
            }
        }
    }
    Ok((objects, prefixes))
}

/// See the module.
pub(super) async fn list_objects(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let question = Question::from_query(request.query)?;
    let marker = request.query.get("marker").unwrap_or_default();
    let after = (!marker.is_empty()).then(|| question.behind(marker));
    let _share = request.worker.budget.take(KIB).await?;
    let (entries, next) = question.ask(request, after).await?;
    let (objects, common_prefixes) = split(&entries, true)?;
    let next_marker =
        next.as_ref()
            .filter(|_| question.delimiter.is_some())
            .map(|next| match next {
                After::Key(key) => key.as_str(),
                After::Prefix(prefix) => prefix.as_str(),
            });
    let result = ListObjectsResult {
        name: request.bucket_name(),
        prefix: question.prefix,
        marker,
        next_marker,
        max_keys: question.max_keys,
        delimiter: question.delimiter,
        encoding: question.encoding,
        is_truncated: next.is_some(),
        objects,
        common_prefixes,
    };
    Ok(answer::xml(result.to_xml()))
}

/// The second version.
pub(super) async fn list_objects_v2(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let question = Question::from_query(request.query)?;
    let start_after = request
        .query
        .get("start-after")
        .filter(|key| !key.is_empty());
    let token = request.query.get("continuation-token");
    let after = match (token, start_after) {
        (Some(token), _) => Some(read_token(token)?),
        (None, Some(key)) => Some(question.behind(key)),
        (None, None) => None,
    };
    let with_owner = request.query.get("fetch-owner") == Some("true");
    let _share = request.worker.budget.take(KIB).await?;
    let (entries, next) = question.ask(request, after).await?;
    let (objects, common_prefixes) = split(&entries, with_owner)?;
    let next_token = next.as_ref().map(write_token);
    let result = ListObjectsV2Result {
        name: request.bucket_name(),
        prefix: question.prefix,
        start_after,
        continuation_token: token,
        next_continuation_token: next_token.as_deref(),
        max_keys: question.max_keys,
        delimiter: question.delimiter,
        encoding: question.encoding,
        is_truncated: next.is_some(),
        objects,
        common_prefixes,
    };
    Ok(answer::xml(result.to_xml()))
}

/// A place in a listing as text that survives XML and URLs. Nothing secret: it is made of a key
/// that the page shows.
fn write_token(after: &After) -> String {
    match after {
        After::Key(key) => format!("k{}", query::encode(key)),
        After::Prefix(prefix) => format!("p{}", query::encode(prefix)),
    }
}

fn read_token(token: &str) -> Result<After, S3Error> {
    let bad = || {
        let message = "The continuation token provided is incorrect";
        S3Error::argument(message, "continuation-token", token)
    };
    let text = |encoded| query::decode(encoded, false).map(|text| text.into_owned());
    match (token.strip_prefix('k'), token.strip_prefix('p')) {
        (Some(key), _) => text(key).map(After::Key).map_err(|_: S3Error| bad()),
        (_, Some(prefix)) => text(prefix).map(After::Prefix).map_err(|_| bad()),
        (None, None) => Err(S3Error {
            code: ErrorCode::InvalidArgument,
            ..bad()
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;

    #[test]
    fn a_token_leads_back_to_its_place() {
        for key in ["a", "ü/ %+\u{1}", "k", "p/"] {
            for after in [After::Key(key.to_owned()), After::Prefix(key.to_owned())] {
                assert_eq!(read_token(&write_token(&after)).unwrap(), after);
            }
        }
        for bad in ["", "x", "k%zz"] {
            assert_eq!(
                read_token(bad).unwrap_err().code,
                ErrorCode::InvalidArgument
            );
        }
    }

    #[test]
    fn a_marker_that_is_a_common_prefix_stands_for_all_its_keys() {
        let check = |raw: &str, marker: &str, expected: After| {
            let query = Query::parse(raw).unwrap();
            assert_eq!(
                Question::from_query(&query).unwrap().behind(marker),
                expected
            );
        };
        check("delimiter=/", "a/", After::Prefix("a/".into()));
        check("delimiter=/", "a/b", After::Key("a/b".into()));
        check("delimiter=/", "a/b/", After::Key("a/b/".into()));
        check(
            "delimiter=/&prefix=a/",
            "a/b/",
            After::Prefix("a/b/".into()),
        );
        check("", "a/", After::Key("a/".into()));
        check("delimiter=/&prefix=z", "a/", After::Key("a/".into()));
    }
}
