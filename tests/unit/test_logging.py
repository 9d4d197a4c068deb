"""What libraries log leaves as ours, but for what only says how somebody else behaves; and no line stops a process."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import ClientConnectionResetError
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web import RequestPayloadError
from structlog.testing import capture_logs

from libs.service.logging import StdlibToStructlog


@pytest.mark.parametrize(
    ("logger", "error", "level"),
    [
        ("aiohttp.server", LineTooLong(b"GET"), "debug"),
        ("aiohttp.server", RequestPayloadError("not gzip"), "debug"),
        ("aiohttp.server", ClientConnectionResetError("Cannot write to closing transport"), "debug"),
        ("aiohttp.server", RuntimeError("of ours"), "error"),
        ("asyncio", ClientConnectionResetError("of whom?"), "error"),
    ],
)
def test_how_a_client_behaves_is_no_error_of_ours(logger: str, error: Exception, level: str) -> None:
    record = logging.LogRecord(logger, logging.ERROR, "", 0, "Error", (), (type(error), error, None))
    with capture_logs() as said:
        StdlibToStructlog().emit(record)
    assert [line["log_level"] for line in said] == [level]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="elsewhere than on Linux no disk is full at will")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("fmt", ["json", "pretty"])
def test_what_cannot_be_logged_stops_nobody(fmt: str, unbuffered: str) -> None:
    program = (
        "import structlog; from libs.service.logging import configure_logging\n"
        f"configure_logging('router', fmt={fmt!r})\n"
        "for _ in range(1_000): structlog.get_logger().warning('the disk is full')\n"
        "print('went on')"
    )
    with Path("/dev/full").open("w") as log:
        environ = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environ, stdout=subprocess.PIPE, stderr=log, text=True, check=False
        )
    assert (done.returncode, done.stdout) == (0, "went on\n")


def test_what_a_stranger_wrote_gives_no_orders_to_a_terminal() -> None:
    program = (
        "import structlog; from libs.service.logging import configure_logging\n"
        "configure_logging('gateway', fmt='pretty')\n"
        "structlog.get_logger().warning('need_failed\\nof', reason='\\x1b]0;mine\\x07', path='a\\rb c\\x9bd\\ne')"
    )
    done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, check=True)
    said = re.sub(r"\x1b\[[0-9;]*m", "", done.stderr.decode())  # the colours are ours
    assert not set(said.removesuffix("\n")) & {"\x1b", "\x07", "\r", "\n", "\x9b"}, repr(said)


def test_where_an_error_came_from_is_shown_line_by_line() -> None:
    program = (
        "import structlog; from libs.service.logging import configure_logging\n"
        "configure_logging('gateway', fmt='pretty')\n"
        "try: raise ValueError('\\x07')\n"
        "except ValueError: structlog.get_logger().exception('unexpected_error')"
    )
    done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, check=True)
    assert done.stderr.decode().splitlines()[-1] == "ValueError: \\x07"
