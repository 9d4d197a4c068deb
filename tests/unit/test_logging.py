"""What libraries log leaves as ours, but for what only says how somebody else behaves."""

import logging

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
