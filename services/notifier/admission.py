"""The answer to who wants to listen: one read of his orders says whether he may, and is his snapshot."""

from aiohttp import web

from libs.service.takeover import Taken
from libs.service.tokens import Claims
from services.notifier.connection import Answer, Connection
from services.notifier.limits import Close
from services.notifier.problems import NO_SUCH_ORDER, ORDER_NOT_FOUND, UNAVAILABLE, problem


async def admitted(
    request: web.Request, connection: Connection, claims: Claims, cursor: str | None, answer: Answer
) -> web.StreamResponse:
    """Let him listen; `answer` is called before anything is sent. What else HTTP answers is given back."""
    if request.transport is None:  # it has left
        return problem(request, UNAVAILABLE, "Try again.")
    connection.transport = request.transport
    await connection.join(claims, cursor, answer)
    if connection.refused is None:
        return Taken()
    # Somebody else's order and no order are one answer: ids must not be probed.
    if connection.refused is Close.NOT_FOUND:
        return problem(request, ORDER_NOT_FOUND, NO_SUCH_ORDER)
    return problem(request, UNAVAILABLE, "Try again.")
