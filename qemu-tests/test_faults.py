"""Faults that a cluster survives: whatever befalls homes and the wires between them, nothing acknowledged is lost and nothing impossible is seen."""

import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from cluster import SHARDS
from faults import Faults
from history import BUCKET, FAILED, Client, Registers
from home import until
from homes import Homes
from samples import bytes_of

SECONDS = int(os.environ.get("SECONDS", 40))
"""How long faults last in the long test."""
SEED = os.environ.get("SEED")
"""Repeats a run, as far as what was done goes; what it meets is never quite the same."""
CLIENTS = 6
WELL_WITHIN = 120


@pytest.fixture
def seed(request, report):
    """What chance begins with: the variable SEED, or pytest's."""
    seed = SEED or str(request.config.getoption("seed"))
    report(f"SEED={seed}")
    return seed


def run_clients(homes, seed, faults):
    """Clients at all homes while `faults` happen; gives what they were answered, and them."""
    registers = Registers(seed)
    clients = [Client(number, registers, homes) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        faults()
    finally:
        for client in clients:
            client.done.set()
        for client in clients:
            client.join()
    return registers, clients


def judge(homes, registers, clients, report):
    """Everything is read everywhere, and whatever anybody was answered can be explained."""
    begin = time.monotonic()
    for home in homes:
        home.until_serving(WELL_WITHIN)
    report(f"all serve again after {time.monotonic() - begin:.1f} s")
    begin = time.monotonic()
    for number, _ in enumerate(homes):
        clients[0].read_all(clients[0].s3s[number], WELL_WITHIN)
    report(f"{len(registers.keys)} keys were read at each node in {time.monotonic() - begin:.1f} s")
    begin = time.monotonic()
    registers.check()
    report(
        f"{registers.answered} answers, {registers.unanswered} writes without one, {registers.not_sent} not sent; "
        f"judged in {time.monotonic() - begin:.1f} s"
    )
    assert registers.answered > 100
    homes.until_nothing_is_owed(WELL_WITHIN)


def test_whatever_befalls_three_homes_each_key_is_one_register(seed, report):
    with Homes.of(3) as homes:
        homes[0].s3.create_bucket(Bucket=BUCKET)
        faults = Faults(homes, random.Random(seed), print)

        def happen():
            faults.run(SECONDS)
            faults.end()
            time.sleep(2)  # Clients see the end of it, too.

        registers, clients = run_clients(homes, seed, happen)
        judge(homes, registers, clients, report)


@pytest.mark.parametrize("how", ["killed", "cut off"])
def test_while_a_zone_is_lost_clients_see_no_failure(how, report):
    """Clients as botocore makes them, which repeat what fails for a moment; those of the zone that is lost go elsewhere before."""
    with Homes.of(4, zones=3, at_most=4) as homes:
        # In a shard each, and the zone that leads the most of them is lost.
        buckets = [f"{BUCKET}-{number}" for number in range(SHARDS - 1)]
        for bucket in buckets:
            homes[0].s3.create_bucket(Bucket=bucket)
        time.sleep(3)  # Until then a store may not have heard that the move is over, and wants copies on the first node, too.
        leads = {node["node"]: len(node["leads"]) for node in homes[0].ask("status")["cluster"]["nodes"]}
        led, lost = max((sum(leads[homes[number].name] for number in zone), zone) for zone in ([0, 3], [1], [2]))
        left = [home for number, home in enumerate(homes) if number not in lost]
        done, failures, answers = threading.Event(), [], []

        def use(number):
            s3, bucket = left[number % len(left)].client(retries=None), buckets[number]
            kept = {}
            while not done.is_set():
                key, body = f"{number}/{len(kept)}", bytes_of([500, 20_000, 200_000][len(kept) % 3], len(kept))
                for call in (
                    lambda: s3.put_object(Bucket=bucket, Key=key, Body=body),
                    lambda: s3.get_object(Bucket=bucket, Key=key)["Body"].read() == body or failures.append(f"{key}: other bytes"),
                    lambda: s3.list_objects_v2(Bucket=bucket, Prefix=f"{number}/", MaxKeys=5)["KeyCount"] or failures.append("none is listed"),
                ):
                    begin = time.monotonic()
                    try:
                        call()
                    except FAILED as error:
                        failures.append(f"client {number}, {key}: {error}")
                    answers.append((begin, time.monotonic()))
                kept[key] = body
            return s3, bucket, kept

        with ThreadPoolExecutor(len(buckets)) as threads:
            users = [threads.submit(use, number) for number in range(len(buckets))]
            time.sleep(0.5)  # Soon: after some seconds the lead of each shard has gone to a zone that uses it.
            at = time.monotonic()
            if how == "killed":
                for number in lost:
                    homes[number].launcher.kill()
            else:
                homes.cut_off(lost)
            time.sleep(15)
            done.set()
            kept = [user.result() for user in users]
        longest = max(end - begin for begin, end in answers)
        report(f"a zone that led {led} of {SHARDS} shards is {how}: {len(answers)} answers, the longest took {longest:.1f} s")
        assert not failures
        for s3, bucket, objects in kept:
            for key, body in objects.items():
                assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == body


def test_whoever_comes_back_first_waits_for_the_others(report):
    """After all were without power: one alone can do nothing, and does not give up."""
    with Homes.of(3) as homes:
        homes[0].put("kept", b"kept")
        for home in homes:
            home.kill_tree()
        first = homes[1]
        first.run(await_ready=False)
        until(lambda: "cannot tell its access key yet" in first.log(), WELL_WITHIN, "it says what it waits for")
        with pytest.raises(ClientError) as refused:
            homes[1].client().get_object(Bucket="home", Key="kept")
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert first.launcher.poll() is None
        begin = time.monotonic()
        homes[2].run(await_ready=False)
        first.until_serving(WELL_WITHIN)
        report(f"two of three serve after {time.monotonic() - begin:.1f} s")
        assert first.get("kept") == b"kept"
        homes[0].run()
        assert homes[0].get("kept") == b"kept"
