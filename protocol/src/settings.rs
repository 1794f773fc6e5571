//! Settings of buckets and policies of keys, as metadata keeps them: documents that it does not read, but for those that it acts on.
//!
//! A setting is one row in the registry, so changing it raises the revision: whoever decides by a remembered setting sends the
//! revision along and is refused if there is a newer one.

use serde::{Deserialize, Serialize};

/// The longest document of a setting, in bytes.
pub const SETTING_BYTES_MAX: usize = 64 * 1024;
/// The longest policy of a bucket or a key, in bytes (S3: 20 KiB). Two of them travel in an answer to
/// [`Authorize`](crate::metadata::Operation::Authorize).
pub const POLICY_BYTES_MAX: usize = 20 * 1024;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $name:ident = $number:literal,)*) => {
        /// What a setting is about. The numbers stand in rows and never change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum SettingKind {
            $($(#[doc = $doc])* $name,)*
        }

        impl SettingKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its number, below 32.
            pub fn number(self) -> u8 {
                match self { $(Self::$name => $number,)* }
            }

            /// The kind of that number.
            pub fn of_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }
    };
}

kinds! {
    /// Who may do what: JSON, at most [`POLICY_BYTES_MAX`] bytes.
    Policy = 0,
    /// What no policy may allow: XML.
    PublicAccessBlock = 1,
    /// Which web pages may ask: XML.
    Cors = 3,
    /// The bucket's own tags: XML.
    Tagging = 4,
    /// What is removed when: a [`Lifecycle`] in postcard, which metadata acts on.
    Lifecycle = 5,
    /// That new objects are encrypted where they do not say how: XML. There is one way (SSE-S3), so that it is there is all that is asked.
    Encryption = 6,
    /// How the bucket is a web site: XML.
    Website = 7,
}

/// A set of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SettingKinds(u32);

impl SettingKinds {
    /// Whether `kind` is in it.
    pub fn has(self, kind: SettingKind) -> bool {
        self.0 & (1 << kind.number()) != 0
    }

    /// Adds `kind`.
    pub fn insert(&mut self, kind: SettingKind) {
        self.0 |= 1 << kind.number();
    }
}

/// What an admission is decided by beside the rights of a key. Nothing of it is there in the common case.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AccessDocuments {
    /// The settings that the bucket has.
    pub kinds: SettingKinds,
    /// The policy of the key.
    pub key_policy: Option<String>,
    /// [`SettingKind::Policy`].
    pub bucket_policy: Option<String>,
    /// [`SettingKind::PublicAccessBlock`].
    pub public_access_block: Option<String>,
}

/// The most rules of a lifecycle (S3).
pub const LIFECYCLE_RULES_MAX: usize = 1_000;
/// The most tags of an object (S3), and so of a filter.
pub const TAGS_MAX: usize = 10;

/// What is removed when.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lifecycle {
    /// At most [`LIFECYCLE_RULES_MAX`]; each acts on its own.
    pub rules: Vec<LifecycleRule>,
}

impl Lifecycle {
    /// As the document of [`SettingKind::Lifecycle`].
    pub fn to_bytes(&self) -> Vec<u8> {
        // Plain data always encodes.
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// Out of such a document.
    pub fn from_bytes(document: &[u8]) -> Option<Self> {
        match postcard::take_from_bytes(document) {
            Ok((lifecycle, [])) => Some(lifecycle),
            _ => None,
        }
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LifecycleRule {
    /// The user's name for it.
    pub id: String,
    /// It acts.
    pub enabled: bool,
    /// What it is about.
    pub filter: LifecycleFilter,
    /// When present objects are removed.
    pub expiration: Option<Expiration>,
    /// When versions are removed that are not the present one.
    pub noncurrent: Option<NoncurrentExpiration>,
    /// Uploads are dropped so many days after their start.
    pub abort_uploads_days: Option<u32>,
}

/// What a rule is about: everything that meets all of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LifecycleFilter {
    /// Keys that start so.
    pub prefix: String,
    /// Objects with all of these tags; at most [`TAGS_MAX`].
    pub tags: Vec<(String, String)>,
    /// Objects of more bytes.
    pub larger_than: Option<u64>,
    /// Objects of less bytes.
    pub smaller_than: Option<u64>,
    /// How it was written, so that it is shown as it was written.
    pub form: FilterForm,
}

/// The forms in which a filter can be written in XML.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum FilterForm {
    /// `Prefix` in the rule itself, without `Filter`: the old form.
    Rule,
    /// `Filter` with nothing in it.
    #[default]
    Empty,
    /// `Filter` with one condition.
    One,
    /// `Filter` with `And`.
    And,
}

/// When present objects are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expiration {
    /// So many days after it was written, at the following midnight (UTC).
    Days(u32),
    /// From this midnight (UTC) on; milliseconds since 1970.
    Date(u64),
    /// A delete marker goes when it is the only version.
    DeleteMarker,
}

/// When versions are removed that are not the present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoncurrentExpiration {
    /// So many days after another version took its place, at the following midnight (UTC).
    pub days: u32,
    /// So many of the newest such versions stay.
    pub keep: Option<u32>,
}

/// Optional bytes as postcard writes strings of bytes: a length and the bytes, not one number each.
pub(crate) mod optional_bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize)]
    struct Given<'a>(#[serde(with = "crate::block::serde_bytes_vec")] &'a Vec<u8>);

    #[derive(Deserialize)]
    struct Taken(#[serde(with = "crate::block::serde_bytes_vec")] Vec<u8>);

    pub(crate) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.as_ref().map(Given).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        Option::<Taken>::deserialize(deserializer).map(|taken| taken.map(|Taken(bytes)| bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_kinds_are_their_own_and_fit_the_set() {
        let mut set = SettingKinds::default();
        for kind in SettingKind::ALL {
            assert_eq!(SettingKind::of_number(kind.number()), Some(*kind));
            assert!(kind.number() < 32 && !set.has(*kind));
            set.insert(*kind);
            assert!(set.has(*kind));
        }
    }
}
