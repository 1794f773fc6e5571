"""Who may do what by policy: of buckets and of keys, with the conditions that people use; and how policies combine with rights."""

import json
import urllib.error
import urllib.request

import pytest
from botocore import UNSIGNED

from samples import keys_of, refused


def statement(bucket, actions, effect="Allow", principal="*", resources=("", "/*"), **conditions):
    built = {
        "Effect": effect, "Principal": principal, "Action": actions, "Resource": [f"arn:aws:s3:::{bucket}{rest}" for rest in resources],
    }
    return built | ({"Condition": conditions} if conditions else {})


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@pytest.fixture
def put(s3, bucket):
    """Puts the bucket's policy."""
    return lambda *statements: s3.put_bucket_policy(Bucket=bucket, Policy=document(*statements))


@pytest.fixture
def app(home, bucket):
    """A key without any right."""
    return home.ask("key", "create", f"app-{bucket}")


@pytest.fixture
def nobody(home):
    """A client without a key."""
    return home.client(signature_version=UNSIGNED)


def status(home, path, method="GET", body=None):
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{home.url}{path}", method=method, data=body), timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


# The document.

def test_policy_is_kept_as_it_was_put(s3, bucket, put):
    text = document(statement(bucket, "s3:GetObject", resources=["/*"]))
    s3.put_bucket_policy(Bucket=bucket, Policy=text)
    assert s3.get_bucket_policy(Bucket=bucket)["Policy"] == text
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"] is True
    put(statement(bucket, "s3:GetObject", principal={"AWS": "TRNOBODY"}, resources=["/*"]))
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"] is False
    s3.delete_bucket_policy(Bucket=bucket)
    s3.delete_bucket_policy(Bucket=bucket)
    with refused("NoSuchBucketPolicy", 404):
        s3.get_bucket_policy(Bucket=bucket)


@pytest.mark.parametrize("text", [
    "{}", "not json", '{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::another/*"}]}',
    '{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:Frobnicate","Resource":"arn:aws:s3:::%s/*"}]}',
    '{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::%s/*","Condition":{"Weather":{"a":"b"}}}]}',
])
def test_policy_that_is_not_understood_is_refused(s3, bucket, text):
    with refused("MalformedPolicy", 400):
        s3.put_bucket_policy(Bucket=bucket, Policy=text.replace("%s", bucket))
    with refused("NoSuchBucketPolicy"):
        s3.get_bucket_policy(Bucket=bucket)


# Everybody.

def test_nobody_may_do_anything_without_a_policy(home, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for method, path in [("GET", f"/{bucket}/k"), ("GET", f"/{bucket}"), ("HEAD", f"/{bucket}/k"), ("DELETE", f"/{bucket}/k"), ("GET", "/")]:
        assert status(home, path, method) == 403, (method, path)
    assert status(home, f"/{bucket}/new", "PUT", b"x") == 403
    assert keys_of(s3.list_objects_v2(Bucket=bucket)) == ["k"]


def test_public_read_is_exactly_that(home, s3, bucket, put, nobody):
    s3.put_object(Bucket=bucket, Key="pub/k", Body=b"public")
    s3.put_object(Bucket=bucket, Key="secret", Body=b"x")
    put(statement(bucket, "s3:GetObject", resources=["/pub/*"]))
    assert nobody.get_object(Bucket=bucket, Key="pub/k")["Body"].read() == b"public"
    assert nobody.head_object(Bucket=bucket, Key="pub/k")["ContentLength"] == 6
    for call in (
        lambda: nobody.get_object(Bucket=bucket, Key="secret"), lambda: nobody.list_objects_v2(Bucket=bucket),
        lambda: nobody.put_object(Bucket=bucket, Key="pub/k", Body=b""), lambda: nobody.delete_object(Bucket=bucket, Key="pub/k"),
        lambda: nobody.get_bucket_policy(Bucket=bucket),
        # Who may not list does not learn what there is.
        lambda: nobody.get_object(Bucket=bucket, Key="pub/none"),
    ):
        with refused("AccessDenied", 403):
            call()
    assert status(home, f"/{bucket}/pub/k?response-content-type=text/html") == 400
    put(statement(bucket, ["s3:GetObject", "s3:ListBucket"]))
    with refused("NoSuchKey", 404):
        nobody.get_object(Bucket=bucket, Key="pub/none")
    s3.delete_bucket_policy(Bucket=bucket)
    with refused("AccessDenied", 403):
        nobody.get_object(Bucket=bucket, Key="pub/k")


def test_public_writing(s3, bucket, put, nobody):
    put(statement(bucket, ["s3:PutObject", "s3:AbortMultipartUpload"], resources=["/in/*"]))
    nobody.put_object(Bucket=bucket, Key="in/small", Body=b"x")
    nobody.put_object(Bucket=bucket, Key="in/large", Body=b"x" * 9_000_000)
    upload = nobody.create_multipart_upload(Bucket=bucket, Key="in/parts")["UploadId"]
    tag = nobody.upload_part(Bucket=bucket, Key="in/parts", UploadId=upload, PartNumber=1, Body=b"part")["ETag"]
    nobody.complete_multipart_upload(Bucket=bucket, Key="in/parts", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]})
    with refused("AccessDenied", 403):
        nobody.put_object(Bucket=bucket, Key="elsewhere", Body=b"x")
    assert keys_of(s3.list_objects_v2(Bucket=bucket)) == ["in/large", "in/parts", "in/small"]


def test_public_access_block(s3, bucket, put, nobody):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    public = statement(bucket, "s3:GetObject", resources=["/*"])
    put(public)
    block = {"BlockPublicAcls": False, "IgnorePublicAcls": False, "BlockPublicPolicy": False, "RestrictPublicBuckets": True}
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=block)
    assert s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"] == block
    with refused("AccessDenied", 403):
        nobody.get_object(Bucket=bucket, Key="k")
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={"BlockPublicPolicy": True})
    nobody.get_object(Bucket=bucket, Key="k")
    with refused("AccessDenied", 403):
        put(public)
    put(statement(bucket, "s3:GetObject", principal={"AWS": "TRSOMEBODY"}, resources=["/*"]))
    s3.delete_public_access_block(Bucket=bucket)
    put(public)
    nobody.get_object(Bucket=bucket, Key="k")


# Keys.

def test_bucket_policy_lets_a_key_in_by_id_or_name(home, s3, bucket, put, app):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    client = home.client(app)
    for principal in (app["access_key"], f"arn:aws:iam:::user/{app['name']}"):
        put(statement(bucket, ["s3:GetObject"], principal={"AWS": principal}, resources=["/*"]))
        client.get_object(Bucket=bucket, Key="k")
        with refused("AccessDenied", 403):
            client.put_object(Bucket=bucket, Key="k", Body=b"y")
    s3.delete_bucket_policy(Bucket=bucket)
    with refused("AccessDenied", 403):
        client.get_object(Bucket=bucket, Key="k")


def test_deny_wins_over_rights_and_over_the_root_key(home, s3, bucket, put, app):
    home.ask("key", "allow", app["access_key"], "--bucket", bucket, "--read", "--write")
    client = home.client(app)
    client.put_object(Bucket=bucket, Key="keep/k", Body=b"x")
    put(statement(bucket, "s3:DeleteObject", effect="Deny", resources=["/keep/*"]))
    for one in (client, s3):
        with refused("AccessDenied", 403):
            one.delete_object(Bucket=bucket, Key="keep/k")
    client.put_object(Bucket=bucket, Key="other", Body=b"x")
    client.delete_object(Bucket=bucket, Key="other")
    # Nobody locks a bucket for ever.
    put(statement(bucket, "s3:*", effect="Deny"))
    with refused("AccessDenied", 403):
        s3.get_object(Bucket=bucket, Key="keep/k")
    s3.get_bucket_policy(Bucket=bucket)
    s3.delete_bucket_policy(Bucket=bucket)
    s3.delete_object(Bucket=bucket, Key="keep/k")


def test_each_key_of_a_batch_is_judged(home, s3, bucket, put, app):
    for key in ("a/1", "b/1", "b/2"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    put(statement(bucket, "s3:DeleteObject", principal={"AWS": app["access_key"]}, resources=["/b/*"]))
    objects = [{"Key": key} for key in ("a/1", "b/1", "b/2")]
    done = home.client(app).delete_objects(Bucket=bucket, Delete={"Objects": objects})
    assert [entry["Key"] for entry in done["Deleted"]] == ["b/1", "b/2"]
    assert [(entry["Key"], entry["Code"]) for entry in done["Errors"]] == [("a/1", "AccessDenied")]
    assert keys_of(s3.list_objects_v2(Bucket=bucket)) == ["a/1"]


def test_copies_are_judged_at_both_ends(home, s3, bucket, put, app):
    s3.put_object(Bucket=bucket, Key="a/1", Body=b"x")
    s3.put_object(Bucket=bucket, Key="b/1", Body=b"x")
    who = {"AWS": app["access_key"]}
    put(statement(bucket, "s3:GetObject", principal=who, resources=["/a/*"]), statement(bucket, "s3:PutObject", principal=who, resources=["/c/*"]))
    client = home.client(app)
    client.copy_object(Bucket=bucket, Key="c/1", CopySource={"Bucket": bucket, "Key": "a/1"})
    with refused("AccessDenied", 403):
        client.copy_object(Bucket=bucket, Key="c/2", CopySource={"Bucket": bucket, "Key": "b/1"})
    with refused("AccessDenied", 403):
        client.copy_object(Bucket=bucket, Key="d/1", CopySource={"Bucket": bucket, "Key": "a/1"})
    assert keys_of(s3.list_objects_v2(Bucket=bucket)) == ["a/1", "b/1", "c/1"]


# Conditions.

def test_condition_on_the_prefix_of_a_list(home, s3, bucket, put, app):
    s3.put_object(Bucket=bucket, Key="home/app/k", Body=b"x")
    prefixes = {"s3:prefix": ["home/${aws:username}/*"]}
    put(statement(bucket, "s3:ListBucket", principal={"AWS": app["access_key"]}, resources=[""], StringLike=prefixes, NumericLessThanEquals={"s3:max-keys": "10"}))
    client = home.client(app)
    prefix = f"home/{app['name']}/"
    client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=10)
    client.list_objects(Bucket=bucket, Prefix=prefix + "x", MaxKeys=1)
    for more in ({"Prefix": prefix}, {"Prefix": prefix, "MaxKeys": 11}, {"Prefix": "home/", "MaxKeys": 1}, {"MaxKeys": 1}):
        with refused("AccessDenied", 403):
            client.list_objects_v2(Bucket=bucket, **more)


@pytest.mark.parametrize("condition, holds", [
    ({"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}, True), ({"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "::1"]}}, False),
    ({"NotIpAddress": {"aws:SourceIp": "127.0.0.1"}}, False), ({"Bool": {"aws:SecureTransport": "false"}}, True),
    ({"Bool": {"aws:SecureTransport": "true"}}, False), ({"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}, False),
    ({"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}, True), ({"StringLike": {"aws:UserAgent": "*Boto3*"}}, True),
    ({"StringNotLike": {"aws:UserAgent": "*Boto3*"}}, False), ({"StringEquals": {"aws:Referer": "http://a"}}, False),
    ({"StringEqualsIfExists": {"aws:Referer": "http://a"}}, True), ({"Null": {"aws:Referer": "true"}}, True), ({"Null": {"aws:username": "true"}}, False),
    ({"StringEquals": {"s3:authType": "REST-HEADER"}}, True),
])
def test_conditions_on_who_when_and_whence(home, s3, bucket, put, app, condition, holds):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    put(statement(bucket, "s3:GetObject", principal={"AWS": app["access_key"]}, resources=["/*"], **condition))
    client = home.client(app)
    if holds:
        client.get_object(Bucket=bucket, Key="k")
    else:
        with refused("AccessDenied", 403):
            client.get_object(Bucket=bucket, Key="k")


# Policies of keys.

@pytest.fixture
def policy_of(home, tmp_path):
    def set_policy(key, *statements):
        file = tmp_path / "policy.json"
        file.write_text(document(*[{name: value for name, value in one.items() if name != "Principal"} for one in statements]))
        tmp_path.chmod(0o755)
        return home.ask("key", "policy", key["access_key"], "--file", file)

    return set_policy


def test_key_is_limited_by_its_policy(home, s3, bucket, app, policy_of):
    home.ask("key", "allow", app["access_key"], "--bucket", bucket, "--read", "--write", "--owner")
    client = home.client(app)
    client.put_object(Bucket=bucket, Key="other", Body=b"x")
    policy_of(app, statement(bucket, ["s3:GetObject", "s3:PutObject"], resources=["/app/*"]), statement(bucket, "s3:ListBucket", resources=[""]))
    client.put_object(Bucket=bucket, Key="app/k", Body=b"x")
    client.get_object(Bucket=bucket, Key="app/k")
    assert keys_of(client.list_objects_v2(Bucket=bucket)) == ["app/k", "other"]
    for call in (
        lambda: client.get_object(Bucket=bucket, Key="other"), lambda: client.delete_object(Bucket=bucket, Key="app/k"),
        lambda: client.delete_bucket(Bucket=bucket), lambda: client.list_buckets(), lambda: client.put_bucket_policy(Bucket=bucket, Policy="{}"),
        lambda: client.create_bucket(Bucket=f"{bucket}-new"),
    ):
        with refused("AccessDenied", 403):
            call()
    assert home.ask("key", "policy", app["access_key"])["Statement"][0]["Effect"] == "Allow"
    home.ask("key", "policy", app["access_key"], "--none")
    client.get_object(Bucket=bucket, Key="other")


def test_key_policy_gives_what_it_says(home, s3, bucket, app, policy_of):
    everything = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    policy_of(app, everything, {"Effect": "Deny", "Action": "s3:DeleteBucket", "Resource": f"arn:aws:s3:::{bucket}"})
    client = home.client(app)
    client.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert bucket in {one["Name"] for one in client.list_buckets()["Buckets"]}
    client.create_bucket(Bucket=f"{bucket}-new")
    client.delete_bucket(Bucket=f"{bucket}-new")
    client.delete_object(Bucket=bucket, Key="k")
    with refused("AccessDenied", 403):
        client.delete_bucket(Bucket=bucket)


def test_key_policy_counts_at_once(home, s3, bucket, app, policy_of):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    client = home.client(app)
    for _ in range(5):
        policy_of(app, statement(bucket, "s3:GetObject", resources=["/*"]))
        client.get_object(Bucket=bucket, Key="k")
        home.ask("key", "policy", app["access_key"], "--none")
        with refused("AccessDenied", 403):
            client.get_object(Bucket=bucket, Key="k")


def test_refusals_of_key_policy_say_why(home, app, tmp_path):
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"}]}')
    tmp_path.chmod(0o755)
    for words, code in [
        ([app["access_key"], "--file", str(wrong)], 1), ([app["access_key"], "--file", "/nowhere/p.json"], 1), (["TRNOSUCHKEY"], 1),
        ([app["access_key"], "--file"], 2), ([], 2), ([app["access_key"], "--what"], 2),
    ]:
        done = home.trousseau("key", "policy", *words)
        assert done.returncode == code and done.stderr.strip(), (words, done)
    root = tmp_path / "root.json"
    root.write_text('{"Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}')
    done = home.trousseau("key", "policy", home.ready["access_key"], "--file", str(root))
    assert done.returncode == 1 and "root" in done.stderr


# Tags.

def test_conditions_on_tags(home, s3, bucket, put, app):
    s3.put_object(Bucket=bucket, Key="red", Body=b"x", Tagging="team=red")
    s3.put_object(Bucket=bucket, Key="blue", Body=b"x", Tagging="team=blue")
    s3.put_object(Bucket=bucket, Key="none", Body=b"x")
    who = {"AWS": app["access_key"]}
    put(
        statement(bucket, ["s3:GetObject", "s3:DeleteObject"], principal=who, resources=["/*"], StringEquals={"s3:ExistingObjectTag/team": "red"}),
        statement(bucket, ["s3:PutObject", "s3:PutObjectTagging"], principal=who, resources=["/*"], StringEquals={"s3:RequestObjectTag/team": "red"}),
    )
    client = home.client(app)
    client.get_object(Bucket=bucket, Key="red")
    client.put_object(Bucket=bucket, Key="new", Body=b"x", Tagging="team=red&other=x")
    copied = {"Bucket": bucket, "Key": "red"}
    client.copy_object(Bucket=bucket, Key="copy", CopySource=copied, Tagging="team=red", TaggingDirective="REPLACE")
    for call in (
        lambda: client.get_object(Bucket=bucket, Key="blue"), lambda: client.get_object(Bucket=bucket, Key="none"),
        lambda: client.get_object(Bucket=bucket, Key="missing"), lambda: client.put_object(Bucket=bucket, Key="new2", Body=b"x"),
        lambda: client.put_object(Bucket=bucket, Key="new2", Body=b"x", Tagging="team=blue"),
        lambda: client.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "blue"}, Tagging="team=red", TaggingDirective="REPLACE"),
        lambda: client.delete_object(Bucket=bucket, Key="blue"),
    ):
        with refused("AccessDenied", 403):
            call()
    # The tags that an object is to have stand in the body of this one.
    tagging = {team: {"TagSet": [{"Key": "team", "Value": team}]} for team in ("red", "blue")}
    client.put_object_tagging(Bucket=bucket, Key="new", Tagging=tagging["red"])
    with refused("AccessDenied", 403):
        client.put_object_tagging(Bucket=bucket, Key="new", Tagging=tagging["blue"])
    s3.put_object_tagging(Bucket=bucket, Key="red", Tagging=tagging["blue"])
    with refused("AccessDenied", 403):
        client.get_object(Bucket=bucket, Key="red")
    done = client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "red"}, {"Key": "new"}]})
    assert [entry["Key"] for entry in done["Deleted"]] == ["new"] and [entry["Key"] for entry in done["Errors"]] == ["red"]
