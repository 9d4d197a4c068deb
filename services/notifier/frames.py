"""WebSocket frames as bytes (RFC 6455, section 5): what this side writes, and what it reads of a client."""

from collections.abc import Iterator

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
_CONTINUATION = 0x0
_FINAL, _RESERVED, _MASKED, _CONTROL = 0x80, 0x70, 0x80, 0x8
_CONTROL_BYTES_MAX = 125
_LENGTH_SIZES = {126: 2, 127: 8}

PROTOCOL_ERROR, NOT_TEXT, TOO_BIG = 1002, 1007, 1009


class BadFrame(Exception):
    """Not what the standard or the limit allows; `code` is what to close with."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def frame(kind: int, payload: bytes = b"") -> bytes:
    """A whole, unmasked, uncompressed frame, as servers send them."""
    length = len(payload)
    if length <= _CONTROL_BYTES_MAX:
        return bytes((_FINAL | kind, length)) + payload
    if length < 1 << 16:
        return bytes((_FINAL | kind, 126)) + length.to_bytes(2, "big") + payload
    return bytes((_FINAL | kind, 127)) + length.to_bytes(8, "big") + payload


def text_frame(payload: bytes) -> bytes:
    return frame(TEXT, payload)


def close_frame(code: int, reason: str = "") -> bytes:
    return frame(CLOSE, code.to_bytes(2, "big") + reason.encode()[: _CONTROL_BYTES_MAX - 2])


class FrameReader:
    """Puts a client's messages together, in whatever pieces they come; holds at most one message."""

    __slots__ = ("_bytes_max", "_kind", "_message", "_rest")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._rest = self._message = b""
        self._kind = _CONTINUATION

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Every message (TEXT, BINARY) and control frame that is now whole, with its kind.

        Raises:
            BadFrame: nothing that follows can be understood.
        """
        received, at = self._rest + data, 0
        # Cut off once, not for each frame: thousands of tiny ones come at once, and all others would wait for that.
        while (found := self._frame_at(received, at)) is not None:
            opcode, final, payload, at = found
            if opcode & _CONTROL:
                yield opcode, payload
            elif (message := self._joined(opcode, final, payload)) is not None:
                yield message
        self._rest = received[at:]

    def _joined(self, opcode: int, final: bool, payload: bytes) -> tuple[int, bytes] | None:
        if (opcode == _CONTINUATION) != bool(self._kind):
            raise BadFrame(PROTOCOL_ERROR)
        self._kind = self._kind or opcode
        self._message += payload
        if not final:
            return None
        kind, message = self._kind, self._message
        self._kind, self._message = _CONTINUATION, b""
        if kind == TEXT:
            _must_be_text(message)
        return kind, message

    def _frame_at(self, received: bytes, at: int) -> tuple[int, bool, bytes, int] | None:
        """The frame that begins there, if it is whole, and where the next one does."""
        if len(received) < at + 2:
            return None
        first, second, body = received[at], received[at + 1], at + 2
        opcode, final, length = first & 0x0F, bool(first & _FINAL), second & 0x7F
        self._check(first, second, opcode)
        if size := _LENGTH_SIZES.get(length, 0):
            body += size
            if len(received) < body:
                return None
            length = int.from_bytes(received[at + 2 : body], "big")
        if length + len(self._message) > self._bytes_max and not opcode & _CONTROL:
            raise BadFrame(TOO_BIG)
        start, end = body + 4, body + 4 + length
        if len(received) < end:
            return None
        return opcode, final, _unmasked(received[body:start], received[start:end]), end

    def _check(self, first: int, second: int, opcode: int) -> None:
        known = opcode in (_CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG)
        if not known or first & _RESERVED or not second & _MASKED:
            raise BadFrame(PROTOCOL_ERROR)
        if opcode & _CONTROL and (not first & _FINAL or second & 0x7F > _CONTROL_BYTES_MAX):
            raise BadFrame(PROTOCOL_ERROR)


def check_close(payload: bytes) -> None:
    """Whether a close frame's payload may be (RFC 6455, section 7.4).

    Raises:
        BadFrame: it may not.
    """
    if not payload:
        return
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or not (3000 <= code < 5000 or code in _CODES_OF_CLOSE):
        raise BadFrame(PROTOCOL_ERROR)
    _must_be_text(payload[2:])


_CODES_OF_CLOSE = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


def _must_be_text(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError:
        raise BadFrame(NOT_TEXT) from None


def _unmasked(mask: bytes, payload: bytes) -> bytes:
    length = len(payload)
    key = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(length, "big")
