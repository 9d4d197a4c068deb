"""How long a reader lets entries gather between two reads.

A reader that was woken costs as much as some twenty entries do, and several times that on a core that has slept or done
something else. Where cores are short a read of a busy stream should bring some; else, and on a quiet one, nobody
should wait for it.
"""

from libs.events.cores import Cores

MEASURED_OVER_S = 0.05


class Pace:
    """The pause grows with what comes, up to its limit, as far as cores are short."""

    def __init__(self, longest_ms: float, ms_at_1_000_per_s: float, cores: Cores | None = None) -> None:
        self._longest_s = longest_ms / 1_000
        self._s_per_rate = ms_at_1_000_per_s / 1_000_000
        self._cores = cores or Cores()
        self._since_s, self._read, self._pause_s = 0.0, 0, 0.0

    def pause_s(self, now_s: float, read: int) -> float:
        """Before the next read, after one that brought `read` entries at `now_s`."""
        self._read += read
        past_s = now_s - self._since_s
        if past_s >= MEASURED_OVER_S:
            short = self._cores.short(now_s)
            self._pause_s = min(self._longest_s, self._read / past_s * self._s_per_rate) * short
            self._since_s, self._read = now_s, 0
        return self._pause_s
