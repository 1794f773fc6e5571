//! Names in S3: buckets, keys, hosts, and the places where a request writes them.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>

use crate::error::{ErrorCode, S3Error};
use crate::query::decode;

/// Most bytes in an object key.
pub const KEY_BYTES_MAX: usize = 1024;

/// Checks a bucket name by AWS's rules for general purpose buckets.
///
/// # Errors
/// `InvalidBucketName` with the name.
pub fn check_bucket_name(name: &str) -> Result<(), S3Error> {
    let edge =
        |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = name.as_bytes();
    let allowed = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
    let reserved = ["xn--", "sthree-", "amzn-s3-demo-"]
        .iter()
        .any(|p| name.starts_with(p))
        || ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"]
            .iter()
            .any(|s| name.ends_with(s));
    let well_formed = (3..=63).contains(&bytes.len())
        && bytes.iter().all(allowed)
        && edge(bytes.first())
        && edge(bytes.last())
        && !name.contains("..")
        && name.parse::<std::net::Ipv4Addr>().is_err()
        && !reserved;
    if well_formed {
        Ok(())
    } else {
        Err(S3Error::new(ErrorCode::InvalidBucketName).and("BucketName", name))
    }
}

/// Checks an object key: 1 to [`KEY_BYTES_MAX`] bytes. That it is UTF-8 its type says already.
///
/// # Errors
/// `KeyTooLongError` with both sizes; `InvalidArgument` for an empty key.
pub fn check_key(key: &str) -> Result<(), S3Error> {
    match key.len() {
        0 => Err(S3Error::argument("The key must not be empty", "Key", "")),
        1..=KEY_BYTES_MAX => Ok(()),
        size => Err(S3Error::new(ErrorCode::KeyTooLongError)
            .and("Size", size.to_string())
            .and("MaxSizeAllowed", KEY_BYTES_MAX.to_string())),
    }
}

/// What a request is about. Without a bucket it is the service, without a key the bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// The name as written; [`check_bucket_name`] was not applied, because AWS answers differently
    /// per operation.
    pub bucket: Option<String>,
    /// The decoded key, checked by [`check_key`].
    pub key: Option<String>,
}

/// Reads bucket and key out of a raw path; `host_bucket` is the bucket that the host names (see
/// [`split_host`]).
///
/// The path is split before it is decoded, so that `%2F` is a byte of a name and not a separator.
/// Nothing is normalised: `a//b` and `a/../b` are keys of their own.
///
/// # Errors
/// `InvalidURI` when it cannot be decoded to UTF-8 or does not begin with `/`; `KeyTooLongError`;
/// `InvalidBucketName` for `//…`.
pub fn split_path(path: &str, host_bucket: Option<&str>) -> Result<Resource, S3Error> {
    let rest = path.strip_prefix('/').ok_or(ErrorCode::InvalidURI)?;
    let (bucket, key) = match host_bucket {
        Some(bucket) => (bucket.to_owned(), rest),
        None if rest.is_empty() => return Ok(Resource::default()),
        None => {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            (decode(bucket, false)?.into_owned(), key)
        }
    };
    if bucket.is_empty() {
        return Err(S3Error::new(ErrorCode::InvalidBucketName).and("BucketName", ""));
    }
    if key.is_empty() {
        return Ok(Resource {
            bucket: Some(bucket),
            key: None,
        });
    }
    let key = decode(key, false)?.into_owned();
    check_key(&key)?;
    Ok(Resource {
        bucket: Some(bucket),
        key: Some(key),
    })
}

/// The bucket that a `Host` header names in virtual-host style, in lower case.
///
/// `suffixes` are the host names under which this server is known, in lower case and without port
/// (`s3.example.org`). A host that is none of them and below none of them means path style, as do
/// addresses.
pub fn split_host(host: &str, suffixes: &[impl AsRef<str>]) -> Option<String> {
    // An IPv6 address stands in brackets and contains colons; it never names a bucket.
    if host.starts_with('[') {
        return None;
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    // The longest suffix wins, so that `s3.example.org` is not taken for the bucket `s3` of
    // `example.org`.
    let suffix = suffixes
        .iter()
        .map(AsRef::as_ref)
        .filter(|suffix| name == *suffix || is_below(&name, suffix))
        .max_by_key(|suffix| suffix.len())?;
    let bucket = name.strip_suffix(suffix)?.strip_suffix('.')?;
    if bucket.is_empty() {
        None
    } else {
        Some(bucket.to_owned())
    }
}

/// Whether `name` is `something.suffix`.
fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix)
        .is_some_and(|rest| rest.ends_with('.'))
}

/// The object that `x-amz-copy-source` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopySource {
    /// The source's bucket, not checked.
    pub bucket: String,
    /// The source's key, checked by [`check_key`].
    pub key: String,
    /// The version, when one is named.
    pub version_id: Option<String>,
}

/// Reads `x-amz-copy-source`: `bucket/key` or `/bucket/key`, percent-encoded (`+` is a space, as
/// AWS and MinIO read it), then perhaps `?versionId=…`.
///
/// # Errors
/// `InvalidArgument` when it has no bucket or key or cannot be decoded; `NotImplemented` for the
/// ARN of an access point.
pub fn copy_source(header: &str) -> Result<CopySource, S3Error> {
    let bad = || {
        let message = "Copy Source must mention the source bucket and key: sourcebucket/sourcekey";
        S3Error::argument(message, "x-amz-copy-source", header)
    };
    if header.starts_with("arn:") {
        return Err(S3Error::not_implemented("Header", "x-amz-copy-source"));
    }
    let (path, version_id) = match header.split_once('?') {
        Some((path, query)) => {
            let version = query.strip_prefix("versionId=").ok_or_else(bad)?;
            (
                path,
                Some(decode(version, true).map_err(|_| bad())?.into_owned()),
            )
        }
        None => (header, None),
    };
    // Some clients encode the separator, too, so here decoding comes first. A bucket name cannot
    // contain a slash.
    let path = decode(path, true).map_err(|_| bad())?;
    let path = path.strip_prefix('/').unwrap_or(&path);
    let (bucket, key) = path.split_once('/').ok_or_else(bad)?;
    if bucket.is_empty() || key.is_empty() {
        return Err(bad());
    }
    check_key(key)?;
    Ok(CopySource {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        version_id,
    })
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test that fails may panic"
    )]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bucket_names_follow_the_rules_of_aws() {
        for good in [
            "abc",
            "a-b.c",
            "1bucket",
            "my.example-bucket.1",
            &"a".repeat(63),
        ] {
            assert!(check_bucket_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "ab",
            &"a".repeat(64),
            "Abc",
            "a_b",
            "-ab",
            "ab-",
            ".ab",
            "ab.",
            "a..b",
            "192.168.5.4",
            "xn--abc",
            "sthree-abc",
            "abc-s3alias",
            "abc--ol-s3",
            "a b",
            "bücket",
            "a/b",
        ] {
            assert!(check_bucket_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_split_before_they_are_decoded() {
        let check = |path: &str, host: Option<&str>, bucket: Option<&str>, key: Option<&str>| {
            let resource = split_path(path, host).unwrap();
            assert_eq!(
                (resource.bucket.as_deref(), resource.key.as_deref()),
                (bucket, key),
                "{path}"
            );
        };
        check("/", None, None, None);
        check("/b", None, Some("b"), None);
        check("/b/", None, Some("b"), None);
        check("/b/k", None, Some("b"), Some("k"));
        check("/b//k", None, Some("b"), Some("/k"));
        check("/b/a/../c", None, Some("b"), Some("a/../c"));
        check("/b/a%2Fb+c%20d", None, Some("b"), Some("a/b+c d"));
        check("/", Some("h"), Some("h"), None);
        check("/b/k", Some("h"), Some("h"), Some("b/k"));
        check("/b/%F0%9F%98%80", None, Some("b"), Some("😀"));
    }

    #[test]
    fn bad_paths_get_the_error_of_aws() {
        let check =
            |path: &str, code| assert_eq!(split_path(path, None).unwrap_err().code, code, "{path}");
        check("", ErrorCode::InvalidURI);
        check("*", ErrorCode::InvalidURI);
        check("/b/%FF", ErrorCode::InvalidURI);
        check("/b/%4", ErrorCode::InvalidURI);
        check("//k", ErrorCode::InvalidBucketName);
        check(
            &format!("/b/{}", "k".repeat(1025)),
            ErrorCode::KeyTooLongError,
        );
        assert!(split_path(&format!("/b/{}", "k".repeat(1024)), None).is_ok());
    }

    #[test]
    fn hosts_name_buckets_only_below_a_known_name() {
        let suffixes = ["localhost", "example.org", "s3.example.org"];
        let check =
            |host, bucket| assert_eq!(split_host(host, &suffixes).as_deref(), bucket, "{host}");
        check("localhost:3900", None);
        check("b.localhost:3900", Some("b"));
        check("my.dotted.s3.example.org", Some("my.dotted"));
        check("B.S3.EXAMPLE.ORG", Some("b"));
        check("s3.example.org", None);
        check("127.0.0.1:3900", None);
        check("[::1]:3900", None);
        check("elsewhere.net", None);
        check(".localhost", None);
        check("notlocalhost", None);
    }

    #[test]
    fn copy_sources_are_read_as_aws_reads_them() {
        let check = |header: &str, bucket: &str, key: &str, version: Option<&str>| {
            let source = copy_source(header).unwrap();
            assert_eq!((source.bucket.as_str(), source.key.as_str()), (bucket, key));
            assert_eq!(source.version_id.as_deref(), version);
        };
        check("b/k", "b", "k", None);
        check("/b/a/b%3Fc", "b", "a/b?c", None);
        check("b%2Fk%2Bx+y", "b", "k+x y", None);
        check("/b/k?versionId=v%201", "b", "k", Some("v 1"));
        for bad in ["", "b", "/b", "b/", "/", "b/k?other=1", "b/%GG", "//k"] {
            assert_eq!(
                copy_source(bad).unwrap_err().code,
                ErrorCode::InvalidArgument,
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_the_readers_of_names_panic(text in any::<String>()) {
            let _ = check_bucket_name(&text);
            let _ = split_path(&text, None);
            let _ = split_path(&text, Some("b"));
            let _ = split_host(&text, &["localhost"]);
            let _ = copy_source(&text);
        }

        #[test]
        fn a_key_survives_the_way_through_a_path(key in "\\PC{1,200}") {
            let path = format!("/b/{}", crate::query::encode(&key));
            prop_assert_eq!(split_path(&path, None).unwrap().key.unwrap(), key.clone());
            let mut source = String::from("b/");
            crate::query::encode_into(&mut source, &key, false);
            prop_assert_eq!(copy_source(&source).unwrap().key, key);
        }
    }
}
