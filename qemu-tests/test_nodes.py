"""A node as one of several: who it is, whom it invites, what it says to wrong words."""

import re
import stat

import pytest

from home import Home, free_port, until


def node(**options):
    """A home that others could reach, with these options of `up` besides."""
    home = Home()
    words = {"mesh": f"127.0.0.1:{free_port()}", **options}
    home.arguments += [word for name, value in words.items() for word in (f"--{name}", str(value))]
    return home


def own(home):
    """What the node says of itself."""
    return until(lambda: home.ask("members"), 30, "membership answers")[0]


def test_a_node_is_its_key_and_keeps_it_while_all_else_may_change():
    with node(name="attic", zone="lille", capacity="500GB") as home:
        home.run()
        first = own(home)
        assert (first["name"], first["zone"], first["capacity_bytes"], first["state"]) == ("attic", "lille", 500 * 10**9, "alive")
        assert first["mesh"] in home.arguments and first["version"] and "metadata" in first["services"].split()
        seed = home.data / "seed"
        assert stat.S_IMODE(seed.stat().st_mode) == 0o600
        assert home.stop() == 0
        kept = seed.read_bytes()
        home.arguments = ["--zone", "paris", "--name", "cellar"]
        home.run()
        second = own(home)
        assert (second["name"], second["zone"], second["capacity_bytes"]) == ("attic", "paris", 500 * 10**9)
        assert second["key"] == first["key"] and seed.read_bytes() == kept
        assert "is attic's and stays so" in home.log()


def test_who_starts_a_node_without_words_gets_one_that_is_alone():
    with Home.start() as home:
        me = own(home)
        assert (me["zone"], me["state"], me["mesh"]) == ("home", "alive", "")
        assert re.fullmatch(r"node-[0-9a-f]{6}", me["name"]) and me["capacity_bytes"] > 10**6

        def refused():
            return next((line for line in home.trousseau("invite").stderr.splitlines() if "--mesh" in line), None)

        until(refused, 30, "it says what an invitation needs")


def test_an_invitation_is_a_word_with_the_words_for_the_new_node():
    with node() as home:
        home.run()
        token = home.invitation()
        assert re.fullmatch(r"[A-Za-z0-9_-]{100,256}", token)
        shown = home.trousseau("invite", "--for", "2h").stdout
        assert f"trousseau up --join {shown.splitlines()[0]} --mesh" in shown and "within 2 h" in shown
        assert home.ask("invite")["token"] not in (token, shown.splitlines()[0])
        for words, status in [(("--for", "31d"), 2), (("--for",), 2), (("now",), 2)]:
            assert home.trousseau("invite", *words).returncode == status


@pytest.mark.parametrize("words, said", [
    (("--join", "TOKEN"), "say nothing without --mesh"),
    (("--mesh", "127.0.0.1:4100", "--join", "TOKEN-"), "--join: this is not a whole token"),
    (("--mesh", "127.0.0.1:4100", "--join", "garbage"), "--join: this is not a whole token"),
    (("--mesh", "0.0.0.0:4100"), "not an address at which other nodes reach"),
    (("--gossip", "127.0.0.1:4100"), "say nothing without --mesh"),
    (("--capacity", "much"), "--capacity: \"much\" is not a size"),
    (("--zone", "The Attic"), "--zone: \"The Attic\" is not a name"),
    (("--name",), "--name needs a value"),
    (("--zones", "2"), "--zones says nothing without --nodes"),
    (("--nodes", "2", "--zones", "3"), "--zones: 2 nodes stand in at most 2 zones"),
    (("--nodes", "2", "--copies", "3"), "--copies: 2 nodes keep at most 2 copies, not 3"),
])
def test_wrong_words_are_refused_at_once_with_a_sentence(words, said):
    with node() as home:
        if "TOKEN" in "".join(words):
            home.run()
            token = home.invitation()
            assert home.stop() == 0
            words = [word.replace("TOKEN-", token[:-1]).replace("TOKEN", token) for word in words]
        done = home.trousseau("up", *words)
        assert done.returncode == 2 and said in done.stderr.splitlines()[0], done.stderr


def test_a_founder_has_no_use_for_an_invitation():
    with node() as home:
        home.run()
        home.arguments += ["--join", home.invitation()]
        key = own(home)["key"]
        assert home.stop() == 0
        home.run()
        assert own(home)["key"] == key
        assert "the invitation is ignored" in home.log()


def test_the_last_node_stays_and_unknown_ones_are_named():
    with node(name="attic") as home:
        home.run()
        home.invitation()
        done = home.trousseau("node", "revoke", "attic")
        assert done.returncode == 1 and "last node" in done.stderr
        done = home.trousseau("node", "leave", "nobody")
        assert done.returncode == 1 and "there are attic" in done.stderr
        assert home.trousseau("node", "forgive", "attic").returncode == 2
        assert own(home)["state"] == "alive"


def test_membership_outlives_its_process_and_the_damage_of_what_it_keeps():
    with node() as home:
        home.run()
        home.invitation()
        key = own(home)["key"]
        home.kill("membership")
        home.until_serving(60)
        assert own(home)["key"] == key
        assert home.stop() == 0
        roster = home.data / "roster"
        assert b"trroster" in roster.read_bytes()
        roster.write_bytes(b"\xff" * roster.stat().st_size)
        home.run()
        assert "the roster in the data directory is damaged" in home.log()
        # Metadata knows better, and tells it again.
        until(lambda: key in str(home.ask("members")) and b"trroster" in roster.read_bytes(), 30, "it is kept again")
        assert home.invitation()


def test_a_damaged_seed_is_not_replaced_by_another_identity():
    with Home.start() as home:
        assert home.stop() == 0
        (home.data / "seed").write_text("nonsense")
        done = home.trousseau("up", "--s3", f"127.0.0.1:{home.port}")
        assert done.returncode == 1 and "seed" in done.stderr and "put a copy of the right file there" in done.stderr
        assert (home.data / "seed").read_text() == "nonsense"
