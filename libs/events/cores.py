"""Whether the cores of this machine are short: how long some process waited for one, as Linux tells (PSI)."""

import os
from collections.abc import Iterable
from contextlib import suppress

# Of the machine, and of the container this runs in, where one has a share of its own.
PRESSURE_FILES = ("/proc/pressure/cpu", "/sys/fs/cgroup/cpu.pressure")
LOOK_EVERY_S = 0.25
# With some hops of which each wakes another, some process waits for a core in a fifth of the time of a machine that
# is half idle, and in two thirds of it when the cores are full.
BEARABLE = 0.45
PER_S = 4.0


class Cores:
    """How short cores are, from 0 (they are free) to 1, by what was waited for lately."""

    def __init__(self, files: Iterable[str] = PRESSURE_FILES) -> None:
        """Where the kernel does not tell, cores are always short."""
        self._open: list[int] = []
        for path in files:
            with suppress(OSError):
                file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                self._open.append(file)
        self._at_s, self._waited_us = 0.0, self._waited()
        self._short = 0.0 if self._waited_us else 1.0

    def __del__(self) -> None:
        for file in self._open:
            os.close(file)

    def short(self, now_s: float) -> float:
        """How short they are at `now_s`; the kernel is asked four times a second at most."""
        past_s = now_s - self._at_s
        if past_s < LOOK_EVERY_S or not self._waited_us:
            return self._short
        waited_us = self._waited()
        shares = [(now - before) / past_s / 1_000_000 for now, before in zip(waited_us, self._waited_us, strict=False)]
        if self._at_s and shares:
            self._short = min(1.0, max(0.0, self._short + (max(shares) - BEARABLE) * PER_S * min(past_s, LOOK_EVERY_S)))
        self._at_s, self._waited_us = now_s, waited_us
        return self._short

    def _waited(self) -> list[int]:
        """Microseconds since the machine or the container began, of each file."""
        waited = []
        with suppress(OSError, ValueError, IndexError):
            for file in self._open:
                some = os.pread(file, 256, 0).split(b"\n", 1)[0]
                waited.append(int(some.rsplit(b"total=", 1)[1]))
        return waited
