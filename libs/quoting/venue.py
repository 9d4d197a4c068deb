"""Asking one venue for a quote, in the shape of Jupiter's quote API; many orders' questions share a request."""

import asyncio
import re
from collections.abc import Sequence
from decimal import Decimal, DecimalException
from typing import Any, NamedTuple

import aiohttp
import orjson

from libs.events.model import U64_MAX, Reason
from libs.events.order import Order
from libs.quoting.answer import NETWORK_FEE_LAMPORTS, QUOTE_BYTES_MAX, Answer, NoQuote, Quote
from libs.service.coalesce import Coalescer, each
from libs.service.http import LIST_REFUSED, PeerNonsense, PeerUnavailable, ask, in_short

QUOTES_PER_CALL_MAX = 100
CALLS_IN_FLIGHT_MAX = 2  # per venue: one slow answer does not hold up every other order
BRACKETS_MAX = 128  # and so deep may it be nested: readers of the log read JSON of up to 200 levels (pydantic)
HOPS_MAX = 16
MESSAGE_CHARS_MAX = 200
DIGITS_MAX = 20
IMPACT_CHARS_MAX = 64

_CODES = {
    "COULD_NOT_FIND_ANY_ROUTE": Reason.NO_ROUTE,
    "AMOUNT_TOO_SMALL": Reason.AMOUNT_TOO_SMALL,
    "INSUFFICIENT_LIQUIDITY": Reason.INSUFFICIENT_LIQUIDITY,
    "TOKEN_NOT_TRADABLE": Reason.UNKNOWN_TOKEN,
}
_UNPRINTABLE = re.compile(r"[^ -~]+")

_ADDRESS = re.compile(r"[1-9A-HJ-NP-Za-km-z]{32,44}")


class Question(NamedTuple):
    """What a venue is asked; `pair` is for people."""

    mint_in: str
    mint_out: str
    amount_in: int
    slippage_bps: int
    pair: str

    def fields(self) -> dict[str, str | int]:
        return {
            "inputMint": self.mint_in,
            "outputMint": self.mint_out,
            "amount": str(self.amount_in),
            "slippageBps": self.slippage_bps,
        }


class Venue:
    """One venue under one address."""

    def __init__(self, name: str, url: str, session: aiohttp.ClientSession, deadline_ms: int) -> None:
        self.name = name
        self._url, self._session, self._deadline_ms = url, session, deadline_ms
        self._batches = True  # until the venue says it has no such endpoint
        self._many: Coalescer[Question, Quote | NoQuote] = Coalescer(
            self._ask_many, QUOTES_PER_CALL_MAX, CALLS_IN_FLIGHT_MAX
        )

    async def quote_many(self, orders: Sequence[Order]) -> list[Answer]:
        """Its answer to each within the deadline; trouble of any kind is an answer too, never an error."""
        return await self.ask_many([question_of(order) for order in orders])

    async def ask_many(self, questions: Sequence[Question]) -> list[Answer]:
        """The same for questions of any amounts."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        results = await self._many.gather(questions, self._deadline_ms / 1000)
        took_ms = int((loop.time() - started) * 1000)
        return [Answer(self.name, took_ms, self._result(result)) for result in results]

    def _result(self, result: Quote | NoQuote | Exception) -> Quote | NoQuote:
        if not isinstance(result, Exception):
            return result
        match result:
            case TimeoutError():
                return NoQuote(Reason.VENUES_UNAVAILABLE, f"no answer within {self._deadline_ms} ms")
            case PeerUnavailable():
                return NoQuote(Reason.VENUES_UNAVAILABLE, str(result))
            case PeerNonsense():
                return _nonsense(str(result))
        raise result

    async def aclose(self) -> None:
        await self._many.aclose()

    async def _ask_one(self, question: Question) -> Quote | NoQuote:
        params = {key: str(value) for key, value in question.fields().items()}
        status, body = await ask(self._session, f"{self._url}/quote", params=params, deadline_ms=self._deadline_ms)
        return read_quote(question, body, status)

    async def _ask_many(self, questions: list[Question]) -> Sequence[Quote | NoQuote | Exception]:
        if len(questions) == 1 or not self._batches:
            return await self._ask_each(questions)
        body = {"quotes": [question.fields() for question in questions]}
        status, answer = await ask(self._session, f"{self._url}/quotes", body=body, deadline_ms=self._deadline_ms)
        if status in {404, 405}:
            self._batches = False
            return await self._ask_each(questions)
        quotes = answer.get("quotes") if isinstance(answer, dict) else None
        if status == 200 and isinstance(quotes, list) and len(quotes) == len(questions):
            return [read_quote(question, quote) for question, quote in zip(questions, quotes, strict=True)]
        if status in LIST_REFUSED:
            return await self._ask_each(questions)
        raise PeerNonsense(f"no list of {len(questions)} quotes (HTTP {status})")

    async def _ask_each(self, questions: list[Question]) -> Sequence[Quote | NoQuote | Exception]:
        return await each(self._ask_one(question) for question in questions)


def question_of(order: Order) -> Question:
    """For all of its amount."""
    pair = f"{order.token_in}/{order.token_out}"
    return Question(order.mint_in, order.mint_out, order.amount_in, order.slippage_bps, pair)


def read_quote(question: Question, body: Any, status: int = 200) -> Quote | NoQuote:
    """A venue's answer, checked against the question; whatever is not a quote becomes a reason."""
    if status >= 400 and not (isinstance(body, dict) and "error" in body):
        return NoQuote(Reason.VENUE_REFUSED, f"HTTP {status}")
    try:
        if isinstance(body, dict) and "error" in body:
            return _refusal(question, body, status)
        raw = orjson.dumps(body)
        if len(raw) > QUOTE_BYTES_MAX or raw.count(b"{") + raw.count(b"[") > BRACKETS_MAX:
            return _nonsense("the quote is too long to keep")
        return _quote(question, body)
    except _Odd as odd:
        return _nonsense(str(odd))
    except TypeError:
        return _nonsense("nested too deep")


class _Odd(Exception):
    """Not what the protocol says; the text is one short phrase."""


def _quote(question: Question, body: Any) -> Quote | NoQuote:
    if not isinstance(body, dict):
        raise _Odd("not an object")
    if (body.get("inputMint"), body.get("outputMint")) != (question.mint_in, question.mint_out):
        raise _Odd("a quote for another pair")
    if _units(body, "inAmount") != question.amount_in:
        raise _Odd(f"a quote for another amount, {body['inAmount']}")
    if body.get("swapMode", "ExactIn") != "ExactIn":
        raise _Odd("swapMode is not ExactIn")
    amount_out = _units(body, "outAmount")
    if amount_out == 0:
        return NoQuote(Reason.AMOUNT_TOO_SMALL, "nothing would come out for this amount")
    network_fee = body.get("networkFeeLamports", NETWORK_FEE_LAMPORTS)
    if type(network_fee) is not int or not 0 <= network_fee <= U64_MAX:
        raise _Odd("networkFeeLamports is not a number of lamports")
    pool, fee, fee_mint = _path(body.get("routePlan"), question.mint_in)
    return Quote(amount_out, pool, fee, fee_mint, network_fee, _ppm(body.get("priceImpactPct")), body)


def _path(plan: Any, mint_in: str) -> tuple[str, int, str]:
    """The pools of a route plan, and what they keep of the first fee's token: fees in others cannot be added up."""
    if not isinstance(plan, list) or not 1 <= len(plan) <= HOPS_MAX:
        raise _Odd(f"routePlan is not a list of 1 to {HOPS_MAX} hops")
    pools: list[str] = []
    fee, mint_of_fee = 0, ""
    for hop in plan:
        info = hop.get("swapInfo") if isinstance(hop, dict) else None
        if not isinstance(info, dict):
            raise _Odd("a hop of routePlan has no swapInfo")
        pools.append(_address(info, "ammKey"))
        fee_mint = None if info.get("feeMint") is None else _address(info, "feeMint")
        mint_of_fee = mint_of_fee or fee_mint or mint_in
        if (fee_mint or mint_of_fee) == mint_of_fee and "feeAmount" in info:
            fee += _units(info, "feeAmount")
    if fee > U64_MAX:
        raise _Odd("an amount beyond 64 bits")
    return "+".join(pools), fee, mint_of_fee


def _units(holder: dict[str, Any], name: str) -> int:
    text = holder.get(name)
    if not isinstance(text, str) or not len(text) <= DIGITS_MAX or not (text.isascii() and text.isdigit()):
        raise _Odd(f"{name} is not a string of digits")
    units = int(text)
    if units > U64_MAX:
        raise _Odd(f"{name} is beyond 64 bits")
    return units


def _address(holder: dict[str, Any], name: str) -> str:
    text = holder.get(name)
    if not isinstance(text, str) or not _ADDRESS.fullmatch(text):
        raise _Odd(f"{name} is not an address")
    return text


def _refusal(question: Question, body: dict[str, Any], status: int) -> NoQuote:
    code = body.get("errorCode")
    reason = _CODES.get(code, Reason.VENUE_REFUSED) if isinstance(code, str) else Reason.VENUE_REFUSED
    if reason is Reason.NO_ROUTE:
        return NoQuote(reason, f"no pool for {question.pair}")
    said = _UNPRINTABLE.sub(" ", in_short(body["error"], MESSAGE_CHARS_MAX)) or "no reason given"
    return NoQuote(reason, said if reason is not Reason.VENUE_REFUSED else f"refused, HTTP {status}: {said}")


def _nonsense(what: str) -> NoQuote:
    return NoQuote(Reason.VENUE_REFUSED, f"venue answered nonsense: {what[:MESSAGE_CHARS_MAX]}")


def _ppm(fraction: Any) -> int | None:
    """Price impact is for people: one that cannot be read is left out."""
    if not isinstance(fraction, str) or len(fraction) > IMPACT_CHARS_MAX:
        return None
    try:
        impact = Decimal(fraction)
        # A number may be read that is too large to be calculated with.
        return int(impact * 1_000_000) if impact.is_finite() and abs(impact) <= 1 else None
    except DecimalException:
        return None
