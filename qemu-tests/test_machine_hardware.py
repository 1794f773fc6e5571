"""The image on other disks and network cards, each with another node.toml. (SATA is in test_machine_limits.py, virtio everywhere else.)"""

import subprocess

import pytest

from machine import Image, Machine, node_toml, public, ssh_key

STATIC = """
[network]
addresses = ["10.0.2.15/24", "fd00:5::15/64"]
gateways = ["10.0.2.2"]
"""


@pytest.fixture(scope="module")
def image():
    image = Image(node_toml(admin=[public(ssh_key())]))
    yield image
    image.remove()


def disk_with(image, text):
    """A disk with the image, whose owner has changed node.toml."""
    disk = image.copy()
    changed = disk.with_name("node.toml")
    changed.write_text(text)
    subprocess.run(["mcopy", "-o", "-i", f"{disk}@@1M", changed, "::/node.toml"], check=True)
    return disk


def test_a_wrong_node_toml_is_named_by_line_and_the_node_is_reachable_by_ssh(image):
    disk = disk_with(image, node_toml(more='zones = "home"', admin=[public(ssh_key())]))
    with Machine.start(disk, bus="nvme", card="e1000e") as machine:
        assert "node.toml:2: unknown field `zones`" in machine.console()
        done = machine.ssh(ssh_key(), "logs", "init")
        assert done.returncode == 0, done
        machine.put("hello", b"x" * 300_000)
        assert machine.get("hello") == b"x" * 300_000


def test_fixed_addresses_are_those_of_node_toml(image):
    disk = disk_with(image, node_toml(more=STATIC, admin=[public(ssh_key())]))
    with Machine.start(disk, bus="usb", card="e1000") as machine:
        machine.until_serving()
        said = machine.console()
        assert "eth0 has 10.0.2.15/24, as node.toml says" in said and "eth0 has fd00:5::15/64, as node.toml says" in said
        done = machine.ssh(ssh_key(), "status")
        assert done.returncode == 0 and "fd00:5::15" in done.stdout, done
