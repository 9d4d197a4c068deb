"""Older bodies made new: each function turns the body of one schema version into that of the next.

A released version never changes, and its events stay in the archive for ever. So a change that is not an optional field
is a new version of the event, with a function here, and readers of every later release understand both.
"""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

Body = dict[str, Any]
Upcast = Callable[[Body], Body]

UPCASTS: dict[tuple[str, int], Upcast] = {}
"""By event type and the version it comes from. Nothing was ever changed that way so far."""


def upcast(
    event_type: str, version: int, to: int, raw: str, upcasts: Mapping[tuple[str, int], Upcast] = UPCASTS
) -> str:
    """The body `raw` of one version as a later version would have written it.

    Raises:
        ValueError: not JSON, or a step is missing.
    """
    body = orjson.loads(raw)
    for step in range(version, to):
        if (event_type, step) not in upcasts:
            raise ValueError(f"nothing makes {event_type} v{step} a v{step + 1}")
        body = upcasts[event_type, step](body)
    return orjson.dumps(body).decode()
