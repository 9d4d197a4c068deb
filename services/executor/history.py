"""Whether a signature that one look does not find is nowhere on the chain: only nodes with every block can tell."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from libs.service.http import in_short
from services.executor.answers import MALFORMED, looks_of
from services.executor.domain import Look
from services.executor.rpc import METHOD_NOT_FOUND, PASSING, Call, ChainUnavailable, Results, Rpc, RpcRefused

# For nodes behind a balancer: of one call's status and the next one's history neither proves anything about the other.
# Where some have it all and some do not, so many that agree have never met one which found it.
LOOKS_BACK = 8
SECONDS_MAX = 5  # with the turn waited for
SLOWLY_AFTER_S, SLOWLY_EVERY_S = 1.0, 0.25  # once a node has refused so many at once
_FIRST = Call("getFirstAvailableBlock")
_HEADER = {
    "commitment": "confirmed", "transactionDetails": "none", "rewards": False, "maxSupportedTransactionVersion": 0,
}  # fmt: skip

Told = tuple[Any, Any]
"""What is known of a signature, and which block is the first: each a result, or a refusal."""


class HistoryMissing(Exception):
    """The node cannot tell what became of a transaction: another one must, or an operator look."""


class History:
    """What the node knows of old signatures, and since when it knows them."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._turn = asyncio.Lock()

    async def look(self, status: Call, blocks_from: int) -> Look:
        """What `status` shows of a signature; that it is not there only from who has every block since this height.

        Raises:
            HistoryMissing: blocks are missing, or it is refused to say.
            ChainUnavailable: nothing can be learned just now.
        """
        try:
            async with asyncio.timeout(SECONDS_MAX), self._turn:
                told = await self._ask(status)
                for known, _ in told:  # first of all: what one found counts, whatever the others refuse to say
                    if look := _seen(known):
                        return look
                for known, _ in told:
                    check_told("getSignatureStatuses", known)
                for place, (_, first) in enumerate(told):
                    if first not in [before for _, before in told[:place]]:
                        await self._check_reaches(first, blocks_from)
        except TimeoutError:
            raise ChainUnavailable(f"not looked for {LOOKS_BACK} times within {SECONDS_MAX} s") from None
        return min((looks_of([known], 1)[0] for known, _ in told), key=lambda look: look.slot)

    async def _ask(self, status: Call) -> list[Told]:
        """All at once; if some of it is refused for now, all of it again slowly, for a node that counts calls.

        All of it: were only what was refused asked again, those of some nodes could be chosen by it. Other orders wait,
        or so many would be refused each time that none were ever decided.
        """
        pairs = [(status, _FIRST)[:: _order(turn)] for turn in range(LOOKS_BACK)]
        try:
            return _read(enumerate(await self._rpc.gather(pairs)))
        except ChainUnavailable:
            await asyncio.sleep(SLOWLY_AFTER_S)  # until the node counts anew
        told: list[Told] = []
        for turn, pair in enumerate(pairs):
            # No more often, however quick the answer: what is asked for faster is refused again.
            (answer,), _ = await asyncio.gather(self._rpc.gather([pair]), asyncio.sleep(SLOWLY_EVERY_S))
            told += _read([(turn, answer)])
        return told

    async def _check_reaches(self, first: Any, height: int) -> None:
        if first == 0 or (isinstance(first, RpcRefused) and first.code == METHOD_NOT_FOUND):
            return
        check_told("getFirstAvailableBlock", first)
        if type(first) is not int:
            raise ChainUnavailable(f"getFirstAvailableBlock: {in_short(first, 100)}")
        block: Any
        (block,) = await self._rpc.together(Call("getBlock", (first, _HEADER)))
        check_told(f"getBlock of its first, {first!s:.20}", block)
        try:
            begins = int(block["blockHeight"])
        except MALFORMED as error:
            raise ChainUnavailable(f"getBlock of its first, {first!s:.20}: {error}") from error
        if begins > height:
            raise HistoryMissing(f"its blocks begin at height {begins}, and it may have landed from {height} on")


def check_told(what: str, answer: Any) -> None:
    """Raises HistoryMissing: the node refuses it, and is not in other trouble."""
    if isinstance(answer, RpcRefused):
        raise (ChainUnavailable if answer.code in PASSING else HistoryMissing)(f"{what}: {answer}")


def _order(turn: int) -> int:
    """In none that repeats: a balancer's turns must not always lead the second call to the node that has it all."""
    return -1 if turn.bit_count() % 2 else 1


def _read(answers: Iterable[tuple[int, Results | Exception]]) -> list[Told]:
    """Each turn's, or only that which found it.

    Raises:
        ChainUnavailable: something may be answered when it is asked again.
    """
    told: list[Told] = []
    troubles: list[Exception] = []
    for turn, answer in answers:
        if isinstance(answer, Exception):
            troubles.append(answer)
            continue
        known, first = answer[:: _order(turn)]
        told.append((known, first))
        if _seen(known):
            return [(known, first)]
    if troubles:
        raise troubles[0]
    for known, first in told:
        for what, one in (("getSignatureStatuses", known), ("getFirstAvailableBlock", first)):
            if isinstance(one, RpcRefused) and one.code in PASSING:
                raise ChainUnavailable(f"{what}: {one}")
    return told


def _seen(known: Any) -> Look | None:
    with suppress(ChainUnavailable):
        (look,) = looks_of([known], 1)
        return look if look.status else None
    return None
