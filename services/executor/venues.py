"""Asking the venue of a route for its transaction, in the shape of Jupiter's swap API."""

import re
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from pydantic import BaseModel, Field, JsonValue, ValidationError

from libs.events.model import U64_MAX, Reason
from libs.quoting.choice import WHOLE_BPS
from libs.service.coalesce import Coalescer, each
from libs.service.http import LIST_REFUSED, PeerNonsense, PeerUnavailable, ask, in_short

SWAPS_PER_CALL_MAX = 100
CALLS_IN_FLIGHT_MAX = 2  # per venue
BUILD_DEADLINE_MS = 5_000
BUILD_SECONDS_MAX = 2 * BUILD_DEADLINE_MS / 1000  # a request may have to wait for the one before
MESSAGE_CHARS_MAX = 200
_UNPRINTABLE = re.compile(r"[^ -~]+")


class BuildFailed(Exception):
    """No transaction; the text is for people."""

    def __init__(self, reason: Reason, why: str) -> None:
        super().__init__(why)
        self.reason = reason


class BuildLate(BuildFailed):
    """The venue may still be at it."""

    def __init__(self) -> None:
        super().__init__(Reason.VENUES_UNAVAILABLE, "no answer in time")


@dataclass(frozen=True, slots=True)
class SwapRequest:
    """What to build: the venue's own quote with the client's minimum, for our wallet.

    Some venues read the minimum from `otherAmountThreshold`, others, as Jupiter does, from `slippageBps` of the quote.
    `reference`: the order's id, for a memo or the data of the swap. What does not hold it as it is written gets a memo.
    """

    quote: dict[str, JsonValue]
    quoted_out: int
    min_out: int
    wallet: str
    reference: str

    def fields(self) -> dict[str, Any]:
        # Rounded down: less slippage than that is a larger minimum.
        slippage_bps = (self.quoted_out - self.min_out) * WHOLE_BPS // self.quoted_out
        least = {"otherAmountThreshold": str(self.min_out), "slippageBps": slippage_bps}
        return {
            "quoteResponse": {**self.quote, **least},
            "userPublicKey": self.wallet,
            "reference": self.reference,
        }


class Built(BaseModel):
    """An unsigned transaction, base64, and the last block that may hold it."""

    transaction: str = Field(alias="swapTransaction", min_length=1, max_length=4096, strict=True)
    last_valid_block_height: int = Field(alias="lastValidBlockHeight", ge=0, le=U64_MAX, strict=True)


class VenueSwaps:
    """The swap endpoint of one venue."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url, self._session = url, session
        self._batches = True  # until the venue says it has no such endpoint
        self._many: Coalescer[SwapRequest, Built] = Coalescer(self._build_many, SWAPS_PER_CALL_MAX, CALLS_IN_FLIGHT_MAX)

    async def build_many(
        self, requests: Sequence[SwapRequest], within_s: float = BUILD_SECONDS_MAX
    ) -> list[Built | BuildFailed]:
        """The venue's transaction for each, or why there is none; BuildLate: not answered within so many seconds."""
        results = await self._many.gather(requests, within_s)
        return [result if isinstance(result, Built | BuildFailed) else _failed(result) for result in results]

    async def aclose(self) -> None:
        await self._many.aclose()

    async def _build_one(self, request: SwapRequest) -> Built:
        status, answer = await ask(
            self._session, f"{self._url}/swap", body=request.fields(), deadline_ms=BUILD_DEADLINE_MS
        )
        return _built(answer, status)

    async def _build_many(self, requests: list[SwapRequest]) -> Sequence[Built | Exception]:
        if len(requests) == 1 or not self._batches:
            return await each(self._build_one(request) for request in requests)
        body = {"swaps": [request.fields() for request in requests]}
        status, answer = await ask(self._session, f"{self._url}/swaps", body=body, deadline_ms=BUILD_DEADLINE_MS)
        if status in {404, 405}:
            self._batches = False
            return await each(self._build_one(request) for request in requests)
        swaps = answer.get("swaps") if isinstance(answer, dict) else None
        if status == 200 and isinstance(swaps, list) and len(swaps) == len(requests):
            return await self._each_its_own(requests, [_outcome(swap) for swap in swaps])
        if status in LIST_REFUSED:
            return await each(self._build_one(request) for request in requests)
        raise PeerNonsense(f"no list of {len(requests)} swaps (HTTP {status})")

    async def _each_its_own(
        self, requests: Sequence[SwapRequest], outcomes: Sequence[Built | Exception]
    ) -> Sequence[Built | Exception]:
        """From a list that is not in the order of its requests one would be given what another wants.

        Whose a transaction is that does not name its order only a request for it alone tells.
        """
        unsure = {place for place, one in enumerate(zip(requests, outcomes, strict=True)) if not _is_for(*one)}
        alone = iter(await each(self._build_one(requests[place]) for place in sorted(unsure)))
        return [next(alone) if place in unsure else outcome for place, outcome in enumerate(outcomes)]


def _is_for(request: SwapRequest, outcome: Built | Exception) -> bool:
    """As far as it tells."""
    try:
        return isinstance(outcome, Exception) or request.reference.encode() in b64decode(outcome.transaction)
    except ValueError:
        return False


def _failed(trouble: Exception) -> BuildFailed:
    match trouble:
        case TimeoutError():
            return BuildLate()
        case PeerUnavailable():
            return BuildFailed(Reason.VENUES_UNAVAILABLE, str(trouble))
        case PeerNonsense():
            return _nonsense(str(trouble))
    raise trouble


def _outcome(swap: Any) -> Built | Exception:
    try:
        return _built(swap, 200)
    except BuildFailed as failure:
        return failure


def _built(answer: Any, status: int) -> Built:
    if status >= 400 or (isinstance(answer, dict) and "error" in answer):
        error = answer.get("error") if isinstance(answer, dict) else "no reason given"
        said = _UNPRINTABLE.sub(" ", in_short(error, MESSAGE_CHARS_MAX))
        code = answer.get("errorCode") if isinstance(answer, dict) else None
        # New quotes come next: the router then says for good whether the pair or the amount is at fault.
        reason = Reason.INSUFFICIENT_LIQUIDITY if code == "INSUFFICIENT_LIQUIDITY" else Reason.VENUE_REFUSED
        raise BuildFailed(reason, f"the venue refused to build: {said}")
    try:
        return Built.model_validate(answer)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _nonsense(f"{'.'.join(map(str, first['loc'])) or 'answer'}: {first['msg']}") from None


def _nonsense(what: str) -> BuildFailed:
    return BuildFailed(Reason.VENUE_REFUSED, f"venue answered nonsense: {what}")
