"""What tests of the socket for orders have in common."""

from typing import Any

from aiohttp import ClientWebSocketResponse, WSMsgType

from tests.contract.http_gateway import ORDER, Client

PATH = "/api/ws/entry"


def connect(client: Client, token: str | None = None) -> Any:
    token = client.token if token is None else token
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return client.session.ws_connect(client.url + PATH, headers=headers)


def place(name: str, key: str | None = None, **fields: object) -> dict[str, object]:
    order = {**ORDER, **fields, **({"idempotencyKey": key} if key else {})}
    return {"op": "order.place", "id": name, "order": order}


async def asked(ws: ClientWebSocketResponse, *messages: dict[str, object]) -> list[dict[str, Any]]:
    """Everything is sent before anything is read."""
    for message in messages:
        await ws.send_json(message)
    return [await ws.receive_json(timeout=60) for _ in messages]


async def closed_with(ws: ClientWebSocketResponse) -> tuple[int | None, str]:
    while (message := await ws.receive(timeout=60)).type is WSMsgType.TEXT:
        pass
    return ws.close_code, str(message.extra or "")
