//! Answers about buckets.

use super::{Document, Owner};

/// The answer to ListBuckets, `ListAllMyBucketsResult`.
#[derive(Clone, Debug)]
pub struct ListBucketsResult<'a> {
    /// Whose buckets.
    pub owner: Owner<'a>,
    /// In the order of their names.
    pub buckets: Vec<BucketEntry<'a>>,
    /// Where the next page begins, if there is one.
    pub continuation_token: Option<&'a str>,
    /// As it was asked for.
    pub prefix: Option<&'a str>,
}

/// One bucket of a list.
#[derive(Clone, Copy, Debug)]
pub struct BucketEntry<'a> {
    /// Its name.
    pub name: &'a str,
    /// When it was made.
    pub created_ms: u64,
    /// Written as `BucketRegion` when given; AWS does so in paged answers.
    pub region: Option<&'a str>,
}

impl ListBucketsResult<'_> {
    /// The document.
    pub fn to_xml(&self) -> String {
        let bytes = 512 + self.buckets.len() * 160;
        let mut document = Document::with_capacity("ListAllMyBucketsResult", bytes);
        document.owner("Owner", &self.owner);
        document.open("Buckets");
        for bucket in &self.buckets {
            document.open("Bucket");
            document.text("Name", bucket.name);
            document.date("CreationDate", bucket.created_ms);
            document.optional("BucketRegion", bucket.region);
            document.close();
        }
        document.close();
        document.optional("ContinuationToken", self.continuation_token);
        document.optional("Prefix", self.prefix);
        document.finish()
    }
}

/// The answer to GetBucketLocation.
#[derive(Clone, Copy, Debug)]
pub struct LocationConstraint<'a> {
    /// The region; `us-east-1` is written as the empty text, as AWS does.
    pub region: &'a str,
}

impl LocationConstraint<'_> {
    /// The document.
    pub fn to_xml(&self) -> String {
        let mut document = Document::new("LocationConstraint");
        if self.region != "us-east-1" {
            document.content(self.region);
        }
        document.finish()
    }
}

/// The answer to GetBucketVersioning.
#[derive(Clone, Copy, Debug, Default)]
pub struct VersioningConfiguration<'a> {
    /// `Enabled` or `Suspended`; `None` for a bucket that never had versions.
    pub status: Option<&'a str>,
}

impl VersioningConfiguration<'_> {
    /// The document.
    pub fn to_xml(&self) -> String {
        let mut document = Document::new("VersioningConfiguration");
        document.optional("Status", self.status);
        document.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::NAMESPACE;

    const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

    #[test]
    fn bucket_documents_are_those_of_aws() {
        let list = ListBucketsResult {
            owner: Owner {
                id: "1",
                display_name: "me",
            },
            buckets: vec![BucketEntry {
                name: "a",
                created_ms: 1_255_369_830_000,
                region: None,
            }],
            continuation_token: None,
            prefix: None,
        };
        assert_eq!(
            list.to_xml(),
            format!(
                "{HEAD}<ListAllMyBucketsResult xmlns=\"{NAMESPACE}\"><Owner><ID>1</ID><DisplayName>me</DisplayName>\
                 </Owner><Buckets><Bucket><Name>a</Name><CreationDate>2009-10-12T17:50:30.000Z</CreationDate>\
                 </Bucket></Buckets></ListAllMyBucketsResult>"
            )
        );
        let location = |region| LocationConstraint { region }.to_xml();
        let around = |text| {
            format!("{HEAD}<LocationConstraint xmlns=\"{NAMESPACE}\">{text}</LocationConstraint>")
        };
        assert_eq!(location("us-east-1"), around(""));
        assert_eq!(location("eu-1"), around("eu-1"));
        assert_eq!(
            VersioningConfiguration {
                status: Some("Enabled")
            }
            .to_xml(),
            format!(
                "{HEAD}<VersioningConfiguration xmlns=\"{NAMESPACE}\"><Status>Enabled</Status></VersioningConfiguration>"
            )
        );
    }
}
