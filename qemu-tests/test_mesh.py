"""What other nodes' buses, and everybody else on the network, meet at a node's mesh address."""

import socket

import pytest

from home import USERS, Home


def services(home):
    return set(home.services())


def hung_up(port, said):
    """What is answered to somebody who says this, before the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(said)
        heard = b""
        while part := connection.recv(4096):
            heard += part
        return heard


@pytest.mark.parametrize("user", USERS)
def test_a_node_that_others_reach_hangs_up_on_who_proves_no_key(user):
    with Home.start(user=user, mesh=True) as home:
        assert "relay" in services(home)
        for said in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", b"\x17\x03\x03\xff\xff"):
            try:
                heard = hung_up(home.mesh_port, said)
            except ConnectionResetError:
                heard = b""
            assert len(heard) < 20, "at most an alert of TLS"
        home.put("k", b"it serves on")
        assert home.get("k") == b"it serves on"
        alarms = [row for row in home.ask("caps") if row["alarm"]]
        assert not alarms
        told = [what for what in home.ask("status")["limits_missing"] if "TLS between nodes" in what]
        in_kernel = "with TLS in the kernel" in home.log()
        assert in_kernel or len(told) == 1, "who does the records is said"


def test_a_node_that_is_alone_listens_to_no_other_and_runs_no_relay():
    with Home.start() as home:
        assert "relay" not in services(home)
        assert not [what for what in home.ask("status")["limits_missing"] if "TLS between nodes" in what]
        assert "mesh" not in home.log()
