"""CORS: preflights without a signature, and the headers that browsers look for on every other answer, errors included."""

import urllib.error
import urllib.request

import pytest

from samples import refused

RULES = [
    {
        "ID": "app", "AllowedOrigins": ["https://*.example.com"], "AllowedMethods": ["PUT", "GET"], "AllowedHeaders": ["x-amz-*", "Content-Type"],
        "ExposeHeaders": ["ETag"], "MaxAgeSeconds": 3000,
    },
    {"AllowedOrigins": ["*"], "AllowedMethods": ["GET"]},
]


def ask(home, method, path, **headers):
    """Status and headers of an answer."""
    request = urllib.request.Request(f"{home.url}{path}", method=method, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.headers


def preflight(home, bucket, origin, method, names=""):
    more = {"Access_Control_Request_Headers": names} if names else {}
    return ask(home, "OPTIONS", f"/{bucket}/k", Origin=origin, Access_Control_Request_Method=method, **more)


@pytest.fixture
def open_bucket(s3, bucket):
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": RULES})
    return bucket


def test_rules_are_kept(s3, open_bucket):
    assert s3.get_bucket_cors(Bucket=open_bucket)["CORSRules"] == RULES
    with refused("InvalidRequest", 400):
        s3.put_bucket_cors(Bucket=open_bucket, CORSConfiguration={"CORSRules": [{"AllowedOrigins": ["*"], "AllowedMethods": ["PATCH"]}]})
    s3.delete_bucket_cors(Bucket=open_bucket)
    with refused("NoSuchCORSConfiguration", 404):
        s3.get_bucket_cors(Bucket=open_bucket)


def test_preflight_answers_what_the_rules_allow(home, open_bucket):
    status, headers = preflight(home, open_bucket, "https://app.example.com", "PUT", "x-amz-date, Content-Type")
    assert status == 200
    assert headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    assert headers["Access-Control-Allow-Methods"] == "PUT, GET"
    assert headers["Access-Control-Allow-Headers"] == "x-amz-date, content-type"
    assert headers["Access-Control-Max-Age"] == "3000"
    assert headers["Access-Control-Expose-Headers"] == "ETag"
    assert headers["Access-Control-Allow-Credentials"] == "true"
    assert "Origin" in headers["Vary"]
    status, headers = preflight(home, open_bucket, "http://elsewhere", "GET")
    assert status == 200 and headers["Access-Control-Allow-Origin"] == "*"
    for origin, method, names in [
        ("http://elsewhere", "PUT", ""), ("https://app.example.com", "DELETE", ""), ("https://app.example.com", "PUT", "authorization"),
    ]:
        status, headers = preflight(home, open_bucket, origin, method, names)
        assert status == 403 and headers["Access-Control-Allow-Origin"] is None


def test_preflight_without_rules_or_question(home, bucket):
    assert preflight(home, bucket, "http://a", "GET")[0] == 403
    assert preflight(home, f"{bucket}-none", "http://a", "GET")[0] == 403
    assert ask(home, "OPTIONS", f"/{bucket}/k")[0] == 400
    assert ask(home, "OPTIONS", f"/{bucket}/k", Origin="http://a")[0] == 400


def test_change_of_the_rules_is_seen_at_once(home, s3, bucket):
    for _ in range(5):
        s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": RULES})
        assert preflight(home, bucket, "http://a", "GET")[0] == 200
        s3.delete_bucket_cors(Bucket=bucket)
        assert preflight(home, bucket, "http://a", "GET")[0] == 403


def test_answers_carry_the_headers(home, s3, open_bucket):
    s3.put_object(Bucket=open_bucket, Key="k", Body=b"x")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": open_bucket, "Key": "k"})
    path = url.removeprefix(home.url)
    status, headers = ask(home, "GET", path, Origin="https://app.example.com")
    assert status == 200 and headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    assert headers["Access-Control-Expose-Headers"] == "ETag"
    status, headers = ask(home, "GET", path)
    assert status == 200 and headers["Access-Control-Allow-Origin"] is None
    status, headers = ask(home, "GET", f"/{open_bucket}/k", Origin="http://elsewhere")
    assert status == 403 and headers["Access-Control-Allow-Origin"] == "*", "a page may read why it was refused"
    status, headers = ask(home, "PUT", f"/{open_bucket}/k", Origin="http://elsewhere")
    assert status == 403 and headers["Access-Control-Allow-Origin"] is None
