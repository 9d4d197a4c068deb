"""Where the frames of a WebSocket end, seen from outside, and the one frame the gateway writes itself."""

import random

_SHORTEST_HEAD = 2
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
        data, at = self._head + data, self._left
        size = len(data)
        while size - at >= _SHORTEST_HEAD:
            length, head = data[at + 1] & 0x7F, _SHORTEST_HEAD
            if length in _LENGTHS:
                head += _LENGTHS[length]
                if size - at < head:
                    break
                length = int.from_bytes(data[at + _SHORTEST_HEAD : at + head], "big")
            at += head + length
        self._head = data[at:]
        self._left = max(0, at - size)


def restarting() -> bytes:
    """A close frame that tells the client to come back, each at another time."""
    wait_ms = random.randrange(RECONNECT_SPREAD_MS)  # noqa: S311 - spread, not secrecy
    payload = RESTARTING.to_bytes(2, "big") + f"restarting, reconnect in {wait_ms} ms".encode()
    return bytes((0x88, len(payload))) + payload
