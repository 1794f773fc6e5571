"""cgroup v2 in the machine: a service that takes more than its share is contained and restarted, and the others hardly notice."""

import time

import pytest

from home import hostile_manifest
from machine import Image, Machine, node_toml

GREEDY = {
    "eater": ("memory-flood", "memory limit"),
    "forker": ("fork", "filter violation fork"),
    "spinner": ("processor-flood", "hang"),
}
"""Service → what it attempts as soon as it runs, again after each restart; and for which reason it is ended."""


def manifest(directory, name, number):
    attempt, _ = GREEDY[name]
    return hostile_manifest(directory, name, number, attempt, "s3-frontend", amount=1 << 30)


@pytest.mark.timeout(600)
def test_greedy_services_are_contained_and_the_others_go_on(tmp_path, report):
    image = Image(node_toml(), services=[manifest(tmp_path, name, number) for number, name in enumerate(GREEDY)])
    with Machine(image.copy(), bus="sata") as machine:
        machine.switch_on()
        # They may keep the node from ever being ready as a whole; it has to serve all the same.
        machine.until_serving()
        took = []
        for number in range(20):
            begin = time.monotonic()
            machine.put("meanwhile", bytes([number]) * 50_000)
            assert machine.get("meanwhile") == bytes([number]) * 50_000
            took.append(time.monotonic() - begin)
        for name, (_, reason) in GREEDY.items():
            machine.seen = 0
            machine.until_console(rf"{name}\b.*{reason}")
        report(f"put and get beside an eater, a forker and a spinner: median {sorted(took)[10] * 1000:.0f} ms, slowest {max(took) * 1000:.0f} ms")
    image.remove()
