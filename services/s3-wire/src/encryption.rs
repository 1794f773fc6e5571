//! The headers by which a client asks for encryption at rest: by the server's keys (SSE-S3) or by a key of its own (SSE-C).
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/serv-side-encryption.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerSideEncryptionCustomerKeys.html>

use crate::error::{ErrorCode, S3Error};
use crate::headers::{Headers, single};
use crate::routing::Operation;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use std::fmt;

/// The header that asks for, and tells of, the server's own encryption.
pub const MANAGED: &str = "x-amz-server-side-encryption";
/// The only algorithm of either kind.
pub const ALGORITHM: &str = "AES256";

/// The three headers of a customer's key, told back without the middle one.
pub const CUSTOMER: [&str; 3] = [
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-server-side-encryption-customer-key",
    "x-amz-server-side-encryption-customer-key-md5",
];
/// The same for the source of a copy.
pub const COPY_SOURCE: [&str; 3] = [
    "x-amz-copy-source-server-side-encryption-customer-algorithm",
    "x-amz-copy-source-server-side-encryption-customer-key",
    "x-amz-copy-source-server-side-encryption-customer-key-md5",
];

/// A key that came with a request.
#[derive(Clone, PartialEq, Eq)]
pub struct CustomerKey {
    /// AES-256.
    pub key: [u8; 32],
    /// Its MD5 in base64, as the client sent it.
    pub md5: String,
}

impl fmt::Debug for CustomerKey {
    // A key does not belong in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CustomerKey(hidden)")
    }
}

/// How a new object is to be encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requested {
    /// As the bucket does by default.
    Default,
    /// By a key of the server's (SSE-S3).
    Managed,
    /// By this key (SSE-C).
    Customer(CustomerKey),
}

/// What a write asks for.
///
/// # Errors
/// `InvalidArgument` for both kinds at once, and those of [`customer_key`]; `NotImplemented` for keys of a key management service.
pub fn requested(headers: &dyn Headers) -> Result<Requested, S3Error> {
    let customer = customer_key(headers, &CUSTOMER)?;
    match (single(headers, MANAGED)?, customer) {
        (None, None) => Ok(Requested::Default),
        (None, Some(key)) => Ok(Requested::Customer(key)),
        (Some(method), None) => check_method(method).map(|()| Requested::Managed),
        (Some(method), Some(_)) => {
            let message = "Server Side Encryption with Customer provided key is incompatible with \
                           the encryption method specified";
            Err(S3Error::argument(message, MANAGED, method))
        }
    }
}

fn check_method(method: &str) -> Result<(), S3Error> {
    match method {
        ALGORITHM => Ok(()),
        "aws:kms" | "aws:kms:dsse" => Err(S3Error::not_implemented("Header", MANAGED)),
        other => {
            let message = "The encryption method specified is not supported";
            Err(S3Error::argument(message, MANAGED, other))
        }
    }
}

/// The customer's key in the headers `names`, which are [`CUSTOMER`] or [`COPY_SOURCE`]; `None` if none of them is there.
///
/// # Errors
/// `InvalidArgument` if only some are there or they do not agree; `InvalidEncryptionAlgorithmError`. No error repeats the key.
pub fn customer_key(
    headers: &dyn Headers,
    names: &[&'static str; 3],
) -> Result<Option<CustomerKey>, S3Error> {
    let [algorithm_name, key_name, md5_name] = *names;
    let algorithm = single(headers, algorithm_name)?;
    let (key, md5) = (single(headers, key_name)?, single(headers, md5_name)?);
    if algorithm.is_none() && key.is_none() && md5.is_none() {
        return Ok(None);
    }
    let refused = |name: &'static str, what: &str| S3Error::argument(what, name, "");
    let missing = |name, what: &str| {
        let message = format!(
            "Requests specifying Server Side Encryption with Customer provided keys must provide {what}."
        );
        refused(name, &message)
    };
    let algorithm =
        algorithm.ok_or_else(|| missing(algorithm_name, "a valid encryption algorithm"))?;
    if algorithm != ALGORITHM {
        return Err(S3Error::new(ErrorCode::InvalidEncryptionAlgorithmError)
            .and("ArgumentName", algorithm_name)
            .and("ArgumentValue", algorithm));
    }
    let key = key.ok_or_else(|| missing(key_name, "an appropriate secret key"))?;
    let md5 =
        md5.ok_or_else(|| missing(md5_name, "the client calculated MD5 of the secret key"))?;
    let key = STANDARD
        .decode(key)
        .ok()
        .and_then(|key| <[u8; 32]>::try_from(key).ok());
    let key = key.ok_or_else(|| {
        refused(
            key_name,
            "The secret key was invalid for the specified algorithm.",
        )
    })?;
    if STANDARD.decode(md5).ok().as_deref() != Some(Md5::digest(key).as_slice()) {
        let message =
            "The calculated MD5 hash of the key did not match the hash that was provided.";
        return Err(refused(md5_name, message));
    }
    Ok(Some(CustomerKey {
        key,
        md5: md5.to_owned(),
    }))
}

/// Refuses headers of encryption where they would be without effect, and keys that came over a line that everybody can read.
///
/// The listener speaks plain HTTP; where a proxy ends TLS in front of it, that proxy says how the client's own line was. So a customer's key is
/// refused exactly where `X-Forwarded-Proto` tells that it was sent in clear. AWS refuses every such request over HTTP.
///
/// # Errors
/// `InvalidArgument`, `InvalidRequest`, `NotImplemented`.
pub fn check(operation: Operation, headers: &dyn Headers) -> Result<(), S3Error> {
    use Operation as O;
    let has = |name: &&str| headers.first(name).is_some();
    if let Some(method) = single(headers, MANAGED)? {
        check_method(method)?;
        let makes = matches!(
            operation,
            O::PutObject | O::PostObject | O::CopyObject | O::CreateMultipartUpload
        );
        if !makes {
            let message = format!("{MANAGED} header is not supported for this operation.");
            return Err(S3Error::argument(message, MANAGED, method));
        }
    }
    let customer = CUSTOMER.iter().any(&has);
    let of_source = COPY_SOURCE.iter().any(has);
    if !customer && !of_source {
        return Ok(());
    }
    let about_object = matches!(
        operation,
        O::PutObject
            | O::PostObject
            | O::GetObject
            | O::HeadObject
            | O::GetObjectAttributes
            | O::CopyObject
            | O::CreateMultipartUpload
            | O::UploadPart
            | O::UploadPartCopy
            | O::CompleteMultipartUpload
            | O::ListParts
    );
    let copies = matches!(operation, O::CopyObject | O::UploadPartCopy);
    if (customer && !about_object) || (of_source && !copies) {
        let message = "The encryption parameters are not applicable to this operation.";
        return Err(S3Error::with(ErrorCode::InvalidRequest, message));
    }
    // Of several proxies, the first in the list is the one that the client spoke to.
    let lines = single(headers, "x-forwarded-proto")?;
    let line = lines.and_then(|lines| lines.split(',').next());
    match line.map(str::trim) {
        Some(line) if line.eq_ignore_ascii_case("http") => {
            let message = "Requests specifying Server Side Encryption with Customer provided keys \
                           must be made over a secure connection.";
            Err(S3Error::with(ErrorCode::InvalidRequest, message))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;
    use proptest::prelude::*;

    const KEY: [u8; 32] = *b"0123456789abcdef0123456789abcdef";

    fn customer() -> Vec<(&'static str, String)> {
        vec![
            (CUSTOMER[0], ALGORITHM.to_owned()),
            (CUSTOMER[1], STANDARD.encode(KEY)),
            (CUSTOMER[2], STANDARD.encode(Md5::digest(KEY))),
        ]
    }

    #[test]
    fn a_customers_key_comes_whole_or_is_refused_without_being_repeated() {
        let found = customer_key(&customer(), &CUSTOMER).unwrap().unwrap();
        assert_eq!(found.key, KEY);
        assert_eq!(customer_key(&customer(), &COPY_SOURCE).unwrap(), None);
        for missing in 0..3 {
            let mut headers = customer();
            headers.remove(missing);
            let refused = customer_key(&headers, &CUSTOMER).unwrap_err();
            assert_eq!(refused.code, ErrorCode::InvalidArgument);
            assert!(!refused.to_xml("").contains(&STANDARD.encode(KEY)));
        }
        let check = |at: usize, value: &str, code| {
            let mut headers = customer();
            headers.get_mut(at).unwrap().1 = value.to_owned();
            let refused = customer_key(&headers, &CUSTOMER).unwrap_err();
            assert_eq!(refused.code, code, "{value}");
        };
        check(0, "AES128", ErrorCode::InvalidEncryptionAlgorithmError);
        check(1, "not base64", ErrorCode::InvalidArgument);
        check(1, &STANDARD.encode([1; 16]), ErrorCode::InvalidArgument);
        check(1, &STANDARD.encode([1; 32]), ErrorCode::InvalidArgument);
        check(2, &STANDARD.encode([1; 16]), ErrorCode::InvalidArgument);
    }

    #[test]
    fn one_kind_of_encryption_is_asked_for_at_a_time() {
        let managed = |value: &str| vec![(MANAGED, value.to_owned())];
        assert_eq!(requested(&managed("AES256")).unwrap(), Requested::Managed);
        assert_eq!(
            requested(&Vec::<(&str, &str)>::new()).unwrap(),
            Requested::Default
        );
        assert!(matches!(
            requested(&customer()).unwrap(),
            Requested::Customer(_)
        ));
        let code = |headers: &Vec<(&'static str, String)>| requested(headers).unwrap_err().code;
        assert_eq!(code(&managed("aws:kms")), ErrorCode::NotImplemented);
        assert_eq!(code(&managed("ROT13")), ErrorCode::InvalidArgument);
        let both = [customer(), managed("AES256")].concat();
        assert_eq!(code(&both), ErrorCode::InvalidArgument);
    }

    #[test]
    fn headers_of_encryption_are_refused_where_they_would_do_nothing() {
        let managed = vec![(MANAGED, "AES256".to_owned())];
        assert!(check(Operation::PutObject, &managed).is_ok());
        assert!(check(Operation::GetObject, &managed).is_err());
        assert!(check(Operation::UploadPart, &managed).is_err());
        assert!(check(Operation::GetObject, &customer()).is_ok());
        assert!(check(Operation::DeleteObject, &customer()).is_err());
        let source: Vec<_> = COPY_SOURCE.iter().map(|name| (*name, "x")).collect();
        assert!(check(Operation::UploadPartCopy, &source).is_ok());
        assert!(check(Operation::UploadPart, &source).is_err());
        let by = |line: &str| {
            let forwarded = vec![("x-forwarded-proto", line.to_owned())];
            check(Operation::PutObject, &[customer(), forwarded].concat())
        };
        assert!(by("https").is_ok() && by("https, http").is_ok());
        assert!(by("http, https").is_err());
        assert_eq!(by("http").unwrap_err().code, ErrorCode::InvalidRequest);
    }

    proptest! {
        #[test]
        fn any_headers_are_a_key_or_an_error(values in prop::collection::vec(any::<String>(), 3)) {
            let headers: Vec<_> = CUSTOMER.iter().copied().zip(values).collect();
            let _ = customer_key(&headers, &CUSTOMER);
            let _ = requested(&headers);
        }
    }
}
