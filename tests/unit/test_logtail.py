"""What services warn of is repeated whatever becomes of the disk."""

import errno
import json
import os
import sys
from pathlib import Path

import pytest

from deploy.local.__main__ import repeat
from deploy.local.logtail import LogTail
from deploy.local.processes import Command, spawn


def warn(log: Path, event: str) -> None:
    with log.open("a") as file:
        file.write(json.dumps({"event": event, "level": "warning"}) + "\n")


def test_a_log_that_cannot_start_over_hides_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("deploy.local.logtail.LOG_BYTES_MAX", 100)
    monkeypatch.setattr("shutil.copyfile", full)
    said: list[str] = []
    tail, logs = LogTail(said.append), [tmp_path / "gateway.log", tmp_path / "router.log"]
    for log in logs:
        tail.follow(log)
    warn(logs[0], "long" * 50)
    for number in range(2):
        warn(logs[1], f"trouble {number}")
        tail.look()
    assert [line for line in said if line.startswith("router")] == [
        "router: warning: trouble 0",
        "router: warning: trouble 1",
    ]


def test_what_is_warned_of_after_a_log_was_emptied_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    tail, log = LogTail(said.append), tmp_path / "router.log"
    tail.follow(log)
    warn(log, "a trouble of many words")
    tail.look()
    log.write_bytes(b"")  # by an operator who needs room
    warn(log, "another")
    tail.look()
    assert said == ["router: warning: a trouble of many words", "router: warning: another"]


async def test_last_words_are_found_in_a_log_that_started_over(tmp_path: Path) -> None:
    log = tmp_path / "router.log"
    log.write_text("what it said before\n" * 100)
    words = f"import os, time\nwhile os.path.getsize({str(log)!r}): time.sleep(0.01)\nprint('last words')"
    process = spawn(Command("router", (sys.executable, "-c", words), log, os.environ))
    os.truncate(log, 0)
    await process.exited()
    assert process.last_line() == "last words"


def test_what_a_stranger_wrote_gives_no_orders_to_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tail, log = LogTail(repeat), tmp_path / "gateway.log"
    tail.follow(log)
    warn(log, "a path of \x1b]0;mine\x07 and \x9b31m and\r\nexecutor: all is well, in käse and 円")
    tail.look()
    said = capsys.readouterr().out
    shown = "a path of \\x1b]0;mine\\x07 and \\x9b31m and\\r\\nexecutor: all is well, in käse and 円"
    assert said == f"gateway: warning: {shown}\n"
