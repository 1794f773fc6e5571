"""What every test gets: a node of its own or its module's, and the node's log when it fails."""

import random
import secrets
import time

import pytest

from cluster import Cluster
from home import USERS, Home
from machine import Machine

MEASURED = "measured"
LONGEST = ["test_profiles.py", "test_garbage.py", "test_machine.py", "test_three_machines.py", "test_faults.py", "test_setbacks.py", "test_cluster.py", "test_power_cut.py"]
"""Begun first, so that at the end no worker has to do one of them while the others have nothing to do."""


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, default=secrets.randbits(32), help="of everything random")
    parser.addoption("--kills", type=int, default=None, help="how often the crash test kills (default: see there)")


def pytest_report_header(config):
    return f"seed: {config.getoption('seed')} (repeat with --seed)"


def pytest_collection_modifyitems(items):
    def turn(item):
        return LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST)

    items.sort(key=turn)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for home in Home.running:
            tail = "\n".join(home.log().splitlines()[-150:])
            report.sections.append((f"log of the node {home.own.name}", tail))
        if Home.last_words:
            report.sections.append(("log of a node that has ended", Home.last_words))
        for machine in Machine.running:
            report.sections.append((f"console of the machine {machine.own.name}", "\n".join(machine.console().splitlines()[-200:])))
        if Machine.last_words:
            report.sections.append(("console of a machine that has ended", Machine.last_words))
    Home.last_words = Machine.last_words = None


@pytest.fixture
def report(request):
    """Shows a line of what was measured when the test is over, whether or not it fails."""
    return lambda line: request.node.user_properties.append((MEASURED, line))


class Shown:
    """Shows what tests have reported, also those that ran in a worker of xdist."""

    def __init__(self, terminal):
        self.terminal = terminal

    def pytest_runtest_logreport(self, report):
        lines = [line for name, line in report.user_properties if name == MEASURED]
        if report.when == "teardown" and lines:
            self.terminal.ensure_newline()
            for line in lines:
                self.terminal.write_line(f"{report.nodeid.rpartition('::')[2]}: {line}")


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    terminal = config.pluginmanager.getplugin("terminalreporter")
    if terminal and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Shown(terminal))


@pytest.fixture
def chance(request):
    """The only source of randomness; its seed is in the header of the report."""
    return random.Random(f"{request.config.getoption('seed')} {request.node.nodeid}")


@pytest.fixture(scope="module")
def home():
    """One node for a module. Whatever its tests did, no process may have ended on the way."""
    with Home.start() as home:
        before = home.restarts()
        yield home
        assert home.restarts() == before, f"a process was restarted during these tests: {home.services()}"


@pytest.fixture(scope="module")
def cluster():
    """Three nodes for a module, with three copies of each block."""
    with Cluster.of(3) as cluster:
        yield cluster


@pytest.fixture(params=USERS)
def own_home(request):
    """A node for one test alone, once as root and once as an ordinary user."""
    with Home.start(user=request.param) as home:
        yield home


@pytest.fixture(scope="module")
def s3(home):
    return home.s3


@pytest.fixture
def bucket(s3, request):
    """A fresh bucket for one test; its objects need not be removed, since the node goes with the module."""
    name = f"t{time.time_ns()}"
    s3.create_bucket(Bucket=name)
    return name
