//! Whether a request may be done: its signature, the bucket that it names, the right that it needs.
//! And every later call to metadata on its behalf, so that each is checked against the same
//! grounds.

use crate::blocks::Hold;
use crate::credentials::Authorized;
use crate::limits::CHANGES_MAX;
use crate::metadata::Failure;
use crate::worker::Worker;
use protocol::metadata::{Bucket, Call, MetadataError, Operation, Reply};
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::headers::RequestView;
use s3_wire::names::check_bucket_name;
use s3_wire::sigv4::{self, SignedRequest, Verified};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// What a request must be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Only to be who it says.
    Identity,
    /// To make buckets; the bucket need not exist.
    CreateBuckets,
    /// Any right on the bucket.
    Any,
    /// To get, head and list.
    Read,
    /// To put and delete.
    Write,
    /// To delete the bucket.
    Owner,
}

/// A right that was found: it held at the admission's revision.
struct Ground {
    /// `None` for requests on no bucket.
    bucket_name: Option<String>,
    bucket: Option<Rc<Bucket>>,
    need: Need,
}

/// An admitted request.
pub(crate) struct Admission {
    worker: Rc<Worker>,
    access_key: String,
    /// The secret by which the signature was found right.
    secret_key: String,
    revision: Cell<u64>,
    /// The first is the request's own bucket.
    grounds: RefCell<Vec<Ground>>,
    /// The request's own bucket, where it needs one.
    bucket: Option<Rc<Bucket>>,
}

/// Admits a request or says why not. `fresh` for requests that ask metadata nothing else, so that
/// the answer is as of now.
///
/// # Errors
/// In AWS's order: `InvalidAccessKeyId`, those of [`sigv4::verify`], `InvalidBucketName`,
/// `NoSuchBucket`, `AccessDenied`.
pub(crate) async fn admit(
    worker: &Rc<Worker>,
    signed: &SignedRequest<'_>,
    view: &RequestView<'_>,
    bucket_name: Option<&str>,
    need: Need,
    fresh: bool,
) -> Result<(Admission, Verified), S3Error> {
    let now_s = worker.now_s();
    let judge = |authorized: &Authorized| {
        let key = authorized.signing_key(signed.scope_date(), &worker.region);
        let verified = sigv4::verify(signed, view, &key, &worker.region, now_s)?;
        if let Some(name) = bucket_name {
            check_bucket_name(name)?;
        }
        check_right(authorized, bucket_name, need)?;
        Ok::<_, S3Error>(verified)
    };
    // A name that cannot exist is not asked for. Its request is refused all the same, but not
    // before its signature.
    let asked = bucket_name.filter(|name| check_bucket_name(name).is_ok());
    let remembered = worker.credentials.remembered(signed.access_key(), asked);
    let mut judged = None;
    if let Some(authorized) = remembered.filter(|_| !fresh) {
        judged = judge(&authorized)
            .ok()
            .map(|verified| (authorized, verified));
    }
    let (authorized, verified) = match judged {
        Some(judged) => judged,
        None => {
            let fetched = worker
                .credentials
                .fetch(&worker.metadata, signed.access_key(), asked)
                .await;
            let authorized = fetched.map_err(|error| match error {
                MetadataError::NoSuchAccessKey => S3Error::new(ErrorCode::InvalidAccessKeyId)
                    .and("AWSAccessKeyId", signed.access_key()),
                other => Failure::from(other).into(),
            })?;
            let verified = judge(&authorized)?;
            (authorized, verified)
        }
    };
    let ground = Ground {
        bucket_name: bucket_name.map(str::to_owned),
        bucket: authorized.bucket.clone(),
        need,
    };
    let admission = Admission {
        worker: worker.clone(),
        access_key: authorized.key.access_key.clone(),
        secret_key: authorized.key.secret_key.clone(),
        revision: Cell::new(authorized.revision),
        bucket: authorized.bucket.clone(),
        grounds: RefCell::new(vec![ground]),
    };
    Ok((admission, verified))
}

/// Whether `authorized` suffices for `need`.
fn check_right(
    authorized: &Authorized,
    bucket_name: Option<&str>,
    need: Need,
) -> Result<(), S3Error> {
    let must_exist = !matches!(need, Need::Identity | Need::CreateBuckets);
    if must_exist && authorized.bucket.is_none() {
        let name = bucket_name.unwrap_or_default();
        return Err(S3Error::new(ErrorCode::NoSuchBucket).and("BucketName", name));
    }
    let (key, rights) = (&authorized.key, authorized.rights);
    let allowed = match need {
        Need::Identity => true,
        Need::CreateBuckets => key.create_buckets,
        Need::Any => rights.read || rights.write || rights.owner,
        Need::Read => rights.read,
        Need::Write => rights.write,
        Need::Owner => rights.owner,
    };
    if allowed || key.root {
        Ok(())
    } else {
        Err(ErrorCode::AccessDenied.into())
    }
}

impl Admission {
    /// The request's own bucket.
    ///
    /// # Errors
    /// `NoSuchBucket`; not for requests whose [`Need`] includes a bucket.
    pub(crate) fn bucket(&self) -> Result<&Rc<Bucket>, S3Error> {
        self.bucket
            .as_ref()
            .ok_or_else(|| ErrorCode::NoSuchBucket.into())
    }

    /// Who asks.
    pub(crate) fn access_key(&self) -> &str {
        &self.access_key
    }

    /// The thread that serves it.
    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// Admits the request to a further bucket: the source of a copy.
    ///
    /// # Errors
    /// `NoSuchBucket`, `AccessDenied`.
    pub(crate) async fn further(&self, name: &str, need: Need) -> Result<Rc<Bucket>, S3Error> {
        check_bucket_name(name)?;
        let worker = &self.worker;
        let mut authorized = worker.credentials.remembered(&self.access_key, Some(name));
        authorized = authorized.filter(|known| check_right(known, Some(name), need).is_ok());
        let authorized = match authorized {
            Some(authorized) => authorized,
            None => worker
                .credentials
                .fetch(&worker.metadata, &self.access_key, Some(name))
                .await
                .map_err(Failure::from)?,
        };
        check_right(&authorized, Some(name), need)?;
        let Some(bucket) = authorized.bucket.clone() else {
            return Err(ErrorCode::NoSuchBucket.into());
        };
        self.grounds.borrow_mut().push(Ground {
            bucket_name: Some(name.to_owned()),
            bucket: Some(bucket.clone()),
            need,
        });
        if authorized.revision != self.revision.get() {
            self.renew().await?;
        }
        Ok(bucket)
    }

    /// Asks metadata what changes nothing.
    pub(crate) async fn read(&self, operation: Operation) -> Result<Reply, Failure> {
        self.call(operation, false).await
    }

    /// Orders a change. Where it must end even if the client hangs up, the caller runs it in a task
    /// of its own.
    pub(crate) async fn write(&self, operation: Operation) -> Result<Reply, Failure> {
        self.call(operation, true).await
    }

    /// Orders a change that makes blocks visible, and keeps them pinned until it is answered. Once
    /// begun it is seen through, also when the client hangs up: pins that were given up while the
    /// change is on its way could lose its blocks.
    ///
    /// # Errors
    /// Also `Unavailable` when the block-store's connection has ended and the pins with it; then
    /// the client must send its data again, even if the change happened.
    pub(crate) async fn write_held(
        self: &Rc<Self>,
        operation: Operation,
        hold: Hold,
    ) -> Result<Reply, Failure> {
        let this = self.clone();
        let lost = || MetadataError::Unavailable("the block-store was restarted meanwhile".into());
        let seen_through = tokio::task::spawn_local(async move {
            if hold.is_lost() {
                return Err(lost().into());
            }
            let reply = this.write(operation).await?;
            if hold.is_lost() {
                Err(lost().into())
            } else {
                Ok(reply)
            }
        });
        match seen_through.await {
            Ok(result) => result,
            Err(_) => Err(MetadataError::Unavailable("the thread is ending".into()).into()),
        }
    }

    async fn call(&self, operation: Operation, changes: bool) -> Result<Reply, Failure> {
        let metadata = &self.worker.metadata;
        let mut call = Call {
            revision: self.revision.get(),
            operation,
        };
        for _ in 0..CHANGES_MAX {
            let answer = match changes {
                true => metadata.write(&call).await,
                false => metadata.read(&call).await,
            };
            match answer {
                Err(MetadataError::Stale) => {
                    self.renew().await?;
                    call.revision = self.revision.get();
                }
                Ok((reply, revision)) => {
                    self.worker.credentials.seen(revision);
                    return Ok(reply);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(MetadataError::Stale.into())
    }

    /// Keys, rights or buckets have changed: looks whether all grounds still hold, at one revision.
    async fn renew(&self) -> Result<(), Failure> {
        let grounds: Vec<_> = self
            .grounds
            .borrow()
            .iter()
            .map(|ground| {
                (
                    ground.bucket_name.clone(),
                    ground.bucket.clone(),
                    ground.need,
                )
            })
            .collect();
        for _ in 0..CHANGES_MAX {
            let mut revisions = Vec::with_capacity(grounds.len());
            for (bucket_name, bucket, need) in &grounds {
                let worker = &self.worker;
                let name = bucket_name.as_deref();
                let authorized = worker
                    .credentials
                    .fetch(&worker.metadata, &self.access_key, name)
                    .await?;
                // The key was made anew under the same id: the signature was made with another
                // secret.
                if authorized.key.secret_key != self.secret_key {
                    return Err(Failure::Denied(ErrorCode::SignatureDoesNotMatch.into()));
                }
                check_right(&authorized, name, *need).map_err(Failure::Denied)?;
                let same = authorized.bucket.as_ref().map(|bucket| bucket.id)
                    == bucket.as_ref().map(|bucket| bucket.id);
                if bucket.is_some() && !same {
                    // Another bucket of that name; what was begun is not meant for it.
                    return Err(MetadataError::NoSuchBucket.into());
                }
                revisions.push(authorized.revision);
            }
            if let Some(first) = revisions
                .first()
                .filter(|one| revisions.iter().all(|r| r == *one))
            {
                self.revision.set(*first);
                return Ok(());
            }
        }
        Err(MetadataError::Stale.into())
    }
}
