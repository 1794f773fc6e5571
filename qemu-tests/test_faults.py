"""Faults that a cluster survives: whatever befalls homes and the wires between them, nothing acknowledged is lost and nothing impossible is seen."""

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from faults import Faults
from history import BUCKET, Client, Registers
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


def make_bucket(homes):
    for home in homes:
        homes.equip(home)
    homes[0].s3.create_bucket(Bucket=BUCKET)


def run_clients(homes, seed, faults):
    """Clients at all homes while `faults` happen; then everything is read everywhere and judged."""
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
    until(lambda: not any(list((home.data / "blocks/owed").iterdir()) for home in homes), WELL_WITHIN, "no copies are owed")


def test_whatever_befalls_three_homes_each_key_is_one_register(seed, report):
    with Homes.of(3) as homes:
        make_bucket(homes)
        faults = Faults(homes, random.Random(seed), print)

        def happen():
            faults.run(SECONDS)
            faults.end()
            time.sleep(2)  # Clients see the end of it, too.

        registers, clients = run_clients(homes, seed, happen)
        judge(homes, registers, clients, report)
