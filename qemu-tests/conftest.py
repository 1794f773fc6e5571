"""What every test gets: a node of its own or its module's, and the node's log when it fails."""

import random
import secrets
import time

import pytest

from cluster import Cluster
from home import USERS, Home
from machine import Machine


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, default=secrets.randbits(32), help="of everything random")
    parser.addoption("--kills", type=int, default=None, help="how often the crash test kills (default: see there)")


def pytest_report_header(config):
    return f"seed: {config.getoption('seed')} (repeat with --seed)"


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
def report(request, capsys):
    """Shows a line of what was measured, whether or not the test fails."""
    def show(line):
        with capsys.disabled():
            print(f"\n{request.node.name}: {line}")

    return show


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
