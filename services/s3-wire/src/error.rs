//! The errors that S3 answers: code, HTTP status, message, and the XML document that carries them.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>

use crate::xml::Document;
use std::fmt;

macro_rules! codes {
    ($($name:ident $status:literal $message:literal)*) => {
        /// Every code that we may answer, spelled as AWS spells it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $(#[doc = concat!("HTTP ", $status, ": ", $message)] $name,)*
        }

        impl ErrorCode {
            /// All codes, for tests and for the table in the documentation.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// The HTTP status that goes with the code.
            pub fn status(self) -> u16 {
                match self { $(ErrorCode::$name => $status,)* }
            }

            /// The code as it stands in the `Code` element.
            pub fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$name => stringify!($name),)* }
            }

            /// AWS's usual sentence for the code.
            pub fn default_message(self) -> &'static str {
                match self { $(ErrorCode::$name => $message,)* }
            }
        }
    };
}

// QuotaExceeded is not AWS's, whose buckets have no bounds; it is what Ceph's gateway answers, by the same status.
// InsufficientStorage is not AWS's (its disks are never full). 507 is what other S3 servers answer;
// SDKs repeat a 503 several times before they tell the user, and repeating does not empty a disk.
codes! {
    AccessDenied 403 "Access Denied"
    AccessControlListNotSupported 400 "The bucket does not allow ACLs"
    AuthorizationHeaderMalformed 400 "The authorization header that you provided is not valid."
    AuthorizationQueryParametersError 400 "The authorization query parameters that you provided are not valid."
    BadDigest 400 "The Content-MD5 or checksum value that you specified did not match what the server received."
    BadRequest 400 "The request is not valid."
    BucketAlreadyExists 409 "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again."
    BucketAlreadyOwnedByYou 409 "Your previous request to create the named bucket succeeded and you already own it."
    BucketNotEmpty 409 "The bucket you tried to delete is not empty"
    ConditionalRequestConflict 409 "The conditional request cannot succeed due to a conflicting operation against this resource."
    AccessForbidden 403 "CORSResponse: This CORS request is not allowed. This is usually because the evaluation of Origin, request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec."
    EntityTooLarge 400 "Your proposed upload exceeds the maximum allowed object size."
    EntityTooSmall 400 "Your proposed upload is smaller than the minimum allowed size"
    ExpiredToken 400 "The provided token has expired."
    IdempotencyParameterMismatch 400 "The client token belongs to a rename of another object."
    IllegalLocationConstraintException 400 "The specified location constraint is incompatible for the region specific endpoint this request was sent to."
    IllegalVersioningConfigurationException 400 "The Versioning element must be specified"
    IncompleteBody 400 "You did not provide the number of bytes specified by the Content-Length HTTP header."
    InsufficientStorage 507 "There is no space left to store the data. Deleting and reading still work."
    InternalError 500 "We encountered an internal error. Please try again."
    InvalidAccessKeyId 403 "The AWS Access Key Id you provided does not exist in our records."
    InvalidArgument 400 "Invalid Argument"
    InvalidBucketName 400 "The specified bucket is not valid."
    InvalidBucketState 409 "The request is not valid with the current state of the bucket."
    InvalidDigest 400 "The Content-MD5 or checksum value that you specified is not valid."
    InvalidEncryptionAlgorithmError 400 "The encryption request that you specified is not valid. The valid value is AES256."
    InvalidLocationConstraint 400 "The specified location-constraint is not valid"
    InvalidObjectState 403 "The operation is not valid for the object's storage class"
    InvalidPart 400 "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag."
    InvalidPartNumber 416 "The requested partnumber is not satisfiable"
    InvalidPartOrder 400 "The list of parts was not in ascending order. Parts must be ordered by part number."
    InvalidPolicyDocument 400 "The content of the form does not meet the conditions specified in the policy document."
    InvalidRange 416 "The requested range is not satisfiable"
    InvalidRedirectLocation 400 "The website redirect location must have a prefix of 'http://' or 'https://' or '/'."
    InvalidRequest 400 "Invalid Request"
    InvalidStorageClass 400 "The storage class you specified is not valid"
    InvalidTag 400 "The tag provided was not a valid tag."
    InvalidToken 400 "The provided token is malformed or otherwise invalid."
    InvalidURI 400 "Couldn't parse the specified URI."
    KeyTooLongError 400 "Your key is too long"
    MalformedPolicy 400 "This policy contains invalid Json"
    MalformedPOSTRequest 400 "The body of your POST request is not well-formed multipart/form-data."
    MalformedTrailerError 400 "The request contained trailing data that was not well-formed or did not conform to our published schema."
    MalformedXML 400 "The XML you provided was not well-formed or did not validate against our published schema"
    MaxMessageLengthExceeded 400 "Your request was too big."
    MaxPostPreDataLengthExceededError 400 "Your POST request fields preceding the upload file were too large."
    MetadataTooLarge 400 "Your metadata headers exceed the maximum allowed metadata size"
    MethodNotAllowed 405 "The specified method is not allowed against this resource."
    MissingContentLength 411 "You must provide the Content-Length HTTP header."
    MissingRequestBodyError 400 "Request Body is empty"
    MissingSecurityHeader 400 "Your request was missing a required header"
    NoSuchBucket 404 "The specified bucket does not exist"
    NoSuchBucketPolicy 404 "The bucket policy does not exist"
    NoSuchCORSConfiguration 404 "The CORS configuration does not exist"
    NoSuchKey 404 "The specified key does not exist."
    NoSuchLifecycleConfiguration 404 "The lifecycle configuration does not exist"
    NoSuchObjectLockConfiguration 404 "The specified object does not have a ObjectLock configuration"
    NoSuchPublicAccessBlockConfiguration 404 "The public access block configuration was not found"
    NoSuchTagSet 404 "The TagSet does not exist"
    NoSuchUpload 404 "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
    NoSuchVersion 404 "The specified version does not exist."
    NoSuchWebsiteConfiguration 404 "The specified bucket does not have a website configuration"
    NotImplemented 501 "A header you provided implies functionality that is not implemented"
    NotModified 304 "Not Modified"
    ObjectLockConfigurationNotFoundError 404 "Object Lock configuration does not exist for this bucket"
    OperationAborted 409 "A conflicting conditional operation is currently in progress against this resource. Please try again."
    OwnershipControlsNotFoundError 404 "The bucket ownership controls were not found"
    PreconditionFailed 412 "At least one of the pre-conditions you specified did not hold"
    QuotaExceeded 403 "The bucket's quota does not allow it to hold more"
    ReplicationConfigurationNotFoundError 404 "The replication configuration was not found"
    RequestTimeTooSkewed 403 "The difference between the request time and the current time is too large."
    RequestTimeout 400 "Your socket connection to the server was not read from or written to within the timeout period."
    ServerSideEncryptionConfigurationNotFoundError 404 "The server side encryption configuration was not found"
    ServiceUnavailable 503 "Service is unable to handle request."
    SignatureDoesNotMatch 403 "The request signature we calculated does not match the signature you provided. Check your key and signing method."
    SlowDown 503 "Please reduce your request rate."
    TooManyBuckets 400 "You have attempted to create more buckets than allowed"
    TooManyParts 400 "You have attempted to create more parts than allowed"
    UnexpectedContent 400 "This request does not support content"
    XAmzContentSHA256Mismatch 400 "The provided 'x-amz-content-sha256' header does not match what was computed."
}

/// An answer that is an error: what goes into the XML document, and the status beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Error {
    /// The code; decides the HTTP status.
    pub code: ErrorCode,
    /// A sentence for people.
    pub message: String,
    /// The path of the resource concerned, filled in by who knows the request.
    pub resource: Option<String>,
    /// Further elements, in order, that AWS adds to some errors (`ArgumentName`, `Region`,
    /// `ServerTime`, …).
    pub extra: Vec<(&'static str, String)>,
    /// Headers of the answer, in lower case, that AWS adds to some errors (`x-amz-delete-marker`).
    pub headers: Vec<(&'static str, String)>,
}

impl S3Error {
    /// An error with AWS's usual sentence.
    pub fn new(code: ErrorCode) -> S3Error {
        S3Error::with(code, code.default_message())
    }

    /// An error with a sentence of its own.
    pub fn with(code: ErrorCode, message: impl Into<String>) -> S3Error {
        S3Error {
            code,
            message: message.into(),
            resource: None,
            extra: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// `InvalidArgument` with the name and value of the culprit, as AWS answers it.
    pub fn argument(
        message: impl Into<String>,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> S3Error {
        S3Error::with(ErrorCode::InvalidArgument, message)
            .and("ArgumentName", name)
            .and("ArgumentValue", value)
    }

    /// `NotImplemented` for an operation, parameter or header, named in the answer.
    ///
    /// `kind` is `Operation`, `Parameter` or `Header`; the two latter are also AWS's own element
    /// names.
    pub fn not_implemented(kind: &'static str, name: impl Into<String>) -> S3Error {
        let name = name.into();
        let message = match kind {
            "Header" => ErrorCode::NotImplemented.default_message().to_owned(),
            _ => format!(
                "The {} {name} is not implemented",
                kind.to_ascii_lowercase()
            ),
        };
        S3Error::with(ErrorCode::NotImplemented, message).and(kind, name)
    }

    /// The same error with one more element.
    #[must_use]
    pub fn and(mut self, element: &'static str, value: impl Into<String>) -> S3Error {
        self.extra.push((element, value.into()));
        self
    }

    /// The same error with one more header in its answer.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> S3Error {
        self.headers.push((name, value.into()));
        self
    }

    /// The same error with the path of its resource.
    #[must_use]
    pub fn at(mut self, resource: impl Into<String>) -> S3Error {
        self.resource = Some(resource.into());
        self
    }

    /// The HTTP status of the answer.
    pub fn status(&self) -> u16 {
        self.code.status()
    }

    /// The `Error` document. Error documents carry no namespace, as AWS's do not.
    pub fn to_xml(&self, request_id: &str) -> String {
        let mut document = Document::without_namespace("Error");
        document.text("Code", self.code.as_str());
        document.text("Message", &self.message);
        for (element, value) in &self.extra {
            document.text(element, value);
        }
        if let Some(resource) = &self.resource {
            document.text("Resource", resource);
        }
        document.text("RequestId", request_id);
        document.finish()
    }
}

impl fmt::Display for S3Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for S3Error {}

impl From<ErrorCode> for S3Error {
    fn from(code: ErrorCode) -> S3Error {
        S3Error::new(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_document_has_aws_elements_in_aws_order() {
        let error = S3Error::argument("bad <thing>", "max-keys", "-1").at("/b/k&");
        assert_eq!(
            error.to_xml("R1"),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>InvalidArgument</Code>\
             <Message>bad &lt;thing&gt;</Message><ArgumentName>max-keys</ArgumentName>\
             <ArgumentValue>-1</ArgumentValue><Resource>/b/k&amp;</Resource>\
             <RequestId>R1</RequestId></Error>"
        );
    }

    #[test]
    fn every_code_is_an_http_error_or_not_modified() {
        for code in ErrorCode::ALL {
            assert!(
                code.status() == 304 || (400..=599).contains(&code.status()),
                "{code:?}"
            );
            assert!(!code.default_message().is_empty());
        }
    }
}
