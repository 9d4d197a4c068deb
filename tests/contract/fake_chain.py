"""A scripted node and venue for the executor's tests: Solana's JSON-RPC and Jupiter's swap, over a real socket."""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

PROGRAM = Pubkey.new_unique()
BLOCKHASH_LIFE = 150


def unsigned_for(payer: str, reference: str, blockhash: Hash) -> str:
    key = Pubkey.from_string(payer)
    instruction = Instruction(PROGRAM, reference.encode(), [AccountMeta(key, True, True)])
    message = MessageV0.try_compile(key, [instruction], [], blockhash)
    return base64.b64encode(bytes(VersionedTransaction.populate(message, [Signature.default()]))).decode()


def signature_of(transaction: str) -> str:
    return str(VersionedTransaction.from_bytes(base64.b64decode(transaction)).signatures[0])


def reference_of(transaction: str) -> str:
    """The order a transaction of `unsigned_for` is for."""
    return bytes(VersionedTransaction.from_bytes(base64.b64decode(transaction)).message.instructions[0].data).decode()


@dataclass
class FakeChain:
    """What is sent lands at once unless told otherwise: `drop`, `lose_replies` and `away` count down."""

    slot: int = 1_000
    height: int = 900
    amount_out: int = 1_499_000_000
    error: Any = None  # of whatever lands
    commitment: str = "confirmed"
    drop: int = 0  # sends taken, never to land
    lose_replies: int = 0  # sends that land, but whose reply is a broken connection
    away: int = 0  # requests answered with 503
    nulls: int = 0  # statuses told as unknown although they are there
    seen_from_height_on: bool = False  # until somebody asks for the height
    hidden_transactions: int = 0  # getTransaction answers null although it is there
    knows_blockhash_valid: bool = True
    first_height: int = 0  # of the blocks it has
    tells_first_block: bool = True
    finalized_lag: int = 0  # blocks that a fork may still take back
    status_slot_lag: int = 0
    refuses: str = ""  # this method
    refuses_with: int = -32011
    refused_status: int = 200  # of the answer to one call, which is an error
    genesis: str = ""  # empty: it does not know the question
    genesis_trouble: int = 0  # the code of its error when asked for that
    slow_s: float = 0  # each answer
    leaves_out: tuple[str, ...] = ()  # calls with these first parameters get no answer
    on_drop: Callable[[], None] | None = None
    sent: list[str] = field(default_factory=list)
    landed: dict[str, dict[str, Any]] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    amounts_odd: set[str] = field(default_factory=set)
    built: list[dict[str, Any]] = field(default_factory=list)
    blockhashes: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    calls: list[str] = field(default_factory=list)
    status_sizes: list[int] = field(default_factory=list)
    swap_lists: int = 0
    has_lists: bool = True
    mint_out: str = ""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    build_reply: Callable[[dict[str, Any]], web.Response] | None = None
    calls_per_request_max: int = 1_000
    too_many: Callable[[], web.Response] = lambda: web.Response(status=413)
    requests_refused: int = 0
    list_reply: Callable[[], web.Response] | None = None

    def __post_init__(self) -> None:
        self.gate.set()

    def app(self) -> web.Application:
        app = web.Application(client_max_size=8 * 1024 * 1024)
        app.add_routes(
            [web.post("/", self._rpc), web.post("/venue/swap", self._swap), web.post("/venue/swaps", self._swaps)]
        )
        return app

    def expire(self) -> None:
        """Time passes beyond every blockhash known."""
        self.height += BLOCKHASH_LIFE + 1
        self.slot += BLOCKHASH_LIFE + 1

    async def _swap(self, request: web.Request) -> web.Response:
        body = await request.json()
        await self.gate.wait()
        return self.build_reply(body) if self.build_reply else web.json_response(self._build(body))

    async def _swaps(self, request: web.Request) -> web.Response:
        if not self.has_lists:
            raise web.HTTPMethodNotAllowed("POST", [])
        self.swap_lists += 1
        if self.list_reply:
            return self.list_reply()
        return web.json_response({"swaps": [self._build(body) for body in (await request.json())["swaps"]]})

    def _build(self, body: dict[str, Any]) -> dict[str, Any]:
        self.built.append(body)
        blockhash = Hash.new_unique()
        last_valid = self.height + BLOCKHASH_LIFE
        self.blockhashes[str(blockhash)] = last_valid
        transaction = unsigned_for(body["userPublicKey"], body["reference"], blockhash)
        return {"swapTransaction": transaction, "lastValidBlockHeight": last_valid}

    async def _rpc(self, request: web.Request) -> web.Response:
        self.requests += 1
        body = await request.json()
        await self.gate.wait()
        await asyncio.sleep(self.slow_s)  # as far away, or as busy, as the test wants it
        if self.away:
            self.away -= 1
            return web.json_response({"error": "unhealthy"}, status=503)
        calls = body if isinstance(body, list) else [body]
        if len(calls) > self.calls_per_request_max or (self.calls_per_request_max == 1 and isinstance(body, list)):
            self.requests_refused += 1
            return self.too_many()
        answered = [call for call in calls if call["params"][:1] not in [[left_out] for left_out in self.leaves_out]]
        answers = [{"jsonrpc": "2.0", "id": call["id"], **self._call(call)} for call in answered]
        if self.lose_replies and any(call["method"] == "sendTransaction" for call in calls):
            self.lose_replies -= 1
            assert request.transport
            request.transport.close()
        if self.refused_status != 200 and not isinstance(body, list) and "error" in answers[0]:
            return web.json_response({**answers[0], "id": None}, status=self.refused_status)
        # In any order, as the standard allows.
        return web.json_response(answers[::-1] if isinstance(body, list) else answers[0])

    def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        self.calls.append(call["method"])
        params = call["params"]
        match call["method"]:
            case self.refuses:
                return {
                    "error": {
                        "code": self.refuses_with,
                        "message": "Transaction history is not available from this node",
                    }
                }
            case "getSlot":
                return {"result": self.slot}
            case "getBlockHeight":
                return {"result": self.height}
            case "getEpochInfo":
                if self.seen_from_height_on:
                    self.nulls = 0
                lag = self._lag(params[0])
                return {"result": {"absoluteSlot": self.slot - lag, "blockHeight": self.height - lag}}
            case "isBlockhashValid" if self.knows_blockhash_valid:
                there = self.height - self._lag(params[1])
                return {"result": self._at_tip(self.blockhashes.get(params[0], -1) >= there)}
            case "sendTransaction":
                return self._send(params[0])
            case "getSignatureStatuses":
                self.status_sizes.append(len(params[0]))
                return {"result": self._at_tip([self._status(signature) for signature in params[0]])}
            case "getTransaction":
                return {"result": self._transaction(params[0])}
            case name:
                return self._history(name, params)

    def _history(self, name: str, params: list[Any]) -> dict[str, Any]:
        behind = self.slot - self.height
        match name:
            case "getFirstAvailableBlock" if self.tells_first_block:
                return {"result": self.first_height and self.first_height + behind}
            case "getBlock":
                return {"result": {"blockHeight": params[0] - behind}}
            case "getGenesisHash" if self.genesis_trouble:
                return {"error": {"code": self.genesis_trouble, "message": "not now"}}
            case "getGenesisHash" if self.genesis:
                return {"result": self.genesis}
            case _:
                return {"error": {"code": -32601, "message": "Method not found"}}

    def _lag(self, options: dict[str, Any]) -> int:
        return self.finalized_lag if options.get("commitment") == "finalized" else 0

    def _at_tip(self, value: Any) -> dict[str, Any]:
        return {"context": {"slot": self.slot - self.status_slot_lag}, "value": value}

    def _send(self, text: str) -> dict[str, Any]:
        self.sent.append(text)
        transaction = VersionedTransaction.from_bytes(base64.b64decode(text))
        assert transaction.verify_with_results() == [True]
        signature = str(transaction.signatures[0])
        if signature in self.landed:
            return {"result": signature}
        if self.blockhashes.get(str(transaction.message.recent_blockhash), -1) < self.height:
            return {"error": {"code": -32002, "message": "Transaction simulation failed: Blockhash not found"}}
        if self.drop:
            self.drop -= 1
            if self.on_drop:
                self.on_drop()
            return {"result": signature}
        self.slot += 1
        self.landed[signature] = {"slot": self.slot, "err": self.error, "confirmationStatus": self.commitment}
        self.owners[signature] = str(transaction.message.account_keys[0])
        return {"result": signature}

    def _status(self, signature: str) -> dict[str, Any] | None:
        if self.nulls:
            self.nulls -= 1
            return None
        return self.landed.get(signature)

    def _transaction(self, signature: str) -> dict[str, Any] | None:
        if self.hidden_transactions:
            self.hidden_transactions -= 1
            return None
        held = {"accountIndex": 1, "mint": self.mint_out, "owner": self.owners[signature]}
        before, after = (
            {**held, "uiTokenAmount": {"amount": str(amount), "decimals": 6}} for amount in (100, 100 + self.amount_out)
        )
        if signature in self.amounts_odd:
            after["uiTokenAmount"] = None
        return {"slot": self.slot, "meta": {"err": None, "preTokenBalances": [before], "postTokenBalances": [after]}}
