"""A chain with all its bad manners: lost and late transactions, forks, nodes that lag, blockhashes that expire."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from solders.hash import Hash

from libs.events.model import Reason
from libs.events.order import Order
from libs.quoting.answer import Answer, NoQuote, Quote
from services.executor.rpc import METHOD_NOT_FOUND, Call, ChainUnavailable, Results, RpcRefused
from services.executor.venues import BuildFailed, Built, SwapRequest
from services.executor.wallet import blockhash_of
from tests.builders import SOL, USDC
from tests.contract.fake_chain import reference_of, signature_of, unsigned_for

SLOT_S = 0.1
BLOCKHASH_LIFE = 15
NODE_LAG_MAX = 8
LATE_MAX = 10
FORK_SLOTS = 2
REVERTED = {"InstructionError": [0, {"Custom": 6001}]}
AMOUNT_OUT = 1_499_000_000


@dataclass
class Landing:
    """When a transaction is in a block; on a fork it is gone again after `until`."""

    slot: int
    error: Any = None
    until: int | None = None


@dataclass
class SimulatedChain:
    """Also both venues. `rough` says whether anything goes wrong now; `owner` is the wallet's address."""

    chance: random.Random
    owner: str
    rough: Callable[[], bool]
    knows_blockhashes: bool = True
    takes_lists: bool = True
    """Else calls that leave together are answered by a node each."""
    landings: dict[str, Landing] = field(default_factory=dict)
    orders: dict[str, str] = field(default_factory=dict)
    built: int = 0

    @property
    def slot(self) -> int:
        return 100 + int(asyncio.get_running_loop().time() / SLOT_S)

    def settled(self) -> dict[str, list[str]]:
        """Signatures executed without error, by order."""
        found: dict[str, list[str]] = {}
        for signature, landing in self.landings.items():
            if landing.error is None and landing.until is None and landing.slot <= self.slot:
                found.setdefault(self.orders[signature], []).append(signature)
        return found

    # The node, as `services.executor.rpc.Rpc`

    async def call(self, method: str, *params: Any) -> Any:
        (result,) = await self.together(Call(method, params))
        if isinstance(result, RpcRefused):
            raise result
        return result

    async def together(self, *calls: Call) -> Results:
        await self._network()
        node = self._node()
        results = []
        for call in calls:
            results.append(getattr(self, f"_{call.method}")(node, *call.params))
            node = node if self.takes_lists else self._node()
        if self._bad(0.1):
            raise ChainUnavailable("the reply was lost")
        return results

    def _node(self) -> int:
        """The slot of whichever answers."""
        return self.slot - (self.chance.randrange(NODE_LAG_MAX) if self._bad(0.5) else 0)

    async def gather(self, groups: Sequence[Sequence[Call]]) -> list[Results | Exception]:
        async def one(calls: Sequence[Call]) -> Results | Exception:
            try:
                return await self.together(*calls)
            except ChainUnavailable as trouble:
                return trouble

        return [await one(calls) for calls in groups]

    def _getGenesisHash(self, _node: int) -> str:  # noqa: N802
        return "simulated"

    def _sendTransaction(self, _node: int, transaction: str, _options: Any) -> Any:  # noqa: N802
        signature, slot = signature_of(transaction), self.slot
        self.orders[signature] = reference_of(transaction)
        held = self.landings.get(signature)
        if held and held.until is None:
            return signature
        if self._bad(0.1):
            return RpcRefused(-32005, "node is behind")
        if not self._bad(0.3):
            self._land(signature, slot, last=self._born(transaction) + BLOCKHASH_LIFE)
        return signature

    def _land(self, signature: str, slot: int, last: int) -> None:
        late = slot + 1 + (self.chance.randrange(LATE_MAX) if self._bad(0.5) else 0)
        if late <= last:
            until = late + FORK_SLOTS if self._bad(0.1) else None
            self.landings[signature] = Landing(late, REVERTED if self._bad(0.15) else None, until)

    def _getSignatureStatuses(self, node: int, signatures: Sequence[str], _options: Any = None) -> Any:  # noqa: N802
        return {"context": {"slot": node}, "value": [self._status(node, signature) for signature in signatures]}

    def _status(self, node: int, signature: str) -> Any:
        landing = self._seen(node, signature)
        if landing is None:
            return None
        depth = "processed" if landing.until is not None or node <= landing.slot else "confirmed"
        return {"slot": landing.slot, "err": landing.error, "confirmationStatus": depth}

    def _seen(self, node: int, signature: str) -> Landing | None:
        landing = self.landings.get(signature)
        if landing is None or landing.slot > node or (landing.until is not None and landing.until < node):
            return None
        return landing

    def _getFirstAvailableBlock(self, _node: int) -> Any:  # noqa: N802 - named as the call
        return 0

    def _getEpochInfo(self, node: int, _options: Any) -> Any:  # noqa: N802
        return {"absoluteSlot": node, "blockHeight": node}

    def _isBlockhashValid(self, node: int, blockhash: str, _options: Any) -> Any:  # noqa: N802
        if not self.knows_blockhashes:
            return RpcRefused(METHOD_NOT_FOUND, "no such method")
        known = _slot_of(blockhash) <= node
        return {"context": {"slot": node}, "value": known and node <= _slot_of(blockhash) + BLOCKHASH_LIFE}

    def _getTransaction(self, node: int, signature: str, _options: Any) -> Any:  # noqa: N802
        if self._seen(node, signature) is None:
            return None

        def held(amount: int) -> list[Any]:
            return [{"owner": self.owner, "mint": USDC, "uiTokenAmount": {"amount": str(amount)}}]

        return {"meta": {"preTokenBalances": held(0), "postTokenBalances": held(AMOUNT_OUT)}}

    # A venue, as `libs.quoting.venue.Venue` and as `services.executor.venues.VenueSwaps`

    name = "raydium"

    async def quote_many(self, orders: Sequence[Order]) -> list[Answer]:
        await asyncio.sleep(self.chance.random() * 0.2 if self._bad(0.5) else 0)
        return [self._quote() for _ in orders]

    def _quote(self) -> Answer:
        if self._bad(0.2):
            return Answer("raydium", 1, NoQuote(Reason.VENUES_UNAVAILABLE, "away"))
        return Answer("raydium", 1, Quote(AMOUNT_OUT, "pool-1", 1, SOL, 5_000, None, {}))

    async def build_many(self, requests: Sequence[SwapRequest], _within_s: float) -> list[Built | BuildFailed]:
        await asyncio.sleep(self.chance.random() * 0.1 if self._bad(0.3) else 0)
        return [self._build(request) for request in requests]

    def _build(self, request: SwapRequest) -> Built | BuildFailed:
        if self._bad(0.1):
            return BuildFailed(Reason.VENUES_UNAVAILABLE, "away")
        self.built += 1
        blockhash = Hash(self.slot.to_bytes(16, "big") + self.built.to_bytes(16, "big"))
        unsigned = unsigned_for(request.wallet, request.reference, blockhash)
        # A venue may err in the height; then only the blockhash itself tells the truth.
        wrong = -BLOCKHASH_LIFE + 1 if self.knows_blockhashes and self._bad(0.2) else 0
        height = self.slot + BLOCKHASH_LIFE + wrong
        return Built.model_validate({"swapTransaction": unsigned, "lastValidBlockHeight": height})

    # Details

    def _born(self, transaction: str) -> int:
        return _slot_of(blockhash_of(transaction))

    def _bad(self, chance: float) -> bool:
        return self.rough() and self.chance.random() < chance

    async def _network(self) -> None:
        await asyncio.sleep(self.chance.random() * (0.3 if self._bad(0.2) else 0.01))
        if self._bad(0.1):
            raise ChainUnavailable("connection reset")


def _slot_of(blockhash: str) -> int:
    return int.from_bytes(bytes(Hash.from_string(blockhash))[:16], "big")
