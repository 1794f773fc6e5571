//! Bodies that are documents: XML, policies in JSON, forms.

use s3_wire::form::{FormReader, PostPolicy};
use s3_wire::policy::{Policy, Whose};
use s3_wire::settings::{
    self, BucketEncryption, CorsConfiguration, OwnershipControls, PublicAccessBlock,
    WebsiteConfiguration,
};
use s3_wire::{tags, xml};

/// The boundary of every form, which is the client's choice.
const BOUNDARY: &str = "b";

/// Taken for each kind of document.
pub(crate) fn xml(body: &[u8]) -> bool {
    let completed = xml::CompleteMultipartUpload::parse(body);
    if let Ok(upload) = &completed {
        let _ = upload.check_order();
    }
    let lifecycle = settings::parse_lifecycle(body);
    if let Ok(lifecycle) = &lifecycle {
        let again = settings::parse_lifecycle(settings::lifecycle_to_xml(lifecycle).as_bytes());
        let again = again.map(|again| format!("{again:?}"));
        assert_eq!(
            again.ok(),
            Some(format!("{lifecycle:?}")),
            "as it was written"
        );
    }
    let website = WebsiteConfiguration::parse(body);
    if let Ok(website) = &website {
        let again = WebsiteConfiguration::parse(website.to_xml().as_bytes());
        assert_eq!(again.as_ref(), Ok(website), "as it was written");
    }
    let notification = settings::parse_notification(body);
    if let Ok(notification) = &notification {
        let written = settings::notification_to_xml(notification);
        let again = settings::parse_notification(written.as_bytes());
        assert_eq!(again.as_ref(), Ok(notification), "as it was written");
    }
    [
        website.is_ok(),
        notification.is_ok(),
        completed.is_ok(),
        lifecycle.is_ok(),
        xml::DeleteRequest::parse(body).is_ok(),
        xml::CreateBucketConfiguration::parse(body).is_ok(),
        xml::ObjectLockConfiguration::parse(body).is_ok(),
        xml::Retention::parse(body).is_ok(),
        xml::LegalHold::parse(body).is_ok(),
        xml::VersioningConfiguration::parse(body).is_ok(),
        xml::Tagging::parse(body, 10).is_ok(),
        CorsConfiguration::parse(body).is_ok(),
        BucketEncryption::parse(body).is_ok(),
        PublicAccessBlock::parse(body).is_ok(),
        OwnershipControls::parse(body).is_ok(),
        settings::parse_logging(body).is_ok(),
        settings::parse_request_payment(body).is_ok(),
    ]
    .contains(&true)
}

/// A policy of a bucket, of a key, or of a form.
pub(crate) fn policy(body: &[u8]) -> bool {
    let of_bucket = Policy::parse(body, Whose::Bucket("home")).is_ok();
    let of_key = Policy::parse(body, Whose::Key).is_ok();
    let text = std::str::from_utf8(body).unwrap_or_default();
    let of_form = PostPolicy::parse(text).is_ok();
    let _ = tags::from_header(text);
    of_bucket || of_key || of_form
}

/// A form that arrives in pieces: its events end, and none is given that was not pushed.
pub(crate) fn form(body: &[u8]) -> bool {
    let mut reader = FormReader::new(BOUNDARY);
    for piece in body.chunks(50) {
        reader.push(piece);
        // Each event takes something from what was pushed; the two more are the file's begin and end.
        for _ in 0..piece.len() + 2 {
            match reader.next_event() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return false,
            }
        }
        assert!(reader.buffered() <= body.len() as u64 + 2);
    }
    reader.finish().is_ok()
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let documents = [
        "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>",
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Delete><Quiet>true</Quiet><Object><Key>a&amp;b</Key></Object><Object><Key>&#x1F480;</Key></Object></Delete>",
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"900150983cd24fb0d6963f7d28e17f72\"</ETag><ChecksumCRC32>NSRBwg==</ChecksumCRC32></Part><Part><PartNumber>2</PartNumber><ETag>900150983cd24fb0d6963f7d28e17f72</ETag></Part></CompleteMultipartUpload>",
        "<Tagging><TagSet><Tag><Key>kind</Key><Value>cat</Value></Tag></TagSet></Tagging>",
        "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
        "<LegalHold><Status>ON</Status></LegalHold>",
        "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2030-01-01T00:00:00Z</RetainUntilDate></Retention>",
        "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>3</Days></DefaultRetention></Rule></ObjectLockConfiguration>",
        "<CORSConfiguration><CORSRule><AllowedOrigin>https://a.example</AllowedOrigin><AllowedMethod>GET</AllowedMethod><MaxAgeSeconds>5</MaxAgeSeconds></CORSRule></CORSConfiguration>",
        "<WebsiteConfiguration><IndexDocument><Suffix>index.html</Suffix></IndexDocument><RoutingRules><RoutingRule><Condition><KeyPrefixEquals>a/</KeyPrefixEquals></Condition><Redirect><ReplaceKeyPrefixWith>b/</ReplaceKeyPrefixWith></Redirect></RoutingRule></RoutingRules></WebsiteConfiguration>",
        "<LifecycleConfiguration><Rule><ID>r</ID><Filter><Prefix>p/</Prefix></Filter><Status>Enabled</Status><Expiration><Days>7</Days></Expiration></Rule></LifecycleConfiguration>",
        "<NotificationConfiguration><QueueConfiguration><Id>n</Id><Queue>arn:trousseau:sqs::hook:webhook</Queue><Event>s3:ObjectCreated:*</Event><Filter><S3Key><FilterRule><Name>prefix</Name><Value>a/</Value></FilterRule></S3Key></Filter></QueueConfiguration><TopicConfiguration><Topic>arn:trousseau:sns::hook:webhook</Topic><Event>s3:ObjectRemoved:Delete</Event></TopicConfiguration></NotificationConfiguration>",
        "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault><BucketKeyEnabled>true</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>",
    ];
    let policies = [
        "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Principal\":\"*\",\"Action\":[\"s3:GetObject\"],\"Resource\":\"arn:aws:s3:::home/*\",\"Condition\":{\"IpAddress\":{\"aws:SourceIp\":\"10.0.0.0/8\"}}}]}",
        "{\"Statement\":{\"Effect\":\"Deny\",\"NotAction\":\"s3:*\",\"Resource\":\"arn:aws:s3:::*\"}}",
    ];
    let form = "--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nphotos/${filename}\r\n\
                --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"cat.jpg\"\r\nContent-Type: image/jpeg\r\n\r\nbytes\r\n--b--\r\n";
    let of_kind = |kind: u8| move |text: &str| [&[kind], text.as_bytes()].concat();
    let mut seeds: Vec<_> = documents.into_iter().map(of_kind(b'x')).collect();
    seeds.extend(policies.into_iter().map(of_kind(b'p')));
    seeds.push(of_kind(b'f')(form));
    seeds
}
