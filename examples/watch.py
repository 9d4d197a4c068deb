"""Print what happens to the orders of one account, live over the WebSocket: only `pip install aiohttp`.

    python watch.py http://127.0.0.1:8080 TOKEN [ORDER]

With ORDER it ends when that order does. Reconnecting with the last cursor is left to `libs/client`, to keep this short.
"""

import argparse
import asyncio
import sys
from typing import Any

import aiohttp

ENDS = {"CONFIRMED", "FAILED", "CANCELLED", "EXPIRED"}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("url")
    options.add_argument("token")
    options.add_argument("order", nargs="?", default="")
    given = options.parse_args()
    try:
        return asyncio.run(watch(given.url, given.token, given.order))
    except aiohttp.WSServerHandshakeError as refused:
        why = {401: "the token is not valid any more: log in again", 404: "no such order", 429: "too many are open"}
        print(f"watch: {why.get(refused.status, refused.message)} ({refused.status})", file=sys.stderr)
        return 1
    except (aiohttp.ClientError, ValueError) as error:
        print(f"watch: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


async def watch(url: str, token: str, order_id: str) -> int:
    """0: the order was seen to its end; 1: the socket ended first."""
    headers = {"Authorization": f"Bearer {token}"}
    query = {"orderId": order_id} if order_id else {}
    async with (
        aiohttp.ClientSession(url, headers=headers) as session,
        session.ws_connect("/api/ws/orders", params=query) as socket,
    ):
        async for message in socket:
            status = tell(message.json())
            if order_id and status in ENDS:
                return 0
        print(f"watch: closed with {socket.close_code}", file=sys.stderr)
    return 1


def tell(message: dict[str, Any]) -> str:
    """Print one message; gives the status it leads to. First comes how things stand, then every event."""
    if message["type"] == "snapshot":
        for order in message["orders"]:
            print(f"{order['updatedAt']}  {order['orderId']}  {order['version']:>2}  is {order['status']}", flush=True)
        return message["orders"][0]["status"] if len(message["orders"]) == 1 else ""
    if "orderId" not in message:  # a heartbeat, or a kind of message that is newer than this
        return ""
    print(
        f"{message['time']}  {message['orderId']}  {message['version']:>2}  {message['type']}: {message['status']}",
        flush=True,
    )
    return str(message["status"])


if __name__ == "__main__":
    sys.exit(main())
