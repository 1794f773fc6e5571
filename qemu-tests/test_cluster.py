"""Several homes, one store: each node a process tree of its own, as in several homes. Real clients, and the loss of any one home."""

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from cluster import Cluster, Writers
from home import Home, free_port, program, until
from samples import MIB, bytes_of

SIZES = [0, 100, 20_000, MIB, 9 * MIB]
MESH_FROM_S3 = 100
"""From a node's port of S3 to that of its mesh (init/trousseau/src/nodes.rs)."""


def test_what_one_home_takes_all_homes_give(cluster):
    objects = {}
    for number, home in enumerate(cluster):
        for size in SIZES:
            key, body = f"{number}/{size}", bytes_of(size, number)
            home.put(key, body)
            objects[key] = body
    for home in cluster:
        for key, body in objects.items():
            assert home.get(key) == body, (home.name, key)
        listed = home.s3.list_objects_v2(Bucket="home")["Contents"]
        assert {one["Key"] for one in listed} >= set(objects)
    cluster[1].s3.delete_object(Bucket="home", Key="0/100")
    for home in cluster:
        with pytest.raises(ClientError):
            home.get("0/100")
    cluster.until_alike()


def test_of_many_that_create_the_same_object_at_once_one_succeeds(cluster):
    cluster[0].put("first")
    for round in range(4):
        def create(number):
            try:
                cluster[number % 3].s3.put_object(Bucket="home", Key=f"race-{round}", Body=str(number).encode(), IfNoneMatch="*")
                return number
            except ClientError as error:
                assert error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412), error
                return None

        with ThreadPoolExecutor(32) as crowd:
            winners = [number for number in crowd.map(create, range(32)) if number is not None]
        assert len(winners) == 1
        assert all(home.get(f"race-{round}") == str(winners[0]).encode() for home in cluster)


def test_any_one_home_may_be_lost_and_come_back(cluster):
    kept = {}
    for lost in range(3):
        cluster[lost].kill_tree()
        began, worst = time.monotonic(), 0
        left = [home for home in cluster if home is not cluster[lost]]
        for number in range(60):
            key, body = f"without-{lost}/{number}", bytes_of(30_000, number)
            step = time.monotonic()
            left[number % 2].put(key, body)
            assert left[1 - number % 2].get(key) == body
            worst = max(worst, time.monotonic() - step)
            kept[key] = body
        print(f"without n{lost}: 60 puts and gets in {time.monotonic() - began:.1f} s, the longest {worst:.1f} s")
        back = cluster.restart(lost)
        assert all(back.get(key) == body for key, body in kept.items())
        cluster.until_alike()


def test_a_right_that_was_withdrawn_at_one_home_is_withdrawn_at_all(cluster):
    cluster[0].put("secret", b"x")
    key = cluster[0].ask("key", "create", f"guest-{time.time_ns()}")
    cluster[0].trousseau("key", "allow", key["access_key"], "--bucket", "home", "--read")
    guests = [home.client(key) for home in cluster]
    for guest in guests:
        assert guest.get_object(Bucket="home", Key="secret")["Body"].read() == b"x"
    cluster[1].trousseau("key", "deny", key["access_key"], "--bucket", "home", "--read")
    for guest in guests:
        with pytest.raises(ClientError) as refused:
            guest.get_object(Bucket="home", Key="secret")
        assert refused.value.response["Error"]["Code"] == "AccessDenied"


def test_a_home_that_joins_gets_its_share_while_clients_write():
    with Cluster.of(3) as cluster:
        kept = {}

        def write(_, turn):
            key, body = f"steady/{turn}", bytes_of(70_000, turn)
            cluster[turn % 3].put(key, body)
            kept[key] = body

        first = cluster[0]
        first.put("begin")
        with Writers(1, write):
            newcomer = cluster.add(zone="z3")
            cluster.assign(newcomer, 30)
            preview = first.ask("layout", "preview")
            assert [one["node"] for one in preview["moves"]] == [newcomer.name]
            assert preview["moves"][0]["partitions"] == 192
            version = first.ask("layout")["version"]
            assert first.trousseau("layout", "apply", "--version", str(version)).returncode == 0
            late = first.trousseau("layout", "apply", "--version", str(version))
            assert late.returncode == 1 and "has changed" in late.stderr
            first.until_moved()
        shares = {one["node"]: one["partitions"] for one in first.ask("layout")["present"]["nodes"]}
        assert shares == {home.name: 192 for home in cluster}
        assert kept
        for home in cluster:
            assert all(home.get(key) == body for key, body in kept.items())


def test_a_gateway_serves_and_stores_nothing():
    with Cluster.of(3) as cluster:
        gateway = cluster.add(zone="z0", capacity="0")
        gateway.put("by way of it", bytes_of(2 * MIB, 1))
        assert gateway.get("by way of it") == cluster[2].get("by way of it") == bytes_of(2 * MIB, 1)
        cluster.until_nothing_is_owed()


def test_who_has_no_invitation_of_this_cluster_stays_outside():
    with Cluster.of(1) as cluster, Cluster.of(1) as elsewhere:
        token = cluster.invitation()
        cluster.add(zone="z1")
        used = cluster[1].arguments[cluster[1].arguments.index("--join") + 1]
        for join, reason in [(used, "has used this token"), (token[:40] + "A" * 10 + token[50:], "not a whole token")]:
            with Home() as stranger:
                stranger.arguments += ["--join", join, "--mesh", f"127.0.0.1:{free_port()}", "--name", "stranger"]
                stranger.run(await_ready=False)
                until(lambda: reason in stranger.log(), 40, f"the stranger is told: {reason}")
        assert any("not admitted" in home.log() for home in cluster)
        assert elsewhere[0].ask("members") and len(cluster[0].ask("members")) == 2


def test_a_node_that_is_revoked_is_cut_off():
    with Cluster.of(3) as cluster:
        cluster[0].put("k", b"v")
        assert cluster[0].trousseau("node", "revoke", "n2").returncode == 0

        def refused():
            try:
                cluster[2].client().get_object(Bucket="home", Key="k")
            except ClientError:
                return True

        until(refused, 60, "the revoked node gets nothing any more")
        assert cluster[0].get("k") == cluster[1].get("k") == b"v"
        cluster[1].put("later", bytes_of(100_000, 1))
        assert cluster[0].get("later") == bytes_of(100_000, 1)


def test_one_command_runs_a_whole_cluster_on_one_machine(tmp_path):
    with Home(data=tmp_path / "all", port=free_port(1, 2, *range(MESH_FROM_S3, MESH_FROM_S3 + 3))) as home:
        home.arguments += ["--nodes", "3", "--zones", "3"]
        home.run()
        nodes = home.ready["nodes"]
        assert [(node["name"], node["zone"]) for node in nodes] == [("n1", "z1"), ("n2", "z2"), ("n3", "z3")]
        home.put("k", b"v")
        second = subprocess.run([program(), "--data", home.data / "n2", "layout", "--json"], capture_output=True, text=True, timeout=60)
        layout = json.loads(second.stdout)
        assert 3 in (layout["present"]["copies"], layout.get("moving", {}).get("to", {}).get("copies"))
        assert home.stop() == 0
