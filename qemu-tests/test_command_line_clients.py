"""aws-cli, rclone and s3cmd, as people use them; what they bring back is compared byte by byte."""

import filecmp
import shutil
import urllib.error
import urllib.request

import pytest

from clients import assert_same, big, need, run, tree  # noqa: F401 - fixtures
from samples import refused


# aws-cli.

def test_aws_copies_lists_and_removes(run, s3, bucket, big, tmp_path):
    where = f"s3://{bucket}"
    run("aws", "s3", "cp", big, f"{where}/big file.bin")
    assert "-" in s3.head_object(Bucket=bucket, Key="big file.bin")["ETag"], "it was uploaded in parts"
    run("aws", "s3", "cp", f"{where}/big file.bin", "back")
    assert filecmp.cmp(tmp_path / "back", big, shallow=False)
    run("aws", "s3", "cp", f"{where}/big file.bin", f"{where}/copy")  # UploadPartCopy
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == big.read_bytes()
    run("aws", "s3", "mv", f"{where}/copy", f"{where}/dir/moved")
    listing = run("aws", "s3", "ls", where).decode()
    assert "PRE dir/" in listing and f"{big.stat().st_size} big file.bin" in listing
    assert "dir/moved" in run("aws", "s3", "ls", "--recursive", where).decode()
    run("aws", "s3", "rm", "--recursive", where)
    assert run("aws", "s3", "ls", where) == b""


def test_aws_syncs_both_ways(run, s3, bucket, tree, tmp_path):
    run("aws", "s3", "sync", tree, f"s3://{bucket}/tree")
    run("aws", "s3", "sync", f"s3://{bucket}/tree", "back")
    assert_same(tree, tmp_path / "back")
    assert run("aws", "s3", "sync", "back", f"s3://{bucket}/tree") == b"", "nothing is left to do"
    (tmp_path / "back/names/a b").unlink()
    (tmp_path / "back/new").write_bytes(b"new")
    run("aws", "s3", "sync", "--delete", "back", f"s3://{bucket}/tree")
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="tree/names/a b")
    assert s3.get_object(Bucket=bucket, Key="tree/new")["Body"].read() == b"new"


def test_aws_makes_and_removes_buckets(run, s3, bucket):
    run("aws", "s3", "mb", f"s3://{bucket}-more")
    assert f"{bucket}-more" in run("aws", "s3", "ls").decode()
    s3.put_object(Bucket=f"{bucket}-more", Key="k", Body=b"x")
    run("aws", "s3", "rb", f"s3://{bucket}-more", fails=True)
    run("aws", "s3", "rb", "--force", f"s3://{bucket}-more")
    assert f"{bucket}-more" not in run("aws", "s3", "ls").decode()


@pytest.mark.parametrize("version", ["as it is", "s3v4"])
def test_aws_presigns(run, s3, bucket, tmp_path, version):
    """Version 1 of the aws-cli signs addresses in us-east-1 by Signature Version 2 unless told otherwise."""
    if version == "s3v4":
        (tmp_path / ".aws").mkdir()
        (tmp_path / ".aws/config").write_text("[default]\ns3 =\n    signature_version = s3v4\n")
    s3.put_object(Bucket=bucket, Key="a b/ü", Body=b"presigned")
    url = run("aws", "s3", "presign", f"s3://{bucket}/a b/ü").decode().strip()
    assert ("X-Amz-Signature" in url) == (version == "s3v4")
    with urllib.request.urlopen(url, timeout=60) as answer:
        assert answer.read() == b"presigned"


def test_aws_streams(run, home, s3, bucket, big, tmp_path):
    """From standard input and to standard output, in parts."""
    s3.upload_file(str(big), bucket, "k")
    assert run("aws", "s3", "cp", f"s3://{bucket}/k", "-") == big.read_bytes()


# rclone.

@pytest.fixture
def rclone(run, home):
    need("rclone")

    def rclone(*words, **more):
        remote = [
            "--s3-provider=Other", "--s3-env-auth", f"--s3-endpoint={home.url}", f"--s3-region={home.ready['region']}",
            "--config=", "--retries=1", "--low-level-retries=1",
        ]
        return run("rclone", *remote, *words, **more)
    return rclone


def test_rclone_copies_and_checks(rclone, s3, bucket, tree, tmp_path):
    rclone("copy", tree, f":s3:{bucket}/tree")
    rclone("check", "--download", tree, f":s3:{bucket}/tree")
    rclone("check", tree, f":s3:{bucket}/tree")  # by MD5
    rclone("copy", f":s3:{bucket}/tree", "back")
    assert_same(tree, tmp_path / "back")
    assert rclone("cat", f":s3:{bucket}/tree/names/a b") == (tree / "names/a b").read_bytes()
    s3.put_object(Bucket=bucket, Key="tree/names/a b", Body=b"changed")
    rclone("check", tree, f":s3:{bucket}/tree", fails=True)


def test_rclone_syncs_and_deletes(rclone, bucket, tree, tmp_path):
    rclone("sync", tree, f":s3:{bucket}/tree")
    shutil.copytree(tree, tmp_path / "changed")
    shutil.rmtree(tmp_path / "changed/names")
    (tmp_path / "changed/new").write_bytes(b"new")
    rclone("sync", "changed", f":s3:{bucket}/tree")
    rclone("copy", f":s3:{bucket}/tree", "back")
    assert_same(tmp_path / "changed", tmp_path / "back")
    rclone("copyto", f":s3:{bucket}/tree/new", f":s3:{bucket}/copied")
    rclone("moveto", f":s3:{bucket}/copied", f":s3:{bucket}/moved")
    assert rclone("lsf", f":s3:{bucket}").decode().split() == ["moved", "tree/"]
    rclone("delete", f":s3:{bucket}")
    assert rclone("lsf", "-R", f":s3:{bucket}") == b""
    rclone("rmdir", f":s3:{bucket}")


def test_rclone_uploads_in_parts(rclone, s3, bucket, big, tmp_path):
    rclone("copy", "--s3-upload-cutoff=10M", "--s3-chunk-size=5M", big, f":s3:{bucket}")
    assert s3.head_object(Bucket=bucket, Key=big.name)["ETag"].endswith('-9"')
    rclone("copy", f":s3:{bucket}/{big.name}", "back")
    assert filecmp.cmp(tmp_path / "back" / big.name, big, shallow=False)
    assert rclone("cat", "--offset=6000000", "--count=10", f":s3:{bucket}/{big.name}") == big.read_bytes()[6_000_000:6_000_010]


# s3cmd.

@pytest.fixture
def s3cmd(run, home):
    def s3cmd(*words, **more):
        host = f"127.0.0.1:{home.port}"
        remote = [
            f"--host={host}", f"--host-bucket={host}", "--no-ssl", f"--region={home.ready['region']}", "--no-check-hostname",
            f"--access_key={home.ready['access_key']}", f"--secret_key={home.ready['secret_key']}", "--no-progress", "--config=/dev/null",
        ]
        return run("s3cmd", *remote, *words, **more)
    return s3cmd


def test_s3cmd_puts_lists_gets_and_deletes(s3cmd, s3, bucket, big, tmp_path):
    s3cmd("put", big, f"s3://{bucket}/a b/big", "--multipart-chunk-size-mb=7")
    assert s3.head_object(Bucket=bucket, Key="a b/big")["ETag"].endswith('-6"')
    s3cmd("get", f"s3://{bucket}/a b/big", "back")
    assert filecmp.cmp(tmp_path / "back", big, shallow=False)
    assert f"s3://{bucket}/a b/big" in s3cmd("ls", "--recursive", f"s3://{bucket}").decode()
    s3cmd("cp", f"s3://{bucket}/a b/big", f"s3://{bucket}/copy")
    s3cmd("mv", f"s3://{bucket}/copy", f"s3://{bucket}/moved")
    assert s3.get_object(Bucket=bucket, Key="moved")["Body"].read() == big.read_bytes()
    s3cmd("del", f"s3://{bucket}/a b/big")
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="a b/big")
    s3cmd("get", f"s3://{bucket}/a b/big", "missing", fails=True)


def test_s3cmd_syncs(s3cmd, bucket, tree, tmp_path):
    s3cmd("sync", f"{tree}/", f"s3://{bucket}/tree/")
    (tmp_path / "back").mkdir()
    s3cmd("sync", f"s3://{bucket}/tree/", "back/")
    assert_same(tree, tmp_path / "back")
    shutil.rmtree(tmp_path / "back/sizes")
    s3cmd("sync", "--delete-removed", "back/", f"s3://{bucket}/tree/")
    assert b"tree/sizes" not in s3cmd("ls", "--recursive", f"s3://{bucket}")


def test_s3cmd_signs_addresses(s3cmd, s3, bucket):
    """By Signature Version 2: s3cmd knows no other for addresses."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"signed")
    url = s3cmd("signurl", f"s3://{bucket}/k", "+60").decode().strip()
    with urllib.request.urlopen(url, timeout=60) as answer:
        assert answer.read() == b"signed"
    for wrong in (url.replace("/k?", "/other?"), url + "&response-content-type=text/html", url + "&attributes"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(wrong, timeout=60)
        assert caught.value.code == 403


def test_s3cmd_makes_and_removes_buckets(s3cmd, bucket):
    s3cmd("mb", f"s3://{bucket}-more")
    assert f"s3://{bucket}-more" in s3cmd("ls").decode()
    s3cmd("rb", f"s3://{bucket}-more")
    assert f"s3://{bucket}-more" not in s3cmd("ls").decode()
