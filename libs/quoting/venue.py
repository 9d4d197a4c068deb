"""Asking one venue for a quote, in the shape of Jupiter's quote API; many orders' questions share a request."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal

import aiohttp
import orjson
from pydantic import BaseModel, Field, StringConstraints, TypeAdapter, ValidationError

from libs.events.model import U64_MAX, Reason
from libs.events.order import Order
from libs.quoting.choice import Answer, NoQuote, Quote
from libs.service.coalesce import Coalescer, each
from libs.service.http import PeerNonsense, PeerUnavailable, ask

QUOTES_PER_CALL_MAX = 100
CALLS_IN_FLIGHT_MAX = 2  # per venue: one slow answer does not hold up every other order
QUOTE_BYTES_MAX = 32_768  # it is kept in the log
BRACKETS_MAX = 256  # so is its nesting
HOPS_MAX = 16
NETWORK_FEE_LAMPORTS = 5_000  # one signature, when a venue does not say
MESSAGE_CHARS_MAX = 200

_CODES = {
    "COULD_NOT_FIND_ANY_ROUTE": Reason.NO_ROUTE,
    "AMOUNT_TOO_SMALL": Reason.AMOUNT_TOO_SMALL,
    "INSUFFICIENT_LIQUIDITY": Reason.INSUFFICIENT_LIQUIDITY,
    "TOKEN_NOT_TRADABLE": Reason.UNKNOWN_TOKEN,
}
_UNPRINTABLE = re.compile(r"[^ -~]+")

Digits = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,20}$", strict=True)]
Address = Annotated[str, StringConstraints(pattern=r"^[1-9A-HJ-NP-Za-km-z]{32,44}$", strict=True)]


class _SwapInfo(BaseModel):
    amm_key: Address = Field(alias="ammKey")
    fee_amount: Digits = Field("0", alias="feeAmount")
    fee_mint: Address | None = Field(None, alias="feeMint")


class _Hop(BaseModel):
    swap_info: _SwapInfo = Field(alias="swapInfo")


class _QuoteAnswer(BaseModel):
    input_mint: str = Field(alias="inputMint")
    output_mint: str = Field(alias="outputMint")
    in_amount: Digits = Field(alias="inAmount")
    out_amount: Digits = Field(alias="outAmount")
    swap_mode: Literal["ExactIn"] = Field("ExactIn", alias="swapMode")
    price_impact: str | None = Field(None, alias="priceImpactPct", max_length=64)
    route_plan: list[_Hop] = Field(alias="routePlan", min_length=1, max_length=HOPS_MAX)
    network_fee: int = Field(NETWORK_FEE_LAMPORTS, alias="networkFeeLamports", ge=0, le=U64_MAX, strict=True)


_QUOTE = TypeAdapter(_QuoteAnswer)


@dataclass(frozen=True, slots=True)
class Question:
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

    async def quote(self, order: Order) -> Answer:
        """This venue's answer within the deadline; trouble of any kind is an answer too, never an error."""
        return (await self.quote_many([order]))[0]

    async def quote_many(self, orders: Sequence[Order]) -> list[Answer]:
        """`quote` for each."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        results = await self._many.gather(map(_question, orders), self._deadline_ms / 1000)
        took_ms = int((loop.time() - started) * 1000)
        return [Answer(self.name, took_ms, self._result(result)) for result in results]

    def _result(self, result: Quote | NoQuote | Exception) -> Quote | NoQuote:
        match result:
            case Quote() | NoQuote():
                return result
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
        if status != 200 or not isinstance(quotes, list) or len(quotes) != len(questions):
            raise PeerNonsense(f"no list of {len(questions)} quotes (HTTP {status})")
        return [read_quote(question, quote) for question, quote in zip(questions, quotes, strict=True)]

    async def _ask_each(self, questions: list[Question]) -> Sequence[Quote | NoQuote | Exception]:
        return await each(self._ask_one(question) for question in questions)


def _question(order: Order) -> Question:
    pair = f"{order.token_in}/{order.token_out}"
    return Question(order.mint_in, order.mint_out, order.amount_in, order.slippage_bps, pair)


def read_quote(question: Question, body: Any, status: int = 200) -> Quote | NoQuote:
    """A venue's answer, checked against the question; whatever is not a quote becomes a reason."""
    if isinstance(body, dict) and "error" in body:
        return _refusal(question, body, status)
    if status >= 400:
        return NoQuote(Reason.VENUE_REFUSED, f"HTTP {status}")
    try:
        answer = _QUOTE.validate_python(body)
        raw = orjson.dumps(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return _nonsense(f"{'.'.join(map(str, first['loc'])) or 'answer'}: {first['msg']}")
    except (TypeError, RecursionError):
        return _nonsense("nested too deep")
    if len(raw) > QUOTE_BYTES_MAX or raw.count(b"{") + raw.count(b"[") > BRACKETS_MAX:
        return _nonsense("the quote is too long to keep")
    if (answer.input_mint, answer.output_mint) != (question.mint_in, question.mint_out):
        return _nonsense("a quote for another pair")
    if int(answer.in_amount) != question.amount_in:
        return _nonsense(f"a quote for another amount, {answer.in_amount}")
    return _quote(answer, body)


def _quote(answer: _QuoteAnswer, raw: dict[str, Any]) -> Quote | NoQuote:
    amount_out = int(answer.out_amount)
    hops = [hop.swap_info for hop in answer.route_plan]
    fee_mint = hops[0].fee_mint or answer.input_mint
    # Fees of hops in other tokens cannot be added up; the whole plan stays in `raw`.
    fee = sum(int(hop.fee_amount) for hop in hops if (hop.fee_mint or fee_mint) == fee_mint)
    if amount_out == 0:
        return NoQuote(Reason.AMOUNT_TOO_SMALL, "nothing would come out for this amount")
    if amount_out > U64_MAX or fee > U64_MAX:
        return _nonsense("an amount beyond 64 bits")
    return Quote(
        amount_out=amount_out,
        pool="+".join(hop.amm_key for hop in hops),
        fee=fee,
        fee_mint=fee_mint,
        network_fee_lamports=answer.network_fee,
        price_impact_ppm=_ppm(answer.price_impact),
        raw=raw,
    )


def _refusal(question: Question, body: dict[str, Any], status: int) -> NoQuote:
    code = body.get("errorCode")
    reason = _CODES.get(code, Reason.VENUE_REFUSED) if isinstance(code, str) else Reason.VENUE_REFUSED
    if reason is Reason.NO_ROUTE:
        return NoQuote(reason, f"no pool for {question.pair}")
    said = _UNPRINTABLE.sub(" ", str(body["error"])[:MESSAGE_CHARS_MAX]) or "no reason given"
    return NoQuote(reason, said if reason is not Reason.VENUE_REFUSED else f"refused, HTTP {status}: {said}")


def _nonsense(what: str) -> NoQuote:
    return NoQuote(Reason.VENUE_REFUSED, f"venue answered nonsense: {what[:MESSAGE_CHARS_MAX]}")


def _ppm(fraction: str | None) -> int | None:
    """Price impact is for people: one that cannot be read is left out."""
    try:
        impact = Decimal(fraction or "")
    except InvalidOperation:
        return None
    return int(impact * 1_000_000) if impact.is_finite() and abs(impact) <= 1 else None
