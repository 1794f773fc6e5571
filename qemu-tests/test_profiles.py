"""Every rule of every sandbox profile is needed, and nothing is called that has no rule.

A debug build of the program has supervisors that let every call through and report the rule it falls under (the feature `learn` of
sandbox-profiles). It does all there is to do; then a rule that nobody used fails the test, unless it is marked `elsewhere`, and so does
a call without a rule. Every profile in sandbox-profiles/ is held to it: a new process has to be given something to do in here.
"""

import subprocess
import time
from contextlib import contextmanager
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from cable import DhcpCable
from crash_load import Load
from home import REPOSITORY, TARGET, TRIPLE, Home, free_port, until
from machine import Image, Machine, node_toml
from samples import KIB, MIB, PART_MIN, bytes_of
from ssh import Keys, SshHome
from time_server import TimeServer
from webhook import Receiver, told_to

LOAD_S = 10
"""Of mixed load before the first process is ended, and between two."""
SERVICES = ["s3-frontend", "web", "notifier", "block-store", "metadata", "console", "relay"]
DAEMONS = ["membership", "debug-ssh", "bus", "orchestrator"]


@pytest.fixture(scope="module")
def learner():
    """The directory of the debug build; built here, because no other test needs it."""
    done = subprocess.run(
        ["cargo", "build", "--quiet", "-p", "trousseau", "-p", "sandbox-profiles", "--features", "sandbox-profiles/learn",
         "--bin", "trousseau", "--example", "learn"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=3600,
    )
    assert done.returncode == 0, done.stderr
    return TARGET / TRIPLE / "debug"


@pytest.mark.timeout(1200)
def test_every_rule_is_needed_and_every_call_has_a_rule(learner, chance, tmp_path):
    with Receiver() as hook, SshHome.start(
        keys=Keys(tmp_path), built=learner / "trousseau", web_domains=[], webhooks=[f"hook={hook.url}"], mesh=True
    ) as home:
        home.until_serving(120)
        events_are_told(home, hook)
        all_ways_to_keep_an_object(home)
        all_ways_to_see_a_page(home)
        all_verbs(home)
        load = Load(home, chance.randrange(2**32), threads=3).start()
        # The orchestrator's supervisor cannot learn from it, since its children have supervisors of their own.
        with traced(home.pid("orchestrator"), home.own / "calls"):
            for name in SERVICES:
                time.sleep(LOAD_S)
                home.kill(name)
                home.until_serving(120)
                all_ways_to_see_a_page(home)
            home.ask("restart", "s3-frontend")
            home.until_serving(120)
        for name in DAEMONS:
            home.kill(name)
            home.until_serving(120)
            until(lambda: home.ssh("status").returncode == 0, 60, "ssh answers again")
            time.sleep(LOAD_S)
        load.stop()
        load.check()
        # The start on data that are there, and the stop in order.
        assert home.stop(60) == 0
        home.leave_unfinished_keyspace()
        home.run()
        home.until_serving(120)
        everything_is_deleted(home)
        until(lambda: "syscall=fadvise64" in home.log(), 120, "the scrub has begun, a minute after the block-store's start")
        reports = another_home(home, learner)
        assert home.stop(60) == 0
        reports += home.log() + a_machine_s_own_daemons(learner, tmp_path)
        command = [learner / "examples/learn", f"orchestrator={home.own / 'calls'}"]
        done = subprocess.run(command, input=reports, capture_output=True, text=True, timeout=60)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


def another_home(home, learner):
    """What happens between nodes only: one joins, keeps copies, is asked for them, and loses each process that speaks to the first; gives its log."""
    with Home(built=learner / "trousseau") as other:
        other.arguments += ["--name", "other", "--zone", "other", "--mesh", f"127.0.0.1:{free_port()}", "--join", home.invitation()]
        other.run()
        first = home.ask("status")["node"]
        for words in (("assign", first), ("assign", "other"), ("copies", "2"), ("apply",)):
            until(lambda: home.trousseau("layout", *words).returncode == 0, 120, f"layout {words}")
        home.until_moved()
        other._s3 = other.client(home.ready)
        for name in ("relay", "bus", "block-store", "metadata", "membership"):
            for number, size in enumerate((100, 40_000, MIB, 9 * MIB)):
                key, body = f"other/{name}/{number}", bytes_of(size)
                until(lambda: is_kept(home, key, body), 120, f"{key} is kept")
                until(lambda: is_kept(other, f"{key}/there", body), 120, f"{key} is kept there")
                until(lambda: is_there(other, key, body) and is_there(home, f"{key}/there", body), 120, f"{key} is read")
            other.kill(name)
        assert home.ask("status")["cluster"]
        home.trousseau("layout", "preview")
        home.s3.delete_objects(Bucket="home", Delete={"Objects": [{"Key": "other/relay/3"}, {"Key": "other/relay/2"}]})
        home.ask("sweep")
        assert other.stop(60) == 0
        return other.log()


def is_kept(home, key, body):
    try:
        home.put(key, body)
        return True
    except (ClientError, BotoCoreError):
        return False  # A process of the other node is just beginning.


def is_there(home, key, body):
    try:
        return home.get(key) == body
    except (ClientError, BotoCoreError):
        return False


def a_machine_s_own_daemons(learner, directory):
    """Network and clock have work only where Trousseau is the whole machine: what its console says while they do it."""
    cable, server = DhcpCable(directory), TimeServer(ahead_s=60)
    image = Image(node_toml(clock=[server.address]), directory=directory, built=learner / "trousseau")
    with Machine.start(image.path, devices=cable.devices, memory_mb=1024) as machine:
        until(lambda: "behind and is set" in machine.console(), 240, "the clock is set")
        until(lambda: cable.renewals, 240, "a lease is renewed")
        return machine.console()


@contextmanager
def traced(pid, file):
    """All calls of a process go to a file, and those of its children until their exec."""
    command = ["strace", "-q", "-f", "-b", "execve", "-e", "raw=all", "-o", file, "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        try:
            until(lambda: file.exists() and file.stat().st_size, 30, "strace sees the process")
            yield
            assert strace.poll() is None, strace.stderr.read()
        finally:
            strace.terminate()


def all_ways_to_keep_an_object(home):
    """Every size class, from several clients at once; whole, in ranges, copied, in parts, conditional."""
    sizes = [0, 100, 8 * KIB + 1, 40_000, 300_000, MIB, 9 * MIB]
    with ThreadPoolExecutor(8) as threads:
        for number in range(3):
            list(threads.map(lambda size: home.put(f"o/{size}/{number}", bytes_of(size)), sizes))
        assert all(threads.map(lambda size: home.get(f"o/{size}/0") == bytes_of(size), sizes * 3))
    for size in sizes[1:]:
        middle = bytes_of(size)[size // 2:]
        assert home.get(f"o/{size}/0", Range=f"bytes={size // 2}-") == middle
        home.s3.copy_object(Bucket="home", Key=f"copy/{size}", CopySource=f"home/o/{size}/0")
        home.s3.head_object(Bucket="home", Key=f"copy/{size}")
    upload = {"Bucket": "home", "Key": "parts", "UploadId": home.s3.create_multipart_upload(Bucket="home", Key="parts")["UploadId"]}
    parts = []
    for number, size in enumerate((PART_MIN, PART_MIN, 100_000), 1):
        etag = home.s3.upload_part(**upload, PartNumber=number, Body=bytes_of(size))["ETag"]
        parts.append({"PartNumber": number, "ETag": etag})
    home.s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    assert home.get("parts") == bytes_of(PART_MIN) * 2 + bytes_of(100_000)
    # A part out of the middle of an object is copied through the frontend; one that is a whole object is only referred to.
    copy = {"Bucket": "home", "Key": "copied", "UploadId": home.s3.create_multipart_upload(Bucket="home", Key="copied")["UploadId"]}
    source = f"home/o/{9 * MIB}/0"
    etag = home.s3.upload_part_copy(**copy, PartNumber=1, CopySource=source, CopySourceRange=f"bytes=5-{8 * MIB}")["CopyPartResult"]["ETag"]
    home.s3.complete_multipart_upload(**copy, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
    assert home.get("copied") == bytes_of(9 * MIB)[5:8 * MIB + 1]
    # A request whose body outgrows the buffer that it began in.
    home.s3.delete_objects(Bucket="home", Delete={"Objects": [{"Key": f"{number:04}" + "k" * 1000} for number in range(1000)]})
    # More than a page of a listing.
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: home.put(f"many/{number:04}", b"x" * 9_000), range(300)))
    pages = home.s3.get_paginator("list_objects_v2").paginate(Bucket="home", Prefix="many/", PaginationConfig={"PageSize": 100})
    assert sum(len(page["Contents"]) for page in pages) == 300


def all_ways_to_see_a_page(home):
    """Every size class, from several browsers at once; whole, in ranges, missing, for a page of another site."""
    home.ask("bucket", "website", "home", "--public", "--error", "o/100/0")
    sizes = [0, 100, 8 * KIB + 1, 40_000, 300_000, MIB, 9 * MIB]
    with ThreadPoolExecutor(8) as threads:
        seen = threads.map(lambda size: home.visit("home.localhost", f"/o/{size}/0")[2] == bytes_of(size), sizes * 3)
        assert all(seen)
    assert home.visit("home.localhost", f"/o/{9 * MIB}/0", Range="bytes=5-9", Origin="https://x.org")[2] == bytes_of(9 * MIB)[5:10]
    home.put("o/encrypted", bytes_of(MIB), ServerSideEncryption="AES256")
    assert home.get("o/encrypted") == home.visit("home.localhost", "/o/encrypted")[2] == bytes_of(MIB)
    assert home.visit("home.localhost", "/none")[0] == 404
    assert home.visit("none.localhost")[0] == 404


def events_are_told(home, hook):
    """To one that listens, that is away and that is back. From here on it is told of all that the other tests do."""
    home.s3.put_bucket_notification_configuration(Bucket="home", NotificationConfiguration=told_to("hook", "s3:ObjectCreated:*"))
    home.put("told")
    until(lambda: hook.events("home"), 120, "an event is told")
    hook.stop()
    home.put("kept")
    until(lambda: "webhook hook: no connection" in home.log(), 120, "nobody listens")
    hook.start()
    until(lambda: hook.events("home")[-1].key == "kept", 120, "the event is told when somebody listens")


def all_verbs(home):
    """What the operator can say."""
    key = home.ask("key", "create", "learner")
    home.ask("bucket", "create", "second")
    home.ask("key", "allow", key["access_key"], "--bucket", "second", "--read")
    for words in ("status", "members", "services", "caps", "fds", "layout", "shards", "logs", "key list", "bucket list"):
        home.ask(*words.split())
        assert home.ssh(*words.split()).returncode == 0
    assert home.ssh("status", key="unknown").returncode == 255, "a stranger is refused"
    home.ask("bucket", "delete", "second")
    home.ask("key", "delete", key["access_key"])


def everything_is_deleted(home):
    """Blocks and records go, packs become empty; and the sweep looks at all that is left."""
    for bucket in ("crash", "home"):
        pages = home.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for page in pages:
            keys = [{"Key": entry["Key"]} for entry in page.get("Contents", [])]
            if keys:
                home.s3.delete_objects(Bucket=bucket, Delete={"Objects": keys})
    for _ in range(3):
        home.ask("sweep")
        time.sleep(2)
    home.put("afterwards", bytes_of(40_000))
