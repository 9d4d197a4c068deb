"""One order from sign-up to its end, as a client sees it, with the time each step took."""

import asyncio
import time
from collections.abc import Coroutine
from secrets import token_hex
from typing import Any

from aiohttp import ClientConnectorError, ClientError, ClientSession, ClientTimeout, ClientWebSocketResponse, WSMsgType
from rich.console import Console
from rich.text import Text

from libs.events.reactions import TERMINAL
from libs.service.terminal import harmless
from services.ops.show import STATUS_STYLE, describe, print_line
from services.ops.stack import EXIT_DIFFERS, EXIT_UNREACHABLE, Refusal

ANSWER_WITHIN_S = 10
END_WITHIN_S = 60


async def journey(base_url: str, order: dict[str, Any], console: Console, within_s: float = END_WITHIN_S) -> int:
    """Sign up somebody new, post `order`, print every event as it arrives; gives the exit code.

    Raises:
        Refusal: the gateway cannot be reached, or refuses.
    """
    console.print(Text.assemble("An order's journey through ", (base_url, "bold")))
    try:
        async with ClientSession(base_url, timeout=ClientTimeout(total=ANSWER_WITHIN_S)) as session:
            token = await _sign_up(session, console)
            headers = {"Authorization": f"Bearer {token}"}
            # Listening before asking: nothing of the order can be missed, not even its first event.
            async with session.ws_connect("/api/ws/orders", headers=headers) as ws:
                return await _in_time(_watch(session, ws, order, headers, console), within_s)
    except TimeoutError:
        raise Refusal(f"{base_url}: no answer within {ANSWER_WITHIN_S:g} s", EXIT_UNREACHABLE) from None
    except ClientConnectorError as error:
        raise Refusal(f"{base_url} cannot be reached: {error.strerror}", EXIT_UNREACHABLE) from None
    except (ClientError, OSError) as error:
        raise Refusal(f"{base_url} cannot be reached: {error}", EXIT_UNREACHABLE) from None


async def _in_time(watching: Coroutine[Any, Any, int], within_s: float) -> int:
    """A question that is not answered ends it with an error of its own."""
    timer = asyncio.timeout(within_s)
    try:
        async with timer:
            return await watching
    except TimeoutError:
        if not timer.expired():
            raise
        raise Refusal(f"not at its end within {within_s:g} s", EXIT_DIFFERS) from None


async def _sign_up(session: ClientSession, console: Console) -> str:
    email = f"journey-{token_hex(6)}@example.com"
    started = time.monotonic()
    signed_up = await _post(session, "/api/auth/signup", {"email": email, "password": token_hex(16)}, {})
    console.print(f"{_ms(started):>7}  signed up as {email}")
    return str(signed_up["token"])


async def _watch(
    session: ClientSession,
    ws: ClientWebSocketResponse,
    order: dict[str, Any],
    headers: dict[str, str],
    console: Console,
) -> int:
    first = await ws.receive()
    if first.type is not WSMsgType.TEXT:
        raise _closed(ws)
    assert first.json()["type"] == "snapshot", first.data
    started = time.monotonic()
    asked = asyncio.create_task(_post(session, "/api/orders", order, headers))
    try:
        accepted = await asked
        answered = time.monotonic()
        text = f"{order['amount']} {order['tokenIn']} for {order['tokenOut']}: order {accepted['orderId']}"
        console.print(f"{_ms(started, answered):>7}  accepted {text}\n")
        status = await _print_events(ws, accepted["orderId"], answered, console)
    finally:
        asked.cancel()
    whole = f"{status} {_ms(started)} after it was posted"
    console.print(Text.assemble("\n", (whole, STATUS_STYLE.get(status, "cyan"))))
    return 0 if status == "CONFIRMED" else EXIT_DIFFERS


async def _print_events(ws: ClientWebSocketResponse, order_id: str, last: float, console: Console) -> str:
    async for message in ws:
        event = message.json()
        if event.get("orderId") != order_id:
            continue
        now = time.monotonic()
        status = str(event["status"])
        line = Text()
        line.append(f"{'+' + _ms(last, now):>7}  ", "dim")
        line.append(f"{event['type']:<15} ", "bold").append(f"{status:<10} ", STATUS_STYLE.get(status, "cyan"))
        print_line(console, line.append(harmless(describe(event))))
        last = now
        if status in TERMINAL:
            return status
    raise _closed(ws)


def _closed(ws: ClientWebSocketResponse) -> Refusal:
    return Refusal(f"the WebSocket was closed with {ws.close_code}", EXIT_DIFFERS)


async def _post(session: ClientSession, path: str, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
    async with session.post(path, json=body, headers=headers) as answer:
        try:
            document: dict[str, Any] = await answer.json(content_type=None)
        except ValueError:
            text = f"{path} answered {answer.status} and no JSON: is there a gateway?"
            raise Refusal(text, EXIT_UNREACHABLE) from None
        if answer.status >= 400:
            raise Refusal(f"{path} answered {answer.status}: {document.get('detail', document)}", EXIT_DIFFERS)
        return document


def _ms(started: float, now: float | None = None) -> str:
    passed = (time.monotonic() if now is None else now) - started
    return f"{max(0.0, passed) * 1000:.0f} ms"
