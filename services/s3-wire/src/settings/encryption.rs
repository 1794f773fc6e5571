//! The default encryption of a bucket: the document of PutBucketEncryption.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketEncryption.html>

use super::{boolean, once};
use crate::encryption::ALGORITHM;
use crate::error::S3Error;
use crate::xml::Document;
use crate::xml::pull::{Pull, malformed};

/// What a bucket does to objects that do not say how they are encrypted: always SSE-S3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketEncryption {
    /// Only told back: it is about costs of AWS's key management service.
    pub bucket_key_enabled: bool,
}

impl BucketEncryption {
    /// Parses a body.
    ///
    /// # Errors
    /// `MalformedXML`; `InvalidArgument` for a key id beside `AES256`; `NotImplemented` for `aws:kms`, and for forbidding SSE-C.
    pub fn parse(body: &[u8]) -> Result<Self, S3Error> {
        let mut pull = Pull::begin(body, "ServerSideEncryptionConfiguration")?;
        let mut found = None;
        pull.children(|pull, name| match name {
            "Rule" => once(&mut found, rule(pull)?),
            _ => Err(malformed()),
        })?;
        pull.finish()?;
        found.ok_or_else(malformed)
    }

    /// As GetBucketEncryption shows it.
    pub fn to_xml(self) -> String {
        let mut document = Document::new("ServerSideEncryptionConfiguration");
        document.open("Rule");
        document.open("ApplyServerSideEncryptionByDefault");
        document.text("SSEAlgorithm", ALGORITHM);
        document.close();
        document.boolean("BucketKeyEnabled", self.bucket_key_enabled);
        document.close();
        document.finish()
    }
}

fn rule(pull: &mut Pull<'_>) -> Result<BucketEncryption, S3Error> {
    let (mut applied, mut bucket_key, mut blocked) = (None, None, None);
    pull.children(|pull, name| match name {
        "ApplyServerSideEncryptionByDefault" => once(&mut applied, applied_by(pull)?),
        "BucketKeyEnabled" => once(&mut bucket_key, boolean(&pull.text()?)?),
        "BlockedEncryptionTypes" => once(&mut blocked, blocked_by(pull)?),
        _ => Err(malformed()),
    })?;
    applied.ok_or_else(malformed)?;
    Ok(BucketEncryption {
        bucket_key_enabled: bucket_key.unwrap_or(false),
    })
}

fn applied_by(pull: &mut Pull<'_>) -> Result<(), S3Error> {
    let (mut algorithm, mut key) = (None, None);
    pull.children(|pull, name| match name {
        "SSEAlgorithm" => once(&mut algorithm, pull.text()?),
        "KMSMasterKeyID" => once(&mut key, pull.text()?),
        _ => Err(malformed()),
    })?;
    match (algorithm.as_deref(), key) {
        (Some(ALGORITHM), None) => Ok(()),
        (Some(ALGORITHM), Some(key)) => {
            let message = "a KMSMasterKeyID is not applicable if the default sse algorithm is not \
                           aws:kms or aws:kms:dsse";
            Err(S3Error::argument(message, "KMSMasterKeyID", key))
        }
        (Some(kms @ ("aws:kms" | "aws:kms:dsse")), _) => {
            Err(S3Error::not_implemented("SSEAlgorithm", kms))
        }
        _ => Err(malformed()),
    }
}

/// `NONE` forbids nothing. What else there is would have to be enforced.
fn blocked_by(pull: &mut Pull<'_>) -> Result<(), S3Error> {
    pull.children(|pull, name| {
        let kind = pull.text()?;
        match (name, kind.as_str()) {
            ("EncryptionType", "NONE") => Ok(()),
            ("EncryptionType", "SSE-C") => Err(S3Error::not_implemented("EncryptionType", "SSE-C")),
            _ => Err(malformed()),
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;
    use crate::error::ErrorCode;
    use proptest::prelude::*;

    fn of(rule: &str) -> Result<BucketEncryption, S3Error> {
        let body = format!(
            "<ServerSideEncryptionConfiguration>{rule}</ServerSideEncryptionConfiguration>"
        );
        BucketEncryption::parse(body.as_bytes())
    }

    fn applying(inner: &str) -> String {
        format!(
            "<Rule><ApplyServerSideEncryptionByDefault>{inner}</ApplyServerSideEncryptionByDefault></Rule>"
        )
    }

    #[test]
    fn the_document_comes_back_as_it_was_written() {
        for bucket_key_enabled in [false, true] {
            let encryption = BucketEncryption { bucket_key_enabled };
            let again = BucketEncryption::parse(encryption.to_xml().as_bytes());
            assert_eq!(again.unwrap(), encryption);
        }
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        let check = |rule: &str, code| assert_eq!(of(rule).unwrap_err().code, code, "{rule}");
        let aes = "<SSEAlgorithm>AES256</SSEAlgorithm>";
        check(
            &applying("<SSEAlgorithm>aws:kms</SSEAlgorithm>"),
            ErrorCode::NotImplemented,
        );
        check(
            &applying(&format!("{aes}<KMSMasterKeyID>k</KMSMasterKeyID>")),
            ErrorCode::InvalidArgument,
        );
        let blocks = |kind: &str| {
            format!(
                "<Rule><ApplyServerSideEncryptionByDefault>{aes}</ApplyServerSideEncryptionByDefault>\
                 <BlockedEncryptionTypes><EncryptionType>{kind}</EncryptionType></BlockedEncryptionTypes></Rule>"
            )
        };
        check(&blocks("SSE-C"), ErrorCode::NotImplemented);
        assert!(of(&blocks("NONE")).is_ok());
        for rule in ["", "<Rule/>", &applying(""), &applying(aes).repeat(2)] {
            check(rule, ErrorCode::MalformedXML);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_document_or_an_error(inner in ".{0,200}") {
            let _ = of(&inner);
            let _ = of(&applying(&inner));
        }
    }
}
