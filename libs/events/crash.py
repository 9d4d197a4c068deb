"""Crash points: named places before and after every external call, where a test may end the process as a crash would.

`CRASH_POINT=name:n` ends this process the n-th time it comes to that point. With `CRASH_ONCE=path` it happens once:
the file is made when it does, and while the file is there nothing does. Unset, a point costs one comparison.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType

EXIT_CRASHED = 137  # what a shell shows for SIGKILL


class _Armed:
    """One point, and how often it may still be passed."""

    def __init__(self, setting: str, once: str) -> None:
        name, _, count = setting.partition(":")
        self.name, self._left, self._marker = name, int(count or 1), Path(once) if once else None

    def passed(self) -> None:
        self._left -= 1
        if self._left > 0 or (self._marker and self._marker.exists()):
            return
        if self._marker:
            self._marker.touch()
        os._exit(EXIT_CRASHED)  # no handler, no buffer, no farewell: as SIGKILL would


class _Crossing:
    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        crash_point(f"{self._name}.before")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            crash_point(f"{self._name}.after")


def _armed() -> _Armed | None:
    setting, once = os.environ.get("CRASH_POINT"), os.environ.get("CRASH_ONCE", "")
    return _Armed(setting, once) if setting and not (once and Path(once).exists()) else None


_ARMED = _armed()
_NOTHING = nullcontext()


def crash_point(name: str) -> None:
    """End the process here, if a test asked for it."""
    if _ARMED is not None and _ARMED.name == name:
        _ARMED.passed()


def crossing(name: str) -> AbstractContextManager[None]:
    """A call to somebody outside: the points `<name>.before` and, when it succeeded, `<name>.after`."""
    return _NOTHING if _ARMED is None else _Crossing(name)
