"""Events reach webhooks: exactly those that a bucket's rules want, in order, at least once, whatever is down or killed meanwhile."""

import base64
import json
import threading
from contextlib import ExitStack
from datetime import datetime, timezone

import pytest

from home import Home, until
from samples import PART_MIN, bytes_of
from webhook import HANG, Receiver, told_to

CREATED, REMOVED = "s3:ObjectCreated:*", "s3:ObjectRemoved:*"
TOLD_WITHIN = 120
"""Seconds; the pause after a failure grows up to one minute."""
PASSWORD = "open sésame"


@pytest.fixture(scope="module")
def hooks():
    """Three webhooks, by name."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(receiver)
            for name, receiver in {
                "one": Receiver(),
                "two": Receiver(path="/x/y?a=b%20c", user="aladdin:open%20s%C3%A9same"),
                "three": Receiver(),
            }.items()
        }


@pytest.fixture(scope="module")
def home(hooks):
    with Home.start(webhooks=[f"{name}={hook.url}" for name, hook in hooks.items()]) as home:
        before = home.restarts()
        yield home
        assert home.restarts() == before, f"a process was restarted during these tests: {home.services()}"


@pytest.fixture
def tell(s3):
    """Has a bucket's changes told."""
    def tell(bucket, webhook, *events, **more):
        s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=told_to(webhook, *events, **more))

    return tell


def by_key(events):
    """Key → what was told of it, in order."""
    keys = {}
    for event in events:
        keys.setdefault(event.key, []).append((event.name, event.version, event.etag))
    return keys


def until_told(hook, bucket, expected):
    """Waits for as many events as are expected, and a moment for those that are not; compares all."""
    count = sum(map(len, expected.values()))
    until(lambda: len(hook.events(bucket)) >= count, TOLD_WITHIN, f"{count} events are told")
    assert by_key(hook.events(bucket)) == expected
    numbers = [event.object["sequencer"] for event in hook.events(bucket)]
    assert numbers == sorted(set(numbers)), "in order, and each once"


def multipart(s3, bucket, key):
    upload = {"Bucket": bucket, "Key": key, "UploadId": s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]}
    parts = [
        {"PartNumber": number, "ETag": s3.upload_part(**upload, PartNumber=number, Body=bytes_of(size))["ETag"]}
        for number, size in ((1, PART_MIN), (2, 10))
    ]
    return s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})


def test_exactly_what_happened_and_matches_is_told(hooks, s3, bucket, tell):
    tell(bucket, "one", CREATED, REMOVED, prefix="in/", suffix=".jpg")
    put = s3.put_object(Bucket=bucket, Key="in/a.jpg", Body=b"a")["ETag"].strip('"')
    for key in ("in/b.txt", "out/a.jpg", "in.jpg"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    large = s3.put_object(Bucket=bucket, Key="in/large.jpg", Body=bytes_of(300_000))["ETag"].strip('"')
    s3.copy_object(Bucket=bucket, Key="in/copy.jpg", CopySource=f"{bucket}/in.jpg")
    copied = s3.head_object(Bucket=bucket, Key="in/copy.jpg")["ETag"].strip('"')
    parts = multipart(s3, bucket, "in/parts.jpg")["ETag"].strip('"')
    s3.delete_object(Bucket=bucket, Key="in/a.jpg")
    s3.delete_object(Bucket=bucket, Key="in/a.jpg")
    s3.delete_object(Bucket=bucket, Key="in/b.txt")
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in ("in/copy.jpg", "in/parts.jpg", "in/none.jpg", "in.jpg")]})
    again = s3.put_object(Bucket=bucket, Key="in/a.jpg", Body=b"again")["ETag"].strip('"')
    until_told(hooks["one"], bucket, {
        "in/a.jpg": [("ObjectCreated:Put", None, put), ("ObjectRemoved:Delete", None, None), ("ObjectCreated:Put", None, again)],
        "in/large.jpg": [("ObjectCreated:Put", None, large)],
        "in/copy.jpg": [("ObjectCreated:Copy", None, copied), ("ObjectRemoved:Delete", None, None)],
        "in/parts.jpg": [("ObjectCreated:CompleteMultipartUpload", None, parts), ("ObjectRemoved:Delete", None, None)],
    })
    sizes = {event.key: event.object["size"] for event in hooks["one"].events(bucket) if "Created" in event.name}
    assert sizes == {"in/a.jpg": 5, "in/large.jpg": 300_000, "in/copy.jpg": 1, "in/parts.jpg": PART_MIN + 10}


def test_versions_are_told_by_their_ids(hooks, s3, bucket, tell):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    tell(bucket, "one", CREATED, REMOVED)
    first, second = (s3.put_object(Bucket=bucket, Key="k", Body=body) for body in (b"1", b"2"))
    marker = s3.delete_object(Bucket=bucket, Key="k")["VersionId"]
    s3.delete_object(Bucket=bucket, Key="k", VersionId=first["VersionId"])
    s3.delete_object(Bucket=bucket, Key="k", VersionId=marker)
    until_told(hooks["one"], bucket, {"k": [
        ("ObjectCreated:Put", first["VersionId"], first["ETag"].strip('"')),
        ("ObjectCreated:Put", second["VersionId"], second["ETag"].strip('"')),
        ("ObjectRemoved:DeleteMarkerCreated", marker, None),
        ("ObjectRemoved:Delete", first["VersionId"], None),
        ("ObjectRemoved:Delete", marker, None),
    ]})


def test_the_message_is_what_receivers_made_for_others_expect(home, hooks, s3, bucket, tell):
    tell(bucket, "one", "s3:ObjectCreated:Put", id="a rule")
    key = "red flower+ü/(1) & 2.jpg"
    before = datetime.now(timezone.utc)
    s3.put_object(Bucket=bucket, Key=key, Body=b"petals")
    (event,) = until(lambda: hooks["one"].events(bucket), TOLD_WITHIN, "the event is told")
    assert event.message["EventName"] == "s3:ObjectCreated:Put"
    assert event.message["Key"] == f"{bucket}/{key}"
    assert event.key == key and event.object["key"] == "red+flower%2B%C3%BC/%281%29+%26+2.jpg"
    record = event.record
    assert (record["eventVersion"], record["eventSource"], record["awsRegion"]) == ("2.1", "aws:s3", home.ready["region"])
    at = datetime.strptime(record["eventTime"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    assert abs((at - before).total_seconds()) < 60
    assert record["s3"]["configurationId"] == "a rule"
    assert record["s3"]["bucket"]["arn"] == f"arn:aws:s3:::{bucket}"
    assert record["userIdentity"] == {"principalId": ""} and record["requestParameters"] == {"sourceIPAddress": ""}


def test_a_request_is_what_the_url_says_and_nobody_else_learns_the_password(home, hooks, s3, bucket, tell):
    tell(bucket, "two", CREATED)
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    (event,) = until(lambda: hooks["two"].events(bucket), TOLD_WITHIN, "the event is told")
    secret = base64.b64encode(f"aladdin:{PASSWORD}".encode()).decode()
    assert event.path == "/x/y?a=b%20c"
    assert event.headers["authorization"] == f"Basic {secret}"
    assert event.headers["host"] == f"127.0.0.1:{hooks['two'].port}"
    assert event.headers["content-type"] == "application/json"
    assert event.headers["user-agent"].startswith("trousseau/")
    shown = [json.dumps(home.ask(verb)) for verb in ("status", "caps", "services", "fds", "logs", "metrics")]
    for text in (*shown, home.log()):
        assert not any(part in text for part in (secret, "aladdin", "same", "/x/y"))


def test_each_rule_tells_its_own_webhook(hooks, s3, bucket, tell):
    rules = [told_to(name, CREATED, prefix=f"{name}/", id=name)["QueueConfigurations"][0] for name in hooks]
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={"QueueConfigurations": rules})
    for name in (*hooks, "none"):
        for number in range(5):
            s3.put_object(Bucket=bucket, Key=f"{name}/{number}", Body=b"")
    for name, hook in hooks.items():
        until(lambda: len(hook.events(bucket)) >= 5, TOLD_WITHIN, f"{name} is told")
        assert [(event.key, event.record["s3"]["configurationId"]) for event in hook.events(bucket)] == [(f"{name}/{number}", name) for number in range(5)]


def test_who_is_down_gets_everything_in_order_when_he_is_back(home, hooks, s3, bucket, tell):
    hook = hooks["one"]
    tell(bucket, "one", CREATED)
    s3.put_object(Bucket=bucket, Key="before", Body=b"")
    until(lambda: hook.events(bucket), TOLD_WITHIN, "the first event is told")
    hook.stop()
    log = len(home.log())
    keys = [f"{number:03}" for number in range(150)]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    until(lambda: "webhook one: no connection: Connection refused" in home.log()[log:], TOLD_WITHIN, "the log says so")
    hook.start()
    until(lambda: len(hook.events(bucket)) > len(keys), TOLD_WITHIN, "all events are told")
    assert [event.key for event in hook.events(bucket)] == ["before", *keys]
    until(lambda: "webhook one: takes events again" in home.log()[log:], 10, "and that it is over")


def test_one_that_fails_or_hangs_stops_neither_s3_nor_another(home, hooks, s3, bucket, tell):
    bad, good, third = hooks["one"], hooks["two"], f"{bucket}-good"
    s3.create_bucket(Bucket=third)
    tell(bucket, "one", CREATED)
    tell(third, "two", CREATED)
    expected = []
    for way in (500, HANG):
        bad.way = way
        asked = bad.asked
        for number in range(20):
            expected.append(f"{way}/{number}")
            for name in (bucket, third):
                s3.put_object(Bucket=name, Key=expected[-1], Body=b"")
        until(lambda: bad.asked > asked, TOLD_WITHIN, "it is asked")
        until(lambda: len(good.events(third)) >= len(expected), TOLD_WITHIN, "the other is told")
        assert bad.events(bucket) == []
    assert [event.key for event in good.events(third)] == expected
    bad.release(200)
    until(lambda: len(bad.events(bucket)) >= len(expected), TOLD_WITHIN, "it is told in the end")
    # The one that hung was taken in the end, but perhaps too late to count: then it comes twice.
    assert list(dict.fromkeys(event.key for event in bad.events(bucket))) == expected


def test_what_the_kernel_shows_is_what_the_operator_named(home, hooks, s3, bucket, tell):
    tell(bucket, "one", CREATED)
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    until(lambda: hooks["one"].events(bucket), TOLD_WITHIN, "the event is told")
    caps = {process["name"]: process for process in home.ask("caps")}
    assert {name for name, process in caps.items() if process["alarm"]} == set()
    assert caps["notifier"]["declared"] == ["bus:bus", "webhook:outside"]
    assert set(caps["notifier"]["outside"]) == {f"{name}=127.0.0.1:{hook.port}" for name, hook in hooks.items()}
    assert all(not process["outside"] for name, process in caps.items() if name != "notifier")
    assert "webhook:outside" in home.trousseau("caps").stdout


def test_whoever_is_killed_every_event_is_told_at_least_once():
    with Receiver() as hook, Home.start(webhooks=[f"hook={hook.url}"]) as home:
        home.put("first", bucket="events")
        home.s3.put_bucket_notification_configuration(Bucket="events", NotificationConfiguration=told_to("hook", CREATED))
        keys, ended = [], threading.Event()

        def write():
            number = 0
            while not ended.is_set():
                key = f"{number:05}"
                try:
                    home.put(key, bucket="events")
                    keys.append(key)
                    number += 1
                except Exception:  # noqa: BLE001 - whatever the client calls it; the same key is put again
                    pass

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for name in ("notifier", "metadata", "notifier", "bus", "metadata", "orchestrator"):
                seen = len(keys)
                until(lambda: len(keys) > seen + 50, 120, f"objects are put before the end of {name}")
                home.kill(name)
            seen = len(keys)
            until(lambda: len(keys) > seen + 50, 120, "objects are put afterwards")
        finally:
            ended.set()
            writer.join()
        told = lambda: {event.key for event in hook.events("events")}  # noqa: E731
        until(lambda: told() >= set(keys), TOLD_WITHIN, "every object that was acknowledged is told")
        # A put whose answer was lost may have happened, and then so did its event; nothing else is told.
        assert told() - set(keys) <= {f"{len(keys):05}"}
        first = {}
        for event in hook.events("events"):
            first.setdefault(event.object["sequencer"], event.key)
        assert list(first) == sorted(first), "what is told again is older; what is new comes in order"
        assert list(first.values()) == sorted(first.values())
        assert home.log().count("notifier ended: crash SIGKILL") == 2
        home.ask("restart", "notifier")
        home.put("last", bucket="events")
        until(lambda: hook.events("events")[-1].key == "last", TOLD_WITHIN, "what comes after a restart is told")
        assert home.stop() == 0 and "filter violation" not in home.log()


def test_where_nobody_is_to_be_told_the_service_does_not_run(own_home):
    assert "notifier" not in own_home.services()
    assert own_home.ask("status")["ready"]


@pytest.mark.parametrize("wrong, told", [
    ("hook=https://127.0.0.1/", "no TLS"), ("hook=http://hooks.example.org/", "no DNS"), ("a b=http://127.0.0.1/", "is not the name of a webhook"),
    ("=http://127.0.0.1/", "is not the name of a webhook"), ("http://127.0.0.1/", "expected NAME=URL"), ("hook=http://user:sesame@127.0.0.1:0/", "from 1 to 65535"),
])
def test_an_address_that_cannot_be_is_refused_with_what_to_do(wrong, told):
    with Home() as home:
        done = home.trousseau("up", "--webhook", wrong)
        assert done.returncode == 2 and told in done.stderr.splitlines()[0], done.stderr
        assert "sesame" not in done.stderr
