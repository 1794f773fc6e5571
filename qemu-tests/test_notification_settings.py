"""Who is told of a bucket's changes, as boto3 configures it: what was put is got, what cannot be told is refused, and it goes with the bucket."""

import pytest

from home import Home
from samples import refused


@pytest.fixture(scope="module")
def home():
    """A node with two webhooks. Nobody listens there: these tests are about who is to be told."""
    webhooks = [f"{name}=http://127.0.0.1:4199/{name}" for name in ("hook", "other.hook")]
    with Home.start(webhooks=webhooks) as home:
        yield home


def rule(kind, webhook, *events, **more):
    service = {"Queue": "sqs", "Topic": "sns", "LambdaFunction": "lambda"}[kind]
    return {f"{kind}Arn": f"arn:trousseau:{service}::{webhook}:webhook", "Events": list(events), **more}


def keys(**filters):
    return {"Filter": {"Key": {"FilterRules": [{"Name": name, "Value": value} for name, value in filters.items()]}}}


def put(s3, bucket, skip=None, **configurations):
    more = {} if skip is None else {"SkipDestinationValidation": skip}
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configurations, **more)


def shown(s3, bucket):
    answer = s3.get_bucket_notification_configuration(Bucket=bucket)
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


CREATED = "s3:ObjectCreated:*"


def test_a_configuration_comes_back_as_it_was_put(s3, bucket):
    assert shown(s3, bucket) == {}
    configuration = {
        "QueueConfigurations": [
            rule("Queue", "hook", CREATED, "s3:ObjectRemoved:Delete", Id="images & more", **keys(Prefix="img/ü <", Suffix=".jpg")),
            rule("Queue", "other.hook", CREATED, Id="texts", **keys(Suffix=".txt")),
        ],
        "TopicConfigurations": [rule("Topic", "hook", "s3:ObjectRemoved:DeleteMarkerCreated", Id="t")],
        "LambdaFunctionConfigurations": [rule("LambdaFunction", "hook", "s3:LifecycleExpiration:*", Id="l")],
    }
    put(s3, bucket, **configuration)
    assert shown(s3, bucket) == configuration
    unnamed = rule("Queue", "hook", "s3:ObjectCreated:Put")
    put(s3, bucket, QueueConfigurations=[unnamed])
    (only,) = shown(s3, bucket)["QueueConfigurations"]
    assert only.pop("Id") and only == unnamed
    put(s3, bucket)
    assert shown(s3, bucket) == {}


REFUSED = {
    "unknown event": [rule("Queue", "hook", "s3:Replication:*")],
    "two of one name": [rule("Queue", "hook", CREATED, Id="x", **keys(Prefix=name)) for name in "ab"],
    "two for one event": [rule("Queue", "hook", CREATED), rule("Queue", "other.hook", "s3:ObjectCreated:Put", **keys(Prefix="a"))],
    "two prefixes": [rule("Queue", "hook", CREATED, Filter={"Key": {"FilterRules": [{"Name": "prefix", "Value": "a"}] * 2}})],
    "not registered": [rule("Queue", "unknown", CREATED)],
    "another's ARN": [{"QueueArn": "arn:aws:sqs:us-east-1:1:queue", "Events": [CREATED]}],
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_told_is_refused_and_leaves_what_was(s3, bucket, why):
    before = rule("Queue", "hook", CREATED, Id="before")
    put(s3, bucket, QueueConfigurations=[before])
    with refused("InvalidArgument", 400):
        put(s3, bucket, QueueConfigurations=REFUSED[why])
    assert shown(s3, bucket) == {"QueueConfigurations": [before]}


def test_a_destination_may_be_registered_later_if_the_owner_says_so(s3, bucket):
    later = [rule("Queue", "unknown", CREATED, Id="later")]
    with refused("InvalidArgument", 400):
        put(s3, bucket, skip=False, QueueConfigurations=later)
    put(s3, bucket, skip=True, QueueConfigurations=later)
    assert shown(s3, bucket) == {"QueueConfigurations": later}
    with refused("InvalidArgument", 400):
        put(s3, bucket, skip=True, QueueConfigurations=REFUSED["another's ARN"])


def test_event_bridge_is_not_done(s3, bucket):
    with refused("NotImplemented", 501):
        put(s3, bucket, EventBridgeConfiguration={})


def test_it_goes_with_the_bucket(s3, bucket):
    put(s3, bucket, QueueConfigurations=[rule("Queue", "hook", CREATED)])
    s3.delete_bucket(Bucket=bucket)
    with refused("NoSuchBucket", 404):
        shown(s3, bucket)
    s3.create_bucket(Bucket=bucket)
    assert shown(s3, bucket) == {}


def test_it_is_the_owners_or_whose_policy_allows_it(home, s3, bucket):
    key = home.ask("key", "create", f"guest-{bucket}")
    guest = home.client(key)
    with refused("AccessDenied", 403):
        shown(guest, bucket)
    home.ask("key", "allow", key["access_key"], "--bucket", bucket, "--read", "--write")
    assert shown(guest, bucket) == {}
    with refused("AccessDenied", 403):
        put(guest, bucket)
    policy = (
        '{"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:PutBucketNotification", '
        f'"Resource": "arn:aws:s3:::{bucket}"}}]}}'
    )
    s3.put_bucket_policy(Bucket=bucket, Policy=policy)
    put(guest, bucket, QueueConfigurations=[rule("Queue", "hook", CREATED)])
    assert len(shown(guest, bucket)["QueueConfigurations"]) == 1


def test_it_survives_a_restart_also_without_the_webhook(home, s3, bucket):
    put(s3, bucket, QueueConfigurations=[rule("Queue", "hook", CREATED, Id="kept")])
    before = shown(s3, bucket)
    assert home.stop() == 0
    arguments, home.arguments = home.arguments, []
    home.run()
    try:
        assert shown(home.s3, bucket) == before
        with refused("InvalidArgument", 400):
            put(home.s3, bucket, QueueConfigurations=before["QueueConfigurations"])
    finally:
        assert home.stop() == 0
        home.arguments = arguments
        home.run()
