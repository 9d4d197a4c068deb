"""Letting a client listen: one read of its orders both decides whether it may and is its snapshot."""

from aiohttp import web

from libs.service.takeover import Taken
from libs.service.tokens import Claims
from services.notifier.connection import Answer, Connection
from services.notifier.limits import Close
from services.notifier.problems import NO_SUCH_ORDER, ORDER_NOT_FOUND, UNAVAILABLE, problem


async def admitted(
    request: web.Request, connection: Connection, claims: Claims, cursor: str | None, answer: Answer
) -> web.StreamResponse:
    """Let the client listen; `answer` is called before anything is sent. Gives the HTTP answer of a refusal."""
    if request.transport is None:  # the client has left
        return problem(request, UNAVAILABLE, "Try again.")
    connection.transport = request.transport
    await connection.join(claims, cursor, answer)
    if connection.refused is None:
        return Taken()
    # The same answer for another user's order and for none, so that ids cannot be probed.
    if connection.refused is Close.NOT_FOUND:
        return problem(request, ORDER_NOT_FOUND, NO_SUCH_ORDER)
    return problem(request, UNAVAILABLE, "Try again.")
