"""The image in a computer of its own: from the firmware to S3, what its owner sees, off and on again, and back from what no program survives.

One machine lives through most of these tests, since a start of an emulated computer takes a while. They need no order: each begins with a
machine that serves, and leaves one behind.
"""

import json
import os
import re
import threading
import time
from email.utils import parsedate_to_datetime

import pytest

from cable import CLIENT, DhcpCable
from damage import crash, hang
from home import until
from machine import Image, Machine, node_toml, public, ssh_key
from time_server import TimeServer
from webhook import Receiver, told_to

IMAGE_BYTES_MAX = 16 << 20
IDLE_BYTES_MAX = 96 << 20
SIZES = [0, 100, 40_000, 300_000, 5_000_000]
"""Nothing, inline, packed, one block, two blocks."""
BODIES = {f"size/{size}": bytes(number * 7 % 251 for number in range(size)) for size in SIZES}
WATCHDOG = ["-device", "i6300esb"]
KEYBOARD = ["-device", "qemu-xhci,id=usb", "-device", "usb-kbd,bus=usb.0"]
GROWN_BYTES = 3 << 30
AHEAD_S = 300
"""The time server's clock. Less than what makes requests of clients with a right clock too old."""


@pytest.fixture(scope="module")
def time_server():
    return TimeServer(ahead_s=AHEAD_S)


@pytest.fixture(scope="module")
def hook():
    with Receiver() as hook:
        yield hook


@pytest.fixture(scope="module")
def image(time_server, hook):
    # QEMU leads 10.0.2.2 to the loopback of this host.
    webhooks = f'[webhooks]\nhook = "{hook.url.replace("127.0.0.1", "10.0.2.2")}"'
    image = Image(node_toml(admin=[public(ssh_key())], clock=[time_server.address], more=webhooks))
    yield image
    image.remove()


@pytest.fixture(scope="module")
def cable(tmp_path_factory):
    return DhcpCable(tmp_path_factory.mktemp("cable"))


@pytest.fixture(scope="module")
def first_boot(image, cable):
    """A computer that was switched on for the first time, with objects on it."""
    disk = image.copy()
    with Machine.start(disk, devices=[*WATCHDOG, *KEYBOARD, *cable.devices]) as machine:
        for key, body in BODIES.items():
            machine.put(key, body)
        yield machine
    disk.unlink()
    disk.parent.rmdir()


@pytest.fixture
def machine(first_boot):
    """The same one, wherever the test before has left it."""
    if not first_boot.is_on():
        first_boot.switch_on()
        first_boot.until_ready()
    first_boot.until_serving()
    return first_boot


def nothing_is_lost(machine):
    for key, body in BODIES.items():
        assert machine.get(key) == body, key


def ask(machine, verb):
    done = machine.ssh(ssh_key(), *verb.split(), "--json")
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def test_firmware_starts_the_image_and_s3_is_served(first_boot, image, report):
    assert first_boot.name == "attic"
    assert first_boot.s3_address == "10.0.2.15:3900"
    nothing_is_lost(first_boot)
    facts = image.facts
    report(
        f"{first_boot.kernel_ms} ms from the kernel's entry to S3, {first_boot.init_ms} ms of them init's (emulated processor), after "
        f"{first_boot.firmware_s:.1f} s of firmware; EFI file {facts['efi_bytes'] / 1e6:.1f} MB: kernel {facts['kernel_bytes'] / 1e6:.1f}, "
        f"initramfs {facts['initramfs_bytes'] / 1e6:.1f}, of a program of {facts['program_bytes'] / 1e6:.1f}",
    )
    assert facts["efi_bytes"] <= IMAGE_BYTES_MAX


def test_status_tells_addresses_and_memory(machine, report):
    status = ask(machine, "status")
    assert status["ready"] and status["limits_missing"] == [], status
    assert status["s3"] == "http://10.0.2.15:3900"
    used = status["machine"]["memory_used_kb"] * 1024
    report(f"{used / (1 << 20):.0f} MiB in use of {status['machine']['memory_kb'] >> 10}, kernel included; processes: {status['memory_kb'] >> 10}")
    assert used <= IDLE_BYTES_MAX


def test_ipv6_configures_itself_from_the_router_s_word(machine):
    def configured():
        return [ip for ip in ask(machine, "status")["addresses"] if ip.startswith("fec0::")]

    until(configured, 60, "an address of the announced prefix")


def test_a_lease_that_is_not_renewed_is_given_up_and_looked_for_again(machine, cable):
    assert str(CLIENT) in ask(machine, "status")["addresses"]
    cable.refuses = True
    try:
        machine.until_console(rf"network: warn: \S+ has lost {re.escape(str(CLIENT))}")
    finally:
        cable.refuses = False
    machine.until_console(rf"has {re.escape(str(CLIENT))}/24")


def test_the_clock_is_set_by_its_server(machine, time_server):
    until(lambda: re.search(r"clock: info: the clock was [23]\d\d\.\d+ s behind and is set", machine.console()), 120, "the clock is set")
    head = machine.s3.list_buckets()["ResponseMetadata"]["HTTPHeaders"]["date"]
    ahead = parsedate_to_datetime(head).timestamp() - time.time()
    assert abs(ahead - AHEAD_S) < 60


def test_a_webhook_of_node_toml_is_told(machine, hook):
    machine.s3.create_bucket(Bucket="told")
    machine.s3.put_bucket_notification_configuration(Bucket="told", NotificationConfiguration=told_to("hook", "s3:ObjectCreated:*"))
    machine.s3.put_object(Bucket="told", Key="k", Body=b"x")
    until(lambda: {event.key for event in hook.events("told")} == {"k"}, 120, "the webhook is told")


def test_only_init_is_unconfined_and_no_file_can_be_executed(machine):
    said = machine.console()
    privileges = re.findall(r"trousseau: capabilities (.*); \d+ processes have none and are filtered", said)[-1]
    # Setting interfaces, setting the clock, starting services: each has a filter beside its capabilities.
    assert re.sub(r"=[0-9a-f]+", "", privileges) == "init,unfiltered network,filtered clock,filtered orchestrator,filtered"
    assert "trousseau: no file can be executed in any file system" in said


@pytest.mark.parametrize("words", ["sh", "/bin/sh", "/init", "cat /data/identity"])
def test_ssh_has_no_shell_and_no_program(machine, words):
    done = machine.ssh(ssh_key(), *words.split())
    assert done.returncode != 0 and done.stdout == ""


def test_works_under_load_with_512_mb(machine, report):
    bodies = [os.urandom(4 << 20) for _ in range(4)]
    failures = []

    def work(number):
        try:
            for turn in range(5):
                body = bodies[(number + turn) % len(bodies)]
                machine.put(f"load/{number}/{turn}", body)
                assert machine.get(f"load/{number}/{turn}") == body
        except Exception as failure:  # noqa: BLE001 - told by the test's own thread
            failures.append(failure)

    before = {service["name"]: service["restarts"] for service in ask(machine, "services")}
    begin = time.monotonic()
    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - begin
    assert not failures, failures
    assert {service["name"]: service["restarts"] for service in ask(machine, "services")} == before
    used = ask(machine, "status")["machine"]["memory_used_kb"]
    report(f"8 clients put and got 160 MiB each way in {took:.0f} s; then {used >> 10} MiB in use")


def test_a_lease_is_renewed(machine, cable):
    until(lambda: cable.renewals, 240, "the lease was renewed")
    assert str(CLIENT) in ask(machine, "status")["addresses"]


def test_the_power_button_switches_off_in_order_and_a_larger_disk_is_used(machine):
    before = ask(machine, "status")["disk"]["capacity_bytes"]
    machine.press_power_button()
    machine.until_console("the power button was pressed")
    machine.until_console("the node has stopped")
    machine.until_off()

    os.truncate(machine.disk, GROWN_BYTES)
    machine.switch_on()
    machine.until_ready()
    nothing_is_lost(machine)
    assert ask(machine, "status")["disk"]["capacity_bytes"] > before + (GROWN_BYTES >> 1)


def test_ctrl_alt_del_starts_again_in_order(machine):
    machine.press_keys("ctrl", "alt", "delete")
    machine.until_console("the node has stopped")
    machine.until_ready_again()
    nothing_is_lost(machine)


def test_a_machine_whose_kernel_crashes_starts_again(machine):
    machine.put("before the crash", b"acknowledged")
    crash(machine)
    machine.until_console("Kernel panic - not syncing")
    machine.until_ready_again()
    assert machine.get("before the crash") == b"acknowledged"
    nothing_is_lost(machine)


def test_a_machine_that_hangs_is_reset_by_its_watchdog(machine):
    assert re.search(r"trousseau: watchdog i6300ESB", machine.console())
    machine.put("before the hang", b"acknowledged")
    said = len(machine.console())
    hang(machine)
    machine.until_ready_again()
    assert "panic" not in machine.console()[said:]
    assert machine.get("before the hang") == b"acknowledged"
    nothing_is_lost(machine)


def test_an_administrator_may_start_the_machine_again_and_switch_it_off(machine):
    assert machine.ssh(ssh_key(), "reboot").returncode == 0
    machine.until_console("the node has stopped")
    machine.until_ready_again()
    assert machine.ssh(ssh_key(), "poweroff").returncode == 0
    machine.until_console("the node has stopped")
    machine.until_off()
