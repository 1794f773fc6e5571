//! Who is told of a bucket's changes: written, shown, refused; and what each way of writing an object says that it was.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod house;

use house::House;
use house::client::{Client, Response};
use protocol::metadata::{EventKind, Rights};

const PATH: &str = "/bucket?notification";
const SKIP: &str = "x-amz-skip-destination-validation";

/// A house with `/bucket`.
fn start() -> (House, Client) {
    let house = House::start();
    let mut client = house.client();
    client.put("/bucket", b"").expect(200);
    (house, client)
}

/// A configuration that tells `webhook` of what is created below `a/`.
fn telling(webhook: &str) -> String {
    format!(
        "<NotificationConfiguration><QueueConfiguration><Id>mine</Id><Queue>arn:trousseau:sqs::{webhook}:webhook</Queue>\
         <Event>s3:ObjectCreated:*</Event><Filter><S3Key><FilterRule><Name>Prefix</Name><Value>a/</Value></FilterRule>\
         </S3Key></Filter></QueueConfiguration></NotificationConfiguration>"
    )
}

const NOBODY: &str = "<NotificationConfiguration/>";

fn put(client: &mut Client, document: &str) -> Response {
    client.call("PUT", PATH, &[], document.as_bytes())
}

fn shown(client: &mut Client) -> String {
    let document = client.get(PATH).expect(200).text();
    let start = document.find("<NotificationConfiguration").unwrap();
    let (root, rest) = document[start..].split_once('>').unwrap();
    assert!(root.contains("xmlns="));
    format!("<NotificationConfiguration>{rest}")
}

#[test]
fn what_was_configured_is_shown_until_it_is_turned_off_or_the_bucket_goes() {
    let (_house, mut client) = start();
    let nobody = "<NotificationConfiguration></NotificationConfiguration>";
    assert_eq!(shown(&mut client), nobody);
    for webhook in ["hook", "other.hook"] {
        put(&mut client, &telling(webhook)).expect(200);
        assert_eq!(shown(&mut client), telling(webhook));
    }
    put(&mut client, NOBODY).expect(200);
    assert_eq!(shown(&mut client), nobody);
    put(&mut client, &telling("hook")).expect(200);
    client.call("DELETE", "/bucket", &[], b"").expect(204);
    client.get(PATH).refused(404, "NoSuchBucket");
    client.put("/bucket", b"").expect(200);
    assert_eq!(shown(&mut client), nobody);
}

#[test]
fn a_destination_that_is_not_registered_is_refused_unless_the_owner_says_not_to_look() {
    let (_house, mut client) = start();
    let unknown = telling("unknown");
    let refused = put(&mut client, &unknown);
    assert_eq!(refused.status, 400);
    assert_eq!(refused.element("Code").unwrap(), "InvalidArgument");
    assert_eq!(
        refused.element("Message").unwrap(),
        "Unable to validate the following destination configurations"
    );
    assert_eq!(
        refused.element("ArgumentName").unwrap(),
        "arn:trousseau:sqs::unknown:webhook"
    );
    let skipping =
        |client: &mut Client, value| client.call("PUT", PATH, &[(SKIP, value)], unknown.as_bytes());
    skipping(&mut client, "false").refused(400, "InvalidArgument");
    skipping(&mut client, "true").expect(200);
    assert_eq!(shown(&mut client), unknown);
    // What is no webhook at all is none later, either.
    let elsewhere = unknown.replace("trousseau", "aws");
    client
        .call("PUT", PATH, &[(SKIP, "true")], elsewhere.as_bytes())
        .refused(400, "InvalidArgument");
}

#[test]
fn a_refused_configuration_leaves_the_one_before() {
    let (house, mut client) = start();
    put(&mut client, &telling("hook")).expect(200);
    put(&mut client, "").refused(400, "MissingRequestBodyError");
    put(&mut client, "<NotificationConfiguration>").refused(400, "MalformedXML");
    let other = telling("hook").replace("ObjectCreated:*", "Replication:*");
    put(&mut client, &other).refused(400, "InvalidArgument");
    let bridge =
        "<NotificationConfiguration><EventBridgeConfiguration/></NotificationConfiguration>";
    put(&mut client, bridge).refused(501, "NotImplemented");
    house.metadata.lock().unwrap().refuse_webhooks = true;
    put(&mut client, &telling("other.hook")).refused(400, "InvalidArgument");
    assert_eq!(shown(&mut client), telling("hook"));
}

#[test]
fn only_the_owner_configures_and_readers_see_who_is_told() {
    let (house, mut root) = start();
    put(&mut root, &telling("hook")).expect(200);
    let allow = |owner| {
        let mut metadata = house.metadata.lock().unwrap();
        let rights = Rights {
            read: true,
            write: true,
            owner,
        };
        metadata.add_key("AKGUEST", "guest", false);
        metadata.allow("AKGUEST", "bucket", rights);
    };
    allow(false);
    let mut guest = Client::new(house.address, "AKGUEST", "guest");
    assert_eq!(shown(&mut guest), telling("hook"));
    put(&mut guest, NOBODY).refused(403, "AccessDenied");
    allow(true);
    put(&mut guest, NOBODY).expect(200);
}

#[test]
fn each_way_of_writing_an_object_says_which_it_was() {
    let (house, mut client) = start();
    client.put("/bucket/k", b"data").expect(200);
    for target in ["/bucket/copy", "/bucket/copy"] {
        let source = [("x-amz-copy-source", "/bucket/k")];
        client.call("PUT", target, &source, b"").expect(200);
    }
    let told = house.metadata.lock().unwrap().told.clone();
    let expected = [
        (EventKind::Put, "k"),
        (EventKind::Copy, "copy"),
        (EventKind::Copy, "copy"),
    ];
    assert_eq!(told, expected.map(|(kind, key)| (kind, key.to_owned())));
}
