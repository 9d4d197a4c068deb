"""What answers look like, for the OpenAPI document. The bodies themselves are made by `libs.orders.presentation`.

Every member is always there, null while it has no value. Amounts are decimal strings of whole tokens.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from libs.events.model import EVENT_TYPES, Reason, Status, TimeInForce

Amount = Annotated[str, Field(pattern=r"^-?[0-9]+(\.[0-9]+)?$", description="whole tokens, a decimal")]
CursorText = Annotated[str, Field(description="a place in your events to go on from")]


class Shape(BaseModel):
    """Members in camelCase, all of them required."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class FailureShape(Shape):
    """Why the last attempt, or the order, failed."""

    code: Reason | str
    stage: Literal["routing", "execution"]
    detail: str


class LegShape(Shape):
    """A share of the amount on one path."""

    venue: str
    pool: str = Field(
        description="its address; of several, with + between, where what comes out of one goes into the next"
    )
    share_bps: int
    amount_in: Amount | None
    amount_out: Amount | None
    fee: Amount | None = Field(description="of the pools that take it in feeToken; it is off amountOut already")
    fee_token: str


class RouteShape(Shape):
    """The way an order takes. `venue` and `pool`: of its one leg; null when it is split."""

    venue: str | None
    pool: str | None
    quoted_amount_out: Amount | None
    net_amount_out: Amount | None
    min_amount_out: Amount | None
    network_fee: Amount | None
    legs: list[LegShape]


class EventShape(Shape):
    """One event of an order."""

    cursor: CursorText
    order_id: str
    version: int = Field(ge=1, description="1, 2, 3 … within the order")
    type: str = Field(examples=sorted(EVENT_TYPES))
    status: Status
    time: datetime
    data: dict[str, Any]


class OrderShape(Shape):
    """One order as it is now."""

    order_id: str
    status: Status
    version: int
    token_in: str
    token_out: str
    amount: Amount
    slippage_bps: int
    client_order_id: str | None
    limit_price: str | None
    min_amount_out: Amount | None
    time_in_force: TimeInForce | None
    metadata: dict[str, str] | None
    attempt: int
    route: RouteShape | None
    signature: str | None
    slot: int | None
    amount_out: Amount | None
    failure: FailureShape | None
    retry_at: datetime | None
    expires_at: datetime
    created_at: datetime
    updated_at: datetime
    events: list[EventShape] = Field(default_factory=list, description="only with expand=events; those still kept")


class OrdersShape(Shape):
    """One page, newest first. A filter that finds little may give a short page; null: this was the last."""

    orders: list[OrderShape]
    next_cursor: str | None


class EventsShape(Shape):
    """The history of one order. `missing`: so many of its first events are not kept any more."""

    events: list[EventShape]
    missing: int = Field(ge=0)


class EventsAfterShape(Shape):
    """What happened to all of your orders since a cursor."""

    events: list[EventShape]
    cursor: CursorText


class FieldErrorShape(Shape):
    """What is wrong with one part of a body."""

    pointer: str = Field(description="RFC 6901, as a URI fragment")
    code: str
    detail: str


class ProblemShape(Shape):
    """RFC 9457. `code` is stable; `retryable`: the same request may succeed later. The last seven: where they apply."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    retryable: bool
    errors: list[FieldErrorShape]
    current_status: Status | None = Field(None, description="of an order that is not as the request needs it")
    current_version: int | None = Field(None, description="likewise, with If-Match")
    open_orders: int | None = Field(None, description="how many of your orders have not ended, where that is too many")
    existing_order_id: str | None = Field(None, description="the order an idempotency key made before")
    look_up: str | None = Field(None, description="where to find out what became of a request whose outcome is unknown")
    needs: str | None = Field(None, description="the scope an API key lacks")
    reason: str | None = Field(None, description="why nobody quotes: what would be failure.code of an order")
    retry_after: int | None = Field(None, description="seconds; on the socket for orders, which has no headers")


class CandidateShape(Shape):
    """One venue's answer, or what several give together, their names joined by +; and why it won or lost."""

    venue: str
    outcome: Literal["selected", "lost", "failed"]
    why: str
    amount_out: Amount | None
    net_out: Amount | None
    price_impact_ppm: int | None
    took_ms: int | None


class QuoteShape(Shape):
    """What an order would get now. An order with this `quoteId` settles at no less than `minAmountOut`, or not."""

    quote_id: str
    expires_at: datetime
    token_in: str
    token_out: str
    amount: Amount
    slippage_bps: int
    amount_out: Amount
    min_amount_out: Amount
    price_impact_ppm: int | None
    route: RouteShape
    candidates: list[CandidateShape]


class PlacedShape(Shape):
    """The outcome of one order of a batch: an order, or a problem."""

    status: int
    order: OrderShape | None = None
    problem: ProblemShape | None = None
    replayed: bool = False


class BatchShape(Shape):
    """Outcomes in the order of the request."""

    accepted: int
    results: list[PlacedShape]


class CancelShape(PlacedShape):
    """The outcome of one cancel."""

    order_id: str


class CancelsShape(Shape):
    """Outcomes in the order of the request."""

    cancelled: int
    results: list[CancelShape]


class TokenShape(Shape):
    """A token orders may name, by symbol or mint."""

    symbol: str
    mint: str
    decimals: int


class TokensShape(Shape):
    """All of them."""

    tokens: list[TokenShape]


class CancelBody(Shape):
    """POST /api/orders/cancel."""

    order_ids: list[str] = Field(min_length=1, max_length=100)


class HealthShape(Shape):
    """`reasons`: what is missing, when something is."""

    status: str
    reasons: dict[str, str] = Field(default_factory=dict)
