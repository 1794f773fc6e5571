"""A time server of our own (SNTP, RFC 5905) on the loopback, which a machine finds at 10.0.2.2; its clock is ahead as wished."""

import socket
import struct
import threading
import time

TO_UNIX = 2_208_988_800
"""Seconds from 1900 to 1970."""


class TimeServer:
    """`address` is what a machine's node.toml says."""

    def __init__(self, ahead_s=0):
        self.ahead_s = ahead_s
        self.questions = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = f"10.0.2.2:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            question, client = self.socket.recvfrom(1024)
            self.questions += 1
            now = struct.pack("!Q", int((time.time() + self.ahead_s + TO_UNIX) * (1 << 32)))
            # Version 4, a server's answer; stratum 2; what the question had as its own time comes back.
            self.socket.sendto(bytes([0x24, 2, 0, 0xEC]) + bytes(20) + question[40:48] + now + now, client)
