//! The names of all operations.

use crate::error::S3Error;

macro_rules! operations {
    ($($name:ident)*) => {
        /// Every operation of S3's API reference that has a route of its own, and the two that
        /// browsers add.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the names are those of the API reference, which documents them")]
        pub enum Operation {
            $($name,)*
        }

        impl Operation {
            /// All of them, in the order of the alphabet.
            pub const ALL: &'static [Operation] = &[$(Operation::$name,)*];

            /// The name as AWS writes it.
            pub fn name(self) -> &'static str {
                match self { $(Operation::$name => stringify!($name),)* }
            }
        }
    };
}

operations! {
    AbortMultipartUpload
    CompleteMultipartUpload
    CopyObject
    CorsPreflight
    CreateBucket
    CreateBucketMetadataConfiguration
    CreateBucketMetadataTableConfiguration
    CreateMultipartUpload
    CreateSession
    DeleteBucket
    DeleteBucketAnalyticsConfiguration
    DeleteBucketCors
    DeleteBucketEncryption
    DeleteBucketIntelligentTieringConfiguration
    DeleteBucketInventoryConfiguration
    DeleteBucketLifecycle
    DeleteBucketMetadataConfiguration
    DeleteBucketMetadataTableConfiguration
    DeleteBucketMetricsConfiguration
    DeleteBucketOwnershipControls
    DeleteBucketPolicy
    DeleteBucketReplication
    DeleteBucketTagging
    DeleteBucketWebsite
    DeleteObject
    DeleteObjectAnnotation
    DeleteObjects
    DeleteObjectTagging
    DeletePublicAccessBlock
    GetBucketAbac
    GetBucketAccelerateConfiguration
    GetBucketAcl
    GetBucketAnalyticsConfiguration
    GetBucketCors
    GetBucketEncryption
    GetBucketIntelligentTieringConfiguration
    GetBucketInventoryConfiguration
    GetBucketLifecycleConfiguration
    GetBucketLocation
    GetBucketLogging
    GetBucketMetadataConfiguration
    GetBucketMetadataTableConfiguration
    GetBucketMetricsConfiguration
    GetBucketNotificationConfiguration
    GetBucketOwnershipControls
    GetBucketPolicy
    GetBucketPolicyStatus
    GetBucketReplication
    GetBucketRequestPayment
    GetBucketTagging
    GetBucketVersioning
    GetBucketWebsite
    GetObject
    GetObjectAcl
    GetObjectAnnotation
    GetObjectAttributes
    GetObjectLegalHold
    GetObjectLockConfiguration
    GetObjectRetention
    GetObjectTagging
    GetObjectTorrent
    GetPublicAccessBlock
    HeadBucket
    HeadObject
    ListBucketAnalyticsConfigurations
    ListBucketIntelligentTieringConfigurations
    ListBucketInventoryConfigurations
    ListBucketMetricsConfigurations
    ListBuckets
    ListMultipartUploads
    ListObjectAnnotations
    ListObjects
    ListObjectsV2
    ListObjectVersions
    ListParts
    PostObject
    PutBucketAbac
    PutBucketAccelerateConfiguration
    PutBucketAcl
    PutBucketAnalyticsConfiguration
    PutBucketCors
    PutBucketEncryption
    PutBucketIntelligentTieringConfiguration
    PutBucketInventoryConfiguration
    PutBucketLifecycleConfiguration
    PutBucketLogging
    PutBucketMetricsConfiguration
    PutBucketNotificationConfiguration
    PutBucketOwnershipControls
    PutBucketPolicy
    PutBucketReplication
    PutBucketRequestPayment
    PutBucketTagging
    PutBucketVersioning
    PutBucketWebsite
    PutObject
    PutObjectAcl
    PutObjectAnnotation
    PutObjectLegalHold
    PutObjectLockConfiguration
    PutObjectRetention
    PutObjectTagging
    PutPublicAccessBlock
    RenameObject
    RestoreObject
    SelectObjectContent
    UpdateBucketMetadataAnnotationTableConfiguration
    UpdateBucketMetadataInventoryTableConfiguration
    UpdateBucketMetadataJournalTableConfiguration
    UpdateObjectEncryption
    UploadPart
    UploadPartCopy
    WriteGetObjectResponse
}

impl Operation {
    /// The refusal of an operation that the server does not have.
    pub fn not_implemented(self) -> S3Error {
        S3Error::not_implemented("Operation", self.name())
    }
}
