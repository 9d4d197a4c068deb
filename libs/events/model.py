"""The events: with their envelope (`libs.events.envelope`) the only language services share.

Shapes are frozen: a field once released keeps its name and meaning; new fields are optional; anything else is a new
schema version with an upcaster. Amounts are integers in base units, written as strings because JSON numbers lose
digits beyond 2**53. Times are RFC 3339 in UTC.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, PlainSerializer

U64_MAX = 2**64 - 1

Units = Annotated[
    int,
    Field(ge=0, le=U64_MAX, description="base units, as a string of digits"),
    PlainSerializer(str, return_type=str, when_used="json"),
]
Bps = Annotated[int, Field(ge=0, le=10_000, description="basis points")]


class Status(StrEnum):
    """Where an order is."""

    PENDING = "PENDING"
    ROUTING = "ROUTING"
    OPEN = "OPEN"
    BUILDING = "BUILDING"
    SUBMITTED = "SUBMITTED"
    RETRYING = "RETRYING"
    CONFIRMED = "CONFIRMED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


class Reason(StrEnum):
    """Why an attempt or an order failed. See `libs.events.reactions.PERMANENT` for which may not be retried."""

    NO_ROUTE = "no_route"
    AMOUNT_TOO_SMALL = "amount_too_small"
    UNKNOWN_TOKEN = "unknown_token"  # noqa: S105 - a reason code
    VENUES_UNAVAILABLE = "venues_unavailable"
    VENUE_REFUSED = "venue_refused"
    INSUFFICIENT_LIQUIDITY = "insufficient_liquidity"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    PRICE_NOT_MET = "price_not_met"
    SLIPPAGE_EXCEEDED = "slippage_exceeded"
    TRANSACTION_EXPIRED = "transaction_expired"
    TRANSACTION_REJECTED = "transaction_rejected"
    DISCARDED_BY_OPERATOR = "discarded_by_operator"


# Open, so that a release may add a code and the one before still reads the event.
ReasonCode = Annotated[
    Reason | str, Field(union_mode="left_to_right", description="why; a newer release may add codes")
]


Stage = Literal["routing", "execution"]


class Frozen(BaseModel):
    """Unknown fields are ignored: a newer writer may add optional ones."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Event(Frozen):
    """What happened: the `data` of an entry."""

    SCHEMA_VERSION: ClassVar[int] = 1


TimeInForce = Literal["GTC", "GTT", "IOC", "FOK"]


class Terms(Frozen):
    """What a client may ask for beyond a plain swap at the market."""

    client_order_id: str | None = None
    limit_price: str | None = Field(None, description="least price, token_out per token_in, a decimal")
    min_out: Units | None = Field(None, description="least to come out, whatever the slippage allows")
    time_in_force: TimeInForce | None = Field(None, description="IOC, FOK: one attempt; else: as long as it is valid")
    metadata: dict[str, str] | None = None


class OrderRequested(Event):
    """A client asked for a swap; it is accepted."""

    token_in: str = Field(description="symbol")
    token_out: str = Field(description="symbol")
    mint_in: str
    mint_out: str
    amount_in: Units
    slippage_bps: Bps
    expires_at: AwareDatetime = Field(description="not submitted by then: expired")
    idempotency_key: str | None = None
    fingerprint: str | None = Field(None, description="of what was asked under the idempotency key")
    request_id: str | None = None
    terms: Terms | None = None


class RoutingStarted(Event):
    """An attempt began: every venue is asked for a fresh quote."""

    attempt: int = Field(ge=1)


class Candidate(Frozen):
    """One venue's part in a routing decision, the winner included."""

    venue: str
    outcome: Literal["selected", "lost", "failed"]
    why: str = Field(description="one sentence for people")
    amount_out: Units | None = None
    net_out: Units | None = Field(None, description="amount_out less the network fee, in the token bought")
    price_impact_ppm: int | None = None
    took_ms: int | None = None


class Leg(Frozen):
    """A share of the amount on one path."""

    venue: str
    pool: str
    share_bps: Bps
    amount_in: Units
    amount_out: Units
    fee: Units
    fee_mint: str
    quote: dict[str, JsonValue] = Field(description="the venue's own answer, given back to it when building")


class Route(Frozen):
    """The way an order takes."""

    legs: tuple[Leg, ...]
    quoted_out: Units
    net_out: Units
    min_out: Units = Field(description="the swap reverts below it")
    network_fee_lamports: Units


class RouteSelected(Event):
    """The best route of this attempt, and why the others lost."""

    attempt: int = Field(ge=1)
    route: Route
    candidates: tuple[Candidate, ...]


class OrderOpened(Event):
    """No route beats the order's price now: it waits until one does, or its time is over."""

    attempt: int = Field(ge=1)
    wanted_out: Units
    best_out: Units | None = Field(None, description="what the best quote would have given")
    delay_ms: int = Field(ge=0, description="until its time is over; it is woken sooner when the price moves")
    until: AwareDatetime


class TxSubmitted(Event):
    """The intent: signed and about to be sent. Whoever picks the order up sends these same bytes."""

    attempt: int = Field(ge=1)
    signature: str
    transaction: str = Field(description="signed, base64")
    last_valid_block_height: int = Field(ge=0)
    genesis: str | None = Field(None, description="genesis hash of the chain it was signed for, if its node told")


class TxConfirmed(Event):
    """Found on the chain, without error: the order is settled."""

    attempt: int = Field(ge=1)
    signature: str
    slot: int
    amount_out: Units
    quoted_out: Units
    against_quote_ppm: int = Field(description="amount out against the quote; negative: less than quoted")


class AttemptFailed(Event):
    """This attempt is over; another follows at `retry_at`."""

    stage: Stage
    attempt: int = Field(ge=0)
    reason: ReasonCode
    detail: str
    delay_ms: int = Field(ge=0)
    retry_at: AwareDatetime


class OrderFailed(Event):
    """The order ends unsettled."""

    stage: Stage
    attempt: int = Field(ge=0)
    reason: ReasonCode
    detail: str


class OrderCancelled(Event):
    """The client took the order back before anything was submitted."""

    requested_by: Literal["client", "operator"] = "client"


class OrderExpired(Event):
    """The order's time was over before anything was submitted."""

    expires_at: AwareDatetime


class UnknownEvent(Event):
    """A type or schema version this release does not know: archived and passed on, never acted on."""

    raw: str


EVENT_TYPES: dict[str, type[Event]] = {
    model.__name__: model
    for model in (
        OrderRequested,
        RoutingStarted,
        RouteSelected,
        OrderOpened,
        TxSubmitted,
        TxConfirmed,
        AttemptFailed,
        OrderFailed,
        OrderCancelled,
        OrderExpired,
    )
}
