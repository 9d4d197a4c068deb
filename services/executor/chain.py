"""The chain as the executor uses it, and the one poller that watches every sent transaction of this process."""

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from services.executor.domain import ChainView, Commitment, Look, TxStatus
from services.executor.rpc import METHOD_NOT_FOUND, Call, ChainUnavailable, Results, Rpc, RpcRefused

STATUSES_PER_CALL_MAX = 256  # a node's limit
SENDS_PER_CALL_MAX = 64
FIRST_PAUSE_MS = 2
TROUBLE_PAUSE_MS = 100  # after a look that failed
_CONFIRMED = {"commitment": "confirmed"}
_BALANCES = {**_CONFIRMED, "encoding": "json", "maxSupportedTransactionVersion": 0}
_SEND = {"encoding": "base64", "skipPreflight": True, "maxRetries": 0}
_MALFORMED = (AttributeError, LookupError, TypeError, ValueError)
_COMMITMENTS: dict[object, Commitment] = {
    None: "processed",
    "processed": "processed",
    "confirmed": "confirmed",
    "finalized": "finalized",
}


Sent = Exception | Literal[True]
"""Taken by the node, or why not: neither proves anything."""


class Sending(NamedTuple):
    """What one request said: whether the node took it, what it knows of it, and its `meta` if it showed that."""

    taken: Sent
    look: Look | None
    meta: dict[str, Any] | None


class Chain:
    """A Solana node. Every method raises ChainUnavailable when nothing can be learned just now."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._quick = False

    async def send(self, transaction: str) -> None:
        """Hand over a signed transaction (base64). Raises RpcRefused too; neither outcome proves anything.

        Without preflight: its simulation refuses what may already be on its way. Without the node's own re-sending:
        ours knows when to stop.
        """
        await self._rpc.call("sendTransaction", transaction, _SEND)

    async def send_and_look(self, transactions: Sequence[tuple[str, str]]) -> list[Sending]:
        """`send` each and, in the same request, look at its signature: a quick chain has settled it by then.

        `transactions`: bytes and signature of each. Never raises what one of them met.
        """
        groups = [
            transactions[start : start + SENDS_PER_CALL_MAX]
            for start in range(0, len(transactions), SENDS_PER_CALL_MAX)
        ]
        answers = await self._rpc.gather([_sending(group, self._quick) for group in groups])
        sendings = [
            sending for group, answer in zip(groups, answers, strict=True) for sending in _sent(len(group), answer)
        ]
        # Asked for only where it is likely to be there: elsewhere it would be a call in vain for every order.
        self._quick = any(sending.look and sending.look.status for sending in sendings)
        return sendings

    async def look(self, signatures: Sequence[str], *, history: bool = False) -> list[Look]:
        """What the chain knows of at most `STATUSES_PER_CALL_MAX` signatures; `history`: also of old ones."""
        options = ({"searchTransactionHistory": True},) if history else ()
        try:
            answer = await self._rpc.call("getSignatureStatuses", list(signatures), *options)
            return _looks(answer, len(signatures))
        except (RpcRefused, *_MALFORMED) as error:
            raise ChainUnavailable(f"getSignatureStatuses: {error}") from error

    async def view(self, blockhash: str) -> ChainView:
        """Where the chain stands, from one node, and whether it would still take `blockhash`."""
        slot, height, valid = await self._rpc.together(
            Call("getSlot", (_CONFIRMED,)),
            Call("getBlockHeight", (_CONFIRMED,)),
            Call("isBlockhashValid", (blockhash, _CONFIRMED)),
        )
        if not isinstance(slot, int) or not isinstance(height, int):
            raise ChainUnavailable(f"getSlot, getBlockHeight: {slot!s:.100}, {height!s:.100}")
        if isinstance(valid, RpcRefused) and valid.code == METHOD_NOT_FOUND:
            return ChainView(slot, height, None)
        if not isinstance(valid, dict) or not isinstance(valid.get("value"), bool):
            raise ChainUnavailable(f"isBlockhashValid: {valid!s:.100}")
        return ChainView(slot, height, valid["value"])

    async def height(self) -> int:
        """How many blocks the chain has; a node may be behind."""
        try:
            return int(await self._rpc.call("getBlockHeight", _CONFIRMED))
        except (RpcRefused, *_MALFORMED) as error:
            raise ChainUnavailable(f"getBlockHeight: {error}") from error

    async def balances(self, signature: str) -> dict[str, Any] | None:
        """The `meta` of a confirmed transaction, or None when this node does not have it (yet)."""
        try:
            return _meta(await self._rpc.call("getTransaction", signature, _BALANCES))
        except RpcRefused as error:
            raise ChainUnavailable(f"getTransaction: {error}") from error

    async def balances_many(self, signatures: Sequence[str]) -> list[dict[str, Any] | None]:
        """`balances` of each; None also for what could not be learned just now."""
        groups = [(Call("getTransaction", (signature, _BALANCES)),) for signature in signatures]
        answers = await self._rpc.gather(groups)
        return [None if isinstance(answer, Exception) else _meta(answer[0]) for answer in answers]


def _sending(transactions: Sequence[tuple[str, str]], with_balances: bool) -> list[Call]:
    signatures = [signature for _, signature in transactions]
    calls = [Call("sendTransaction", (transaction, _SEND)) for transaction, _ in transactions]
    calls.append(Call("getSignatureStatuses", (signatures,)))
    if with_balances:
        calls += [Call("getTransaction", (signature, _BALANCES)) for signature in signatures]
    return calls


def _sent(count: int, answer: Results | Exception) -> list[Sending]:
    if isinstance(answer, Exception):
        return [Sending(answer, None, None)] * count
    taken: list[Sent] = [sent if isinstance(sent, RpcRefused) else True for sent in answer[:count]]
    try:
        looks: Sequence[Look | None] = _looks(answer[count], count)
    except _MALFORMED:
        looks = [None] * count
    metas = [_meta(shown) for shown in answer[count + 1 :]] or [None] * count
    return list(map(Sending, taken, looks, metas))


def _looks(answer: Any, count: int) -> list[Look]:
    slot, statuses = int(answer["context"]["slot"]), answer["value"]
    if len(statuses) != count:
        raise ValueError(f"{len(statuses)} statuses for {count} signatures")
    return [_look(slot, value) for value in statuses]


def _look(slot: int, value: Any) -> Look:
    try:
        return Look(slot, _status(value))
    except _MALFORMED:
        return Look(-1, None)  # from before every height: others' are as good as ever, and this one proves nothing


def _meta(answer: Any) -> dict[str, Any] | None:
    meta = answer.get("meta") if isinstance(answer, dict) else None
    return meta if isinstance(meta, dict) else None


def _status(value: Any) -> TxStatus | None:
    if value is None:
        return None
    return TxStatus(int(value["slot"]), _COMMITMENTS[value.get("confirmationStatus")], value.get("err"))


@dataclass(slots=True, eq=False)
class _Watch:
    signature: str
    due: float
    found: asyncio.Future[Look]
    pause_ms: float = FIRST_PAUSE_MS
    looked: float = field(default=-math.inf)
    slot: int = -1


class Poller:
    """Looks at many signatures with one call. Each is looked at at once, then after 2, 4, 8 … `pause_max_ms`.

    So a chain that answers in a millisecond is seen within milliseconds, and one with long slots is not flooded. A new
    slot seen by anybody's look brings the others' looks forward.
    """

    def __init__(self, chain: Chain, pause_max_ms: int) -> None:
        self._chain, self._pause_max_ms = chain, pause_max_ms
        self._watches: set[_Watch] = set()
        self._changed = asyncio.Event()
        self._slot = -1
        self._task: asyncio.Task[None] | None = None

    async def watch(self, signature: str, for_ms: int) -> Look | None:
        """The first look that shows `signature` settled, or None when none did within `for_ms`: that proves nothing."""
        loop = asyncio.get_running_loop()
        watch = _Watch(signature, loop.time(), loop.create_future())
        self._watches.add(watch)
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._poll())
        try:
            async with asyncio.timeout(for_ms / 1000):
                return await watch.found
        except TimeoutError:
            return None
        finally:
            self._watches.discard(watch)

    async def aclose(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _poll(self) -> None:
        """Runs while anybody watches."""
        loop = asyncio.get_running_loop()
        while self._watches:
            now = loop.time()
            due = [watch for watch in self._watches if self._due(watch) <= now][:STATUSES_PER_CALL_MAX]
            if not due:
                await self._until(min(map(self._due, self._watches)) - now)
                continue
            try:
                looks = await self._chain.look([watch.signature for watch in due])
            except ChainUnavailable:
                await asyncio.sleep(TROUBLE_PAUSE_MS / 1000)
                continue
            except Exception as error:
                self._fail(error)
                raise
            self._told(due, looks, loop.time())

    def _told(self, watches: list[_Watch], looks: list[Look], now: float) -> None:
        self._slot = max(self._slot, *(look.slot for look in looks))
        for watch, look in zip(watches, looks, strict=True):
            if look.status and look.status.settled:
                if not watch.found.done():
                    watch.found.set_result(look)
                self._watches.discard(watch)
                continue
            watch.looked, watch.slot = now, self._slot
            pause_s = watch.pause_ms / 1000
            # On a common grid, so that many orders share a call.
            watch.due = math.ceil((now + pause_s / 2) / pause_s) * pause_s
            watch.pause_ms = min(watch.pause_ms * 2, self._pause_max_ms)

    def _due(self, watch: _Watch) -> float:
        if watch.slot < self._slot:
            return min(watch.due, watch.looked + watch.pause_ms / 4000)
        return watch.due

    async def _until(self, seconds: float) -> None:
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def _fail(self, error: Exception) -> None:
        for watch in self._watches:
            if not watch.found.done():
                watch.found.set_exception(error)
        self._watches.clear()
