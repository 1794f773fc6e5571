//! CreateBucket: a new, empty bucket that belongs to the caller.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html>

use crate::answer::{self, Answer};
use crate::metadata::{Failure, unexpected};
use crate::request::Request;
use http::StatusCode;
use protocol::block::HashKey;
use protocol::metadata::{MetadataError, Operation, Reply};
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::names::check_bucket_name;
use s3_wire::xml::{CREATE_BUCKET_BYTES_MAX, CreateBucketConfiguration};

/// Asks for a bucket with versions and an object lock.
const LOCKED: &str = "x-amz-bucket-object-lock-enabled";

/// See the module. A name that the caller has already is `BucketAlreadyOwnedByYou`, in every
/// region.
pub(super) async fn create_bucket(request: &mut Request<'_>) -> Result<Answer, S3Error> {
    let document = request.document(CREATE_BUCKET_BYTES_MAX).await?;
    let configuration = CreateBucketConfiguration::parse(&document)?;
    if let Some(asked) = configuration.location_constraint
        && asked != request.worker.region
    {
        let message = format!(
            "The {asked} location constraint is incompatible for the region specific endpoint this \
             request was sent to."
        );
        return Err(S3Error::with(
            ErrorCode::IllegalLocationConstraintException,
            message,
        ));
    }
    let locked = match request.header(LOCKED)? {
        Some(text) if text.eq_ignore_ascii_case("true") => true,
        Some(text) if !text.eq_ignore_ascii_case("false") => {
            let message = "The header must be 'true' or 'false'";
            return Err(S3Error::argument(message, LOCKED, text));
        }
        _ => false,
    };
    let name = request.bucket_name().to_owned();
    check_bucket_name(&name)?;
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|_| ErrorCode::InternalError)?;
    let owner = request.admission.access_key().to_owned();
    let operation = Operation::CreateBucket {
        name: name.clone(),
        owner: owner.clone(),
        hash_key: HashKey(key),
        locked,
    };
    match request.admission.write(operation).await {
        Ok(Reply::Bucket(_)) => {
            let mut answer = answer::empty(StatusCode::OK);
            answer::set(&mut answer, "location", &format!("/{name}"));
            Ok(answer)
        }
        Ok(other) => Err(unexpected(&other)),
        Err(Failure::Metadata(MetadataError::BucketExists { owner: other })) => {
            let code = match other == owner {
                true => ErrorCode::BucketAlreadyOwnedByYou,
                false => ErrorCode::BucketAlreadyExists,
            };
            Err(S3Error::new(code).and("BucketName", name))
        }
        Err(error) => Err(error.into()),
    }
}
