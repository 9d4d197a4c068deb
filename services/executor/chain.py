"""The chain as the executor uses it."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from libs.service.http import in_short
from services.executor.answers import MALFORMED, looks_at, looks_of, meta_of, valid_at
from services.executor.domain import ChainView, Look
from services.executor.history import History, HistoryMissing, check_told
from services.executor.rpc import METHOD_NOT_FOUND, Call, ChainUnavailable, Results, Rpc, RpcRefused

STATUSES_PER_CALL_MAX = 256  # a node's limit
SENDS_PER_CALL_MAX = 64
_CONFIRMED = {"commitment": "confirmed"}
# Where a signature is looked for a node may be on a fork, and not have the last blocks that the others have.
_FINALIZED = {"commitment": "finalized"}
_BALANCES = {**_CONFIRMED, "encoding": "json", "maxSupportedTransactionVersion": 0}
_SEND = {"encoding": "base64", "skipPreflight": True, "maxRetries": 0}

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
        self._genesis: str | None = None
        self._history = History(rpc)

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
            sending
            for group, answer in zip(groups, answers, strict=True)
            for sending in _sent([signature for _, signature in group], answer)
        ]
        # Asked for only where it is likely to be there: elsewhere it would be a call in vain for every order.
        self._quick = any(sending.look and sending.look.status for sending in sendings)
        return sendings

    async def look(self, signatures: Sequence[str]) -> list[Look]:
        """What the chain knows of at most `STATUSES_PER_CALL_MAX` signatures that are not old."""
        return looks_of(await self._rpc.together(Call("getSignatureStatuses", (list(signatures),))), len(signatures))

    async def look_back(self, signature: str, blocks_from: int | None) -> Look:
        """What the chain knows of a signature, however old.

        `blocks_from`: that a node does not show it counts only if it has every block from this height on. One that was
        set up since, or has let its oldest go, says the same of what landed before.

        Raises:
            HistoryMissing: asked for that, it has not, or will not say.
        """
        status = Call("getSignatureStatuses", ([signature], {"searchTransactionHistory": True}))
        known = (await self._rpc.together(status))[0]
        if blocks_from is None or not isinstance(known, RpcRefused):
            (look,) = looks_of([known], 1)
            if look.status or blocks_from is None:
                return look
        return await self._history.look(status, blocks_from)

    async def view(self, blockhash: str) -> ChainView:
        """Where the chain stands for good, by one answer of one node, and whether `blockhash` would be taken then."""
        info, valid = await self._rpc.together(
            Call("getEpochInfo", (_FINALIZED,)), Call("isBlockhashValid", (blockhash, _FINALIZED))
        )
        slot, height = (info.get(name) if isinstance(info, dict) else None for name in ("absoluteSlot", "blockHeight"))
        if type(slot) is not int or type(height) is not int:
            raise ChainUnavailable(f"getEpochInfo: {in_short(info, 100)}")
        if isinstance(valid, RpcRefused) and valid.code == METHOD_NOT_FOUND:
            return ChainView(slot, height, None)
        holds = valid_at(valid, slot)
        if holds is None:
            raise ChainUnavailable(f"isBlockhashValid, at slot {slot}: {in_short(valid, 100)}")
        return ChainView(slot, height, holds)

    async def genesis(self) -> str | None:
        """The hash that says which chain it is, as once told; None: the node does not know the question.

        Raises:
            HistoryMissing: it will not say.
        """
        return (self._genesis if self._genesis is not None else await self._genesis_now()) or None

    async def check_is_of(self, genesis: str | None) -> None:
        """The node's own chain is asked for anew: another node may stand behind the same URL by now.

        Raises:
            HistoryMissing: it is of another chain than that, or will not say.
        """
        here = await self._genesis_now() if genesis else ""
        if here and genesis != here:
            raise HistoryMissing(f"it was signed for the chain of genesis {genesis}, and the node is of that of {here}")

    async def _genesis_now(self) -> str:
        told: Any
        (told,) = await self._rpc.together(Call("getGenesisHash"))
        if isinstance(told, RpcRefused) and told.code == METHOD_NOT_FOUND:
            told = ""
        check_told("getGenesisHash", told)
        if not isinstance(told, str):
            raise ChainUnavailable(f"getGenesisHash: {in_short(told, 100)}")
        self._genesis = told
        return told

    async def height(self) -> int:
        """How many blocks the chain has; a node may be behind."""
        try:
            return int(await self._rpc.call("getBlockHeight", _CONFIRMED))
        except (RpcRefused, *MALFORMED) as error:
            raise ChainUnavailable(f"getBlockHeight: {error}") from error

    async def balances(self, signature: str) -> dict[str, Any] | None:
        """The `meta` of a confirmed transaction, or None when this node does not have it (yet)."""
        try:
            return meta_of(signature, await self._rpc.call("getTransaction", signature, _BALANCES))
        except RpcRefused as error:
            raise ChainUnavailable(f"getTransaction: {error}") from error

    async def balances_many(self, signatures: Sequence[str]) -> list[dict[str, Any] | None]:
        """`balances` of each; None also for what could not be learned just now."""
        groups = [(Call("getTransaction", (signature, _BALANCES)),) for signature in signatures]
        answers = await self._rpc.gather(groups)
        return [
            None if isinstance(answer, Exception) else meta_of(signature, answer[0])
            for signature, answer in zip(signatures, answers, strict=True)
        ]


def _sending(transactions: Sequence[tuple[str, str]], with_balances: bool) -> list[Call]:
    signatures = [signature for _, signature in transactions]
    calls = [Call("sendTransaction", (transaction, _SEND)) for transaction, _ in transactions]
    calls.append(Call("getSignatureStatuses", (signatures,)))
    if with_balances:
        calls += [Call("getTransaction", (signature, _BALANCES)) for signature in signatures]
    return calls


def _sent(signatures: Sequence[str], answer: Results | Exception) -> list[Sending]:
    count = len(signatures)
    if isinstance(answer, Exception):
        return [Sending(answer, None, None)] * count
    taken: list[Sent] = [sent if isinstance(sent, RpcRefused) else True for sent in answer[:count]]
    try:
        looks: Sequence[Look | None] = looks_at(answer[count], count)
    except MALFORMED:
        looks = [None] * count
    metas = list(map(meta_of, signatures, answer[count + 1 :])) or [None] * count
    return list(map(Sending, taken, looks, metas))
