"""JSON lines for machines, colour for a terminal, and never a secret."""

import logging
import re
import sys
from contextlib import suppress
from functools import lru_cache
from typing import Any, BinaryIO, Literal, cast

import orjson
import structlog
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError

from libs.service.terminal import harmless

SECRET_KEYS = re.compile(r"password|secret|token$|authorization|api_?key|jwt|wallet|cookie", re.IGNORECASE)
URL_PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):[^/@\s]+(?=@)")
_OF_CLIENTS = (HttpProcessingError, RequestPayloadError, ConnectionResetError)
BEARER = re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]+")


@lru_cache(maxsize=1024)
def _names_a_secret(key: str) -> bool:
    return SECRET_KEYS.search(key) is not None


def redact(_logger: Any, _method: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Blank what looks like a secret, by the name of the field or by the shape of the value."""
    for key, value in fields.items():
        if _names_a_secret(key):
            fields[key] = "[redacted]"
        elif isinstance(value, str) and ("://" in value or "eyJ" in value):
            fields[key] = BEARER.sub("[redacted]", URL_PASSWORD.sub(r"\1:[redacted]", value))
    return fields


def _json_line(_logger: Any, _method: str, fields: structlog.typing.EventDict) -> bytes:
    # Whatever somebody logs: a log line must never be what breaks a process.
    return orjson.dumps(fields, default=str, option=orjson.OPT_NON_STR_KEYS)


def _text_line() -> structlog.typing.Processor:
    render = structlog.dev.ConsoleRenderer()

    def line(logger: Any, method: str, fields: structlog.typing.EventDict) -> bytes:
        shown = {key: harmless(value) if isinstance(value, str) else value for key, value in fields.items()}
        if isinstance(where := fields.get("exception"), str):
            shown["exception"] = "\n".join(map(harmless, where.split("\n")))
        return str(render(logger, method, shown)).encode(errors="replace")

    return line


class _Dispensable:
    """A stream that loses what cannot be written: on a full disk every step that is logged would fail."""

    def __init__(self, stream: BinaryIO) -> None:
        # What a buffer keeps for later would be tried again when the process ends, which then would have failed.
        self._stream: Any = getattr(stream, "raw", stream)

    def write(self, line: bytes) -> None:
        with suppress(OSError):
            self._stream.write(line)

    def flush(self) -> None:
        """Nothing is kept."""


def configure_logging(service: str, level: str = "info", fmt: Literal["auto", "json", "pretty"] = "auto") -> None:
    """Set up structlog for this process; called once, in `__main__`."""
    pretty = fmt == "pretty" or (fmt == "auto" and sys.stderr.isatty())
    render: structlog.typing.Processor = _text_line() if pretty else _json_line
    factory = structlog.BytesLoggerFactory(cast("BinaryIO", _Dispensable(sys.stderr.buffer)))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[StdlibToStructlog()], force=True)


class StdlibToStructlog(logging.Handler):
    """What libraries say through stdlib logging leaves in the same shape as what we say."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        method = log.debug if _is_of_clients(record) else getattr(log, record.levelname.lower(), log.warning)
        method(record.getMessage(), logger=record.name, exc_info=record.exc_info or None)


def _is_of_clients(record: logging.LogRecord) -> bool:
    """A request that cannot be read, or a client that has left: anybody could fill the logs with such lines."""
    error = record.exc_info[1] if record.exc_info else None
    return record.name == "aiohttp.server" and isinstance(error, _OF_CLIENTS)
