"""Three homes that stand apart, each with an address of its own: one store. What passes between them says nothing, and who may take part is settled."""

import time

import pytest

from cluster import KNOWN_WITHIN
from home import until
from homes import Homes
from samples import MIB, bytes_of
from wires import mesh_address


@pytest.fixture(scope="module")
def homes():
    with Homes.of(3, at_most=5) as homes:
        yield homes


def known_at(home):
    """Name → what `members` says of a node, where that is asked."""
    return {one["name"]: one for one in home.ask("members")}


def all_alive(homes):
    states = [one["state"] for home in homes for one in known_at(home).values()]
    return len(states) == len(homes) ** 2 and set(states) == {"alive"}


def test_homes_with_addresses_of_their_own_are_one_store(homes):
    assert len({home.host for home in homes}) == 3
    for number, home in enumerate(homes):
        home.put(f"from-{number}", bytes_of(2 * MIB, number))
    for home in homes:
        for number in range(3):
            assert home.get(f"from-{number}") == bytes_of(2 * MIB, number)
        addresses = {name: one["mesh"] for name, one in known_at(home).items()}
        assert addresses == {f"n{number}": homes.mesh_of(number) for number in range(3)}


def test_what_passes_between_homes_says_nothing_to_who_listens(homes, tmp_path, report):
    wire = tmp_path / "wire"
    homes.capture(wire)
    secret = b"Nobody but the two of us needs to know this."
    homes[0].s3.create_bucket(Bucket="diary-of-a-homeowner")
    homes[0].put("where-the-key-lies", secret, bucket="diary-of-a-homeowner")
    homes[1].put("large-secret", secret * 60_000, bucket="diary-of-a-homeowner", Metadata={"said-to": "the-neighbour"})
    key = homes[2].ask("key", "create", "guest-of-the-house")
    assert homes[2].get("large-secret", bucket="diary-of-a-homeowner") == secret * 60_000
    assert homes[1].get("where-the-key-lies", bucket="diary-of-a-homeowner") == secret
    token = homes[0].invitation()
    homes.capture(None)
    heard = wire.read_bytes()
    report(f"{len(heard) >> 10} KiB were heard")
    assert len(heard) > 2 * len(secret) * 60_000, "the capture has the blocks in it"
    told = [secret, b"diary-of-a-homeowner", b"where-the-key-lies", b"large-secret", b"the-neighbour", b"guest-of-the-house"]
    told += [key["access_key"].encode(), key["secret_key"].encode(), token.encode()]
    told += [word for credential in ("access_key", "secret_key") for word in [homes[0].ready[credential].encode()]]
    for words in told:
        assert words not in heard, words


def test_a_home_that_gets_another_address_is_found_again(homes, report):
    # The line goes first: nobody hears that the node ends.
    homes.cut_off([2])
    homes[2].kill_tree()
    old = homes.mesh_of(2)
    homes.change_line(2)
    homes.heal()
    homes[0].put("while-it-moved", bytes_of(300_000))
    back = homes.restart(2)
    new = homes.mesh_of(2)
    assert new != old
    for home in homes:
        until(lambda: known_at(home)["n2"]["mesh"] == new and known_at(home)["n2"]["state"] == "alive", KNOWN_WITHIN, f"{home.name} knows the new address")
    assert back.get("while-it-moved") == bytes_of(300_000)
    back.put("from-the-new-line", bytes_of(300_000, 1))
    assert homes[0].get("from-the-new-line") == homes[1].get("from-the-new-line") == bytes_of(300_000, 1)
    # It is needed now, so nobody may still wait for an answer from where it was.
    homes.cut_off([1])
    begin = time.monotonic()
    homes[0].put("with-the-one-that-moved", b"1")
    report(f"a put that needs it took {time.monotonic() - begin:.1f} s")
    homes.heal()
    until(lambda: all_alive(homes), KNOWN_WITHIN, "all know that all are alive")


def test_a_home_whose_line_was_cut_for_a_while_is_found_again(homes, report):
    homes[1].put("before", b"1")
    homes.cut_off([1])
    begin = time.monotonic()
    until(lambda: known_at(homes[0])["n1"]["state"] != "alive", KNOWN_WITHIN, "it is missed")
    report(f"missed after {time.monotonic() - begin:.1f} s")
    step = time.monotonic()
    homes[0].put("while-it-was-away", b"2")
    report(f"a put at another home took {time.monotonic() - step:.1f} s")
    homes.heal()
    begin = time.monotonic()
    until(lambda: all_alive(homes), KNOWN_WITHIN, "all know that all are alive")
    report(f"found again after {time.monotonic() - begin:.1f} s")
    assert homes[1].get("while-it-was-away") == b"2"


def test_who_was_invited_to_another_store_is_not_let_in(homes):
    """Its token leads to an address where a node of this store is now: that one proves another key than the token says."""
    with homes.house(3) as elsewhere:
        elsewhere.arguments += ["--name", "elsewhere", "--mesh", homes.mesh_of(3)]
        elsewhere.run()
        token = elsewhere.invitation()
    homes.add(zone="z0")
    with homes.house(4) as stranger:
        stranger.arguments += ["--name", "stranger", "--mesh", homes.mesh_of(4), "--join", token]
        stranger.run(await_ready=False)
        until(lambda: "its key is not the expected one" in stranger.log(), KNOWN_WITHIN, "the stranger is told why")
        refused = f"a connection from {mesh_address(4)}: TLS"
        until(lambda: any(refused in home.log() for home in homes), KNOWN_WITHIN, "it is in the other log, too")
        assert "stranger" not in known_at(homes[0])
