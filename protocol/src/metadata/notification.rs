//! Event notifications: which changes of a bucket somebody is told of, and what is told.
//!
//! A change and its events are one command of the bucket's shard, so no event is lost and none is told of what did not happen. There
//! they wait, per webhook and in order, until the notifier has told them.

use super::VersionId;
use serde::{Deserialize, Serialize};

/// The most configurations of a bucket (S3).
pub const NOTIFICATION_RULES_MAX: usize = 100;
/// The longest name of a webhook, in bytes.
pub const WEBHOOK_NAME_BYTES_MAX: usize = 64;
/// The most events that wait for one webhook in one shard. What happens while it is full is counted instead of kept.
pub const EVENTS_WAITING_MAX: u64 = 50_000;
/// The most events of one [`Reply::Events`](super::Reply::Events).
pub const EVENTS_PAGE_MAX: usize = 100;

macro_rules! events {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal,)*) => {
        /// What happened to an object. The order stands in rows and never changes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum EventKind {
            $($(#[doc = $doc])* $name,)*
        }

        impl EventKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As S3 names it, without `s3:`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

events! {
    /// PutObject.
    Put = "ObjectCreated:Put",
    /// PostObject.
    Post = "ObjectCreated:Post",
    /// CopyObject, and RenameObject for the new key.
    Copy = "ObjectCreated:Copy",
    /// CompleteMultipartUpload.
    CompleteMultipartUpload = "ObjectCreated:CompleteMultipartUpload",
    /// An object or a version was removed by a request.
    Delete = "ObjectRemoved:Delete",
    /// A delete marker was put on an object by a request.
    DeleteMarkerCreated = "ObjectRemoved:DeleteMarkerCreated",
    /// The lifecycle removed an object or a version.
    LifecycleDelete = "LifecycleExpiration:Delete",
    /// The lifecycle put a delete marker on an object.
    LifecycleDeleteMarkerCreated = "LifecycleExpiration:DeleteMarkerCreated",
}

/// A set of events, as one configuration names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventPattern {
    /// Exactly this one.
    One(EventKind),
    /// `s3:ObjectCreated:*`: all whose name starts as this one's does up to the colon.
    Family(EventKind),
}

impl EventPattern {
    /// Whether an event is meant.
    pub fn matches(&self, kind: EventKind) -> bool {
        match self {
            Self::One(one) => *one == kind,
            Self::Family(one) => family(*one) == family(kind),
        }
    }

    /// As S3 writes it.
    pub fn to_text(&self) -> String {
        match self {
            Self::One(one) => format!("s3:{}", one.as_str()),
            Self::Family(one) => format!("s3:{}:*", family(*one)),
        }
    }

    /// The pattern of that text.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("s3:")?;
        let mut all = EventKind::ALL.iter().copied();
        match text.strip_suffix(":*") {
            Some(name) => all.find(|kind| family(*kind) == name).map(Self::Family),
            None => all.find(|kind| kind.as_str() == text).map(Self::One),
        }
    }
}

/// `ObjectCreated` of `ObjectCreated:Put`.
fn family(kind: EventKind) -> &'static str {
    kind.as_str().split(':').next().unwrap_or_default()
}

/// In which of S3's elements a configuration was written, so that it is shown as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Destination {
    /// `QueueConfiguration`, `Queue`.
    Queue,
    /// `TopicConfiguration`, `Topic`.
    Topic,
    /// `CloudFunctionConfiguration`, `CloudFunction`.
    CloudFunction,
}

/// One configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationRule {
    /// The user's name for it.
    pub id: String,
    /// How it was written.
    pub destination: Destination,
    /// Who is told: the name of a webhook that the operator has registered.
    pub webhook: String,
    /// Of what; at least one.
    pub events: Vec<EventPattern>,
    /// Of keys that start so.
    pub prefix: Option<String>,
    /// And end so.
    pub suffix: Option<String>,
}

impl NotificationRule {
    /// Whether an event of this key is told.
    pub fn matches(&self, kind: EventKind, key: &str) -> bool {
        self.events.iter().any(|events| events.matches(kind))
            && self
                .prefix
                .as_ref()
                .is_none_or(|prefix| key.starts_with(prefix))
            && self
                .suffix
                .as_ref()
                .is_none_or(|suffix| key.ends_with(suffix))
    }
}

/// All configurations of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Notification {
    /// At most [`NOTIFICATION_RULES_MAX`].
    pub rules: Vec<NotificationRule>,
}

/// An event that waits: its shard, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventId {
    /// Of the bucket.
    pub shard: u32,
    /// Rises within a shard and a webhook by one.
    pub number: u64,
}

/// What happened, as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// The configuration's name ([`NotificationRule::id`]).
    pub rule: String,
    /// The bucket's name.
    pub bucket: String,
    /// The object's key.
    pub key: String,
    /// In a bucket with versions: of which.
    pub version: Option<VersionId>,
    /// Bytes and ETag, of what was created.
    pub created: Option<(u64, String)>,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

/// Whether a webhook can be called so: 1 to [`WEBHOOK_NAME_BYTES_MAX`] of `a-z`, `A-Z`, `0-9`, `-`, `_` and `.`.
pub fn is_webhook_name(name: &str) -> bool {
    (1..=WEBHOOK_NAME_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}
