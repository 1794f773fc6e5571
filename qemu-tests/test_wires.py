"""The wires between homes that the tests of faults rely on: each fault does what it says, in its direction only, and everything ends with them."""

import os
import socket
import time
from pathlib import Path

import pytest

from homes import Homes
from wires import mesh_address

PORT = 9


@pytest.fixture(scope="module")
def ends():
    """Three homes without nodes, and a socket in each."""
    homes = Homes(3)
    try:
        ends = []
        for number in range(3):
            with homes.network_of(number):
                end = socket.socket(type=socket.SOCK_DGRAM)
                end.bind((mesh_address(number), PORT))
                end.settimeout(10)
                ends.append(end)
        yield homes, ends
    finally:
        homes.leave()


def send(ends, one, other, count=1):
    for number in range(count):
        ends[one].sendto(b"%d %d" % (one, number), (mesh_address(other), PORT))


def received(end, quiet_for=0.5):
    """What has come, until nothing has come for a while."""
    end.settimeout(quiet_for)
    came = []
    try:
        while True:
            came.append(end.recv(100))
    except TimeoutError:
        return came
    finally:
        end.settimeout(10)


def test_homes_reach_each_other_by_their_own_addresses(ends):
    homes, ends = ends
    homes.heal()
    send(ends, 0, 2)
    words, sender = ends[2].recvfrom(100)
    assert (words, sender) == (b"0 0", (mesh_address(0), PORT))


def test_a_cut_is_of_one_direction_between_two(ends):
    homes, ends = ends
    homes.heal()
    homes.fault(0, 1, cut=True)
    send(ends, 0, 1)
    send(ends, 1, 0)
    send(ends, 0, 2)
    assert ends[0].recv(100) == b"1 0" and ends[2].recv(100) == b"0 0"
    assert received(ends[1]) == []
    homes.heal()
    send(ends, 0, 1)
    assert ends[1].recv(100) == b"0 0"


def test_a_home_that_is_cut_off_hears_and_says_nothing(ends):
    homes, ends = ends
    homes.heal()
    homes.cut_off([1])
    for one, other in ((1, 0), (1, 2), (0, 1), (2, 1), (0, 2)):
        send(ends, one, other)
    assert received(ends[2]) == [b"0 0"]
    assert received(ends[0]) == received(ends[1]) == []


def test_packets_are_late_lost_and_doubled_as_told(ends):
    homes, ends = ends
    homes.heal()
    homes.fault(0, 1, delay=0.2, jitter=0.1)
    begin = time.monotonic()
    send(ends, 0, 1, 20)
    for number in range(20):
        assert ends[1].recv(100) == b"0 %d" % number, "they do not overtake each other"
    assert time.monotonic() - begin >= 0.2
    homes.fault(0, 1, loss=0.5)
    send(ends, 0, 1, 150)
    assert 30 < len(received(ends[1])) < 120
    homes.fault(0, 1, twice=0.5)
    send(ends, 0, 1, 150)
    came = received(ends[1])
    assert len(set(came)) == 150 and 180 < len(came) < 270


def test_who_gets_another_address_has_it_instead_of_the_old_one(ends):
    homes, ends = ends
    homes.heal()
    homes.order(line=[2, 7])
    with homes.network_of(2), socket.socket(type=socket.SOCK_DGRAM) as end:
        end.bind((mesh_address(2, 7), PORT))
        send(ends, 0, 2)
        ends[0].sendto(b"new", (mesh_address(2, 7), PORT))
        assert received(end) == [b"new"]
    homes.order(line=[2, 0])


def test_nothing_is_left_of_them():
    before = os.readlink("/proc/thread-self/ns/net")
    links = Path("/proc/net/dev").read_text().count("\n")
    homes = Homes(2)
    assert os.readlink("/proc/thread-self/ns/net") != before
    homes.leave()
    assert os.readlink("/proc/thread-self/ns/net") == before
    assert Path("/proc/net/dev").read_text().count("\n") == links
    assert homes.wires.returncode == 0
