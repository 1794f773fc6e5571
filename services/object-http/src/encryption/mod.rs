//! Encryption at rest: what a new object is encrypted with, whether a reader has the key, and the layer between an operation and the blocks.
//!
//! The blocks under an encrypted object are ciphertext in every respect: names, lengths, packs, the bytes inlined in a row. ETags and checksums are
//! of the plaintext, except that the ETag of an object under a customer's key is random, since an MD5 would tell of the content. The bytes of an
//! encrypted object pass through this process in both directions; those of others still go from file to socket.

mod reader;
mod writer;

pub use reader::DecryptingReader;
pub use writer::ObjectWriter;

use crate::admission::Admission;
use crate::answer::{self, Answer};
use http::HeaderMap;
use object_encryption::{Secret, proof, proves};
use protocol::metadata::{DataKey, Encryption, KeySource, Object, Salt, Upload};
use s3_wire::checksum;
use s3_wire::encryption::{
    ALGORITHM, COPY_SOURCE, CUSTOMER, CustomerKey, MANAGED, Requested, customer_key, requested,
};
use s3_wire::error::{ErrorCode, S3Error};

/// The key of one run of encrypted bytes: an object in one piece, or a part.
pub struct Stream {
    /// The object's data key, or the customer's.
    pub secret: Secret,
    /// Of these bytes alone.
    pub salt: Salt,
}

/// How an answer tells of the encryption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// SSE-S3.
    Managed,
    /// SSE-C.
    Customer {
        /// As the request says it.
        key_md5: String,
    },
}

impl Shown {
    /// Adds the headers.
    pub fn tell(&self, answer: &mut Answer) {
        match self {
            Self::Managed => answer::set(answer, MANAGED, ALGORITHM),
            Self::Customer { key_md5 } => {
                let [algorithm, _, md5] = CUSTOMER;
                answer::set(answer, algorithm, ALGORITHM);
                answer::set(answer, md5, key_md5);
            }
        }
    }
}

/// [`Shown::tell`], where there is something to tell.
pub fn tell(answer: &mut Answer, shown: Option<&Shown>) {
    if let Some(shown) = shown {
        shown.tell(answer);
    }
}

/// What is being stored encrypted.
pub struct Cipher {
    /// The key.
    pub stream: Stream,
    /// What the answer says.
    pub shown: Shown,
    source: KeySource,
}

impl Cipher {
    /// As it stands in the object's row.
    pub fn row(&self) -> Encryption {
        Encryption {
            salt: self.stream.salt,
            source: self.source.clone(),
        }
    }
}

/// 32 random bytes: a key, or a salt that never comes twice.
fn random() -> Result<[u8; 32], S3Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| ErrorCode::InternalError)?;
    Ok(bytes)
}

fn impossible(error: object_encryption::Damaged) -> S3Error {
    runtime::error!("encryption: {error}");
    ErrorCode::InternalError.into()
}

/// What a new object is encrypted with: as its request says, or as its bucket does by default.
///
/// # Errors
/// Those of [`requested`].
pub fn of_new_object(
    headers: &HeaderMap,
    admission: &Admission,
) -> Result<Option<Cipher>, S3Error> {
    let salt = || random().map(Salt);
    match requested(headers)? {
        Requested::Default if !admission.encrypts_by_default() => Ok(None),
        Requested::Default | Requested::Managed => {
            let key = random()?;
            Ok(Some(Cipher {
                stream: Stream {
                    secret: Secret(key),
                    salt: salt()?,
                },
                shown: Shown::Managed,
                source: KeySource::Managed(DataKey(key)),
            }))
        }
        Requested::Customer(CustomerKey { key, md5 }) => {
            let (secret, salt) = (Secret(key), salt()?);
            let proof = proof(&secret, &salt.0).map_err(impossible)?;
            Ok(Some(Cipher {
                stream: Stream { secret, salt },
                shown: Shown::Customer { key_md5: md5 },
                source: KeySource::Customer { proof },
            }))
        }
    }
}

/// What a part of `upload` is encrypted with: the upload's secret, and a salt of its own, so that a part that is sent again is another stream.
///
/// # Errors
/// `InvalidRequest` for parameters that are not the upload's.
pub fn of_part(headers: &HeaderMap, upload: &Upload) -> Result<Option<Cipher>, S3Error> {
    let refused = |message: &str| S3Error::with(ErrorCode::InvalidRequest, message);
    let sent = customer_key(headers, &CUSTOMER)?;
    let Some(Encryption { salt, source }) = &upload.encryption else {
        return match sent {
            None => Ok(None),
            Some(_) => Err(refused(NOT_ASKED)),
        };
    };
    let (secret, shown) = match (source, sent) {
        (KeySource::Managed(DataKey(key)), None) => (Secret(*key), Shown::Managed),
        (KeySource::Customer { proof }, Some(CustomerKey { key, md5 })) => {
            let secret = Secret(key);
            if !proves(&secret, &salt.0, proof) {
                return Err(refused(
                    "The provided encryption parameters did not match the ones used originally.",
                ));
            }
            (secret, Shown::Customer { key_md5: md5 })
        }
        (KeySource::Managed(_), Some(_)) => return Err(refused(NOT_ASKED)),
        (KeySource::Customer { .. }, None) => {
            let message = "The multipart upload initiate requested encryption. Subsequent part \
                           requests must include the appropriate encryption parameters.";
            return Err(refused(message));
        }
        (KeySource::Wrapped { .. }, _) => return Err(ErrorCode::InternalError.into()),
    };
    let fresh = Salt(random()?);
    Ok(Some(Cipher {
        stream: Stream {
            secret,
            salt: fresh,
        },
        shown,
        source: source.clone(),
    }))
}

const NOT_ASKED: &str = "The multipart upload initiate did not request encryption. Please resend \
                         the request without sending encryption parameters.";

/// Judges the parameters of a request that completes or lists an upload, where they may be left out; how the object will be shown.
///
/// # Errors
/// As [`of_part`] for parameters that are there.
pub fn of_whole_upload(headers: &HeaderMap, upload: &Upload) -> Result<Option<Shown>, S3Error> {
    if customer_key(headers, &CUSTOMER)?.is_some() {
        return Ok(of_part(headers, upload)?.map(|cipher| cipher.shown));
    }
    let source = upload.encryption.as_ref().map(|one| &one.source);
    Ok(match source {
        Some(KeySource::Managed(_) | KeySource::Wrapped { .. }) => Some(Shown::Managed),
        Some(KeySource::Customer { .. }) | None => None,
    })
}

/// Whose parameters are meant: of the object that is read, or of the source of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The object that is asked for.
    Object,
    /// The source of a copy.
    CopySource,
}

/// An object that may be read.
pub struct Unlocked {
    /// `None`: it is not encrypted.
    pub stream: Option<Stream>,
    /// What the answer says.
    pub shown: Option<Shown>,
}

/// Whether the request brings what it takes to read `object`.
///
/// # Errors
/// `InvalidRequest` for a key too many or too few, `AccessDenied` for another key than the object's.
pub fn unlock(headers: &HeaderMap, object: &Object, side: Side) -> Result<Unlocked, S3Error> {
    let names = match side {
        Side::Object => &CUSTOMER,
        Side::CopySource => &COPY_SOURCE,
    };
    let refused = |message: &str| S3Error::with(ErrorCode::InvalidRequest, message);
    let sent = customer_key(headers, names)?;
    let Some(Encryption { salt, source }) = &object.encryption else {
        return match sent {
            None => Ok(Unlocked {
                stream: None,
                shown: None,
            }),
            Some(_) => Err(refused(NOT_APPLICABLE)),
        };
    };
    let (secret, shown) = match (source, sent) {
        (KeySource::Managed(DataKey(key)), None) => (Secret(*key), Shown::Managed),
        (KeySource::Managed(_), Some(_)) => return Err(refused(NOT_APPLICABLE)),
        (KeySource::Customer { proof }, Some(CustomerKey { key, md5 })) => {
            let secret = Secret(key);
            if !proves(&secret, &salt.0, proof) {
                return Err(ErrorCode::AccessDenied.into());
            }
            (secret, Shown::Customer { key_md5: md5 })
        }
        (KeySource::Customer { .. }, None) => {
            let message = "The object was stored using a form of Server Side Encryption. The \
                           correct parameters must be provided to retrieve the object.";
            return Err(refused(message));
        }
        (KeySource::Wrapped { .. }, _) => return Err(ErrorCode::InternalError.into()),
    };
    let stream = Stream {
        secret,
        salt: *salt,
    };
    Ok(Unlocked {
        stream: Some(stream),
        shown: Some(shown),
    })
}

const NOT_APPLICABLE: &str = "The encryption parameters are not applicable to this object.";

/// The entity tag of what was stored: the MD5 of its bytes, or 16 random bytes where a customer's key hides them.
///
/// # Errors
/// `InternalError` where the kernel has no random bytes.
pub fn etag(md5: &[u8; 16], cipher: Option<&Cipher>) -> Result<String, S3Error> {
    match cipher.map(|cipher| &cipher.shown) {
        Some(Shown::Customer { .. }) => {
            let mut tag = [0; 16];
            getrandom::fill(&mut tag).map_err(|_| ErrorCode::InternalError)?;
            Ok(checksum::etag(&tag))
        }
        Some(Shown::Managed) | None => Ok(checksum::etag(md5)),
    }
}
