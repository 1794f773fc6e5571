"""Damage to a running kernel that no program could do: through QEMU's debugger, whose protocol is GDB's remote serial one.

It needs nothing of the machine's software: registers and memory are changed from outside while the processors stand still.
"""

import socket
import time
from contextlib import contextmanager

RIP, EFLAGS, CS = 16, 17, 18
"""Numbers of registers in GDB's list for x86-64; those before are the 16 general ones of 8 bytes, these have 8, 4 and 4."""
INTERRUPTS = 1 << 9
HALT_FOR_EVER = "f4ebfd"
"""hlt; jmp to it."""


class Debugger:
    """A connection to the debugger of a machine, whose processors stand still meanwhile."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(str(path))
        # Only who has read what registers there are may set one.
        self.ask("qXfer:features:read:target.xml:0,fff")

    def ask(self, words):
        """Sends a packet, gives the answer's text."""
        data = words.encode()
        self.socket.sendall(b"$" + data + b"#%02x" % (sum(data) % 256))
        while (answer := self._packet()).startswith("T"):
            pass  # That the processors stand still is told when it happens, between question and answer.
        return answer

    def _packet(self):
        answer = b""
        while not answer.endswith(b"#"):
            byte = self.socket.recv(1)
            assert byte, "the debugger hung up"
            answer += byte
        self.socket.recv(2)
        self.socket.sendall(b"+")
        return answer[answer.rindex(b"$") + 1:-1].decode()

    def processors(self):
        """Selects one after the other."""
        threads = []
        answer = self.ask("qfThreadInfo")
        while answer.startswith("m"):
            threads += answer[1:].split(",")
            answer = self.ask("qsThreadInfo")
        for thread in threads:
            assert self.ask(f"Hg{thread}") == "OK"
            yield thread

    def registers(self):
        """Of the selected processor: where it is, its flags, and its code segment."""
        text = bytes.fromhex(self.ask("g"))
        number = lambda at, size: int.from_bytes(text[at:at + size], "little")
        return number(128, 8), number(136, 4), number(140, 4)

    def set(self, register, value, size):
        assert self.ask(f"P{register:x}={value.to_bytes(size, 'little').hex()}") == "OK"

    def write(self, address, code):
        assert self.ask(f"M{address:x},{len(code) // 2:x}:{code}") == "OK"


@contextmanager
def stopped(machine):
    """All processors stand still, each of them inside the kernel (as an idle one is)."""
    while True:
        debugger = Debugger(machine.own / "debugger")
        try:
            if all(debugger.registers()[2] & 3 == 0 for _ in debugger.processors()):
                yield debugger
                return
        finally:
            debugger.ask("D")  # lets them go on
            debugger.socket.close()
        time.sleep(0.05)


def crash(machine):
    """One processor goes on where there is nothing: the kernel notices."""
    with stopped(machine) as debugger:
        next(debugger.processors())
        debugger.set(RIP, 8, 8)


def hang(machine):
    """Every processor halts, deaf to interrupts: nothing in the machine can notice any more."""
    with stopped(machine) as debugger:
        for _ in debugger.processors():
            at, flags, _ = debugger.registers()
            debugger.write(at, HALT_FOR_EVER)
            debugger.set(EFLAGS, flags & ~INTERRUPTS, 4)
