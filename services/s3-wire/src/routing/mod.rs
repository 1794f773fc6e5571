//! The pure router: which S3 operation a request is, for every operation that S3 has.
//!
//! Operations that this server lacks are recognised, too, so that the answer can name them. A
//! sub-resource that nobody knows is refused: ignoring `?frobnicate` on a PUT would overwrite the
//! object.

mod operation;
mod table;

pub use operation::Operation;

use crate::error::{ErrorCode, S3Error};
use crate::headers::{Headers, parameter_verdict};
use crate::names::Resource;
use crate::query::Query;
use table::{Level, PARAMETERS, SUBRESOURCES};

/// Finds the operation.
///
/// # Errors
/// `MethodNotAllowed` with the method and the kind of resource; `InvalidArgument` for two
/// sub-resources at once, half of `uploadId` and `partNumber`, another `list-type` than 2, or a
/// version where none can be named; `NotImplemented` naming a parameter that nobody knows.
pub fn route(
    method: &str,
    resource: &Resource,
    query: &Query<'_>,
    headers: &dyn Headers,
) -> Result<Operation, S3Error> {
    let level = match (&resource.bucket, &resource.key) {
        (None, _) => Level::Service,
        (Some(_), None) => Level::Bucket,
        (Some(_), Some(_)) => Level::Object,
    };
    if method == "OPTIONS" {
        return Ok(Operation::CorsPreflight);
    }
    if level == Level::Service && method == "POST" {
        // Object Lambda's answer goes to a path of its own below a host of its own.
        return Err(not_allowed(method, "SERVICE"));
    }
    let operation = match sub_resource(method, query)? {
        Some(name) => with_sub_resource(name, method, level, query)?,
        None => match level {
            Level::Service => on_service(method)?,
            Level::Bucket => on_bucket(method, query)?,
            Level::Object => on_object(method, query, headers)?,
        },
    };
    check_version(operation, query)?;
    Ok(operation)
}

/// The one sub-resource of a query, after a look at all other parameters.
fn sub_resource<'a>(method: &str, query: &'a Query<'_>) -> Result<Option<&'a str>, S3Error> {
    let is_sub_resource = |name: &str| SUBRESOURCES.iter().any(|(known, ..)| *known == name);
    let mut found: Option<&str> = None;
    for (name, value) in query.iter() {
        if is_sub_resource(name) {
            match found {
                Some(other) if other != name => {
                    let message = format!("Conflicting query string parameters: {other}, {name}");
                    return Err(S3Error::argument(message, "ResourceType", name));
                }
                _ => found = Some(name),
            }
            continue;
        }
        let start = name
            .get(..6)
            .map(str::to_ascii_lowercase)
            .unwrap_or_default();
        if start == "x-amz-"
            && !parameter_verdict(&name.to_ascii_lowercase(), value.unwrap_or_default())
        {
            return Err(S3Error::not_implemented("Parameter", name));
        }
        let remark = name
            .get(..2)
            .is_some_and(|start| start.eq_ignore_ascii_case("x-"));
        let harmless = remark || name.starts_with("response-") || PARAMETERS.contains(&name);
        // Where nothing is changed AWS ignores what it does not know, and browsers add such things
        // (`?v=3`). Without a value, or with an empty one, it looks like a sub-resource, and then
        // the answer would be of another kind than was asked for.
        let reads = matches!(method, "GET" | "HEAD");
        let ignored = reads && value.is_some_and(|value| !value.is_empty());
        if !harmless && !ignored {
            return Err(S3Error::not_implemented("Parameter", name));
        }
    }
    Ok(found)
}

fn with_sub_resource(
    name: &str,
    method: &str,
    level: Level,
    query: &Query<'_>,
) -> Result<Operation, S3Error> {
    let row = SUBRESOURCES
        .iter()
        .find(|(known, at, by, _)| *known == name && *at == level && *by == method);
    match row {
        Some((.., operation)) => Ok(with_id(*operation, query)),
        None => Err(not_allowed(method, name)),
    }
}

/// Where several configurations or annotations exist, GET with the name reads one and GET without lists them.
fn with_id(operation: Operation, query: &Query<'_>) -> Operation {
    use Operation as O;
    match operation {
        O::ListBucketAnalyticsConfigurations if query.has("id") => {
            O::GetBucketAnalyticsConfiguration
        }
        O::ListBucketIntelligentTieringConfigurations if query.has("id") => {
            O::GetBucketIntelligentTieringConfiguration
        }
        O::ListBucketInventoryConfigurations if query.has("id") => {
            O::GetBucketInventoryConfiguration
        }
        O::ListBucketMetricsConfigurations if query.has("id") => O::GetBucketMetricsConfiguration,
        O::ListObjectAnnotations if query.has("annotationName") => O::GetObjectAnnotation,
        other => other,
    }
}

fn on_service(method: &str) -> Result<Operation, S3Error> {
    match method {
        "GET" => Ok(Operation::ListBuckets),
        _ => Err(not_allowed(method, "SERVICE")),
    }
}

fn on_bucket(method: &str, query: &Query<'_>) -> Result<Operation, S3Error> {
    match method {
        "GET" => match query.get("list-type") {
            None => Ok(Operation::ListObjects),
            Some("2") => Ok(Operation::ListObjectsV2),
            Some(other) => {
                let message = "Invalid List Type specified in Request";
                Err(S3Error::argument(message, "list-type", other))
            }
        },
        "HEAD" => Ok(Operation::HeadBucket),
        "PUT" => Ok(Operation::CreateBucket),
        "DELETE" => Ok(Operation::DeleteBucket),
        "POST" => Ok(Operation::PostObject),
        _ => Err(not_allowed(method, "BUCKET")),
    }
}

fn on_object(method: &str, query: &Query<'_>, headers: &dyn Headers) -> Result<Operation, S3Error> {
    let copies = headers.first("x-amz-copy-source").is_some();
    let upload = query.has("uploadId");
    match method {
        "GET" if upload => Ok(Operation::ListParts),
        "GET" => Ok(Operation::GetObject),
        "HEAD" => Ok(Operation::HeadObject),
        "PUT" => match (upload, query.has("partNumber")) {
            (true, true) if copies => Ok(Operation::UploadPartCopy),
            (true, true) => Ok(Operation::UploadPart),
            (false, false) if copies => Ok(Operation::CopyObject),
            (false, false) => Ok(Operation::PutObject),
            (true, false) => {
                let message = "This operation needs a part number beside the upload id";
                Err(S3Error::argument(message, "partNumber", ""))
            }
            (false, true) => {
                let message = "This operation needs an upload id beside the part number";
                Err(S3Error::argument(message, "uploadId", ""))
            }
        },
        "DELETE" if upload => Ok(Operation::AbortMultipartUpload),
        "DELETE" => Ok(Operation::DeleteObject),
        "POST" if upload => Ok(Operation::CompleteMultipartUpload),
        _ => Err(not_allowed(method, "OBJECT")),
    }
}

/// Naming a version where a new one is made would be without effect, so it is refused, as by AWS.
fn check_version(operation: Operation, query: &Query<'_>) -> Result<(), S3Error> {
    use Operation as O;
    let makes_one = matches!(
        operation,
        O::PutObject
            | O::CopyObject
            | O::CreateMultipartUpload
            | O::UploadPart
            | O::UploadPartCopy
            | O::CompleteMultipartUpload
            | O::AbortMultipartUpload
            | O::RenameObject
    );
    match query.get("versionId") {
        Some(version) if makes_one => {
            let message = "This operation does not accept a version-id.";
            Err(S3Error::argument(message, "versionId", version))
        }
        _ => Ok(()),
    }
}

fn not_allowed(method: &str, kind: &str) -> S3Error {
    S3Error::new(ErrorCode::MethodNotAllowed)
        .and("Method", method)
        .and("ResourceType", kind.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test that fails may panic"
    )]
    use super::*;
    use crate::names::split_path;
    use proptest::prelude::*;

    fn ask(
        method: &str,
        target: &str,
        headers: &[(&'static str, &'static str)],
    ) -> Result<Operation, S3Error> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let resource = split_path(path, None).unwrap();
        route(
            method,
            &resource,
            &Query::parse(query).unwrap(),
            &headers.to_vec(),
        )
    }

    #[test]
    fn requests_of_sdks_find_their_operation() {
        use Operation as O;
        let check = |method: &str, target: &str, expected: Operation| {
            assert_eq!(
                ask(method, target, &[]).unwrap(),
                expected,
                "{method} {target}"
            );
        };
        check("GET", "/", O::ListBuckets);
        check("GET", "/?x-id=ListBuckets&max-buckets=5", O::ListBuckets);
        check("GET", "/b", O::ListObjects);
        check(
            "GET",
            "/b?list-type=2&prefix=a&encoding-type=url",
            O::ListObjectsV2,
        );
        check("GET", "/b/?location", O::GetBucketLocation);
        check("GET", "/b?location=", O::GetBucketLocation);
        check("GET", "/b?versioning", O::GetBucketVersioning);
        check("GET", "/b?uploads&prefix=p", O::ListMultipartUploads);
        check(
            "GET",
            "/b?inventory&id=1",
            O::GetBucketInventoryConfiguration,
        );
        check("GET", "/b?inventory", O::ListBucketInventoryConfigurations);
        check("HEAD", "/b", O::HeadBucket);
        check("PUT", "/b", O::CreateBucket);
        check("DELETE", "/b", O::DeleteBucket);
        check("POST", "/b?delete", O::DeleteObjects);
        check("POST", "/b", O::PostObject);
        check("GET", "/b/k?x-id=GetObject&versionId=null", O::GetObject);
        check("GET", "/b/k?partNumber=2", O::GetObject);
        check(
            "GET",
            "/b/k?v=3&response-content-type=text/plain",
            O::GetObject,
        );
        check("GET", "/b/k?uploadId=u&max-parts=3", O::ListParts);
        check("GET", "/b/k?attributes", O::GetObjectAttributes);
        check("HEAD", "/b/k", O::HeadObject);
        check("PUT", "/b/k?x-id=PutObject", O::PutObject);
        check("PUT", "/b/k?uploadId=u&partNumber=1", O::UploadPart);
        // Presigned by the SDK for JavaScript.
        check(
            "PUT",
            "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-SignedHeaders=host&x-amz-meta-a=b\
             &x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32",
            O::PutObject,
        );
        check("PUT", "/b/k?acl", O::PutObjectAcl);
        check("DELETE", "/b/k?versionId=v", O::DeleteObject);
        check("DELETE", "/b/k?uploadId=u", O::AbortMultipartUpload);
        check("POST", "/b/k?uploads", O::CreateMultipartUpload);
        check("POST", "/b/k?uploadId=u", O::CompleteMultipartUpload);
        check("OPTIONS", "/b/k", O::CorsPreflight);
        let copy = [("x-amz-copy-source", "/b/o")];
        assert_eq!(ask("PUT", "/b/k", &copy).unwrap(), O::CopyObject);
        assert_eq!(
            ask("PUT", "/b/k?uploadId=u&partNumber=1", &copy).unwrap(),
            O::UploadPartCopy
        );
    }

    #[test]
    fn what_is_not_understood_is_refused_and_named() {
        let check = |method: &str, target: &str, code: ErrorCode, named: &str| {
            let error = ask(method, target, &[]).unwrap_err();
            assert_eq!(error.code, code, "{method} {target}");
            assert!(
                error.extra.iter().any(|(_, value)| value == named),
                "{error:?}"
            );
        };
        check(
            "PUT",
            "/b/k?frobnicate",
            ErrorCode::NotImplemented,
            "frobnicate",
        );
        check(
            "PUT",
            "/b/k?append&position=0",
            ErrorCode::NotImplemented,
            "append",
        );
        check(
            "PUT",
            "/b/k?position=0",
            ErrorCode::NotImplemented,
            "position",
        );
        check(
            "GET",
            "/b/k?frobnicate",
            ErrorCode::NotImplemented,
            "frobnicate",
        );
        check(
            "GET",
            "/b/k?frobnicate=",
            ErrorCode::NotImplemented,
            "frobnicate",
        );
        check(
            "DELETE",
            "/b?force=true",
            ErrorCode::NotImplemented,
            "force",
        );
        check(
            "PUT",
            "/b/k?x-amz-acl=public-read",
            ErrorCode::NotImplemented,
            "x-amz-acl",
        );
        check(
            "PUT",
            "/b/k?X-Amz-Tagging=a",
            ErrorCode::NotImplemented,
            "X-Amz-Tagging",
        );
        check(
            "PUT",
            "/b/k?x-amz-copy-source=a",
            ErrorCode::NotImplemented,
            "x-amz-copy-source",
        );
        check("GET", "/b?acl&policy", ErrorCode::InvalidArgument, "policy");
        check(
            "PUT",
            "/b/k?uploadId=u",
            ErrorCode::InvalidArgument,
            "partNumber",
        );
        check(
            "PUT",
            "/b/k?partNumber=1",
            ErrorCode::InvalidArgument,
            "uploadId",
        );
        check(
            "PUT",
            "/b/k?versionId=v",
            ErrorCode::InvalidArgument,
            "versionId",
        );
        check(
            "GET",
            "/b?list-type=3",
            ErrorCode::InvalidArgument,
            "list-type",
        );
        check("POST", "/b/k", ErrorCode::MethodNotAllowed, "OBJECT");
        check("PATCH", "/b/k", ErrorCode::MethodNotAllowed, "PATCH");
        check("PUT", "/", ErrorCode::MethodNotAllowed, "SERVICE");
        check("POST", "/", ErrorCode::MethodNotAllowed, "SERVICE");
        check(
            "PUT",
            "/b/k?uploads",
            ErrorCode::MethodNotAllowed,
            "UPLOADS",
        );
        check(
            "GET",
            "/b/k?versioning",
            ErrorCode::MethodNotAllowed,
            "VERSIONING",
        );
    }

    #[test]
    fn every_operation_but_one_has_a_route() {
        let reachable = |operation: &Operation| {
            let by_table = SUBRESOURCES.iter().any(|(.., known)| {
                let one = Query::parse("id=1&annotationName=a").unwrap();
                known == operation || with_id(*known, &one) == *operation
            });
            let plain = ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"]
                .iter()
                .any(|method| {
                    [
                        "/",
                        "/b",
                        "/b?list-type=2",
                        "/b/k",
                        "/b/k?uploadId=u",
                        "/b/k?uploadId=u&partNumber=1",
                    ]
                    .iter()
                    .any(|target| {
                        [&[][..], &[("x-amz-copy-source", "/b/o")]]
                            .iter()
                            .any(|headers| ask(method, target, headers).ok() == Some(*operation))
                    })
                });
            by_table || plain
        };
        let unreachable: Vec<_> = Operation::ALL
            .iter()
            .filter(|operation| !reachable(operation))
            .collect();
        // It has a host of its own, which this server does not answer to.
        assert_eq!(unreachable, [&Operation::WriteGetObjectResponse]);
        assert!(SUBRESOURCES.is_sorted_by_key(|(name, ..)| *name));
    }

    /// `docs/S3.md` has each operation once, in order, with a request that is this operation.
    #[test]
    fn the_documented_table_is_the_routers() {
        let document = include_str!("../../../../docs/S3.md");
        let rows = document
            .lines()
            .filter(|line| line.starts_with("| ") && line.contains(" | `"));
        let mut named = Vec::new();
        for row in rows {
            let mut cells = row.split('|').map(str::trim).skip(1);
            let (name, request) = (cells.next().unwrap(), cells.next().unwrap());
            let operation = Operation::ALL
                .iter()
                .find(|one| one.name() == name)
                .unwrap();
            named.push(*operation);
            let mut words = request.trim_matches('`').split(' ');
            let (method, target) = (words.next().unwrap(), words.next().unwrap());
            if *operation == Operation::WriteGetObjectResponse {
                continue; // It has a host of its own.
            }
            let headers: Vec<_> = words.map(|name| (name, "/b/o")).collect();
            let headers: Vec<(&'static str, &'static str)> = match headers.as_slice() {
                [] => Vec::new(),
                _ => vec![("x-amz-copy-source", "/b/o")],
            };
            let target = target.replace("{Bucket}", "b").replace("{Key}", "k");
            assert_eq!(ask(method, &target, &headers).unwrap(), *operation, "{row}");
        }
        assert_eq!(named, Operation::ALL);
    }

    proptest! {
        #[test]
        fn no_request_makes_the_router_panic(method in "[A-Z]{0,7}", bucket in any::<Option<String>>(), key in any::<Option<String>>(), raw in any::<String>()) {
            if let Ok(query) = Query::parse(&raw) {
                let _ = route(&method, &Resource { bucket, key }, &query, &vec![("x-amz-copy-source", "/a/b")]);
            }
        }
    }
}
