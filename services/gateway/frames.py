"""Where the frames of a WebSocket end, seen from outside, and the one frame the gateway writes itself."""

import random

_LENGTHS = {126: 2, 127: 8}
RESTARTING = 4001
RECONNECT_SPREAD_MS = 5_000  # a restart must not bring everybody back in the same instant


class FrameEdge:
    """Follows what a server sends (RFC 6455, section 5.2: unmasked frames), in whatever pieces it comes."""

    __slots__ = ("_head", "_left")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    @property
    def reached(self) -> bool:
        """Whether the last frame is whole, so that another may follow."""
        return not self._head and not self._left

    def feed(self, data: bytes) -> None:
        """The next piece."""
        at = 0
        while at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            wanted = self._head_size() - len(self._head)
            self._head += data[at : at + wanted]
            at += wanted
            if len(self._head) == self._head_size():
                self._left = self._length()
                self._head = b""

    def _head_size(self) -> int:
        return 2 + _LENGTHS.get(self._head[1] & 0x7F, 0) if len(self._head) >= 2 else 2

    def _length(self) -> int:
        short = self._head[1] & 0x7F
        return int.from_bytes(self._head[2:], "big") if short in _LENGTHS else short


def restarting() -> bytes:
    """A close frame that tells the client to come back, each at another time."""
    wait_ms = random.randrange(RECONNECT_SPREAD_MS)  # noqa: S311 - spread, not secrecy
    payload = RESTARTING.to_bytes(2, "big") + f"restarting, reconnect in {wait_ms} ms".encode()
    return bytes((0x88, len(payload))) + payload
