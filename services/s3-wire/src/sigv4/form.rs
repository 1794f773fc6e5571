//! The signature of a form's policy, which a browser sends in the form's fields.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-UsingHTTPPOST.html>

use super::parse::{check_day, parse_credential, parse_signature, unsupported_version};
use super::{ALGORITHM, Scope, SigningKey};
use crate::dates::parse_amz_date;
use crate::error::{ErrorCode, S3Error};
use std::borrow::Cow;
use subtle::ConstantTimeEq;

/// A signature in the fields of a form, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormSignature<'a> {
    access_key: Cow<'a, str>,
    scope: Scope<'a>,
    signature: [u8; 32],
    /// In base64, as it came: that is what was signed.
    policy: &'a str,
}

impl<'a> FormSignature<'a> {
    /// Reads the fields, which `field` answers by their names in lower case. `None`: the form is not signed.
    ///
    /// # Errors
    /// `InvalidArgument` for a field that is missing or malformed; `InvalidRequest` for Signature Version 2; `InvalidToken` for a
    /// session token.
    pub fn parse(field: impl Fn(&str) -> Option<&'a str>) -> Result<Option<Self>, S3Error> {
        let names = [
            "x-amz-algorithm",
            "x-amz-credential",
            "x-amz-date",
            "x-amz-signature",
        ];
        if field("signature").is_some() || field("awsaccesskeyid").is_some() {
            return Err(unsupported_version());
        }
        if names.iter().all(|name| field(name).is_none()) {
            return Ok(None);
        }
        let wanted = |name: &'static str| {
            let message = "Bucket POST must contain a field named";
            let missing = || S3Error::argument(format!("{message} '{name}'."), name, "");
            field(name).ok_or_else(missing)
        };
        let policy = wanted("policy")?;
        let [algorithm, credential, date, signature] = names;
        let algorithm_value = wanted(algorithm)?;
        if algorithm_value != ALGORITHM {
            let message = "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"";
            return Err(S3Error::argument(message, algorithm, algorithm_value));
        }
        let (text, timestamp) = (wanted(credential)?, wanted(date)?);
        let invalid = |why: String| S3Error::argument(why, credential, text);
        let (access_key, scope) = parse_credential(Cow::Borrowed(text)).map_err(invalid)?;
        if parse_amz_date(timestamp).is_none() {
            let message = "X-Amz-Date must be formatted via ISO8601 Long format";
            return Err(S3Error::argument(message, date, timestamp));
        }
        check_day(timestamp, &scope).map_err(invalid)?;
        if field("x-amz-security-token").is_some() {
            return Err(ErrorCode::InvalidToken.into());
        }
        let signature =
            parse_signature(wanted(signature)?).ok_or(ErrorCode::SignatureDoesNotMatch)?;
        Ok(Some(Self {
            access_key,
            scope,
            signature,
            policy,
        }))
    }

    /// The access key that the form claims.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// The day for which the signing key must be derived, `YYYYMMDD`.
    pub fn scope_date(&self) -> &str {
        &self.scope.date
    }

    /// Verifies the signature; `key` must be derived for [`FormSignature::scope_date`] and `region`. How long it is good the policy
    /// says, which is judged apart.
    ///
    /// # Errors
    /// `InvalidArgument` for another region; `SignatureDoesNotMatch`.
    pub fn verify(&self, key: &SigningKey, region: &str) -> Result<(), S3Error> {
        if self.scope.region != region {
            let message = format!(
                "the region '{}' is wrong; expecting '{region}'",
                self.scope.region
            );
            let error = S3Error::argument(message, "x-amz-credential", self.scope.region.as_ref());
            return Err(error.and("Region", region));
        }
        let computed = key.sign(self.policy.as_bytes());
        if bool::from(computed.ct_eq(&self.signature)) {
            Ok(())
        } else {
            Err(ErrorCode::SignatureDoesNotMatch.into())
        }
    }
}
