//! What is told: S3's event message, in the envelope of MinIO's, so that receivers made for either understand it.
//!
//! What a node does not keep of an event (who made the request, from where, its number) is an empty string, so that a receiver that
//! reads it finds what it expects to be there. Source:
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use protocol::metadata::{Event, EventId};
use s3_wire::dates::iso8601;
use serde_json::{Map, Value, json};

/// The version of the structure, and of its part `s3`.
const VERSION: &str = "2.1";
const S3_VERSION: &str = "1.0";

/// What stays as it is in a key: AWS encodes as HTML forms do, but for the slash.
const KEY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'*')
    .remove(b'/')
    .remove(b' ');

/// The body of the request that tells one event.
pub(crate) fn message(region: &str, id: EventId, event: &Event) -> String {
    let mut object = Map::new();
    object.insert("key".into(), key(&event.key).into());
    if let Some((size, etag)) = &event.created {
        object.insert("size".into(), (*size).into());
        object.insert("eTag".into(), etag.trim_matches('"').into());
    }
    if let Some(version) = event.version {
        object.insert("versionId".into(), version.to_string().into());
    }
    object.insert("sequencer".into(), sequencer(id).into());
    let nobody = json!({"principalId": ""});
    let name = event.kind.as_str();
    json!({
        "EventName": format!("s3:{name}"),
        "Key": format!("{}/{}", event.bucket, event.key),
        "Records": [{
            "eventVersion": VERSION,
            "eventSource": "aws:s3",
            "awsRegion": region,
            "eventTime": iso8601(event.at_ms),
            "eventName": name,
            "userIdentity": nobody,
            "requestParameters": {"sourceIPAddress": ""},
            "responseElements": {"x-amz-request-id": "", "x-amz-id-2": ""},
            "s3": {
                "s3SchemaVersion": S3_VERSION,
                "configurationId": event.rule,
                "bucket": {
                    "name": event.bucket,
                    "ownerIdentity": nobody,
                    "arn": format!("arn:aws:s3:::{}", event.bucket),
                },
                "object": Value::Object(object),
            },
        }],
    })
    .to_string()
}

/// As AWS encodes a key here: a space is `+`, and what is no letter, digit or mark of a path is `%XX`.
fn key(key: &str) -> String {
    utf8_percent_encode(key, KEY).to_string().replace(' ', "+")
}

/// Of two events of one key, the later one's is greater when compared as text.
fn sequencer(id: EventId) -> String {
    format!("{:016X}", id.number)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a panic is how a test fails"
    )]
    use super::*;
    use proptest::prelude::*;
    use protocol::metadata::{EventKind, VersionId};

    fn event() -> Event {
        Event {
            kind: EventKind::Put,
            rule: "rule".into(),
            bucket: "photos".into(),
            key: "red flower+ü/(1).jpg".into(),
            version: Some(VersionId::Number(0xabc)),
            created: Some((1024, "d41d8cd98f00b204e9800998ecf8427e".into())),
            at_ms: 1_700_000_000_123,
        }
    }

    fn told(event: &Event) -> Value {
        let id = EventId {
            shard: 3,
            number: 0x1f,
        };
        serde_json::from_str(&message("eu-north-1", id, event)).unwrap()
    }

    #[test]
    fn an_event_is_told_as_aws_documents_it() {
        let told = told(&event());
        assert_eq!(told["EventName"], "s3:ObjectCreated:Put");
        assert_eq!(told["Key"], "photos/red flower+ü/(1).jpg");
        assert_eq!(told["Records"].as_array().unwrap().len(), 1);
        let expected = json!({
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "eu-north-1",
            "eventTime": "2023-11-14T22:13:20.123Z",
            "eventName": "ObjectCreated:Put",
            "userIdentity": {"principalId": ""},
            "requestParameters": {"sourceIPAddress": ""},
            "responseElements": {"x-amz-request-id": "", "x-amz-id-2": ""},
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "rule",
                "bucket": {
                    "name": "photos",
                    "ownerIdentity": {"principalId": ""},
                    "arn": "arn:aws:s3:::photos",
                },
                "object": {
                    "key": "red+flower%2B%C3%BC/%281%29.jpg",
                    "size": 1024,
                    "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                    "versionId": "0000000000000abc",
                    "sequencer": "000000000000001F",
                },
            },
        });
        assert_eq!(told["Records"][0], expected);
    }

    #[test]
    fn what_is_gone_has_neither_size_nor_etag() {
        let gone = Event {
            kind: EventKind::Delete,
            version: None,
            created: None,
            ..event()
        };
        let told = told(&gone);
        let object = told["Records"][0]["s3"]["object"].as_object().unwrap();
        assert_eq!(object.keys().collect::<Vec<_>>(), ["key", "sequencer"]);
        assert_eq!(told["Records"][0]["eventName"], "ObjectRemoved:Delete");
    }

    proptest! {
        #[test]
        fn any_key_comes_back_from_its_encoding(text in "\\PC{0,100}") {
            let encoded = key(&text);
            prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic()));
            let spaces = encoded.replace('+', " ");
            let decoded = percent_encoding::percent_decode_str(&spaces).decode_utf8().unwrap();
            prop_assert_eq!(decoded, text);
        }

        #[test]
        fn sequencers_are_ordered_as_the_events_are(one in any::<u64>(), other in any::<u64>()) {
            let text = |number| sequencer(EventId { shard: 0, number });
            prop_assert_eq!(text(one).cmp(&text(other)), one.cmp(&other));
        }
    }
}
