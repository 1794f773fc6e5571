"""Uploads by HTML forms: signed by a policy, or from nobody where the bucket's policy allows it."""

import http.client
import json
import secrets
from urllib.parse import parse_qs, urlsplit

import pytest

from samples import MIB, bytes_of


def post(home, bucket, fields, body, filename="my file.txt", after=()):
    """Status, headers and body of the answer to a form with this file."""
    boundary = secrets.token_hex(16)
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()]
    parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\nContent-Type: text/x-guess\r\n\r\n'.encode())
    parts += [body, b"\r\n"]
    parts += [f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode() for name, value in after]
    parts.append(f"--{boundary}--\r\n".encode())
    connection = http.client.HTTPConnection(*home.address, timeout=60)
    connection.request("POST", f"/{bucket}", b"".join(parts), {"Content-Type": f"multipart/form-data; boundary={boundary}"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, answer.headers, text


@pytest.mark.parametrize("size", [0, 1, 5_000, 8192, 8193, 65_536, 65_537, 300_000, 4 * MIB, 9 * MIB + 7, 13 * MIB])
def test_file_of_a_form_is_stored_as_it_is(home, s3, bucket, size):
    body = bytes_of(size)
    form = s3.generate_presigned_post(bucket, "user/${filename}", Fields={"Content-Type": "text/plain", "x-amz-meta-a": "b"}, Conditions=[["starts-with", "$key", "user/"], {"Content-Type": "text/plain"}, {"x-amz-meta-a": "b"}, ["content-length-range", 0, 20 * MIB]])
    status, headers, text = post(home, bucket, form["fields"], body)
    assert status == 204 and text == "", text
    stored = s3.get_object(Bucket=bucket, Key="user/my file.txt")
    assert stored["Body"].read() == body
    assert stored["ContentType"] == "text/plain" and stored["Metadata"] == {"a": "b"}
    assert headers["ETag"] == stored["ETag"]
    assert headers["Location"].endswith(f"/{bucket}/user/my%20file.txt")


def test_answer_has_the_form_that_is_asked_for(home, s3, bucket):
    def ask(**more):
        form = s3.generate_presigned_post(bucket, "k", Fields=dict(more), Conditions=[{name: value} for name, value in more.items()])
        return post(home, bucket, form["fields"], b"x")

    assert ask(success_action_status="200")[0] == 200
    assert ask(success_action_status="999")[0] == 204
    status, _, text = ask(success_action_status="201")
    assert status == 201 and f"<Bucket>{bucket}</Bucket><Key>k</Key><ETag>" in text
    status, headers, _ = ask(success_action_redirect="http://example.com/done?x=1")
    assert status == 303
    target = urlsplit(headers["Location"])
    assert target.netloc == "example.com"
    assert parse_qs(target.query) == {"x": ["1"], "bucket": [bucket], "key": ["k"], "etag": ['"9dd4e461268c8034f5c8564e155c67a6"']}


def test_type_of_the_file_counts_where_the_form_has_none(home, s3, bucket):
    form = s3.generate_presigned_post(bucket, "k")
    assert post(home, bucket, form["fields"], b"x", after=[("submit", "Upload")])[0] == 204
    assert s3.head_object(Bucket=bucket, Key="k")["ContentType"] == "text/x-guess"
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_form_that_its_policy_does_not_allow_stores_nothing(home, s3, bucket):
    form = s3.generate_presigned_post(bucket, "a/${filename}", Conditions=[["starts-with", "$key", "a/"], ["content-length-range", 2, 5]])
    fields = form["fields"]
    expired = s3.generate_presigned_post(bucket, "k", ExpiresIn=-5)["fields"]
    cases = [
        (fields | {"key": "b/x"}, b"xxx", 403, "AccessDenied"), (fields | {"x-amz-meta-more": "1"}, b"xxx", 403, "Extra input fields"),
        (fields, b"x", 400, "EntityTooSmall"), (fields, b"x" * 6, 400, "EntityTooLarge"), (fields, b"x" * 9 * MIB, 400, "EntityTooLarge"),
        (expired, b"x", 403, "Policy expired"), (fields | {"x-amz-signature": "0" * 64}, b"xxx", 403, "SignatureDoesNotMatch"),
        ({name: value for name, value in fields.items() if name != "policy"}, b"xxx", 400, "InvalidArgument"),
        ({name: value for name, value in fields.items() if not name.startswith("x-amz")}, b"xxx", 403, "AccessDenied"),
        (fields | {"policy": fields["policy"][:-8]}, b"xxx", 400, "InvalidPolicyDocument"),
        ({name: value for name, value in fields.items() if name != "key"}, b"xxx", 400, "InvalidArgument"),
        (fields | {"acl": "public-read"}, b"xxx", 400, "AccessControlListNotSupported"),
        ({}, b"xxx", 400, "InvalidArgument"), (fields | {"x-amz-meta-long": "x" * 30_000}, b"xxx", 400, "MaxPostPreDataLengthExceededError"),
    ]
    for wrong, body, expected, word in cases:
        status, _, text = post(home, bucket, wrong, body)
        assert status == expected and word in text, (expected, word, status, text)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    assert post(home, bucket, fields, b"xxx")[0] == 204


def test_form_for_another_bucket_is_refused(home, s3, bucket):
    s3.create_bucket(Bucket=f"{bucket}-other")
    form = s3.generate_presigned_post(bucket, "k")
    assert post(home, f"{bucket}-other", form["fields"], b"x")[0] == 403
    assert post(home, f"{bucket}-none", form["fields"], b"x")[0] == 404


def test_form_of_a_key_without_the_right_is_refused(home, s3, bucket):
    key = home.ask("key", "create", f"poster-{bucket}")
    fields = home.client(key).generate_presigned_post(bucket, "k")["fields"]
    assert post(home, bucket, fields, b"x")[0] == 403
    home.ask("key", "allow", key["access_key"], "--bucket", bucket, "--write")
    assert post(home, bucket, fields, b"x")[0] == 204


def test_form_from_nobody_is_the_bucket_policys_affair(home, s3, bucket):
    assert post(home, bucket, {"key": "in/k"}, b"x")[0] == 403
    allow = {"Effect": "Allow", "Principal": "*", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/in/*"}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": [allow]}))
    assert post(home, bucket, {"key": "in/k"}, b"x")[0] == 204
    assert post(home, bucket, {"key": "out/k"}, b"x")[0] == 403


def test_what_is_no_form_is_refused(home, bucket):
    for kind, body, status in [("text/plain", b"x", 412), ("multipart/form-data", b"x", 400), ("multipart/form-data; boundary=b", b"nonsense", 400), ("multipart/form-data; boundary=b", b"", 400)]:
        connection = http.client.HTTPConnection(*home.address, timeout=60)
        connection.request("POST", f"/{bucket}", body, {"Content-Type": kind})
        answer = connection.getresponse()
        assert answer.status == status, (kind, body, answer.read())
        connection.close()
