//! Who may do what: answers of metadata that are remembered for as long as nothing has changed, and
//! not a moment longer.
//!
//! Each remembered answer carries the revision of keys, rights and buckets at which it was given.
//! Whoever acts on it sends that revision along with its call, and metadata refuses the call if
//! there is a newer one ([`MetadataError::Stale`]). So there is no time to live, and a withdrawn
//! right is never used. A *refusal* is only ever given on a fresh answer (see
//! [`crate::admission`]), since no call would check it.

use crate::limits::CREDENTIALS_MAX;
use crate::metadata::MetadataLink;
use protocol::metadata::{AccessKey, Bucket, Call, MetadataError, Operation, Reply, Rights};
use s3_wire::sigv4::SigningKey;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// What metadata said about a key and a bucket.
pub(crate) struct Authorized {
    /// When it said so.
    pub(crate) revision: u64,
    /// Whose key, with its secret.
    pub(crate) key: AccessKey,
    /// The bucket, if it exists.
    pub(crate) bucket: Option<Rc<Bucket>>,
    /// What the key may do with it.
    pub(crate) rights: Rights,
    /// The signing key last used and its day: deriving one costs more than checking a signature.
    signing: RefCell<Option<(String, SigningKey)>>,
}

impl Authorized {
    /// The key that signs for `date` (`YYYYMMDD`) in `region`.
    pub(crate) fn signing_key(&self, date: &str, region: &str) -> SigningKey {
        let mut signing = self.signing.borrow_mut();
        match signing.as_ref() {
            Some((day, key)) if day == date => key.clone(),
            _ => {
                let key = SigningKey::derive(&self.key.secret_key, date, region);
                *signing = Some((date.to_owned(), key.clone()));
                key
            }
        }
    }
}

/// Access key and bucket.
type Name = (String, Option<String>);

/// The answers that one thread remembers, all of one revision. At most [`CREDENTIALS_MAX`].
#[derive(Default)]
pub(crate) struct Credentials {
    revision: Cell<u64>,
    known: RefCell<HashMap<Name, Rc<Authorized>>>,
}

impl Credentials {
    /// What is remembered, perhaps out of date.
    pub(crate) fn remembered(
        &self,
        access_key: &str,
        bucket: Option<&str>,
    ) -> Option<Rc<Authorized>> {
        let name = (access_key.to_owned(), bucket.map(str::to_owned));
        self.known.borrow().get(&name).cloned()
    }

    /// Asks metadata and remembers the answer.
    pub(crate) async fn fetch(
        &self,
        metadata: &MetadataLink,
        access_key: &str,
        bucket: Option<&str>,
    ) -> Result<Rc<Authorized>, MetadataError> {
        let name = (access_key.to_owned(), bucket.map(str::to_owned));
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
        } = reply
        else {
            return Err(MetadataError::Refused(
                "Authorize was answered with another reply".into(),
            ));
        };
        self.seen(revision);
        let bucket = bucket.map(Rc::new);
        let authorized = Rc::new(Authorized {
            revision,
            key,
            bucket,
            rights,
            signing: RefCell::default(),
        });
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

    /// Metadata is at `revision`: everything older is forgotten. Revisions only rise, so a late
    /// answer changes nothing.
    pub(crate) fn seen(&self, revision: u64) {
        if revision > self.revision.get() {
            self.revision.set(revision);
            self.known.borrow_mut().clear();
        }
    }
}
