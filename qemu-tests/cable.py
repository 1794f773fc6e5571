"""The far end of a network cable of the machine: a DHCP server of our own, which leases for a minute and may refuse to renew; and several
such cables that meet in one network (`Lan`).

QEMU sends every frame of the card as a datagram to a Unix socket, and takes the answers there. Packets are those of RFC 826 (ARP),
RFC 791, RFC 768 and RFC 2131.
"""

import socket
import struct
import threading
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

SERVER, CLIENT, MASK = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.50"), IPv4Address("255.255.255.0")
LEASE_SECONDS = 60
OUR_MAC = bytes.fromhex("525400c0ffee")
DISCOVER, OFFER, REQUEST, ACK, NAK = 1, 2, 3, 5, 6
ARP, IPV4, UDP = 0x0806, 0x0800, 17


class DhcpCable:
    """`devices` are QEMU's words for the card. `renewals` counts those granted to somebody who has the address."""

    def __init__(self, directory, client=CLIENT):
        ours, theirs = Path(directory) / "cable", Path(directory) / "card"
        self.client = client
        self.devices = [
            "-netdev", f"dgram,id=cable,local.type=unix,local.path={theirs},remote.type=unix,remote.path={ours}",
            "-device", f"virtio-net-pci,netdev=cable,romfile=,mac=52:54:00:00:00:{client.packed[-1]:02x}",
        ]
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(ours))
        self.theirs = str(theirs)
        self.renewals = 0
        self.refuses = False
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            frame = self.socket.recv(65_536)
            answer = self._answer(frame)
            if answer:
                self.deliver(answer)
            else:
                self._is_for_others(frame)

    def deliver(self, frame):
        """To the machine's card."""
        with suppress(OSError):  # It is switched off, or has just been.
            self.socket.sendto(frame, self.theirs)

    def _is_for_others(self, frame):
        """Nobody else is there."""

    def _answer(self, frame):
        mac, kind, packet = frame[6:12], struct.unpack("!H", frame[12:14])[0], frame[14:]
        if kind == ARP and packet[6:8] == b"\0\1" and packet[24:28] == SERVER.packed:
            reply = packet[:6] + b"\0\2" + OUR_MAC + SERVER.packed + packet[8:18]
            return mac + OUR_MAC + struct.pack("!H", ARP) + reply
        if kind == IPV4 and packet[0] == 0x45 and packet[9] == UDP and packet[22:24] == b"\0\x43":
            message = self._lease(packet[28:])
            return message and mac + OUR_MAC + struct.pack("!H", IPV4) + datagram(message)
        return None

    def _lease(self, question):
        options = dict(read_options(question[240:]))
        kind = options[53][0]
        if kind not in (DISCOVER, REQUEST):
            return None
        has_it = question[12:16] == self.client.packed
        kind = OFFER if kind == DISCOVER else NAK if has_it and self.refuses else ACK
        self.renewals += has_it and kind == ACK
        answer = {53: bytes([kind]), 54: SERVER.packed, 51: struct.pack("!I", LEASE_SECONDS), 1: MASK.packed}
        head = b"\2" + question[1:16] + self.client.packed + SERVER.packed + question[24:236] + question[236:240]
        return head + b"".join(bytes([code, len(value)]) + value for code, value in answer.items()) + b"\xff"


class Lan:
    """`cables` of so many machines, each with an address of its own: what one sends, the others hear. `heard` is everything that went from one to another."""

    def __init__(self, directory, machines):
        self.heard = []
        self.cables = []
        for number in range(machines):
            own = Path(directory) / f"machine-{number}"
            own.mkdir()
            self.cables.append(LanCable(own, CLIENT + number, self))


class LanCable(DhcpCable):
    """One of a `Lan`."""

    def __init__(self, directory, client, lan):
        self.lan = lan
        super().__init__(directory, client)

    def _is_for_others(self, frame):
        self.lan.heard.append(frame)
        for cable in self.lan.cables:
            if cable is not self:
                cable.deliver(frame)


def read_options(rest):
    """Code and value of each (RFC 2132)."""
    while rest and rest[0] != 255:
        if rest[0] == 0:
            rest = rest[1:]
            continue
        yield rest[0], rest[2:2 + rest[1]]
        rest = rest[2 + rest[1]:]


def datagram(message):
    """From the server's port to everybody's client port. UDP over IPv4 may go without its checksum."""
    udp = struct.pack("!HHHH", 67, 68, 8 + len(message), 0) + message
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, UDP, 0, SERVER.packed, b"\xff" * 4)
    total = sum(struct.unpack("!10H", head))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack("!H", total ^ 0xFFFF) + head[12:] + udp
