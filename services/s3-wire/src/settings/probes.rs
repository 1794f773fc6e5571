//! Settings that no bucket has, as AWS tells it; and the documents by which a client makes sure of that.

use super::once;
use crate::error::S3Error;
use crate::xml::Document;
use crate::xml::pull::{Pull, malformed};

/// The answer to GetBucketLogging where nothing is logged.
pub fn logging_none() -> String {
    Document::new("BucketLoggingStatus").finish()
}

/// The answer to GetBucketAccelerateConfiguration where it was never set.
pub fn accelerate_none() -> String {
    Document::new("AccelerateConfiguration").finish()
}

/// The answer to GetBucketRequestPayment.
pub fn request_payment() -> String {
    let mut document = Document::new("RequestPaymentConfiguration");
    document.text("Payer", "BucketOwner");
    document.finish()
}

/// The answer to GetBucketPolicyStatus.
pub fn policy_status(is_public: bool) -> String {
    let mut document = Document::new("PolicyStatus");
    document.boolean("IsPublic", is_public);
    document.finish()
}

/// The body of PutBucketLogging, which may only turn it off.
///
/// # Errors
/// `MalformedXML`; `NotImplemented` to turn it on.
pub fn parse_logging(body: &[u8]) -> Result<(), S3Error> {
    nothing(body, "BucketLoggingStatus", &["LoggingEnabled"])
}

/// The body of PutBucketRequestPayment, which may only name the owner.
///
/// # Errors
/// `MalformedXML`; `NotImplemented` for `Requester`.
pub fn parse_request_payment(body: &[u8]) -> Result<(), S3Error> {
    let mut pull = Pull::begin(body, "RequestPaymentConfiguration")?;
    let mut payer = None;
    pull.children(|pull, name| match name {
        "Payer" => once(&mut payer, pull.text()?),
        _ => Err(malformed()),
    })?;
    pull.finish()?;
    match payer.as_deref() {
        Some("BucketOwner") => Ok(()),
        Some("Requester") => Err(S3Error::not_implemented("Payer", "Requester")),
        _ => Err(malformed()),
    }
}

/// A document without any of the `known` elements.
fn nothing(body: &[u8], root: &str, known: &[&str]) -> Result<(), S3Error> {
    let mut pull = Pull::begin(body, root)?;
    pull.children(|_, name| match known.contains(&name) {
        true => Err(S3Error::not_implemented("Element", name)),
        false => Err(malformed()),
    })?;
    pull.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;
    use crate::error::ErrorCode;

    #[test]
    fn turning_off_is_done_and_turning_on_is_not() {
        parse_logging(logging_none().as_bytes()).unwrap();
        parse_request_payment(request_payment().as_bytes()).unwrap();
        let code = |result: Result<(), S3Error>| result.unwrap_err().code;
        assert_eq!(
            code(parse_logging(
                b"<BucketLoggingStatus><LoggingEnabled/></BucketLoggingStatus>"
            )),
            ErrorCode::NotImplemented
        );
        assert_eq!(
            code(parse_logging(
                b"<BucketLoggingStatus><X/></BucketLoggingStatus>"
            )),
            ErrorCode::MalformedXML
        );
        let payer =
            b"<RequestPaymentConfiguration><Payer>Requester</Payer></RequestPaymentConfiguration>";
        assert_eq!(
            code(parse_request_payment(payer)),
            ErrorCode::NotImplemented
        );
    }
}
