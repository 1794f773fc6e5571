//! Metadata: keys, buckets, objects and uploads. Strongly consistent: each call takes effect at one instant between call and answer.
//!
//! Every change is committed to the shard's log on disk before it is answered. If the service dies before it answers, the change
//! happened wholly or not at all, and the caller cannot know which: it must not be repeated silently, except where an
//! operation says that repeating is harmless. Reads may always be repeated.

mod changes;
mod encryption;
mod entries;
mod error;
mod layout;
mod notification;
mod objects;
mod registry;
mod versions;

pub use changes::Change;
pub use encryption::{DataKey, Encryption, KeySource, Salt};
pub use entries::{After, Entries, Entry};
pub use error::MetadataError;
pub use layout::{
    ArrangementReport, LayoutEdit, LayoutReport, MovingReport, NodeShare, Role, StagedReport,
};
pub use notification::{
    Destination, EVENTS_PAGE_MAX, EVENTS_WAITING_MAX, Event, EventId, EventKind, EventPattern,
    NOTIFICATION_RULES_MAX, Notification, NotificationRule, WEBHOOK_NAME_BYTES_MAX,
    is_webhook_name,
};
pub use objects::{Checksum, Content, NewObject, Object, Part, Precondition, Upload};
pub use registry::{ALIASES_MAX, AccessKey, Bucket, BucketId, BucketUsage, Quota, Rights};
pub use versions::{
    AfterVersion, AttributeChange, Attributes, Conditions, ObjectLock, Retention, RetentionMode,
    RetentionSpan, TAG_NAME_BYTES_MAX, TAG_VALUE_BYTES_MAX, TAGS_MAX, TOKEN_BYTES_MAX,
    VersionEntry, VersionId, Versioning,
};

use crate::block::HashKey;
use crate::cluster::{NodeKey, Roster, Standing};
use crate::copies::Placement;
use crate::health::Health;
use crate::schedule::ScheduleReport;
use crate::settings::{AccessDocuments, SettingKind};
use crate::wire::Conversation;
use serde::{Deserialize, Serialize};

/// The largest object whose bytes lie in its metadata row, in bytes. Every such byte is written to the log as well.
pub const INLINE_BYTES_MAX: usize = 8 * 1024;
/// How long [`Operation::Health`] waits for other nodes, in milliseconds.
pub const HEALTH_WITHIN_MS: u64 = 1_500;
/// The longest object key in bytes (S3: 1,024 of UTF-8).
pub const KEY_BYTES_MAX: usize = 1_024;
/// The most parts of an upload, and the highest part number (S3).
pub const PARTS_MAX: u16 = 10_000;
/// The smallest part that may be followed by another, in bytes (S3: 5 MiB).
pub const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;
/// The most blocks of one object or part in one message: 5 GiB in blocks of 4 MiB, twice over for parts cut unevenly.
pub const BLOCKS_MAX: usize = 2_600;
/// All headers of an object (standard and `x-amz-meta-*`), names and values, in bytes.
pub const HEADERS_BYTES_MAX: usize = 12 * 1024;
/// The shortest time for which an invitation can be made, in milliseconds.
pub const INVITATION_MS_MIN: u64 = 60 * 1_000;
/// The longest.
pub const INVITATION_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1_000;
/// The most entries of one page. A page may be shorter, since it also has to fit a message; `next` says whether more follow.
pub const PAGE_MAX: u32 = 1_000;

/// Marker of this conversation.
pub enum Metadata {}

impl Conversation for Metadata {
    type Call = Call;
    type Answer = Answer;
    const NAME: &'static str = "metadata";
    const NUMBER: u8 = 7;
    const VERSION: u8 = 8;
    fn kind(call: &Call) -> &dyn std::fmt::Debug {
        match &call.operation {
            Operation::Change(change) => change,
            other => other,
        }
    }
}

/// One operation, together with what the caller believes of keys and buckets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Call {
    /// The revision at which the caller learnt the keys, rights and buckets that it used to admit this operation; 0 if it used
    /// none. If it is not the present one, nothing is done and [`MetadataError::Stale`] is answered: so a caller may cache
    /// credentials without ever acting on a withdrawn right.
    pub revision: u64,
    /// What is to be done.
    pub operation: Operation,
}

/// The result, and the present revision of keys, rights and buckets.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer {
    /// Raised by each change of a key, a right, a policy, a bucket or a bucket's setting.
    pub revision: u64,
    /// What came of it.
    pub result: Result<Reply, MetadataError>,
}

/// What is asked of metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "a box would cost each change an allocation"
)]
pub enum Operation {
    /// The key `access_key`, the bucket of that name or alias, the key's rights on it and the documents that may say otherwise →
    /// [`Reply::Authorized`]. A missing bucket is not an error, a missing key is. Read.
    Authorize {
        /// Who; `None` for somebody without a key, who has no rights.
        access_key: Option<String>,
        /// Where; `None` for operations on no bucket.
        bucket: Option<String>,
    },
    /// The policy of a key → [`Reply::Setting`]. Read.
    GetKeyPolicy {
        /// Whose.
        access_key: String,
    },
    /// A setting of a bucket → [`Reply::Setting`]. Read.
    GetBucketSetting {
        /// Whose.
        bucket: BucketId,
        /// Which.
        kind: SettingKind,
    },
    /// Keys behind `after` by id, with their rights → [`Reply::Keys`]. Secrets are left empty. Read.
    ListKeys {
        /// The last id of the page before.
        after: Option<String>,
        /// At most [`PAGE_MAX`].
        limit: u32,
    },

    /// A new, empty bucket; `owner` gets all rights. `BucketExists` if the name is taken.
    CreateBucket {
        /// Valid by S3's rules.
        name: String,
        /// An access key, or empty.
        owner: String,
        /// Fresh.
        hash_key: HashKey,
        /// With versioning and an object lock.
        locked: bool,
    },
    /// Removes an empty bucket without uploads: `BucketNotEmpty` otherwise.
    DeleteBucket {
        /// Which.
        name: String,
    },
    /// The buckets that `access_key` has any right on (all for a root key or `None`), behind `after` by name → [`Reply::Buckets`]. Read.
    ListBuckets {
        /// Whose.
        access_key: Option<String>,
        /// The last name of the page before.
        after: Option<String>,
        /// At most [`PAGE_MAX`].
        limit: u32,
    },

    /// The object → [`Reply::Object`], or `NoSuchKey`, `NoSuchVersion`, `DeleteMarker`. Read.
    GetObject {
        /// Where.
        bucket: BucketId,
        /// Which.
        key: String,
        /// `None`: the current version.
        version: Option<VersionId>,
    },
    /// The blocks of one part of a completed upload → [`Reply::Part`]. Read.
    GetPart {
        /// Where.
        bucket: BucketId,
        /// As in [`Content::Parts`], or an upload under way.
        upload: String,
        /// Which.
        number: u16,
    },
    /// Keys in byte order behind `after` → [`Reply::Page`]. Read.
    ListObjects {
        /// Where.
        bucket: BucketId,
        /// Only keys that start so.
        prefix: String,
        /// Keys that share the text up to this behind the prefix are one entry; empty for none.
        delimiter: String,
        /// Where to go on.
        after: Option<After>,
        /// At most [`PAGE_MAX`].
        limit: u32,
    },
    /// The upload → [`Reply::Upload`], or `NoSuchUpload`. Read.
    GetUpload {
        /// Where.
        bucket: BucketId,
        /// The object's key.
        key: String,
        /// Which.
        upload: String,
    },
    /// Uploads by key and then by time, behind `after` → [`Reply::Uploads`]. Read.
    ListUploads {
        /// Where.
        bucket: BucketId,
        /// Only keys that start so.
        prefix: String,
        /// Key and upload of the last entry before (an empty upload: behind all uploads of that key).
        after: Option<(String, String)>,
        /// At most [`PAGE_MAX`].
        limit: u32,
    },
    /// Parts of an upload by number, behind `after` → [`Reply::Parts`] (blocks left out). Read.
    ListParts {
        /// Where.
        bucket: BucketId,
        /// The object's key.
        key: String,
        /// Which.
        upload: String,
        /// The last number before; 0 to start.
        after: u16,
        /// At most [`PAGE_MAX`].
        limit: u32,
    },

    /// Versioning and object lock of a bucket → [`Reply::Versioning`]. Read.
    GetVersioning {
        /// Which.
        bucket: BucketId,
    },
    /// Changes a bucket's versioning. `WrongBucketState` if it has an object lock and `versioning` is not `Enabled`; `Off` is `Refused`. Harmless
    /// to repeat.
    PutVersioning {
        /// The bucket's name.
        name: String,
        /// What from now on.
        versioning: Versioning,
    },
    /// Keys in byte order, and the versions of each from the newest to the oldest, behind `after` → [`Reply::Versions`]. Read.
    ListVersions {
        /// Where.
        bucket: BucketId,
        /// Only keys that start so.
        prefix: String,
        /// Keys that share the text up to this behind the prefix are one entry; empty for none.
        delimiter: String,
        /// Where to go on.
        after: Option<AfterVersion>,
        /// At most [`PAGE_MAX`].
        limit: u32,
    },
    /// Parts of a completed upload by number, behind `after` → [`Reply::ObjectParts`] (blocks left out). Read.
    ListObjectParts {
        /// Where.
        bucket: BucketId,
        /// As in [`Content::Parts`].
        upload: String,
        /// The last number before; 0 to start.
        after: u16,
        /// At most [`PAGE_MAX`].
        limit: u32,
    },
    /// How much a bucket holds and may hold → [`Reply::Usage`]. Read.
    GetUsage {
        /// Which.
        bucket: BucketId,
    },

    /// Who is told of a bucket's changes → [`Reply::Notification`]. Read.
    GetNotification {
        /// Which.
        bucket: BucketId,
    },
    /// The events that wait for a webhook, of each shard the oldest first → [`Reply::Events`]. Read.
    NextEvents {
        /// Its name.
        webhook: String,
    },
    /// These events were told: they are forgotten, and those of their shards before them. Harmless to repeat.
    ForgetEvents {
        /// Who was told.
        webhook: String,
        /// At most [`EVENTS_PAGE_MAX`].
        events: Vec<EventId>,
    },

    /// One change of a shard.
    Change(Change),

    /// Which nodes keep blocks, what moves and what waits to be applied → [`Reply::Layout`]. `Refused` where the node is alone. Read.
    Layout,
    /// Where blocks belong, as the block-store of this node is to be told → [`Reply::Placement`]. For a node that has no rows of shard 0. Read.
    PlacementOf {
        /// Of which node.
        key: NodeKey,
    },
    /// A change of the layout that waits to be applied → [`Reply::Layout`]. Harmless to repeat.
    EditLayout(LayoutEdit),
    /// Blocks move to what waits → [`Reply::Layout`]. `LayoutChanged` if somebody has changed it since; `Refused` with the reason where it cannot be. Also
    /// while blocks move: then they move there instead.
    ApplyLayout {
        /// Of the layout that was looked at.
        version: u64,
    },
    /// Who belongs to the cluster → [`Reply::Roster`]. Read.
    Roster,
    /// Makes an invitation to the cluster, by way of this node → [`Reply::Invited`]. `Refused` if other nodes cannot reach this one.
    Invite {
        /// How long it holds, in milliseconds: from [`INVITATION_MS_MIN`] to [`INVITATION_MS_MAX`].
        for_ms: u64,
    },
    /// A node leaves or is revoked → [`Reply::Roster`]. `NoSuchNode`; `Refused` for the last one, and for one that was revoked. Harmless to repeat.
    SetStanding {
        /// Which.
        key: NodeKey,
        /// Not `Member`.
        standing: Standing,
    },

    /// How the cluster is, as far as this node can find out within [`HEALTH_WITHIN_MS`] → [`Reply::Health`]. Read.
    Health,
    /// The state of the shards, for the operator → [`Reply::Shards`]. Read.
    Shards,
    /// Runs the lifecycle now instead of at its next hour, and answers when it has run once → [`Reply::Expired`].
    RunLifecycle,
    /// Runs the sweep now instead of at its next hour, and answers when it has run once → [`Reply::Swept`]. `grace_ms` is how long
    /// unreferenced blocks of interrupted uploads are left alone.
    Sweep {
        /// Milliseconds.
        grace_ms: u64,
    },

    /// Which services run where, which nodes are being drained, how far a rolling restart is → [`Reply::Schedule`]. Read.
    Schedule,
    /// A node is drained, or not any more: while it is, no service is placed on it and it leads no shard, where others can → [`Reply::Schedule`]. `NoSuchNode`.
    /// Harmless to repeat.
    Drain {
        /// Which.
        key: NodeKey,
        /// From now on.
        draining: bool,
    },
    /// Restarts the services of every node, zone by zone and node by node, unless that is under way → [`Reply::Schedule`]. `Refused` where it cannot be begun safely.
    RestartRolling,
}

impl Operation {
    /// Whether somebody without a key may ask it: reads that tell no secret of a key. The right to the object is the asker's to judge.
    pub fn is_public_read(&self) -> bool {
        matches!(
            self,
            Self::Authorize {
                access_key: None,
                ..
            } | Self::GetObject { .. }
                | Self::GetPart { .. }
                | Self::GetBucketSetting {
                    kind: SettingKind::Website | SettingKind::Cors,
                    ..
                }
        )
    }
}

/// What metadata answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done; nothing to say.
    Done,
    /// To [`Operation::Authorize`].
    Authorized {
        /// With its secret; `None` if none was asked for.
        key: Option<AccessKey>,
        /// If it exists.
        bucket: Option<Bucket>,
        /// All for a root key.
        rights: Rights,
        /// What else says who may do what.
        documents: AccessDocuments,
    },
    /// To [`Operation::PlacementOf`]; `None` before anything is said of it.
    Placement(Option<Placement>),
    /// To [`Operation::Layout`] and its changes.
    Layout(LayoutReport),
    /// To [`Operation::Schedule`] and its changes.
    Schedule(ScheduleReport),
    /// To [`Operation::GetBucketSetting`] and [`Operation::GetKeyPolicy`]; `None` if it is not set.
    Setting(#[serde(with = "crate::settings::optional_bytes")] Option<Vec<u8>>),
    /// To [`Change::FirstKey`] and [`Change::CreateKey`].
    Key(AccessKey),
    /// Keys and their rights by bucket name.
    Keys {
        /// In order of id.
        keys: Vec<(AccessKey, Vec<(String, Rights)>)>,
        /// More follow.
        more: bool,
    },
    /// To [`Operation::CreateBucket`].
    Bucket(Bucket),
    /// In order of name.
    Buckets {
        /// With what they hold.
        buckets: Vec<(Bucket, BucketUsage)>,
        /// More follow.
        more: bool,
    },
    /// To [`Operation::GetObject`].
    Object(Object),
    /// To [`Operation::GetPart`].
    Part(Part),
    /// To puts, copies and completions.
    Written {
        /// Without quotes.
        etag: String,
        /// Milliseconds since 1970.
        modified_ms: u64,
        /// Of the whole object.
        size: u64,
        /// Which version it made; `None` in a bucket without versions.
        version: Option<VersionId>,
    },
    /// To [`Change::DeleteObject`].
    Deleted {
        /// The version that was removed, or the delete marker that was made; `None` in a bucket without versions.
        version: Option<VersionId>,
        /// That version is or was a delete marker.
        marker: bool,
    },
    /// To [`Operation::ListObjects`].
    Page {
        /// Objects and common prefixes in byte order.
        entries: Entries,
        /// Where to go on, if more follow.
        next: Option<After>,
    },
    /// To [`Operation::GetUpload`].
    Upload(Upload),
    /// To [`Operation::ListUploads`].
    Uploads {
        /// In order.
        uploads: Vec<Upload>,
        /// More follow.
        more: bool,
    },
    /// To [`Operation::ListParts`].
    Parts {
        /// The upload itself.
        upload: Upload,
        /// By number; blocks left out.
        parts: Vec<(u16, Part)>,
        /// More follow.
        more: bool,
    },
    /// To [`Operation::GetVersioning`].
    Versioning {
        /// Of writes from now on.
        versioning: Versioning,
        /// If it has one.
        lock: Option<ObjectLock>,
    },
    /// To [`Change::ChangeAttributes`].
    Changed {
        /// Of which version.
        version: VersionId,
    },
    /// To [`Operation::ListVersions`].
    Versions {
        /// Versions and common prefixes in the order of their keys.
        entries: Vec<VersionEntry>,
        /// Where to go on, if more follow.
        next: Option<AfterVersion>,
    },
    /// To [`Operation::ListObjectParts`].
    ObjectParts {
        /// By number; blocks left out.
        parts: Vec<(u16, Part)>,
        /// More follow.
        more: bool,
    },
    /// To [`Operation::GetUsage`].
    Usage(BucketUsage),
    /// To [`Operation::GetNotification`].
    Notification(Notification),
    /// To [`Operation::NextEvents`].
    Events {
        /// At most [`EVENTS_PAGE_MAX`].
        events: Vec<(EventId, Event)>,
        /// So many were not kept since the queues were made, because too many waited ([`EVENTS_WAITING_MAX`]).
        lost: u64,
    },
    /// To [`Operation::Roster`]; `None` before the cluster is made, which is soon after the first start.
    Roster(Option<Roster>),
    /// To [`Operation::Invite`].
    Invited {
        /// The word that the newcomer is given ([`crate::token::Token`]). It is kept nowhere.
        token: String,
        /// When its time is over, in milliseconds since 1970.
        expires_ms: u64,
    },
    /// To [`Operation::Health`].
    Health(Box<Health>),
    /// To [`Operation::Shards`].
    Shards(Vec<Shard>),
    /// To [`Operation::RunLifecycle`].
    Expired {
        /// Rows looked at.
        looked: u64,
        /// Versions, delete markers and uploads removed.
        removed: u64,
    },
    /// To [`Operation::Sweep`].
    Swept {
        /// Blocks looked at.
        seen: u64,
        /// Blocks removed.
        removed: u64,
    },
}

/// One Raft group on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// 0 holds keys and buckets, too.
    pub number: u32,
    /// Whether this node leads it.
    pub leader: bool,
    /// Raft's term.
    pub term: u64,
    /// The last applied entry.
    pub applied: u64,
    /// Voters' names.
    pub voters: Vec<String>,
}
