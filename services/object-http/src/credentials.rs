//! Who may do what: answers of metadata that are remembered for as long as nothing has changed, and
//! not a moment longer.
//!
//! Each remembered answer carries the revision of keys, rights and buckets at which it was given.
//! Whoever acts on it sends that revision along with its call, and metadata refuses the call if
//! there is a newer one ([`MetadataError::Stale`]). So there is no time to live, and a withdrawn
//! right is never used. A *refusal* is only ever given on a fresh answer (see
//! [`crate::admission`]), since no call would check it.

use crate::limits::{CHANGES_MAX, CREDENTIALS_MAX, POLICIES_BYTES_MAX};
use crate::metadata::MetadataLink;
use protocol::metadata::{AccessKey, Bucket, Call, MetadataError, Operation, Reply, Rights};
use protocol::settings::{AccessDocuments, SettingKind, SettingKinds};
use s3_wire::policy::{Policy, Whose};
use s3_wire::settings::{CorsConfiguration, PublicAccessBlock, WebsiteConfiguration};
use s3_wire::sigv4::SigningKey;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What metadata said about a key and a bucket.
pub struct Authorized {
    /// When it said so.
    pub revision: u64,
    /// Whose key, with its secret; `None` for somebody without one.
    pub key: Option<AccessKey>,
    /// The bucket, if it exists.
    pub bucket: Option<Rc<Bucket>>,
    /// What the key may do with it.
    pub rights: Rights,
    /// The policy of the key, which then says what the key may do instead of its rights.
    pub key_policy: Option<Rc<Policy>>,
    /// The policy of the bucket.
    pub bucket_policy: Option<Rc<Policy>>,
    /// A public policy allows nothing to somebody without a key.
    pub restrict_public: bool,
    /// The settings that the bucket has.
    pub kinds: SettingKinds,
    /// Once somebody needed it.
    cors: OnceCell<Option<Rc<CorsConfiguration>>>,
    /// Once somebody needed it.
    website: OnceCell<Option<Rc<WebsiteConfiguration>>>,
    /// The signing key last used and its day: deriving one costs more than checking a signature.
    signing: RefCell<Option<(String, SigningKey)>>,
}

impl Authorized {
    /// The key that signs for `date` (`YYYYMMDD`) in `region`.
    /// `None` where there is no access key.
    pub fn signing_key(&self, date: &str, region: &str) -> Option<SigningKey> {
        let secret = &self.key.as_ref()?.secret_key;
        let mut signing = self.signing.borrow_mut();
        Some(match signing.as_ref() {
            Some((day, key)) if day == date => key.clone(),
            _ => {
                let key = SigningKey::derive(secret, date, region);
                *signing = Some((date.to_owned(), key.clone()));
                key
            }
        })
    }
}

/// A setting of a bucket that is remembered parsed.
struct Setting<T> {
    kind: SettingKind,
    slot: fn(&Authorized) -> &OnceCell<Option<Rc<T>>>,
    parse: fn(&[u8]) -> Option<T>,
}

/// Access key and bucket.
type Name = (Option<String>, Option<String>);

/// The answers that one thread remembers, all of one revision. At most [`CREDENTIALS_MAX`].
pub struct Credentials {
    revision: Cell<u64>,
    /// The newest that any thread of this process has seen: who changed a setting by one thread finds it in force on all of them.
    newest: Arc<AtomicU64>,
    known: RefCell<HashMap<Name, Rc<Authorized>>>,
    policies: Policies,
}

impl Credentials {
    /// Nothing remembered yet.
    pub(crate) fn new(newest: Arc<AtomicU64>) -> Self {
        Self {
            revision: Cell::new(0),
            newest,
            known: RefCell::default(),
            policies: Policies::default(),
        }
    }

    /// What is remembered, perhaps out of date.
    pub fn remembered(
        &self,
        access_key: Option<&str>,
        bucket: Option<&str>,
    ) -> Option<Rc<Authorized>> {
        if self.newest.load(Ordering::Acquire) != self.revision.get() {
            return None;
        }
        let name = (access_key.map(str::to_owned), bucket.map(str::to_owned));
        self.known.borrow().get(&name).cloned()
    }

    /// Asks metadata and remembers the answer.
    pub async fn fetch(
        &self,
        metadata: &MetadataLink,
        access_key: Option<&str>,
        bucket: Option<&str>,
    ) -> Result<Rc<Authorized>, MetadataError> {
        let name = (access_key.map(str::to_owned), bucket.map(str::to_owned));
        let operation = Operation::Authorize {
            access_key: name.0.clone(),
            bucket: name.1.clone(),
        };
        let (reply, revision) = metadata
            .read(&Call {
                revision: 0,
                operation,
            })
            .await?;
        let Reply::Authorized {
            key,
            bucket,
            rights,
            documents,
        } = reply
        else {
            return Err(MetadataError::Refused(
                "Authorize was answered with another reply".into(),
            ));
        };
        self.seen(revision);
        let authorized = Rc::new(self.understand(revision, key, bucket, rights, &documents));
        // An answer that has been overtaken while it was on its way is used once and not kept.
        if revision == self.revision.get() {
            let mut known = self.known.borrow_mut();
            if known.len() >= CREDENTIALS_MAX {
                // Any one: a hash table has no order, and whoever uses this many keys loses a call
                // now and then.
                let any = known.keys().next().cloned();
                any.map(|name| known.remove(&name));
            }
            known.insert(name, authorized.clone());
        }
        Ok(authorized)
    }

    fn understand(
        &self,
        revision: u64,
        key: Option<AccessKey>,
        bucket: Option<Bucket>,
        rights: Rights,
        documents: &AccessDocuments,
    ) -> Authorized {
        let block = documents.public_access_block.as_deref();
        // What cannot be read closes.
        let restrict_public = block.is_some_and(|text| {
            PublicAccessBlock::parse(text.as_bytes())
                .is_ok_and(|block| block.restrict_public_buckets)
                || PublicAccessBlock::parse(text.as_bytes()).is_err()
        });
        let name = bucket.as_ref().map_or("", |bucket| bucket.name.as_str());
        let of_bucket = documents.bucket_policy.as_deref();
        let of_key = documents.key_policy.as_deref();
        Authorized {
            revision,
            key_policy: of_key.map(|text| self.policies.parsed(text, Whose::Key)),
            bucket_policy: of_bucket.map(|text| self.policies.parsed(text, Whose::Bucket(name))),
            restrict_public,
            kinds: documents.kinds,
            cors: OnceCell::new(),
            website: OnceCell::new(),
            key,
            bucket: bucket.map(Rc::new),
            rights,
            signing: RefCell::default(),
        }
    }

    /// The revision that this thread has seen last.
    pub fn revision(&self) -> u64 {
        self.revision.get()
    }

    /// The CORS rules of a bucket as of what this thread knows, or as of now where `fresh`.
    ///
    /// # Errors
    /// Those of metadata; a missing bucket is `NoSuchBucket`.
    pub async fn cors(
        &self,
        metadata: &MetadataLink,
        bucket_name: &str,
        fresh: bool,
    ) -> Result<Option<Rc<CorsConfiguration>>, MetadataError> {
        let setting = Setting {
            kind: SettingKind::Cors,
            slot: |authorized| &authorized.cors,
            parse: |text| CorsConfiguration::parse(text).ok(),
        };
        let found = self.setting(metadata, bucket_name, fresh, &setting).await?;
        Ok(found.1)
    }

    /// How a bucket is a web site, in the same way; with what else is known of the bucket.
    ///
    /// # Errors
    /// Those of metadata; a missing bucket is `NoSuchBucket`.
    pub async fn website(
        &self,
        metadata: &MetadataLink,
        bucket_name: &str,
        fresh: bool,
    ) -> Result<(Rc<Authorized>, Option<Rc<WebsiteConfiguration>>), MetadataError> {
        let setting = Setting {
            kind: SettingKind::Website,
            slot: |authorized| &authorized.website,
            parse: |text| WebsiteConfiguration::parse(text).ok(),
        };
        self.setting(metadata, bucket_name, fresh, &setting).await
    }

    async fn setting<T>(
        &self,
        metadata: &MetadataLink,
        bucket_name: &str,
        fresh: bool,
        setting: &Setting<T>,
    ) -> Result<(Rc<Authorized>, Option<Rc<T>>), MetadataError> {
        let mut remembered = self.remembered(None, Some(bucket_name)).filter(|_| !fresh);
        for _ in 0..CHANGES_MAX {
            let anybody = match remembered.take() {
                Some(known) => known,
                None => self.fetch(metadata, None, Some(bucket_name)).await?,
            };
            let bucket = anybody.bucket.as_ref().ok_or(MetadataError::NoSuchBucket)?;
            if !anybody.kinds.has(setting.kind) {
                return Ok((anybody, None));
            }
            if let Some(known) = (setting.slot)(&anybody).get() {
                let known = known.clone();
                return Ok((anybody, known));
            }
            let operation = Operation::GetBucketSetting {
                bucket: bucket.id,
                kind: setting.kind,
            };
            let call = Call {
                revision: anybody.revision,
                operation,
            };
            match metadata.read(&call).await {
                Err(MetadataError::Stale) => {}
                Ok((Reply::Setting(document), _)) => {
                    let parsed = document.and_then(|text| (setting.parse)(&text));
                    let slot = (setting.slot)(&anybody);
                    let kept = slot.get_or_init(|| parsed.map(Rc::new)).clone();
                    return Ok((anybody, kept));
                }
                Ok(_) => return Err(MetadataError::Refused("another reply".into())),
                Err(error) => return Err(error),
            }
        }
        Err(MetadataError::Stale)
    }

    /// Metadata is at `revision`: everything older is forgotten. Revisions only rise, so a late
    /// answer changes nothing.
    pub fn seen(&self, revision: u64) {
        if revision > self.revision.get() {
            self.revision.set(revision);
            self.known.borrow_mut().clear();
            self.newest.fetch_max(revision, Ordering::AcqRel);
        }
    }
}

/// Policies by their text, so that a policy is kept once however many keys meet it.
#[derive(Default)]
struct Policies {
    known: RefCell<HashMap<String, Rc<Policy>>>,
    /// Of all texts.
    bytes: Cell<usize>,
}

impl Policies {
    /// The policy that `text` says. The name of a bucket's policy's bucket does not change what it says: it was compared when the policy was
    /// put.
    fn parsed(&self, text: &str, whose: Whose<'_>) -> Rc<Policy> {
        let mut known = self.known.borrow_mut();
        if let Some(policy) = known.get(text) {
            return policy.clone();
        }
        let policy = Policy::parse(text.as_bytes(), whose).unwrap_or_else(|error| {
            runtime::error!("a stored policy forbids everything: {error}");
            Policy::deny_all()
        });
        if self.bytes.get() + text.len() > POLICIES_BYTES_MAX {
            known.clear();
            self.bytes.set(0);
        }
        self.bytes.set(self.bytes.get() + text.len());
        let policy = Rc::new(policy);
        known.insert(text.to_owned(), policy.clone());
        policy
    }
}
