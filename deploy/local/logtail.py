"""What services warn of, repeated on the terminal; and the size of their log files.

Services write their files themselves: no pipe to fill up, to break, or to cost a wake-up per line.
"""

import asyncio
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

LOOK_EVERY_S = 1.0
READ_BYTES_MAX = 262_144
LINES_PER_LOOK_MAX = 3
LINE_CHARS_MAX = 200
LOG_BYTES_MAX = 64 * 1024 * 1024
LOUD = {"warning", "error", "critical"}
NOT_REPEATED = {"event", "level", "timestamp", "service", "logger", "exception"}


class LogTail:
    """Follows the log files of several processes."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._read_to: dict[Path, int] = {}

    def follow(self, log: Path) -> None:
        """Begin at the present end of a log file; its stem is the name on the terminal."""
        self._read_to[log] = log.stat().st_size if log.exists() else 0

    async def run(self) -> None:
        """Look at every log again and again, until cancelled; a look costs one stat per file."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.look()

    def look(self) -> None:
        """Say what is new and loud since the last look."""
        for log in self._read_to:
            with suppress(OSError):  # a full disk must not end this, nor hide the others
                self._look_at(log)

    def _look_at(self, log: Path) -> None:
        read_to, size = self._read_to[log], log.stat().st_size if log.exists() else 0
        if size < read_to:  # somebody emptied it
            read_to = self._read_to[log] = 0
        if size > read_to:
            lines, self._read_to[log] = _whole_lines(log, max(read_to, size - READ_BYTES_MAX), size)
            self._repeat(log, lines)
        if size > LOG_BYTES_MAX:
            _start_over(log)
            self._read_to[log] = 0

    def _repeat(self, log: Path, lines: list[bytes]) -> None:
        loud = [line for raw in lines if (line := _short(raw))]
        for line in loud[:LINES_PER_LOOK_MAX]:
            self._tell(f"{log.stem}: {line}")
        if len(loud) > LINES_PER_LOOK_MAX:
            self._tell(f"{log.stem}: and {len(loud) - LINES_PER_LOOK_MAX} lines more; log: {log}")


def _whole_lines(log: Path, start: int, end: int) -> tuple[list[bytes], int]:
    """The complete lines between two positions, and where the next look begins."""
    with log.open("rb") as file:
        file.seek(start)
        text = file.read(end - start)
    cut = text.rfind(b"\n") + 1
    return text[:cut].splitlines(), start + cut


def _short(raw: bytes) -> str:
    """One loud JSON line for people, or "" if it is not loud or not JSON."""
    if not any(level.encode() in raw for level in LOUD):
        return ""
    try:
        fields = json.loads(raw)
        level = fields.get("level")
    except (ValueError, AttributeError):
        return ""
    if level not in LOUD:
        return ""
    details = " ".join(f"{name}={value}" for name, value in fields.items() if name not in NOT_REPEATED)
    return f"{level}: {fields.get('event', '')} {details}".strip()[:LINE_CHARS_MAX]


def _start_over(log: Path) -> None:
    """Keep one older file. The writer appends, so after the cut it goes on at the beginning."""
    shutil.copyfile(log, log.with_suffix(".log.1"))
    os.truncate(log, 0)
