"""Venues and a chain that answer at once, in the process that asks them: what is then measured is the asker.

It stands in for the HTTP session of a service's adapters, so that these run as they are, but for HTTP itself. What the
stand-in takes is counted (`spent_s`), and told apart.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from libs.venues.tokens import TOKENS
from services.localnet.chain import Chain
from services.localnet.quotes import Venue
from services.localnet.trouble import Trouble

RPC_URL = "http://instant"
VENUES = ("raydium", "meteora")  # as many as the default of the setting, so that an order costs as many questions
VENUE_URLS = {name: f"{RPC_URL}/venues/{name}" for name in VENUES}
SLOT = 7
GOT_UNITS = 10**12  # more than any of the orders wants: less would be warned of, for each
_LANDED = {"slot": SLOT, "confirmations": None, "err": None, "confirmationStatus": "finalized"}


class _Body:
    """`content` of an answer."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self._raw


class _Answer:
    status = 200

    def __init__(self, raw: bytes) -> None:
        self.content = _Body(raw)


class InstantWorld:
    """Quotes are the local venues' own; every transaction has landed, with `GOT_UNITS` of each token."""

    def __init__(self, wallet: str) -> None:
        chain = Chain(1, bytes(32), Trouble(1))
        self._venues = {f"/venues/{name}": Venue(name, chain) for name in VENUES}
        self._quotes: dict[tuple[str, bytes], orjson.Fragment] = {}
        held = [
            {"accountIndex": number, "mint": token.mint, "owner": wallet, "uiTokenAmount": {"amount": str(GOT_UNITS)}}
            for number, token in enumerate(TOKENS.values(), 1)
        ]
        meta = {"err": None, "fee": 5_000, "preTokenBalances": [], "postTokenBalances": held}
        self._transaction = orjson.Fragment(orjson.dumps({"slot": SLOT, "meta": meta}))
        self.spent_s = 0.0

    @asynccontextmanager
    async def request(self, _method: str, url: str, *, data: bytes | None, **options: Any) -> AsyncIterator[_Answer]:
        """As `aiohttp.ClientSession.request`, as far as it is used."""
        began = time.perf_counter()
        path = url.removeprefix(RPC_URL)
        asked = orjson.loads(data) if data else dict(options["params"])
        answer = _Answer(orjson.dumps(self._said(path, asked)))
        self.spent_s += time.perf_counter() - began
        yield answer

    def _said(self, path: str, asked: Any) -> Any:
        if not path:
            return [self._rpc(call) for call in asked] if isinstance(asked, list) else self._rpc(asked)
        base, _, what = path.rpartition("/")
        match what:
            case "quotes":
                return {"quotes": [self._quote(base, each) for each in asked["quotes"]]}
            case "swaps":
                return {"swaps": [self._venues[base].swap(each) for each in asked["swaps"]]}
            case "quote":
                return self._quote(base, asked)
            case "swap":
                return self._venues[base].swap(asked)
        raise ValueError(f"nothing at {path}")

    def _quote(self, base: str, asked: Any) -> orjson.Fragment:
        key = base, orjson.dumps(asked)
        if key not in self._quotes:
            self._quotes[key] = orjson.Fragment(orjson.dumps(self._venues[base].quote(asked)))
        return self._quotes[key]

    def _rpc(self, call: Any) -> dict[str, Any]:
        match call["method"]:
            case "sendTransaction":
                result: Any = ""
            case "getSignatureStatuses":
                result = {"context": {"slot": SLOT}, "value": [_LANDED] * len(call["params"][0])}
            case "getTransaction":
                result = self._transaction
            case "getBlockHeight":
                result = 0
            case "getGenesisHash":
                result = "instant"
            case method:
                raise ValueError(f"{method} is not known here")
        return {"jsonrpc": "2.0", "id": call["id"], "result": result}
