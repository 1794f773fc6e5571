"""What `status` says of several homes: safe, what the loss of one costs, what to do; how far a move is; how many copies; and who may leave."""

import time

import pytest

from cluster import SHARDS, Cluster, Writers
from home import Home, free_port, until
from samples import MIB, bytes_of

AGAIN = 90
"""Seconds until a cluster that was disturbed is as it should be."""
FOLLOWED_WITHIN = 300
"""Seconds: a lead that has just come does not go on for half a minute, and what was asked before is forgotten by and by (services/metadata/src/members.rs)."""


def cluster_of(home):
    """What a node says of its cluster, which it says within seconds whoever is away."""
    began = time.monotonic()
    status = home.ask("status")
    assert time.monotonic() - began < 10, "status does not wait for who is away"
    return status["cluster"]


def is_as_it_should_be(home):
    said = cluster_of(home)
    return said["safe"] and said["done"]


def said(cluster, words):
    return any(words in finding["what"] for finding in cluster["findings"])


def todo(cluster, words):
    return [finding["do"] for finding in cluster["findings"] if words in finding["what"]]


def states(cluster):
    return {node["node"]: node["state"] for node in cluster["nodes"]}


def test_status_says_what_the_loss_of_a_home_costs_until_it_is_back():
    with Cluster.of(3) as cluster:
        for number in range(6):
            cluster[number % 3].put(f"before/{number}", bytes_of(100_000, number))
        until(lambda: is_as_it_should_be(cluster[0]), AGAIN, "three homes are safe")
        for home in cluster:
            whole = cluster_of(home)
            assert states(whole) == {"n0": "alive", "n1": "alive", "n2": "alive"}
            assert whole["copies"] == 3 and len(whole["shards"]) == SHARDS
            assert all(sorted(shard["voters"]) == ["n0", "n1", "n2"] for shard in whole["shards"])
            assert all(node["behind"] == 0 and node["links"] in ("kernel TLS", "relay") for node in whole["nodes"])
            assert "Any one zone may be lost" in whole["summary"]
            assert sum(len(node["leads"]) for node in whole["nodes"]) == SHARDS
        cluster[1].kill_tree()
        first = cluster[0]
        until(lambda: said(cluster_of(first), "n1 in zone z1 does not answer"), 30, "n1 is missed")
        for number in range(6):
            first.put(f"during/{number}", bytes_of(100_000, 100 + number))
        until(lambda: "No single loss loses data" in cluster_of(cluster[2])["summary"], 30, "two copies are left")
        for home in (first, cluster[2]):
            whole = cluster_of(home)
            assert (whole["state"], whole["safe"]) == ("degraded", False)
            assert said(whole, "n1 in zone z1 does not answer"), whole["findings"]
            assert said(whole, "is on 2 of 3 voters: without n1"), whole["findings"]
            assert "The loss of z0 or z2 stops the store" in whole["summary"]
            assert "layout remove n1" in todo(whole, "n1 in zone z1 does not answer")[0]
        text = first.trousseau("status").stdout
        assert text.startswith("The cluster is degraded."), text
        assert "-> Start it again" in text, text
        # What was last known of it is shown.
        lost = [node for node in cluster_of(first)["nodes"] if node["node"] == "n1"][0]
        assert lost["state"] in ("no answer", "suspect", "gone") and lost["heard"] != "now", lost
        cluster.restart(1)
        until(lambda: all(is_as_it_should_be(home) for home in cluster), AGAIN, "safe again")


def test_the_lead_of_what_is_written_goes_to_the_zone_that_writes_it(report):
    with Cluster.of(3) as cluster:
        # Of the second to the seventh bucket of a store (services/metadata/src/proposer.rs, `shard_of`), whether `home` was the first or comes later. Shard 0, where one
        # of them is, has other calls, too; a shard that nobody uses is led by turns.
        buckets, shards = [f"used-{number}" for number in range(7)], {1, 2, 3, 5, 6}
        for bucket in buckets:
            cluster[0].s3.create_bucket(Bucket=bucket)

        def leads(home):
            return {shard for node in cluster_of(cluster[0])["nodes"] if node["node"] == home.name for shard in node["leads"]}

        for home in (cluster[2], cluster[1]):
            def write(number, turn):
                home.s3.put_object(Bucket=buckets[number], Key=f"{turn % 50}", Body=b"used")
                time.sleep(0.05)

            with Writers(len(buckets), write):
                began = time.monotonic()
                until(lambda: leads(home) >= shards, FOLLOWED_WITHIN, f"{home.name} leads what it writes")
                report(f"{home.name} leads what it writes after {time.monotonic() - began:.0f} s")


def test_of_two_copies_the_loss_of_one_is_the_last_but_one():
    with Cluster() as cluster:
        cluster.add(zone="z0", copies="2")
        for zone in ("z1", "z2"):
            cluster.add(zone=zone)
        first = cluster[0]
        for home in cluster:
            cluster.assign(home, 60)
        preview = first.ask("layout", "preview")
        assert preview["to"]["copies"] == 2, "what --copies wished for waits with the first layout"
        assert {zone["zone"] for zone in preview["zones"]} == {"z0", "z1", "z2"}
        assert preview["usable_bytes_before"] > 0
        assert first.trousseau("layout", "apply").returncode == 0
        until(lambda: is_as_it_should_be(first), AGAIN, "two copies in three homes")
        whole = cluster_of(first)
        assert whole["copies"] == 2 and all(len(shard["voters"]) == 2 for shard in whole["shards"])
        assert "No single loss loses data" in whole["summary"] and "stops the store" in whole["summary"]
        for number in range(20):
            first.put(f"k/{number}", bytes_of(70_000, number))
        until(lambda: is_as_it_should_be(first), AGAIN, "all copies are made")
        cluster[2].kill_tree()
        until(lambda: said(cluster_of(first), "have only one copy in reach"), 60, "one copy of some is left")
        whole = cluster_of(first)
        assert said(whole, "One more loss in z0 loses data") and said(whole, "One more loss in z1 loses data")
        assert whole["state"] in ("at risk", "out of reach")
        cluster.restart(2)
        until(lambda: is_as_it_should_be(first), AGAIN, "safe again")


def test_a_home_that_is_lost_for_good_is_replaced_by_the_others():
    with Cluster.of(4, copies=3) as cluster:
        first = cluster[0]
        for number in range(12):
            first.put(f"k/{number}", bytes_of(200_000, number))
        until(lambda: is_as_it_should_be(first), AGAIN, "four homes are safe")
        cluster[3].kill_tree()
        until(lambda: said(cluster_of(first), "n3 in zone z3 does not answer"), 30, "n3 is missed")
        assert first.trousseau("node", "revoke", "n3").returncode == 0
        whole = until(lambda: said(cluster_of(first), "n3 was revoked") and cluster_of(first), 30, "its part is to be taken over")
        assert "`trousseau layout remove n3`" in todo(whole, "n3 was revoked")[0]
        for words in (("remove", "n3"), ("apply",)):
            done = first.trousseau("layout", *words)
            assert done.returncode == 0, done.stderr
        until(lambda: is_as_it_should_be(first), AGAIN, "three homes have three copies")
        for number in range(12):
            assert cluster[1].get(f"k/{number}") == bytes_of(200_000, number)


def test_who_is_needed_does_not_leave_and_who_gave_everything_away_does():
    with Cluster.of(3, copies=2) as cluster:
        first = cluster[0]
        first.put("k", bytes_of(MIB, 1))
        until(lambda: is_as_it_should_be(first), AGAIN, "safe")
        early = first.trousseau("node", "leave", "n2")
        assert early.returncode == 1 and "keeps copies of" in early.stderr and "layout remove n2" in early.stderr
        for words in (("remove", "n2"), ("apply",)):
            assert first.trousseau("layout", *words).returncode == 0
        first.until_moved(AGAIN)
        until(lambda: first.trousseau("node", "leave", "n2").returncode == 0, AGAIN, "n2 leaves")
        until(lambda: is_as_it_should_be(first), AGAIN, "two homes are safe")
        assert states(cluster_of(first))["n1"] == "alive"
        assert cluster[1].get("k") == bytes_of(MIB, 1)


def test_a_move_shows_how_much_is_left_and_then_that_it_is_over():
    with Cluster.of(3) as cluster:
        first = cluster[0]
        for number in range(40):
            cluster[number % 3].put(f"k/{number}", bytes_of(2 * MIB, number))
        until(lambda: is_as_it_should_be(first), AGAIN, "all copies are made")
        newcomer = cluster.add(zone="z3")
        cluster.assign(newcomer, 60)
        assert first.trousseau("layout", "apply").returncode == 0
        lefts, ended = [], time.monotonic() + AGAIN
        while time.monotonic() < ended:
            layout = first.ask("layout")
            if "moving" not in layout:
                break
            progress = {one["node"]: one for one in layout["moving"].get("progress", [])}
            if newcomer.name in progress and progress[newcomer.name]["blocks"] is not None:
                lefts.append(progress[newcomer.name])
        assert "moving" not in first.ask("layout"), "the move is over"
        assert lefts and lefts[0]["blocks"] > 0, "what is to come is shown from the start"
        assert lefts[0]["blocks"] >= lefts[-1]["blocks"], "and becomes less"
        moving = [one for one in lefts if one["bytes_per_second"] > 0 and one["blocks"] > 0]
        assert all(one["bytes"] > 0 and one["seconds_left"] >= 0 for one in moving)
        until(lambda: all(is_as_it_should_be(home) for home in cluster), AGAIN, "four homes are safe")
        assert [node["behind"] for node in cluster_of(first)["nodes"]] == [0] * 4


@pytest.mark.parametrize("words, why", [(["--copies", "4"], "there can be 1, 2, 3 or 5"), (["--copies", "three"], "there can be 1, 2, 3 or 5")])
def test_a_number_of_copies_that_cannot_be_is_refused(words, why):
    with Home() as home:
        done = home.trousseau("up", *words)
    assert done.returncode == 2 and why in done.stderr, done.stderr


def test_who_joins_does_not_say_how_many_copies_there_are():
    with Cluster.of(1) as cluster:
        token = cluster.invitation()
        with Home() as joiner:
            done = joiner.trousseau("up", "--mesh", f"127.0.0.1:{free_port()}", "--join", token, "--copies", "3")
        assert done.returncode == 2 and "is said by who makes a cluster" in done.stderr, done.stderr
