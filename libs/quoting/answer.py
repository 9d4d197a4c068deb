"""What a venue says when it is asked, in the shape everything else works with. Pure."""

from typing import NamedTuple

from pydantic import JsonValue

from libs.events.model import Reason

NETWORK_FEE_LAMPORTS = 5_000  # one signature, when a venue does not say
QUOTE_BYTES_MAX = 32_768  # of a whole route: it is kept in the log


class Quote(NamedTuple):
    """What a venue offers. Amounts in base units; `fee` is the pools' share, already taken off `amount_out`.

    `parts`: of an order that is split, what each of its venues offers for its share; `pool` and `raw` are theirs then.
    """

    amount_out: int
    pool: str
    fee: int
    fee_mint: str
    network_fee_lamports: int
    price_impact_ppm: int | None
    raw: dict[str, JsonValue]
    parts: tuple["Part", ...] = ()


class Part(NamedTuple):
    """A share of an order's amount at one venue."""

    venue: str
    share_bps: int
    amount_in: int
    quote: Quote


class NoQuote(NamedTuple):
    """Why a venue does not take part, as a code and in words."""

    reason: Reason
    why: str


class Answer(NamedTuple):
    """One venue's part in a decision, or what several give together: then `venue` names them all."""

    venue: str
    took_ms: int
    result: Quote | NoQuote


class Offer(NamedTuple):
    """A venue's quote, and what is left of its output after the network fee."""

    venue: str
    net: int
    quote: Quote
