"""Services that run on some nodes only, drained nodes, and rolling restarts: three real nodes, a real service, real processes counted."""

import json
import random
import threading
import time
from pathlib import Path

import pytest

from cluster import Cluster, Writers
from home import hostile_manifest, until
from samples import bytes_of

MOVED_WITHIN = 30
"""Seconds until a dead node's service runs elsewhere: its lease (11 s for the leader), another leader of shard 0 (5 s) that waits as long, and a start."""
STOPPED_WITHIN = 14
"""Seconds until a node that hears of nobody has ended its services: the lease of 10 s, on a busy machine."""
NAME = f"one-{random.randrange(10**6)}"
"""Of the service: no other test that runs on this machine has processes of this name."""


def processes():
    """How many processes of the service there are on this machine, whoever started them."""
    def name(path):
        try:
            return path.read_bytes().split(b"\0")[0].decode(errors="replace")
        except OSError:
            return None

    return sum(name(path) == NAME for path in Path("/proc").glob("[0-9]*/cmdline"))


class Census:
    """Counts the processes all the time; `most` is the highest count."""

    def __enter__(self):
        self.most, self.over = 0, threading.Event()
        self.thread = threading.Thread(target=self.count)
        self.thread.start()
        return self

    def count(self):
        while not self.over.wait(0.05):
            self.most = max(self.most, processes())

    def __exit__(self, *failure):
        self.over.set()
        self.thread.join()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    top = 'placement = { count = 1, zones = "distinct" }'
    path = hostile_manifest(tmp_path_factory.mktemp("placed"), NAME, 0, "", "membership", top=top)
    with Cluster() as cluster:
        for number in range(3):
            cluster.add(zone=f"z{number}", service=path)
        cluster.spread(3)
        yield cluster


def state(home):
    return home.services()[NAME]["state"]


def host(cluster, among=None):
    """The number of the node that runs the service, when one does and the others say so; or None."""
    states = {number: state(cluster[number]) for number in among or range(len(cluster))}
    ready = [number for number, said in states.items() if said == "ready"]
    others = {said for said in states.values() if said != "ready"}
    return ready[0] if len(ready) == 1 and others <= {f"on n{ready[0]}"} else None


def placed(cluster, among=None, within=MOVED_WITHIN):
    found = until(lambda: (at := host(cluster, among)) is not None and [at], within, "the service runs on one node, and the others say where")
    return found[0]


def leads(home):
    return sum(shard["leader"] for shard in home.ask("shards"))


def test_a_service_with_a_count_of_one_runs_on_one_node(cluster):
    at = placed(cluster)
    assert processes() == 1
    for home in cluster:
        assert home.services()[NAME]["runs_on"] == [f"n{at}"]
        assert home.services()["metadata"]["runs_on"] == []
        assert home.ask("status")["ready"], "to run elsewhere is not to be missing"


def test_a_dead_nodes_service_runs_elsewhere_and_never_twice(cluster):
    at = placed(cluster)
    left = [number for number in range(3) if number != at]
    with Census() as census:
        cluster[at].kill_tree()
        died = time.monotonic()
        now = placed(cluster, left)
        print(f"on n{now} {time.monotonic() - died:.1f} s after n{at} was killed")
        cluster.restart(at)
        until(lambda: host(cluster) == now, MOVED_WITHIN, "the node that is back says where it runs")
        time.sleep(12)  # Longer than a lease: nobody may think otherwise later.
        assert host(cluster) == now
    assert census.most == 1


def test_a_node_that_reaches_nobody_ends_its_service_in_time(cluster):
    at = placed(cluster)
    others = [number for number in range(3) if number != at]
    with Census() as census:
        for number in others:
            cluster[number].kill_tree()
        began = time.monotonic()
        until(lambda: processes() == 0, STOPPED_WITHIN, "the service ends where nobody says that it is to run")
        print(f"ended {time.monotonic() - began:.1f} s after the others were killed")
        for number in others:
            cluster.restart(number)
        placed(cluster, within=2 * MOVED_WITHIN)
    assert census.most == 1


def test_a_drained_node_runs_and_leads_nothing_and_goes_on_serving(cluster):
    at = placed(cluster)
    drained = cluster[at]
    with Census() as census:
        done = cluster[(at + 1) % 3].trousseau("node", "drain", drained.name)
        assert done.returncode == 0, done.stderr
        now = until(lambda: {host(cluster)} - {None, at}, MOVED_WITHIN, "the service runs on another node").pop()
    assert census.most == 1
    shown = {one["name"]: one["draining"] for one in cluster[now].ask("members")}
    assert shown == {home.name: home is drained for home in cluster}
    until(lambda: leads(drained) == 0, 90, "its leads are handed on")
    drained.put("while drained", b"x")
    assert cluster[now].get("while drained") == b"x"
    # From then on it may be given leads again, where calls come by way of it; at once nothing moves without a reason.
    assert drained.trousseau("node", "undrain", drained.name).returncode == 0
    until(lambda: not any(one["draining"] for one in cluster[now].ask("members")), 60, "nobody is drained any more")
    assert host(cluster) == now
    refused = drained.trousseau("node", "drain", "nobody")
    assert refused.returncode == 1 and "no node is named" in refused.stderr


def test_all_nodes_are_restarted_in_turn_and_no_client_notices(cluster):
    before = [home.restarts() for home in cluster]
    kept = {}

    def write(number, turn):
        key, body = f"rolling/{number}/{turn}", bytes_of(20_000 * (1 + turn % 3), turn)
        cluster[number].put(key, body)
        kept[key] = body
        assert cluster[(number + 1) % 3].get(key) == body, key

    began = time.monotonic()
    with Writers(3, write):  # Whatever fails in one, a client noticed.
        started = until(lambda: begin(cluster[0]), 60, "it can be begun")
        assert started["rolling"] is not None
        seen = []

        def over():
            # The console is restarted, too, and may be asked just then.
            done = cluster[0].trousseau("status", "--json")
            said = json.loads(done.stdout).get("rolling_restart") if done.returncode == 0 else "no answer"
            seen.extend([] if said in seen else [said])
            return said is None and len(seen) > 1

        until(over, 300, "all nodes are back")
        print(f"three nodes in {time.monotonic() - began:.1f} s, {len(kept)} objects meanwhile:", *seen, sep="\n  ")
    assert kept
    for home, restarts in zip(cluster, before):
        for name, count in home.restarts().items():
            if name in ("block-store", "metadata", "s3-frontend", "console"):
                assert count > restarts[name], f"{name} of {home.name} was not restarted"
    assert all(cluster[number % 3].get(key) == body for number, (key, body) in enumerate(kept.items()))


def begin(home):
    done = home.trousseau("restart", "--rolling", "--json")
    if done.returncode:
        # A moment ago something else happened; it has to be said why not.
        assert "shard" in done.stderr or "leads" in done.stderr, done.stderr
        return None
    return json.loads(done.stdout)


def test_a_rolling_restart_is_not_begun_where_a_shard_would_lose_its_majority(cluster):
    cluster[2].kill_tree()
    until(lambda: not cluster[0].trousseau("shards").returncode, 30, "the others are asked")
    time.sleep(6)  # Until the leaders have noticed.
    refused = cluster[0].trousseau("restart", "--rolling")
    assert refused.returncode == 1
    assert "no majority without" in refused.stderr or "nobody leads shard" in refused.stderr, refused.stderr
    cluster.restart(2)
