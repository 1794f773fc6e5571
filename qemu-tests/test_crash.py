"""kill -9 of any process at any moment, under load: nothing acknowledged is lost, no half object is seen, service returns.

Alone, in the long form:  python qemu-tests/test_crash.py --kills 200 --seed 1
"""

import argparse
import random
import statistics
import sys
import time
from collections import defaultdict

import pytest

from crash_load import Load
from home import USERS, Home, is_alive, until

KILLS = 40
BUDGET_S = 240
"""In CI: so many kills, or so long, whichever ends first."""
RETURN_WITHIN = 10
"""Seconds. The goal is 2; a slow machine is no failure. What was measured is printed."""

DAEMONS = ["bus", "membership", "orchestrator"]
SERVICES = ["block-store", "metadata", "s3-frontend", "console", "web"]
TREE = ["init", "launcher"]
"""Whose end is the end of the whole node: it is started again on the same data."""


def victims(home):
    """Everything that can be killed now, by name."""
    alive = {name for name, service in home.services().items() if service["pid"]}
    return sorted(name for name in alive if name in DAEMONS + SERVICES)


def kill(home, name):
    """Ends one process; where the node ends with it, starts it again. Gives the seconds until it serves."""
    begin = time.monotonic()
    if name in TREE:
        pids = {service["pid"] for service in home.services().values() if service["pid"]}
        if name == "launcher":
            home.kill_tree()
        else:
            home.kill("init")
            assert home.launcher.wait(30) != 0, "the node did not end by itself"
            home.launcher.stdout.close()
        until(lambda: not any(is_alive(pid) for pid in pids), 10, "everything has ended with it")
        begin = time.monotonic()
        home.run()
    else:
        try:
            home.kill(name)
        except ProcessLookupError:
            pass  # It was just being restarted: then this is the moment that was drawn.
    home.until_serving(60)
    return time.monotonic() - begin


def crash(home, kills, seed, budget_s=None, say=print):
    """The test itself. `say` gets the figures."""
    chance = random.Random(f"{seed} kills")
    say(f"crash test: up to {kills} kills, --seed {seed}")
    home.until_serving()
    load = Load(home, seed).start()
    took = defaultdict(list)
    begin = time.monotonic()
    try:
        for number in range(kills):
            if load.violations() or budget_s and time.monotonic() - begin > budget_s:
                break
            time.sleep(chance.uniform(0, 0.8))  # The random moment.
            # One kill in twelve is of the whole tree.
            name = chance.choice(TREE) if chance.random() < 1 / 12 else chance.choice(victims(home))
            took[name].append(kill(home, name))
    finally:
        load.stop()
    seconds = sorted(second for times in took.values() for second in times)
    say(f"{len(seconds)} kills in {time.monotonic() - begin:.0f} s; load: {load.summary()}")
    for name, times in sorted(took.items()):
        say(f"  {name:13} {len(times):3} kills, served again after {statistics.median(times):.2f} s, at most {max(times):.2f} s")
    late = sum(second > 2 for second in seconds)
    say(f"  all           median {statistics.median(seconds):.2f} s, at most {seconds[-1]:.2f} s, {late} later than 2 s")

    load.check()
    assert home.stop() == 0
    home.run()
    load.check()  # Also after an orderly stop and a start.
    assert seconds[-1] < RETURN_WITHIN, f"service returned after {seconds[-1]:.1f} s"
    return seconds


@pytest.mark.timeout(900)
@pytest.mark.parametrize("user", USERS)
def test_nothing_acknowledged_is_lost_by_kills(request, report, user):
    kills = request.config.getoption("kills") or KILLS // len(USERS)
    budget = None if request.config.getoption("kills") else BUDGET_S / len(USERS)
    with Home.start(user=user, web_domains=[]) as home:
        crash(home, kills, request.config.getoption("seed"), budget, report)


@pytest.mark.parametrize("name", DAEMONS + SERVICES + TREE)
def test_each_process_may_be_killed(name):
    """One by one and without load: what is stored stays, and the node comes back by itself."""
    with Home.start(web_domains=[]) as home:
        home.put("k", b"x" * 100_000)
        for _ in range(3):
            seconds = kill(home, name)
            assert home.get("k") == b"x" * 100_000
            assert seconds < RETURN_WITHIN
        assert home.ask("status")["ready"] is True or until(lambda: home.ask("status")["ready"], 30, "all is ready again")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--user", choices=USERS, default=USERS[0])
    arguments = parser.parse_args()
    with Home.start(user=arguments.user, web_domains=[]) as home:
        try:
            crash(home, arguments.kills, arguments.seed)
        except BaseException:
            sys.stderr.write(home.log()[-20_000:])
            raise
    print("passed")


if __name__ == "__main__":
    main()
