"""What is said on a WebSocket beside events: one JSON object each, with `op` from the client and `type` to it."""

from collections.abc import Mapping
from typing import TypeGuard

import orjson

from services.notifier.wire import Message


def is_list_of_texts(value: object) -> TypeGuard[list[str]]:
    """Whether it is a list of at least one text, and of nothing else."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def parsed(text: bytes) -> Mapping[str, object]:
    """The object; an empty one for what is none."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def error_message(code: str, detail: str) -> Message:
    """The client's last message was not acted on; `code`: see `docs/api.md`."""
    return message("error", code=code, detail=detail)


def message(kind: str, **members: object) -> Message:
    """An answer of this type."""
    return Message({"type": kind, **members}, kind=kind)
