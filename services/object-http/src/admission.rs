//! Whether a request may be done: its signature, the bucket that it names, the right that it needs.
//! And every later call to metadata on its behalf, so that each is checked against the same
//! grounds.

use crate::access::{self, Need, Target};
use crate::blocks::Hold;
use crate::credentials::Authorized;
use crate::facts::Facts;
use crate::limits::CHANGES_MAX;
use crate::metadata::{Failure, unexpected};
use crate::worker::Worker;
use http::request::Parts;
use protocol::metadata::{Bucket, Call, Change, MetadataError, Operation, Reply, VersionId};
use protocol::settings::SettingKind;
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::form::FormSignature;
use s3_wire::headers::RequestView;
use s3_wire::names::check_bucket_name;
use s3_wire::policy::Policy;
use s3_wire::sigv2::PresignedV2;
use s3_wire::sigv4::{self, PayloadHash, SignedRequest, Verified};
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

/// A right that was found: it held at the admission's revision.
#[derive(Clone)]
struct Ground {
    /// `None` for requests on no bucket.
    bucket_name: Option<Rc<str>>,
    bucket: Option<Rc<Bucket>>,
    need: Need,
    target: Target,
}

/// How a request shows who it is from.
pub enum Proof<'a> {
    /// Not at all, with what it says about its body.
    Nobody(PayloadHash),
    /// By a signature of the request.
    Signed(&'a SignedRequest<'a>),
    /// By a presigned address of Version 2, with what it says about its body.
    SignedV2(&'a PresignedV2, PayloadHash),
    /// By a signature of the policy in a form.
    Form(&'a FormSignature<'a>),
}

impl Proof<'_> {
    fn access_key(&self) -> Option<&str> {
        match self {
            Self::Nobody(_) => None,
            Self::Signed(signed) => Some(signed.access_key()),
            Self::SignedV2(signed, _) => Some(signed.access_key()),
            Self::Form(form) => Some(form.access_key()),
        }
    }

    /// Whether the signature is right, and what is to be checked of the body.
    fn verify(&self, authorized: &Authorized, facts: &Facts) -> Result<Verified, S3Error> {
        let worker = &facts.worker;
        let key = |date: &str| {
            let key = authorized.signing_key(date, &worker.region);
            key.ok_or_else(|| S3Error::from(ErrorCode::InvalidAccessKeyId))
        };
        let verified = |payload| Verified {
            payload,
            chunks: None,
        };
        match self {
            Self::Nobody(payload) => Ok(verified(*payload)),
            Self::Signed(signed) => sigv4::verify(
                signed,
                &view(&facts.head),
                &key(signed.scope_date())?,
                &worker.region,
                worker.now_s(),
            ),
            Self::SignedV2(signed, payload) => {
                let key = authorized.key.as_ref();
                let key = key.ok_or_else(|| S3Error::from(ErrorCode::InvalidAccessKeyId))?;
                let host_bucket = facts.host_bucket.as_deref();
                let now_s = worker.now_s();
                signed.verify(&view(&facts.head), host_bucket, &key.secret_key, now_s)?;
                Ok(verified(*payload))
            }
            Self::Form(form) => {
                form.verify(&key(form.scope_date())?, &worker.region)?;
                Ok(verified(PayloadHash::Unsigned))
            }
        }
    }
}

/// The request as its signature sees it.
pub fn view(head: &Parts) -> RequestView<'_> {
    RequestView {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        headers: &head.headers,
    }
}

/// An admitted request.
pub struct Admission {
    worker: Rc<Worker>,
    facts: Rc<Facts>,
    /// `None` for somebody without a key.
    access_key: Option<Rc<str>>,
    /// The secret by which the signature was found right.
    secret_key: Option<Rc<str>>,
    authorized: Rc<Authorized>,
    /// The same asked again during the request.
    fresh: OnceCell<Rc<Authorized>>,
    revision: Cell<u64>,
    /// The first is the request's own bucket.
    grounds: RefCell<Vec<Ground>>,
    /// The request's own bucket, where it needs one.
    bucket: Option<Rc<Bucket>>,
    /// The bucket encrypts by default, as of `revision`.
    encrypts: Cell<bool>,
    /// Something is being stored as it came, because the bucket does not.
    stores_plain: Cell<bool>,
}

/// Admits a request or says why not. `fresh` for requests that ask metadata nothing else, so that
/// the answer is as of now.
///
/// # Errors
/// In AWS's order: `InvalidAccessKeyId`, those of [`sigv4::verify`], `InvalidBucketName`,
/// `NoSuchBucket`, `AccessDenied`.
pub async fn admit(
    facts: &Rc<Facts>,
    proof: &Proof<'_>,
    need: Need,
    fresh: bool,
) -> Result<(Admission, Verified), S3Error> {
    let worker = &facts.worker;
    let bucket_name = facts.resource.bucket.as_deref();
    let bucket_name = bucket_name.filter(|_| need != Need::Identity);
    // A name that cannot exist is not asked for. Its request is refused all the same, but not
    // before its signature.
    let asked = bucket_name.filter(|name| check_bucket_name(name).is_ok());
    let remembered = worker.credentials.remembered(proof.access_key(), asked);
    let mut judged = None;
    if let Some(authorized) = remembered.filter(|_| !fresh) {
        judged = judge(&authorized, facts, proof, need)
            .await
            .ok()
            .map(|verified| (authorized, verified));
    }
    let (authorized, verified) = match judged {
        Some(judged) => judged,
        None => {
            let fetched = worker
                .credentials
                .fetch(&worker.metadata, proof.access_key(), asked)
                .await;
            let authorized = fetched.map_err(|error| match error {
                MetadataError::NoSuchAccessKey => S3Error::new(ErrorCode::InvalidAccessKeyId)
                    .and("AWSAccessKeyId", proof.access_key().unwrap_or_default()),
                other => Failure::from(other).into(),
            })?;
            let verified = judge(&authorized, facts, proof, need).await?;
            (authorized, verified)
        }
    };
    let ground = Ground {
        bucket_name: bucket_name.map(Rc::from),
        bucket: authorized.bucket.clone(),
        need,
        target: Target::Request,
    };
    let admission = Admission {
        worker: worker.clone(),
        facts: facts.clone(),
        access_key: authorized
            .key
            .as_ref()
            .map(|key| key.access_key.as_str().into()),
        secret_key: authorized
            .key
            .as_ref()
            .map(|key| key.secret_key.as_str().into()),
        revision: Cell::new(authorized.revision),
        bucket: authorized.bucket.clone(),
        encrypts: Cell::new(authorized.kinds.has(SettingKind::Encryption)),
        stores_plain: Cell::new(false),
        grounds: RefCell::new(vec![ground]),
        authorized,
        fresh: OnceCell::new(),
    };
    Ok((admission, verified))
}

/// Judges a request by what metadata said.
async fn judge(
    authorized: &Authorized,
    facts: &Facts,
    proof: &Proof<'_>,
    need: Need,
) -> Result<Verified, S3Error> {
    let verified = proof.verify(authorized, facts)?;
    let bucket_name = facts.resource.bucket.as_deref();
    let bucket_name = bucket_name.filter(|_| need != Need::Identity);
    if let Some(name) = bucket_name {
        check_bucket_name(name)?;
    }
    check(authorized, bucket_name, need, &Target::Request, facts).await?;
    Ok(verified)
}

/// [`access::check`] with the tags of the object, where a policy asks for them. They are those of this instant: an object that is
/// replaced between this and the operation is judged as it was.
async fn check(
    authorized: &Authorized,
    bucket_name: Option<&str>,
    need: Need,
    target: &Target,
    facts: &Facts,
) -> Result<(), S3Error> {
    let mut tags = Vec::new();
    if let Some((bucket, key, version)) = access::object_of_tags(authorized, target, facts) {
        let operation = Operation::GetObject {
            bucket,
            key,
            version,
        };
        let call = Call {
            revision: 0,
            operation,
        };
        match facts.worker.metadata.read(&call).await {
            Ok((Reply::Object(object), _)) => tags = object.attributes.tags,
            Ok((other, _)) => return Err(unexpected(&other)),
            Err(error @ MetadataError::Unavailable(_)) => return Err(Failure::from(error).into()),
            // There is none, so it has no tags.
            Err(_) => {}
        }
    }
    access::check(authorized, bucket_name, need, target, facts, &tags)
}

impl Admission {
    /// The request's own bucket.
    ///
    /// # Errors
    /// `NoSuchBucket`; not for requests whose [`Need`] includes a bucket.
    pub fn bucket(&self) -> Result<&Rc<Bucket>, S3Error> {
        self.bucket
            .as_ref()
            .ok_or_else(|| ErrorCode::NoSuchBucket.into())
    }

    /// Who asks; empty for somebody without a key.
    pub fn access_key(&self) -> &str {
        self.access_key.as_deref().unwrap_or_default()
    }

    /// Whose buckets a list shows: those that the key has rights on, or all, where the key's policy allowed the list.
    pub fn lists_buckets_of(&self) -> Option<String> {
        match self.authorized.key_policy {
            Some(_) => None,
            None => self.access_key.as_deref().map(str::to_owned),
        }
    }

    /// Whether the bucket encrypts what does not say how it is to be stored. If not, that is relied on: should it change before the object is
    /// written, the write is refused.
    pub(crate) fn encrypts_by_default(&self) -> bool {
        self.stores_plain.set(!self.encrypts.get());
        self.encrypts.get()
    }

    /// The bucket's policy, as of the admission.
    pub fn bucket_policy(&self) -> Option<&Rc<Policy>> {
        self.authorized.bucket_policy.as_ref()
    }

    /// Whether the caller may know which keys there are: if not, an object that is missing looks like one that is forbidden.
    pub async fn may_list(&self) -> bool {
        let target = Target::Object {
            action: "s3:ListBucket",
            key: None,
            version: None,
        };
        self.judged(Need::Read, &target).await.is_ok()
    }

    /// What metadata said of the caller and the request's bucket, where it suffices. A refusal is given on a fresh answer only, of which
    /// there is at most one for each request.
    async fn judged(&self, need: Need, target: &Target) -> Result<Rc<Authorized>, S3Error> {
        let name = self.bucket.as_ref().map(|bucket| bucket.name.as_str());
        let check = async |authorized: &Authorized| {
            check(authorized, name, need, target, &self.facts).await
        };
        if let Some(authorized) = self.fresh.get() {
            return check(authorized).await.map(|()| authorized.clone());
        }
        if check(&self.authorized).await.is_ok() {
            return Ok(self.authorized.clone());
        }
        let worker = &self.worker;
        let fetched = worker
            .credentials
            .fetch(&worker.metadata, self.access_key.as_deref(), name)
            .await
            .map_err(Failure::from)?;
        let authorized = self.fresh.get_or_init(|| fetched);
        check(authorized).await.map(|()| authorized.clone())
    }

    fn ground(&self, need: Need, target: Target) -> Ground {
        let name = self.bucket.as_ref().map(|bucket| bucket.name.as_str());
        Ground {
            bucket_name: name.map(Rc::from),
            bucket: self.bucket.clone(),
            need,
            target,
        }
    }

    /// Admits the request to a further action in its bucket.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub async fn also(&self, target: Target, need: Need) -> Result<(), S3Error> {
        let authorized = self.judged(need, &target).await?;
        let ground = self.ground(need, target);
        self.grounds.borrow_mut().push(ground);
        if authorized.revision != self.revision.get() {
            self.renew().await?;
        }
        Ok(())
    }

    /// Admits the request to one of many objects in its bucket, and gives the admission for that.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub async fn for_object(
        &self,
        action: &'static str,
        key: &str,
        version: Option<VersionId>,
        need: Need,
    ) -> Result<Self, S3Error> {
        let target = Target::Object {
            action,
            key: Some(key.to_owned()),
            version,
        };
        let authorized = self.judged(need, &target).await?;
        Ok(Self {
            worker: self.worker.clone(),
            facts: self.facts.clone(),
            access_key: self.access_key.clone(),
            secret_key: self.secret_key.clone(),
            revision: Cell::new(authorized.revision),
            authorized,
            fresh: self.fresh.clone(),
            grounds: RefCell::new(vec![self.ground(need, target)]),
            bucket: self.bucket.clone(),
            encrypts: self.encrypts.clone(),
            stores_plain: Cell::new(false),
        })
    }

    /// The thread that serves it.
    pub fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// Admits the request to a further bucket: the source of a copy.
    ///
    /// # Errors
    /// `NoSuchBucket`, `AccessDenied`.
    pub async fn further(
        &self,
        name: &str,
        need: Need,
        target: Target,
    ) -> Result<Rc<Bucket>, S3Error> {
        check_bucket_name(name)?;
        let worker = &self.worker;
        let check = async |authorized: &Authorized| {
            check(authorized, Some(name), need, &target, &self.facts).await
        };
        let access_key = self.access_key.as_deref();
        let remembered = worker.credentials.remembered(access_key, Some(name));
        let mut found = None;
        if let Some(known) = remembered
            && check(&known).await.is_ok()
        {
            found = Some(known);
        }
        let authorized = match found {
            Some(authorized) => authorized,
            None => {
                let fetched = worker
                    .credentials
                    .fetch(&worker.metadata, access_key, Some(name))
                    .await
                    .map_err(Failure::from)?;
                check(&fetched).await?;
                fetched
            }
        };
        let Some(bucket) = authorized.bucket.clone() else {
            return Err(ErrorCode::NoSuchBucket.into());
        };
        self.grounds.borrow_mut().push(Ground {
            bucket_name: Some(name.into()),
            bucket: Some(bucket.clone()),
            need,
            target,
        });
        if authorized.revision != self.revision.get() {
            self.renew().await?;
        }
        Ok(bucket)
    }

    /// Asks metadata what changes nothing.
    pub async fn read(&self, operation: Operation) -> Result<Reply, Failure> {
        self.call(operation, false).await
    }

    /// Orders a change. Where it must end even if the client hangs up, the caller runs it in a task
    /// of its own.
    pub async fn write(&self, operation: impl Into<Operation>) -> Result<Reply, Failure> {
        self.call(operation.into(), true).await
    }

    /// Orders a change that makes blocks visible, and keeps them pinned until it is answered. Once
    /// begun it is seen through, also when the client hangs up: pins that were given up while the
    /// change is on its way could lose its blocks.
    ///
    /// # Errors
    /// Also `Unavailable` when the block-store's connection has ended and the pins with it; then
    /// the client must send its data again, even if the change happened.
    pub async fn write_held(self: &Rc<Self>, change: Change, hold: Hold) -> Result<Reply, Failure> {
        let this = self.clone();
        let lost = || MetadataError::Unavailable("the block-store was restarted meanwhile".into());
        let seen_through = tokio::task::spawn_local(async move {
            if hold.is_lost() {
                return Err(lost().into());
            }
            let reply = this.write(change).await?;
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

    /// Whether the bucket encrypts by default now.
    fn learn_default(&self, encrypts: bool) -> Result<(), Failure> {
        self.encrypts.set(encrypts);
        if !encrypts || !self.stores_plain.get() {
            return Ok(());
        }
        let message = "The bucket's default encryption was turned on while the object was being \
                       sent. Please send it again.";
        Err(Failure::Denied(S3Error::with(
            ErrorCode::ServiceUnavailable,
            message,
        )))
    }

    /// Keys, rights or buckets have changed: looks whether all grounds still hold, at one revision.
    async fn renew(&self) -> Result<(), Failure> {
        let grounds: Vec<Ground> = self.grounds.borrow().clone();
        for _ in 0..CHANGES_MAX {
            let mut revisions = Vec::with_capacity(grounds.len());
            for ground in &grounds {
                let worker = &self.worker;
                let name = ground.bucket_name.as_deref();
                let authorized = worker
                    .credentials
                    .fetch(&worker.metadata, self.access_key.as_deref(), name)
                    .await?;
                // The key was made anew under the same id: the signature was made with another
                // secret.
                let secret = authorized.key.as_ref().map(|key| key.secret_key.as_str());
                if secret != self.secret_key.as_deref() {
                    return Err(Failure::Denied(ErrorCode::SignatureDoesNotMatch.into()));
                }
                check(&authorized, name, ground.need, &ground.target, &self.facts)
                    .await
                    .map_err(Failure::Denied)?;
                let same = authorized.bucket.as_ref().map(|bucket| bucket.id)
                    == ground.bucket.as_ref().map(|bucket| bucket.id);
                if ground.bucket.is_some() && !same {
                    // Another bucket of that name; what was begun is not meant for it.
                    return Err(MetadataError::NoSuchBucket.into());
                }
                revisions.push(authorized.revision);
                // The first is the request's own bucket.
                if revisions.len() == 1 {
                    self.learn_default(authorized.kinds.has(SettingKind::Encryption))?;
                }
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
