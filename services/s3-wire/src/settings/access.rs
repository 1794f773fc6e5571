//! Who owns objects and what stays closed: PublicAccessBlock, OwnershipControls, and the one access control list that there is.
//!
//! Every bucket is as AWS makes them today, `BucketOwnerEnforced`: the owner owns every object, and lists of grants mean nothing. So the
//! only list is the owner's full control; asking for another is `AccessControlListNotSupported`.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/about-object-ownership.html>

use super::{boolean, once};
use crate::error::{ErrorCode, S3Error};
use crate::xml::pull::{Pull, malformed};
use crate::xml::{Document, Owner};

/// The `PublicAccessBlockConfiguration` document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublicAccessBlock {
    /// Refuse public lists of grants, which are refused anyway.
    pub block_public_acls: bool,
    /// Ignore them, of which there are none.
    pub ignore_public_acls: bool,
    /// Refuse a policy that is public.
    pub block_public_policy: bool,
    /// A policy that is public allows nothing to somebody without a key.
    pub restrict_public_buckets: bool,
}

impl PublicAccessBlock {
    /// Parses a body; what it does not name is off.
    ///
    /// # Errors
    /// `MalformedXML`.
    pub fn parse(body: &[u8]) -> Result<Self, S3Error> {
        let mut pull = Pull::begin(body, "PublicAccessBlockConfiguration")?;
        let mut found = [None; 4];
        pull.children(|pull, name| {
            let value = boolean(&pull.text()?)?;
            let [acls, ignore, policy, restrict] = &mut found;
            match name {
                "BlockPublicAcls" => once(acls, value),
                "IgnorePublicAcls" => once(ignore, value),
                "BlockPublicPolicy" => once(policy, value),
                "RestrictPublicBuckets" => once(restrict, value),
                _ => Err(malformed()),
            }
        })?;
        pull.finish()?;
        let [acls, ignore, policy, restrict] = found.map(|value| value.unwrap_or(false));
        Ok(Self {
            block_public_acls: acls,
            ignore_public_acls: ignore,
            block_public_policy: policy,
            restrict_public_buckets: restrict,
        })
    }

    /// The document.
    pub fn to_xml(self) -> String {
        let mut document = Document::new("PublicAccessBlockConfiguration");
        document.boolean("BlockPublicAcls", self.block_public_acls);
        document.boolean("IgnorePublicAcls", self.ignore_public_acls);
        document.boolean("BlockPublicPolicy", self.block_public_policy);
        document.boolean("RestrictPublicBuckets", self.restrict_public_buckets);
        document.finish()
    }
}

/// The `OwnershipControls` document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnershipControls;

impl OwnershipControls {
    /// Parses a body that asks for what is.
    ///
    /// # Errors
    /// `MalformedXML`; `NotImplemented` where it asks for another ownership.
    pub fn parse(body: &[u8]) -> Result<Self, S3Error> {
        let mut pull = Pull::begin(body, "OwnershipControls")?;
        let mut ownership = None;
        pull.children(|pull, name| match name {
            "Rule" => pull.children(|pull, name| match name {
                "ObjectOwnership" => once(&mut ownership, pull.text()?),
                _ => Err(malformed()),
            }),
            _ => Err(malformed()),
        })?;
        pull.finish()?;
        match ownership.as_deref() {
            Some("BucketOwnerEnforced") => Ok(Self),
            Some(other @ ("BucketOwnerPreferred" | "ObjectWriter")) => {
                Err(S3Error::not_implemented("Ownership", other))
            }
            _ => Err(malformed()),
        }
    }

    /// The document.
    pub fn to_xml(self) -> String {
        let mut document = Document::new("OwnershipControls");
        document.open("Rule");
        document.text("ObjectOwnership", "BucketOwnerEnforced");
        document.finish()
    }
}

/// Judges a canned list (`x-amz-acl`).
///
/// # Errors
/// `AccessControlListNotSupported` for a known one that grants more; `InvalidArgument` for no known one.
pub fn canned_acl(name: &str) -> Result<(), S3Error> {
    match name {
        "private" | "bucket-owner-full-control" => Ok(()),
        "public-read" | "public-read-write" | "authenticated-read" | "aws-exec-read"
        | "bucket-owner-read" | "log-delivery-write" => {
            Err(ErrorCode::AccessControlListNotSupported.into())
        }
        other => Err(S3Error::argument("", "x-amz-acl", other)),
    }
}

/// The `AccessControlPolicy` document.
#[derive(Clone, Copy, Debug)]
pub struct AccessControlPolicy<'a> {
    /// Who has full control.
    pub owner: Owner<'a>,
}

impl AccessControlPolicy<'_> {
    /// The document.
    pub fn to_xml(&self) -> String {
        let mut document = Document::new("AccessControlPolicy");
        document.owner("Owner", &self.owner);
        document.open("AccessControlList");
        document.open("Grant");
        document.open_with(
            "Grantee",
            "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\"",
        );
        document.text("ID", self.owner.id);
        document.text("DisplayName", self.owner.display_name);
        document.close();
        document.text("Permission", "FULL_CONTROL");
        document.finish()
    }

    /// Accepts a body that grants what is granted anyway: full control to the owner, or nothing.
    ///
    /// # Errors
    /// `MalformedXML`; `AccessControlListNotSupported` for any other grant.
    pub fn check(&self, body: &[u8]) -> Result<(), S3Error> {
        let mut pull = Pull::begin(body, "AccessControlPolicy")?;
        let mut others = false;
        pull.children(|pull, name| match name {
            "Owner" => pull.children(|pull, name| {
                let text = pull.text()?;
                match name {
                    "ID" => {
                        others |= text != self.owner.id;
                        Ok(())
                    }
                    "DisplayName" => Ok(()),
                    _ => Err(malformed()),
                }
            }),
            "AccessControlList" => pull.children(|pull, name| match name {
                "Grant" => {
                    others |= !self.is_owners(pull)?;
                    Ok(())
                }
                _ => Err(malformed()),
            }),
            _ => Err(malformed()),
        })?;
        pull.finish()?;
        match others {
            true => Err(ErrorCode::AccessControlListNotSupported.into()),
            false => Ok(()),
        }
    }

    /// Whether a `Grant` is the owner's full control.
    fn is_owners(&self, pull: &mut Pull<'_>) -> Result<bool, S3Error> {
        let (mut id, mut permission) = (None, None);
        pull.children(|pull, name| match name {
            "Grantee" => pull.children(|pull, name| {
                let text = pull.text()?;
                match name {
                    "ID" => once(&mut id, text),
                    "DisplayName" | "URI" | "EmailAddress" | "Type" => Ok(()),
                    _ => Err(malformed()),
                }
            }),
            "Permission" => once(&mut permission, pull.text()?),
            _ => Err(malformed()),
        })?;
        let full = permission.as_deref() == Some("FULL_CONTROL");
        Ok(full && id.as_deref() == Some(self.owner.id))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;
    use proptest::prelude::*;

    const OWNER: AccessControlPolicy<'_> = AccessControlPolicy {
        owner: Owner {
            id: "me",
            display_name: "me",
        },
    };

    #[test]
    fn the_only_list_is_the_owners_full_control() {
        let document = OWNER.to_xml();
        assert!(document.contains("xsi:type=\"CanonicalUser\""));
        OWNER.check(document.as_bytes()).unwrap();
        let other = document.replace("FULL_CONTROL", "READ");
        assert_eq!(
            OWNER.check(other.as_bytes()).unwrap_err().code,
            ErrorCode::AccessControlListNotSupported
        );
        let all = document.replace(
            "<ID>me</ID><DisplayName>me</DisplayName></Grantee>",
            "<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee>",
        );
        assert_ne!(all, document);
        assert_eq!(
            OWNER.check(all.as_bytes()).unwrap_err().code,
            ErrorCode::AccessControlListNotSupported
        );
        assert!(OWNER.check(b"<Acl/>").is_err());
        assert!(canned_acl("private").is_ok());
        assert_eq!(
            canned_acl("public-read").unwrap_err().code,
            ErrorCode::AccessControlListNotSupported
        );
        assert_eq!(
            canned_acl("nonsense").unwrap_err().code,
            ErrorCode::InvalidArgument
        );
    }

    #[test]
    fn ownership_is_enforced() {
        OwnershipControls::parse(OwnershipControls.to_xml().as_bytes()).unwrap();
        let other = OwnershipControls
            .to_xml()
            .replace("BucketOwnerEnforced", "ObjectWriter");
        assert_eq!(
            OwnershipControls::parse(other.as_bytes()).unwrap_err().code,
            ErrorCode::NotImplemented
        );
    }

    proptest! {
        #[test]
        fn blocks_are_read_as_written(flags: [bool; 4], text in any::<String>()) {
            let [a, b, c, d] = flags;
            let block = PublicAccessBlock { block_public_acls: a, ignore_public_acls: b, block_public_policy: c, restrict_public_buckets: d };
            prop_assert_eq!(PublicAccessBlock::parse(block.to_xml().as_bytes()).unwrap(), block);
            let _ = (PublicAccessBlock::parse(text.as_bytes()), OWNER.check(text.as_bytes()));
        }
    }
}
