"""The notifier's public application, and `GET /api/ws/orders[?orderId=][&cursor=]`: the upgrade to a WebSocket."""

from base64 import b64encode
from hashlib import sha1

from aiohttp import hdrs, web

from libs.service.health import Health, health_routes
from libs.service.strangers import Strangers
from libs.service.takeover import Taken, take_over
from services.notifier.access import Access
from services.notifier.admission import admitted
from services.notifier.connection import Context
from services.notifier.conversation import Conversation
from services.notifier.hub import Hub
from services.notifier.problems import NOT_FOUND, UPGRADE_REQUIRED, problem
from services.notifier.stream import PATH as STREAM_PATH, OrdersStream
from services.notifier.wheel import Wheel

PATH = "/api/ws/orders"

_KEY_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


class OrdersSocket:
    """The endpoint."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Upgrade, and leave the rest to a conversation. With token or ticket every refusal is a plain HTTP answer."""
        if not web.WebSocketResponse().can_prepare(request).ok:
            return problem(request, UPGRADE_REQUIRED, "Connect with a WebSocket client.")
        asked = await self._context.access.check(request)
        if isinstance(asked, web.Response):
            return asked
        conversation = Conversation(self._context, asked)

        async def upgrade() -> None:
            transport, early = take_over(request, conversation)
            transport.write(_switching(request.headers[hdrs.SEC_WEBSOCKET_KEY]))
            conversation.stand(transport)
            conversation.data_received(early)

        if asked.claims:
            return await admitted(request, conversation, asked.claims, asked.cursor, upgrade)
        await upgrade()
        return Taken()


def make_app(hub: Hub, access: Access, health: Health) -> web.Application:
    """What is served on the notifier's port."""
    context = Context(hub, access, Strangers(), Wheel(), access.limits)
    app = web.Application()
    app.add_routes(
        [
            web.get(PATH, OrdersSocket(context).handle),
            web.get(STREAM_PATH, OrdersStream(context).handle),
            *health_routes(health),
            web.get("/api/{rest:.*}", _nothing),
        ]
    )
    return app


async def _nothing(request: web.Request) -> web.Response:
    """The gateway hands on whatever address of ours it is asked for."""
    return problem(request, NOT_FOUND, "There is no such route; /api/docs tells all there are.")


def _switching(key: str) -> bytes:
    """The answer to an upgrade: RFC 6455, section 4.2.2."""
    proof = b64encode(sha1(key.encode() + _KEY_SUFFIX, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + proof + b"\r\n\r\n"
    )
