"""Listings, both versions, against a model of four lines, over keys that are meant to be mistaken for something else."""

import threading

import pytest

from samples import CONTROL_KEYS, ODD_KEYS, keys_of, refused
from wire import Key, Request, send

KEYS = sorted(set(ODD_KEYS + CONTROL_KEYS), key=lambda key: key.encode())
"""In the order of S3: by the bytes of UTF-8."""


def model(keys, prefix="", delimiter="", after=""):
    """Everything that a listing has to show, in order: keys, and common prefixes in their place.

    Behind a common prefix comes what is behind all its keys (so goes the next page of version 1); behind a key comes what is
    behind that key, also if it is a common prefix that the key has, too.
    """
    lines = []
    for key in sorted(keys, key=lambda key: key.encode()):
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        line = key if cut < 0 else key[:cut + len(delimiter)]
        behind = line if delimiter and after.endswith(delimiter) else key
        if key.startswith(prefix) and behind.encode() > after.encode() and line not in lines[-1:]:
            lines.append(line)
    return lines


def lines_of(answer):
    """Keys and common prefixes of one page, in order."""
    prefixes = [entry["Prefix"] for entry in answer.get("CommonPrefixes", [])]
    return sorted(keys_of(answer) + prefixes, key=lambda line: line.encode())


@pytest.fixture(scope="module")
def odd(s3):
    s3.create_bucket(Bucket="odd-keys")
    for key in KEYS:
        s3.put_object(Bucket="odd-keys", Key=key, Body=key.encode())
    return "odd-keys"


PREFIXES = ["", "a", "a/", "dir/", "dir//", "/", "//", "%", "a%", "ü", "x" * 1024, "nothing", "+", " "]
DELIMITERS = ["", "/", "//", "%", "b", " ", "ü", "\n", "a/.", "🎉"]


@pytest.mark.parametrize("delimiter", DELIMITERS, ids=ascii)
@pytest.mark.parametrize("call", ["list_objects", "list_objects_v2"])
def test_every_page_size_shows_everything_once(s3, odd, call, delimiter):
    for prefix in PREFIXES:
        for page in (1, 2, 7, 1000):
            if page == 1 and prefix not in ("", "dir/"):
                continue
            pages = s3.get_paginator(call).paginate(
                Bucket=odd, Prefix=prefix, Delimiter=delimiter, PaginationConfig={"PageSize": page},
            )
            lines = []
            for answer in pages:
                found = lines_of(answer)
                assert len(found) <= page
                assert answer["MaxKeys"] == page
                if call == "list_objects_v2":
                    assert answer["KeyCount"] == len(found)
                lines += found
            assert lines == model(KEYS, prefix, delimiter), (prefix, page)


def test_entries_tell_size_and_etag(s3, odd):
    for answer in s3.get_paginator("list_objects_v2").paginate(Bucket=odd, FetchOwner=True):
        for entry in answer["Contents"]:
            assert entry["Size"] == len(entry["Key"].encode())
            assert entry["StorageClass"] == "STANDARD"
            assert entry["Owner"]["ID"]


@pytest.mark.parametrize("delimiter", ["", "/"])
def test_listing_begins_behind_any_text(s3, odd, delimiter):
    for after in ["", " ", "a", "a/", "a/b", "dir", "dir/", "dir/a", "dir0", "zzz", "\U0010ffff"]:
        expected = model(KEYS, delimiter=delimiter, after=after)
        answer = s3.list_objects_v2(Bucket=odd, Delimiter=delimiter, StartAfter=after)
        assert lines_of(answer) == expected, after
        answer = s3.list_objects(Bucket=odd, Delimiter=delimiter, Marker=after)
        assert lines_of(answer) == expected, after


def test_page_of_nothing(s3, odd):
    answer = s3.list_objects_v2(Bucket=odd, MaxKeys=0)
    assert (answer["KeyCount"], answer["IsTruncated"], lines_of(answer)) == (0, False, [])


def test_pages_are_at_most_1000(s3, bucket):
    keys = [f"{number:05}" for number in range(1050)]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    for call in (s3.list_objects, s3.list_objects_v2):
        for asked in ({}, {"MaxKeys": 1000}, {"MaxKeys": 5000}):
            answer = call(Bucket=bucket, **asked)
            assert (answer["MaxKeys"], answer["IsTruncated"], len(keys_of(answer))) == (1000, True, 1000)
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    assert [key for answer in pages for key in keys_of(answer)] == keys


def test_next_marker_comes_only_with_a_delimiter(s3, odd):
    assert "NextMarker" not in s3.list_objects(Bucket=odd, MaxKeys=1)
    assert s3.list_objects(Bucket=odd, MaxKeys=1, Delimiter="/")["NextMarker"]


def test_wrong_parameters_are_refused(home, s3, odd):
    key = Key(home.ready["access_key"], home.ready["secret_key"], home.ready["region"])

    def ask(*query):
        return send(home.address, Request("GET", f"/{odd}", list(query), {"Host": "h"}).sign(key).bytes())

    for wrong in ("-1", "x", "2147483648", "1.5"):
        for version in ([], [("list-type", "2")]):
            assert ask(*version, ("max-keys", wrong)).code == "InvalidArgument", wrong
    assert ask(("encoding-type", "base64")).code == "InvalidArgument"
    assert ask(("list-type", "3")).code == "InvalidArgument"
    with refused("InvalidArgument", 400):
        s3.list_objects_v2(Bucket=odd, ContinuationToken="nonsense")


def test_names_are_url_encoded_on_request_only(home, s3, odd):
    key = Key(home.ready["access_key"], home.ready["secret_key"], home.ready["region"])
    query = [("list-type", "2"), ("prefix", "a+"), ("delimiter", "+"), ("start-after", "a b")]
    plain = send(home.address, Request("GET", f"/{odd}", query, {"Host": "h"}).sign(key).bytes()).xml()
    assert plain.findtext("Prefix") == "a+"
    encoded = send(
        home.address, Request("GET", f"/{odd}", [*query, ("encoding-type", "url")], {"Host": "h"}).sign(key).bytes(),
    ).xml()
    assert encoded.findtext("EncodingType") == "url"
    assert (encoded.findtext("Prefix"), encoded.findtext("Delimiter")) == ("a%2B", "%2B")
    assert encoded.findtext("StartAfter") in ("a+b", "a%20b")


def test_listing_is_exact_while_others_write(s3, bucket):
    """Keys that stay are in each listing, however many others come and go between the pages."""
    stay = [f"stay/{number:03}" for number in range(100)]
    for key in stay:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    done = threading.Event()

    def churn(worker):
        number = 0
        while not done.is_set():
            key = f"stay/{number % 100:03}+{worker}"
            s3.put_object(Bucket=bucket, Key=key, Body=b"x")
            s3.delete_object(Bucket=bucket, Key=key)
            number += 1

    workers = [threading.Thread(target=churn, args=(worker,)) for worker in range(3)]
    for worker in workers:
        worker.start()
    try:
        for _ in range(20):
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 9})
            keys = [key for answer in pages for key in keys_of(answer)]
            assert keys == sorted(set(keys))
            assert [key for key in keys if "+" not in key] == stay
    finally:
        done.set()
        for worker in workers:
            worker.join()
