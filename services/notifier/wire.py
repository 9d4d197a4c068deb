"""One message as the two ways to listen show it, WebSocket and Server-Sent Events, and what such a way can do."""

from collections.abc import Sequence
from typing import Protocol

import orjson

from services.notifier.frames import text_frame
from services.notifier.limits import Close


class Message:
    """One JSON object, encoded at most once for each way it is sent."""

    __slots__ = ("_frame", "_sse", "cursor", "kind", "payload")

    def __init__(self, body: object, *, kind: str, cursor: str = "") -> None:
        """`kind`: name of the event for Server-Sent Events; `cursor`: where to go on after this one."""
        self.payload = orjson.dumps(body)
        self.kind, self.cursor = kind, cursor
        self._frame = self._sse = b""

    @property
    def frame(self) -> bytes:
        """A WebSocket text frame."""
        if not self._frame:
            self._frame = text_frame(self.payload)
        return self._frame

    @property
    def sse(self) -> bytes:
        """An event of a `text/event-stream`, as one HTTP chunk."""
        if not self._sse:
            name = f"id: {self.cursor}\n" if self.cursor else ""
            event = f"{name}event: {self.kind}\ndata: ".encode() + self.payload + b"\n\n"
            self._sse = chunk(event)
        return self._sse


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked HTTP body (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Wire(Protocol):
    """How one client is reached."""

    @property
    def closed(self) -> bool:
        """Whether nothing more can be sent."""
        ...

    async def begin(self) -> None:
        """Answer the client, unless it has been: nothing was sent before, and nothing stands in the way now."""
        ...

    def send(self, messages: Sequence[Message]) -> int:
        """Hand messages over; gives how many bytes the client has not taken yet."""
        ...

    def close(self, close: Close, reason: str) -> None:
        """Say why and go; a peer that does not answer in time is cut off."""
        ...
