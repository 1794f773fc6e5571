"""Clients of a service that runs on one node of three: each is connected to it wherever it runs, and again when it has moved.

The service and its clients are the program of services/hostile, which behaves here: the greeter tells who asks where it is (as the bus has proven it),
and each node's caller logs every new answer. Two of the nodes know one caller; the third has an intruder, too, whom only its own manifests allow.
"""

import re
import time

import pytest

from cluster import Cluster
from home import DidNotStart, Home, guest_manifest, until

MOVED_WITHIN = 60
"""Seconds until a dead node's service runs elsewhere (13 to 20 s, test_placement.py) and every client has found it: at most a refused call (20 s) later."""
TOLD_WITHIN = 60
"""Seconds until what two nodes are asked for is done, on a busy machine."""
BEHAVES = "Behaves, for a test."


def greeter(directory, *clients, across="across = true"):
    tables = f"""
[[grant]]
name = "door"
kind = "door"
why = "Whoever asks."

[[serves]]
conversation = "greeting"
to = [{", ".join(f'"{client}"' for client in clients)}]
{across}
why = "Each is told where it is."
"""
    path, top = directory / f"greeter-of-{len(clients)}.toml", 'placement = { count = 1, zones = "distinct" }'
    return guest_manifest(path, "greeter", 90, "console", tables, BEHAVES, top, part="greeter")


def caller(directory, name="caller", rank=91, across="across = true"):
    tables = f"""
[[grant]]
name = "bus"
kind = "bus"
why = "Connections by name."

[[calls]]
service = "greeter"
conversation = "greeting"
{across}
why = "Asks where it is."
"""
    return guest_manifest(directory / f"{name}.toml", name, rank, "console", tables, BEHAVES, part="caller")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    directory = tmp_path_factory.mktemp("neighbours")
    known = [greeter(directory, "caller"), caller(directory)]
    more = [greeter(directory, "caller", "intruder"), caller(directory), caller(directory, "intruder", 92)]
    with Cluster() as cluster:
        for number, manifests in enumerate([known, known, more]):
            cluster.add(zone=f"z{number}", service=manifests)
        cluster.spread(3)
        cluster.words = [word for path in known for word in ("--service", path)]
        yield cluster


def said(home, client="caller"):
    """What a client of this node was told last: which process answered it and where it is seen to be; or why none did."""
    lines = re.findall(rf"{client}\b.*?(?:greeted by (\d+): you are (.*)|not greeted: (.*))", home.log())
    return lines[-1] if lines else None


def host(cluster, among):
    """The number of the node on which the service runs, if each client of these nodes has been answered, by the same process."""
    answers = {number: said(cluster[number]) for number in among}
    if not all(answer and answer[0] for answer in answers.values()) or len({answer[0] for answer in answers.values()}) > 1:
        return None
    here = [number for number, answer in answers.items() if answer[1] == "here"]
    others = {number: answer[1] for number, answer in answers.items() if answer[1] != "here"}
    return here[0] if len(here) == 1 and all(place == f"on n{number}" for number, place in others.items()) else None


def greeted(cluster, among=range(3), but=None, within=MOVED_WITHIN):
    """Waits until all clients of these nodes are answered by one process, which runs on one of them that is not `but`; gives its number."""
    found = until(lambda: (at := host(cluster, among)) not in (None, but) and [at], within, "each client is answered by the same process")
    return found[0]


def process(cluster, at):
    return said(cluster[at])[0]


def alarms(home):
    return [row for row in home.ask("caps") if row["alarm"]]


def test_clients_on_every_node_are_answered_by_the_one_service(cluster):
    at = greeted(cluster)
    for home in cluster:
        assert home.services()["greeter"]["runs_on"] == [f"n{at}"]
        # Also those of the guests, and their streams to other nodes.
        until(lambda: alarms(home) == [], TOLD_WITHIN, "nobody holds what no manifest explains")


def test_who_can_reach_it_is_known_from_the_manifests(cluster):
    def can(one, other):
        return cluster[0].ask(*cluster.words, "caps", "--can", one, other)["can"]

    assert can("caller", "elsewhere:greeter") and can("caller", "greeter")
    assert not can("greeter", "elsewhere:greeter") and not can("s3-frontend", "elsewhere:greeter") and not can("caller", "metadata")
    unknown = cluster[0].trousseau("caps", "--can", "caller", "greeter")
    assert unknown.returncode == 1 and 'no manifest mentions "caller"' in unknown.stderr, "not without theirs"


def test_when_its_node_dies_its_clients_find_it_elsewhere(cluster):
    at = greeted(cluster)
    before = process(cluster, at)
    left = [number for number in range(3) if number != at]
    cluster[at].kill_tree()
    died = time.monotonic()
    now = greeted(cluster, left, but=at)
    print(f"answered from n{now} on {len(left)} nodes {time.monotonic() - died:.1f} s after n{at} was killed")
    assert process(cluster, now) != before
    cluster.restart(at)
    assert greeted(cluster) == now


def test_when_it_is_killed_its_clients_find_the_next_process(cluster):
    at = greeted(cluster)
    before = process(cluster, at)
    cluster[at].kill("greeter")
    died = time.monotonic()
    until(lambda: (now := host(cluster, range(3))) is not None and process(cluster, now) != before, MOVED_WITHIN, "all are answered by another process")
    print(f"answered again on all nodes {time.monotonic() - died:.1f} s after it was killed")


def test_the_node_on_which_it_runs_judges_by_its_own_manifests(cluster):
    drained = cluster[2]
    assert cluster[0].trousseau("node", "drain", drained.name).returncode == 0
    at = until(lambda: {host(cluster, range(3))} - {None, 2}, MOVED_WITHIN, "it has moved, and its clients have found it").pop()
    denied = f'node {drained.name}: its "intruder" asked for "greeting" of "greeter": denied by the manifests'
    until(lambda: (said(drained, "intruder") or "???")[2] == "denied by the manifests", TOLD_WITHIN, "the intruder is told no")
    until(lambda: denied in cluster[at].log(), TOLD_WITHIN, "and it stands in the log of who said so")
    assert said(drained)[1] == f"on {drained.name}", "the caller of the same node is answered"
    assert cluster[0].trousseau("node", "undrain", drained.name).returncode == 0


def test_no_node_starts_where_a_placed_service_would_be_called_on_its_own_node_only(tmp_path):
    for calls, serves, why in (
        ("", "", "greeter has a `placement` and may run on another: write `across = true` into this call and into what greeter serves"),
        ("across = true", "", "across nodes, which greeter serves to it on its own node only"),
    ):
        manifests = [greeter(tmp_path, "caller", across=serves), caller(tmp_path, across=calls)]
        with pytest.raises(DidNotStart) as refused:
            Home.start(services=manifests).end()
        assert why in refused.value.log
