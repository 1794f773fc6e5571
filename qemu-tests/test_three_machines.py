"""Three computers, each started from the image by its firmware, in one network of their own: they become one store, and any of them may be lost.

The third is told another time than the others, minutes ahead, after it has started: its clock jumps.
"""

import re

import pytest

from cable import Lan
from home import until
from machine import BOOT_WITHIN, Image, Machine, node_toml, public, ssh_key
from time_server import TimeServer

KNOWN_WITHIN = 300
"""Seconds; three emulated computers share the processors."""
MARK = b"never in the clear between two homes"
BODIES = {f"size/{len(body)}": body for body in (MARK, MARK * 2_000, MARK * 60_000)}
"""Inline, packed, and in blocks of their own."""
AHEAD_S = 300
"""The third one's clock. Less than what makes requests of clients with a right clock too old."""


def configuration(number, lan, time_server, join=None):
    """Of the machine's node.toml."""
    lines = [
        f'zone = "z{number}"',
        "[cluster]",
        f'mesh = "{lan.cables[number].client}:3901"',
        *([f'join = "{join}"'] if join else []),
    ]
    clock = [time_server.address] if number == 2 else []
    return node_toml(name=f"n{number}", more="\n".join(lines), admin=[public(ssh_key())], clock=clock)


def switched_on(number, lan, time_server, join=None):
    image = Image(configuration(number, lan, time_server, join))
    try:
        machine = Machine(image.copy(), devices=lan.cables[number].devices, processors=1)
    finally:
        image.remove()
    machine.switch_on()
    return machine


def say(machine, *words):
    """The operator's words by ssh, until they are obeyed."""
    def obeyed():
        done = machine.ssh(ssh_key(), *words)
        print(done.stderr, end="")
        return done.returncode == 0 and (done.stdout or " ")

    return until(obeyed, KNOWN_WITHIN, f"{words} is obeyed")


@pytest.mark.timeout(1800)
def test_three_machines_are_one_store_and_any_of_them_may_be_lost(tmp_path, report):
    lan, time_server = Lan(tmp_path, 3), TimeServer(ahead_s=AHEAD_S)
    machines = [switched_on(0, lan, time_server)]
    try:
        machines[0].until_ready()
        tokens = [say(machines[0], "invite").split("\n")[0] for _ in range(2)]
        machines += [switched_on(number, lan, time_server, token) for number, token in enumerate(tokens, 1)]
        for machine in machines[1:]:
            machine.until_ready()
        become_one(machines)
        for machine, (key, body) in zip(machines, BODIES.items()):
            machine.until_serving()
            machine.put(key, body)
        is_read_everywhere(machines, BODIES)
        # Whether before or after it was ready.
        jumped = re.compile(r"clock: info: the clock was [23]\d\d\.\d+ s behind and is set")
        until(lambda: jumped.search(machines[2].console()), BOOT_WITHIN, "the clock of the third one jumps")

        between = sum(map(len, lan.heard))
        assert between > 2 * sum(map(len, BODIES.values())), "each block went to two others"
        assert not [frame for frame in lan.heard if MARK in frame], "what is between two homes is encrypted"

        machines[1].cut_power()
        left = [machines[0], machines[2]]
        while_away = {f"while-away/{number}": MARK * 1_000 * (number + 1) for number in range(2)}
        for machine, (key, body) in zip(left, while_away.items()):
            machine.until_serving()
            machine.put(key, body)
        is_read_everywhere(left, BODIES | while_away)

        machines[1].switch_on()
        machines[1].until_ready()
        is_read_everywhere(machines, BODIES | while_away)
        assert not [frame for frame in lan.heard if MARK in frame], "what is between two homes is encrypted"
        report(f"three machines, {between / 1e6:.1f} MB between them for {sum(map(len, BODIES.values())) / 1e6:.1f} MB of objects; one was lost and came back")
    finally:
        for machine in machines:
            machine.end()
            machine.disk.unlink()
            machine.disk.parent.rmdir()


def become_one(machines):
    """Three copies of each block, one on each machine."""
    first = machines[0]
    for number in range(len(machines)):
        say(first, "layout", "assign", f"n{number}")
    say(first, "layout", "copies", "3")
    say(first, "layout", "apply")
    until(lambda: '"moving"' not in say(first, "layout", "--json"), BOOT_WITHIN, "blocks are where they belong")


def is_read_everywhere(machines, bodies):
    for number, machine in enumerate(machines):
        machine.until_serving()
        for key, body in bodies.items():
            assert machine.get(key) == body, f"{key} at the machine {number}"
