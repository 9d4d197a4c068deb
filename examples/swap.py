"""Swap one token for another and wait for the end: `python examples/swap.py http://127.0.0.1:8080`."""

import asyncio
import sys
from uuid import uuid4

from libs.client import Client, NotSettled, SwaplogError


async def main(base_url: str) -> int:
    async with Client(base_url) as client:
        await client.sign_up(f"{uuid4().hex}@example.com", "correct horse battery")
        placed = await client.place("SOL", "USDC", "1.5", slippageBps=100)
        async for event in client.watch(placed.order_id):
            print(f"{event.time:%H:%M:%S.%f}  {event.version}  {event.type:15}  {event.status}")
        try:
            done = await client.swap("USDC", "SOL", 100)
        except NotSettled as ended:
            print(f"not settled: {ended}")
            return 1
        print(f"{done.amount} {done.token_in} became {done.amount_out} {done.token_out} in {done.signature}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(sys.argv[1] if sys.argv[1:] else "http://127.0.0.1:8080")))
    except (SwaplogError, ValueError) as error:  # an address that is none is a ValueError
        sys.exit(f"swap: {error}")
