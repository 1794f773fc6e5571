"""debug-ssh: the operator's verbs over SSH, by OpenSSH's own client; what it refuses, and how it is confined."""

import ctypes
import json
import os
import random
import re
import signal
import socket
import subprocess
import time
from contextlib import suppress

import pytest

from home import USERS, free_port, is_alive, program, until
from ssh import Keys, SshHome

INSPECT = ["status", "members", "services", "caps", "caps --can debug-ssh metadata", "fds", "fds debug-ssh", "logs", "logs debug-ssh --lines 3",
           "metrics", "trace s3-frontend --seconds 1", "layout show", "shards", "bucket list"]
"""Verbs of both roles."""
ADMIN = ["key list", "sweep", "restart metadata"]
"""Verbs of the role admin only (and `reboot`, `poweroff`)."""


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def home(keys):
    with SshHome.start(keys=keys) as home:
        home.until_serving()
        home.ssh("members")  # From here on the client knows the host key, and says no more about it.
        yield home


def refused(home, what, key=None, within=20):
    """Waits for the line that the log has of a refusal, with the peer's address and the key's fingerprint."""
    who = re.escape(home.keys.fingerprint(key)) if key else r"\S+ ?\S*"
    pattern = rf"debug-ssh: warn: 127\.\d+\.\d+\.\d+:\d+ {who}.* refused: .*{what}"
    return until(lambda: re.search(pattern, home.log()), within, f"the log has {pattern}")


# Verbs.

@pytest.mark.parametrize("verb", INSPECT)
@pytest.mark.parametrize("key", ["admin", "inspect"])
def test_every_verb_answers_people_and_programs(home, verb, key):
    text = home.ssh(*verb.split(), key=key)
    assert (text.returncode, text.stderr) == (0, ""), text
    assert text.stdout.endswith("\n") and "\t" not in text.stdout and "\x1b" not in text.stdout
    document = home.ssh(*verb.split(), "--json", key=key)
    assert document.returncode == 0, document
    json.loads(document.stdout)


@pytest.mark.parametrize("verb", ADMIN)
def test_verbs_that_change_something_need_the_role_admin(home, verb):
    done = home.ssh(*verb.split(), key="inspect")
    assert (done.returncode, done.stdout) == (1, "")
    assert "needs a key of the role admin" in done.stderr
    done = home.ssh(*verb.split(), key="admin")
    assert done.returncode == 0, done
    home.until_serving()


def test_reboot_and_poweroff_are_not_for_those_who_only_look(home):
    for verb in ["reboot", "poweroff"]:
        assert home.ssh(verb, key="inspect").returncode == 1
    done = home.ssh("reboot")
    assert done.returncode == 1 and "somebody's machine" in done.stderr
    assert home.ssh("status").returncode == 0


@pytest.mark.parametrize("key", ["admin", "inspect", "rsa", "ecdsa"])
def test_each_kind_of_key_opens(home, key):
    done = home.ssh("members", key=key)
    assert done.returncode == 0, done


def test_both_ways_to_say_a_verb_give_the_same(home):
    for words in [["members", "--json"], ["bucket", "list", "--json"], ["caps", "--can", "bus", "network", "--json"]]:
        assert home.ssh(*words).stdout == home.trousseau(*words).stdout
    assert home.ssh("metadata-is-no-verb").stderr == home.ssh("metadata-is-no-verb", key="inspect").stderr


def test_exit_statuses_are_0_1_and_2(home):
    assert home.ssh("status").returncode == 0
    assert home.ssh("fds", "nobody").returncode == 1
    assert home.ssh("logs", "--lines", "many").returncode == 2
    assert home.ssh("trace", "s3-frontend", "--seconds", "3600").returncode == 2
    done = home.ssh("help", key="inspect")
    assert done.returncode == 0 and "trace SERVICE" in done.stdout and "poweroff" not in done.stdout
    assert "poweroff" in home.ssh("help").stdout


def test_quotes_keep_a_name_together(home):
    done = home.ssh("key create 'my old laptop' --json")
    assert json.loads(done.stdout)["name"] == "my old laptop", done


def test_every_verb_and_login_is_in_the_log(home):
    home.ssh("shards", "--json", key="ecdsa")
    who = re.escape(home.keys.fingerprint("ecdsa"))
    until(lambda: re.search(rf"127\.0\.0\.1:\d+ {who} inspect logged in as \"root\"", home.log()), 10, "the login is logged")
    until(lambda: re.search(rf"{who} inspect said \"shards\": status 0", home.log()), 10, "the verb is logged")
    assert "said" in home.ssh("logs", "debug-ssh").stdout


# Trace.

def test_trace_tells_what_is_served_and_asked_and_which_descriptors_go(home):
    tracer = subprocess.Popen(
        [*home.ssh_command(), "root@127.0.0.1", "trace", "s3-frontend", "--seconds", "5", "--json"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )
    count = 0
    while tracer.poll() is None:
        home.put("traced", b"x" * 300_000)
        assert len(home.get("traced")) == 300_000
        count += 1
    told = json.loads(tracer.communicate()[0])
    calls = {(row["side"], row["conversation"], row["call"]): row for row in told["calls"]}
    assert 3_000 <= told["covered_ms"] <= 9_000
    assert 0 < calls["served", "s3", "PutObject"]["count"] <= count
    assert calls["served", "s3", "GetObject"]["count"] > 0
    assert calls["asked", "blocks", "Create"]["descriptors_received"] > 0, "a descriptor to write a block"
    assert calls["asked", "blocks", "Open"]["descriptors_received"] > 0, "and one to read it"
    assert told["denied"] == [] and told["ended"] == []
    served = json.loads(home.ssh("trace", "block-store", "--seconds", "1", "--json").stdout)
    assert all(row["conversation"] != "s3" for row in served["calls"])


@pytest.mark.parametrize("service", ["membership", "bus", "orchestrator", "block-store", "metadata", "console", "debug-ssh"])
def test_every_process_can_be_traced_and_counts_nothing_afterwards(home, service):
    done = home.ssh("trace", service, "--seconds", "1")
    assert done.returncode == 0 and "denied system calls: none" in done.stdout, done
    assert home.trousseau("trace", service, "--seconds", "1").returncode == 0
    assert home.ssh("trace", "init").returncode == 1


def test_a_denied_system_call_is_seen_with_its_name(keys, tmp_path):
    """A guest that makes a socket as soon as it is ready: in `services`, in the log and in a trace."""
    guest = tmp_path / "guest.toml"
    guest.write_text(f"""\
name = "guest"
about = "Makes a socket."
rank = 100
profile = "console"
program = "{program('hostile')}"
limits = {{ memory_mb = 32, processes = 4, open_files = 64 }}
settings = {{ attempts = "socket-inet" }}
grant = [{{ name = "bus", kind = "bus", why = "A target." }}]
""")
    with SshHome(keys=keys, services=[guest]) as home:
        home.run(await_ready=False)
        until(lambda: home.trousseau("status").returncode == 0 and home.services().get("guest", {}).get("restarts", 0) > 1, 60, "the guest was started again")
        told = home.services()["guest"]
        assert told["denied"]["socket"] > 0 and told["last_reason"] == "filter violation socket"
        assert "guest ended: filter violation socket" in home.ssh("logs").stdout
        traced = home.ssh("trace", "guest", "--seconds", "12", "--json")
        if traced.returncode == 1:  # It was just not running.
            traced = until(lambda: (done := home.ssh("trace", "guest", "--seconds", "12", "--json")).returncode == 0 and done, 60, "the guest runs")
        traced = json.loads(traced.stdout)
        assert traced["denied"][0]["system_call"] == "socket" and "filter violation socket" in traced["ended"]
        metrics = {(row["metric"], row["of"]): row["value"] for row in json.loads(home.ssh("metrics", "--json").stdout)}
        assert metrics["denied_system_calls", "guest"] > 0 and metrics["denied_system_calls", "metadata"] == 0


# An interactive session.

def talk(home, keys, key="admin", terminal=True):
    """Types `keys` into a session without a command; exit status and everything that was shown."""
    options = ["-tt"] if terminal else ["-T"]
    done = home.ssh(key=key, options=options, input=keys)
    return done.returncode, done.stdout


def test_a_session_offers_the_same_verbs_with_help_and_history(home):
    status, shown = talk(home, "help\rmembers\r\x1b[A\r\x04", key="inspect")
    assert status == 0
    assert "role inspect" in shown and "trace SERVICE" in shown
    assert shown.count("ADDRESS") == 2, f"the second time by the arrow: {shown!r}"


def test_a_session_edits_lines(home):
    status, shown = talk(home, "memberx\x7fs\rlayaut\x1b[D\x1b[D\x7fo\x05 show\rexit\r")
    assert status == 0 and "ZONE" in shown and "COPIES" in shown, shown


def test_a_session_is_no_shell(home):
    status, shown = talk(home, "sh\rcat /etc/passwd\r$(reboot)\r/bin/sh -i\r!ls\rexit\r")
    assert status == 2 and shown.count("is not a verb") == 5 and "root:" not in shown, shown


def test_interrupt_ends_waiting_and_end_of_input_ends_the_session(home):
    begin = time.monotonic()
    status, shown = talk(home, "trace metadata --seconds 60\r\x03members\r\x04")
    assert status == 0 and "^C" in shown and "ZONE" in shown and time.monotonic() - begin < 40
    assert talk(home, "\x04")[0] == 0


def test_lines_from_a_pipe_are_verbs_and_the_last_one_counts(home):
    status, shown = talk(home, "members --json\n\nlayout show --json\n", terminal=False)
    assert status == 0
    assert [json.loads(line)[0]["zone"] for line in shown.splitlines()] == ["home", "home"]
    assert talk(home, "members\nrm -rf /\n", terminal=False)[0] == 2
    assert talk(home, "members", terminal=False)[0] == 0


# Refusals. Each kind comes from an address of its own: an address that fails too often is refused for a while.

@pytest.mark.parametrize("command", ["ls", "sh -c id", "/bin/sh", "scp -t /tmp", "rsync --server . /", "cat <&3", "", "trousseau status"])
def test_commands_that_are_no_verbs_are_refused(home, command):
    if command:
        done = home.ssh(command)
        assert done.returncode == 2 and done.stdout == "" and "is not a verb" in done.stderr, done
        refused(home, re.escape(json.dumps(command)) + " is not a verb", key="admin")


@pytest.mark.parametrize("key, why", [("unknown", "is not known"), ("no-role", "has no role"), ("weak", "is not known")])
def test_keys_that_open_nothing_are_refused(home, key, why):
    done = home.ssh("status", key=key, source="127.0.0.2", options=["-o", "RequiredRSASize=1024"])
    assert done.returncode == 255 and "Permission denied (publickey)" in done.stderr, done
    refused(home, f"the key {why}", key=key)


def test_passwords_and_questions_are_not_even_offered(home):
    methods = ["-o", "PreferredAuthentications=password,keyboard-interactive,hostbased,gssapi-with-mic", "-v"]
    done = home.ssh("status", source="127.0.0.3", options=methods)
    assert done.returncode == 255
    assert re.findall(r"Authentications that can continue: (\S+)", done.stderr) == ["publickey"], done.stderr


def test_files_are_not_copied(home, tmp_path):
    source = tmp_path / "file"
    source.write_text("x")
    for words in [["sftp", "-b", "/dev/null"], ["scp"], ["scp", "-O"]]:
        end = ["root@127.0.0.1"] if words[0] == "sftp" else [str(source), "root@127.0.0.1:/file"]
        command = [*home.ssh_command(program=words[0])[:1], *words[1:], *home.ssh_command(program=words[0])[1:], *end]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        assert done.returncode != 0, done
    refused(home, 'the subsystem "sftp"', key="admin")
    refused(home, '"scp -t /file" is not a verb', key="admin")


def test_ports_are_not_forwarded_to(home):
    done = home.ssh(options=["-W", "127.0.0.1:22"])
    assert done.returncode == 255 and "prohibited" in done.stderr, done
    refused(home, 'forwarding to "127.0.0.1" port 22', key="admin")
    refusing = {"-L": "port 23", "-D": "port 24"}
    for option, what in refusing.items():
        port = free_port()
        where = f"127.0.0.1:{port}" + (":127.0.0.1:23" if option == "-L" else "")
        tunnel = subprocess.Popen([*home.ssh_command("-N", option, where), "root@127.0.0.1"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            def reached():
                try:
                    with socket.create_connection(("127.0.0.1", port), 5) as client:
                        if option == "-D":  # SOCKS4: connect to 127.0.0.1 port 24
                            client.sendall(b"\x04\x01\x00\x18\x7f\x00\x00\x01\x00")
                        return client.recv(100) in (b"", b"\x00\x5b\x00\x00\x00\x00\x00\x00") or True
                except ConnectionRefusedError:
                    return False

            until(reached, 20, "the client listens")
            refused(home, what, key="admin")
        finally:
            tunnel.terminate()
            tunnel.wait()


def test_ports_are_not_forwarded_from(home):
    for listen in [f"127.0.0.1:{free_port()}:127.0.0.1:1", "/tmp/socket:127.0.0.1:1"]:
        done = home.ssh("status", options=["-o", "ExitOnForwardFailure=yes", "-R", listen])
        assert done.returncode == 255 and "forwarding failed" in done.stderr, done
    refused(home, "forwarding of .* from here", key="admin")
    refused(home, "forwarding of the socket .* from here", key="admin")


def test_agents_x11_and_variables_do_not_come_along(home, tmp_path):
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "agent")], stdout=subprocess.DEVNULL)
    until(lambda: (tmp_path / "agent").exists(), 10, "the agent listens")
    environment = {**os.environ, "SSH_AUTH_SOCK": str(tmp_path / "agent"), "DISPLAY": "127.0.0.1:99", "LC_ALL": "C.UTF-8"}
    done = home.ssh("members", options=["-A", "-Y", "-o", "SetEnv=SECRET=1", "-o", "SendEnv=LC_ALL"], env=environment)
    agent.terminate()
    agent.wait()
    assert done.returncode == 0, done
    refused(home, "forwarding of an agent", key="admin")
    refused(home, "forwarding of X11", key="admin")
    refused(home, 'the environment variable "SECRET"', key="admin")
    assert "LC_ALL" not in home.log()


# Strangers.

def test_hostile_bytes_harm_nobody_else(home, chance):
    restarts = home.restarts()
    witness = subprocess.Popen(
        [*home.ssh_command(), "root@127.0.0.1", "trace", "metadata", "--seconds", "4"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )
    for number, bytes_ in enumerate(hostile(chance)):
        with socket.create_connection(("127.0.0.1", home.ssh_port), 10, source_address=(f"127.0.1.{number % 200 + 1}", 0)) as client:
            client.settimeout(1)
            try:
                client.sendall(bytes_)
                while client.recv(65_536):
                    pass
            except (TimeoutError, ConnectionError):
                pass
    assert witness.wait(60) == 0 and "covered" not in witness.stdout.read()
    assert home.ssh("members").returncode == 0
    assert home.restarts() == restarts, home.log()[-3000:]


def hostile(chance: random.Random):
    """Bytes that no client sends, and some that one would, cut or changed."""
    yield b""
    yield b"\x00" * 100
    yield b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    yield b"SSH-1.5-old\r\n"
    yield b"SSH-2.0-x\r\n"
    yield b"SSH-2.0-" + b"x" * 100_000
    yield b"no banner\r\n" * 10_000
    banner = b"SSH-2.0-OpenSSH_9.2\r\n"
    for length in [0, 1, 5, 0x7FFFFFFF, 0xFFFFFFFF, 35_000]:
        yield banner + length.to_bytes(4, "big") + b"\x04\x14" + bytes(100)
    lists = b"".join(len(text).to_bytes(4, "big") + text for text in [b"curve25519-sha256", b"ssh-ed25519"] + [b"chacha20-poly1305@openssh.com"] * 2 + [b"hmac-sha2-256"] * 2 + [b"none"] * 2 + [b""] * 2)
    payload = b"\x14" + bytes(16) + lists + bytes(5)
    padding = 8 - (len(payload) + 5) % 8 + 8
    kexinit = (len(payload) + 1 + padding).to_bytes(4, "big") + bytes([padding]) + payload + bytes(padding)
    yield banner + kexinit
    yield banner + kexinit * 20
    for _ in range(20):
        changed = bytearray(kexinit)
        for _ in range(chance.randrange(1, 6)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        yield banner + bytes(changed[:chance.randrange(1, len(changed) + 1)]) + chance.randbytes(chance.randrange(200))
    for _ in range(10):
        yield banner + chance.randbytes(chance.randrange(2_000))


def test_an_address_that_fails_too_often_is_refused_for_a_while_and_others_are_not(home):
    def closed_at_once():
        with socket.create_connection(("127.0.0.1", home.ssh_port), 10, source_address=("127.0.2.1", 0)) as client:
            client.settimeout(10)
            try:
                return client.recv(1) == b""
            except ConnectionError:
                return True

    assert not closed_at_once()
    until(closed_at_once, 50, "the address is refused")
    assert "127.0.2.1 refused: too many connections without a login" in until(lambda: "too many connections without a login" in home.log() and home.log(), 5, "it is logged")
    assert home.ssh("members").returncode == 0


def test_strangers_who_say_nothing_leave_places_for_those_with_a_key(home):
    strangers = [socket.create_connection(("127.0.0.1", home.ssh_port), 10, source_address=("127.0.3.1", 0)) for _ in range(12)]
    try:
        done = home.ssh("members")
        assert done.returncode == 0, done
        # The sixth at most was let in, and whoever was is cut off in time.
        for stranger in strangers:
            stranger.settimeout(40)
            with suppress(ConnectionError):  # An end of file or a reset; a time-out is a failure.
                while stranger.recv(4_096):
                    pass
    finally:
        for stranger in strangers:
            stranger.close()


# Confinement.

def test_it_holds_its_listener_its_channels_and_nothing_else(home):
    def at_rest():
        held = {fd["descriptor"]: fd["what"] for fd in home.ask("fds", "debug-ssh")}
        kinds = sorted(what.split(":")[0].split("[")[0] if not what.startswith("anon") else what for what in held.values())
        return kinds if kinds.count("socket") == 3 else None

    # The start channel, the bus, the listener; no memory file of keys is left, and no connection of a person who has gone.
    kinds = until(at_rest, 30, "only three sockets are left")
    assert kinds == ["/dev/null", "/dev/null", "anon_inode:[eventfd]", "anon_inode:[eventpoll]", "anon_inode:[eventpoll]", "pipe", "socket", "socket", "socket"]
    (told,) = [process for process in home.ask("caps") if process["name"] == "debug-ssh"]
    assert told["alarm"] is False and told["seccomp"] == 2 and told["capabilities"] == "0" and told["allowed_calls"] <= 20, told
    assert set(told["declared"]) == {"ssh:listener", "bus:bus", "host-key:file", "authorized-keys:file"}


@pytest.mark.parametrize("one, other, possible", [
    ("debug-ssh", "console", True), ("debug-ssh", "s3-frontend", False), ("debug-ssh", "file:host-key", True), ("debug-ssh", "listener:ssh", True),
    ("s3-frontend", "debug-ssh", False), ("s3-frontend", "console", False), ("console", "file:host-key", False), ("metadata", "file:host-key", False),
])
def test_who_can_reach_whom(home, one, other, possible):
    assert home.ask("caps", "--can", one, other)["can"] is possible


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a confined process call something")
def test_its_filter_ends_it_at_the_first_other_call(keys):
    with SshHome.start(keys=keys) as home:
        assert home.ssh("members").returncode == 0
        pid = home.pid("debug-ssh")
        make_it_call(pid, 41, 2, 1, 0)  # socket(AF_INET, SOCK_STREAM, 0)
        until(lambda: not is_alive(pid), 20, "the process has ended")
        told = until(lambda: (one := home.services()["debug-ssh"])["state"] == "ready" and one, 30, "it is back")
        assert told["last_reason"] == "filter violation socket" and told["denied"] == {"socket": 1}
        assert home.ssh("members").returncode == 0


class Registers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulong) for name in (
        "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es fs gs").split()]


def make_it_call(pid, number, *arguments):
    """Lets a process that sleeps in a system call make another instead (ptrace(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    attach, get, put, detach = 16, 12, 13, 17
    assert libc.ptrace(attach, pid, None, None) == 0, os.strerror(ctypes.get_errno())
    os.waitpid(pid, 0)
    registers = Registers()
    assert libc.ptrace(get, pid, None, ctypes.addressof(registers)) == 0
    registers.rip -= 2  # The instruction `syscall` again.
    registers.orig_rax = ctypes.c_ulong(-1).value  # And no restart of the one that was interrupted.
    registers.rax = number
    registers.rdi, registers.rsi, registers.rdx = arguments
    assert libc.ptrace(put, pid, None, ctypes.addressof(registers)) == 0
    assert libc.ptrace(detach, pid, None, None) == 0


def test_it_is_killed_and_comes_back_with_the_same_host_key(keys):
    with SshHome.start(keys=keys) as home:
        assert home.ssh("members").returncode == 0
        for _ in range(3):
            home.kill("debug-ssh")
            # The client waits in the listener's queue, which is the bus's; the key that it knows is asked for.
            done = until(lambda: (done := home.ssh("members")).returncode == 0 and done, 30, "ssh answers again")
            assert "changed" not in done.stderr
        for name in ["bus", "orchestrator", "console", "membership"]:
            home.kill(name)
            until(lambda: home.ssh("status").returncode == 0, 60, f"ssh answers after the end of {name}")
        home.until_serving()
        assert home.stop() == 0
        home.run()
        assert "changed" not in home.ssh("status").stderr


def test_changed_keys_count_after_a_restart_of_debug_ssh(keys):
    with SshHome.start(keys=keys, authorized="") as home:
        assert home.ssh("status").returncode == 255, "no key, nobody gets in"
        home.authorize(f"inspect {keys.public('unknown')}\n")
        assert home.trousseau("restart", "debug-ssh").returncode == 0
        until(lambda: home.ssh("status", key="unknown").returncode == 0, 30, "the new key opens")
        assert home.ssh("status", key="admin").returncode == 255


@pytest.mark.parametrize("user", USERS)
def test_poweroff_ends_the_node_in_order(keys, user):
    with SshHome.start(keys=keys, user=user) as home:
        home.put("kept", b"x")
        done = home.ssh("poweroff")
        assert done.returncode == 0 and "the node stops" in done.stdout, done
        assert home.launcher.wait(60) == 0
        assert "the node has stopped" in home.log()
        home.run()
        assert home.get("kept") == b"x"


def test_a_port_that_is_taken_is_told(keys):
    with socket.socket() as other, SshHome(keys=keys) as home:
        other.bind(("127.0.0.1", home.ssh_port))
        other.listen()
        home.run(await_ready=False)
        assert home.launcher.wait(60) == 1
        assert f"ssh: 127.0.0.1:{home.ssh_port} is in use" in home.log()


def test_without_the_option_there_is_no_way_in(home):
    with SshHome(keys=home.keys) as other:
        other.arguments = []
        other.run()
        assert "debug-ssh" not in other.services()
        assert is_alive(other.launcher.pid) and "ssh" not in other.ready
        assert other.launcher.send_signal(signal.SIGTERM) is None
