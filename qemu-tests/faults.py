"""What befalls homes: processes, nodes and zones are killed and come back in any order; the wires between them are cut, slow, lossy. By chance, with a seed."""

import os
import signal
import subprocess
import time
from contextlib import suppress

PROCESSES = ["init", "membership", "bus", "orchestrator", "block-store", "metadata", "s3-frontend", "console", "relay"]


class Faults:
    """Does something to `homes` again and again, and in the end makes all well. `say` is told what is done."""

    def __init__(self, homes, chance, say):
        self.homes, self.chance, self.say = homes, chance, say
        self.begin = time.monotonic()
        self.down = set()
        self.zones = {}
        for number, home in enumerate(homes):
            zone = home.arguments[home.arguments.index("--zone") + 1]
            self.zones.setdefault(zone, []).append(number)

    def run(self, seconds):
        """Faults for so long. The last of them are still there."""
        faults = [
            (self.kill_process, 8), (self.kill_node, 4), (self.kill_zone, 2), (self.kill_all, 1), (self.restart_some, 10),
            (self.cut_off, 4), (self.cut_one_way, 4), (self.slow, 3), (self.lossy, 3), (self.heal, 6),
        ]
        while (left := seconds - (time.monotonic() - self.begin)) > 0:
            (fault,) = self.chance.choices([fault for fault, _ in faults], [weight for _, weight in faults])
            fault()
            time.sleep(min(left, self.chance.uniform(0.2, 2)))

    def tell(self, words):
        self.say(f"{time.monotonic() - self.begin:6.2f} s: {words}")

    def up(self):
        """Who runs. Nobody ends by itself."""
        for number, home in enumerate(self.homes):
            assert number in self.down or home.launcher.poll() is None, f"n{number} has ended by itself:\n{home.log()[-3000:]}"
        return [number for number in range(len(self.homes)) if number not in self.down]

    # Who dies, and who comes back.

    def kill_process(self):
        if not self.up():
            return
        number, name = self.chance.choice(self.up()), self.chance.choice(PROCESSES)
        home = self.homes[number]
        # Who asks may be refused or kept waiting now; then nobody is killed this time.
        with suppress(subprocess.TimeoutExpired, ProcessLookupError):
            pid = home.processes(within=3).get(name)
            if pid:
                os.kill(pid, signal.SIGKILL)
                self.tell(f"n{number}: {name} is killed")
                if name == "init":
                    # The node is nothing else.
                    home.kill_tree()
                    self.down.add(number)

    def kill(self, numbers):
        for number in numbers:
            self.homes[number].launcher.kill()
        for number in numbers:
            self.homes[number].kill_tree()
        self.down |= set(numbers)

    def kill_node(self):
        if self.up():
            number = self.chance.choice(self.up())
            self.tell(f"n{number} is killed")
            self.kill([number])

    def kill_zone(self):
        zone = self.chance.choice(sorted(self.zones))
        numbers = [number for number in self.zones[zone] if number not in self.down]
        self.tell(f"zone {zone} is killed: {numbers}")
        self.kill(numbers)

    def kill_all(self):
        self.tell("all are killed")
        self.kill(self.up())

    def restart_some(self):
        """Mostly all: a cluster without a majority can do nothing that could be wrong."""
        numbers = sorted(self.down)
        self.chance.shuffle(numbers)
        if numbers and self.chance.random() < 0.3:
            numbers = numbers[:1]
        self.restart(numbers)

    def restart(self, numbers):
        for number in numbers:
            self.homes[number].run(await_ready=False)
            self.down.discard(number)
        if numbers:
            self.tell(f"started: {', '.join(f'n{number}' for number in numbers)}")

    # What becomes of the wires.

    def some_node(self):
        return self.chance.randrange(len(self.homes))

    def cut_off(self):
        number = self.some_node()
        self.tell(f"n{number} is cut off")
        self.homes.cut_off([number])

    def cut_one_way(self):
        one, other = self.chance.sample(range(len(self.homes)), 2)
        self.tell(f"n{other} does not hear n{one}")
        self.homes.fault(one, other, cut=True)

    def slow(self):
        delay = self.chance.choice([0.005, 0.05, 0.3])
        self.tell(f"everything comes {delay} s later or a little more")
        self.homes.everywhere(delay=delay, jitter=delay / 2)

    def lossy(self):
        one, other = self.chance.sample(range(len(self.homes)), 2)
        loss, twice = self.chance.uniform(0, 0.2), self.chance.uniform(0, 0.2)
        self.tell(f"from n{one} to n{other} {loss:.0%} are lost and {twice:.0%} come twice")
        self.homes.fault(one, other, loss=loss, twice=twice, delay=0.002)

    def heal(self):
        self.tell("the wires are well")
        self.homes.heal()

    def end(self):
        """All is well; whoever is down comes back, in any order."""
        self.heal()
        self.up()
        self.restart_some()
        self.restart(sorted(self.down))
