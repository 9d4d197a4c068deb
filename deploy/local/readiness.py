"""Asking a service whether it is ready, with nothing but a socket."""

import asyncio
import json

from deploy.local.plan import NotReachable

ANSWER_WITHIN_S = 2
ANSWER_BYTES_MAX = 16_384


async def check_ready(host: str, port: int) -> None:
    """One look at `/readyz`.

    Raises:
        NotReachable: it is not ready; the text is its own reason.
    """
    try:
        status, body = await asyncio.wait_for(_get(host, port, "/readyz"), ANSWER_WITHIN_S)
    except TimeoutError:
        raise NotReachable(f"no answer within {ANSWER_WITHIN_S} s") from None
    except (OSError, ValueError, IndexError):
        raise NotReachable("not listening yet") from None
    if status != 200:
        raise NotReachable(_reasons(body))


async def _get(host: str, port: int, path: str) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read(ANSWER_BYTES_MAX)
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(None, 2)[1]), body or await reader.read(ANSWER_BYTES_MAX)
    finally:
        writer.close()


def _reasons(body: bytes) -> str:
    try:
        reasons = json.loads(body)["reasons"]
        return "; ".join(f"{need}: {reason}" for need, reason in reasons.items())
    except (ValueError, KeyError, TypeError, AttributeError):
        return "not ready"
