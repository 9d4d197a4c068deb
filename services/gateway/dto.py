"""Orders as clients send them: checked, and turned into our own terms."""

import re
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

from pydantic import ConfigDict, Field

from libs.events.model import Terms, TimeInForce
from libs.venues.tokens import TOKENS, AmountError, Token, find_token, nearest_symbols, to_base_units
from services.gateway import limits
from services.gateway.bodies import Body, FieldError, Invalid, parse, quoted, validate
from services.gateway.terms import read_terms
from services.gateway.times import read_time

_KEY = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")


class OrderBody(Body):
    """POST /api/orders. Unknown fields are refused: a misspelt slippageBps would cost money."""

    model_config = ConfigDict(extra="forbid")

    token_in: str = Field(max_length=limits.TOKEN_CHARS_MAX)
    token_out: str = Field(max_length=limits.TOKEN_CHARS_MAX)
    amount: Any
    slippage_bps: int | None = Field(None, ge=0, le=10_000)
    expires_at: str | None = None
    client_order_id: str | None = None
    limit_price: Any = None
    min_amount_out: Any = None
    time_in_force: TimeInForce | None = None
    metadata: dict[str, str] | None = None
    quote_id: str | None = Field(None, max_length=limits.QUOTE_ID_CHARS_MAX)


class BatchItemBody(OrderBody):
    """One order of POST /api/orders/batch; its key may stand beside it."""

    idempotency_key: str | None = None


class OrderRequest(NamedTuple):
    """An order as asked for, in our own terms. `amount_in`: base units. None: the client left the choice to us.

    `late`: its time is over, so nothing new may come of it; asked under a key before, it is still that order.
    """

    token_in: Token
    token_out: Token
    amount_in: int
    slippage_bps: int | None
    expires_at: datetime | None
    terms: Terms | None = None
    quote_id: str | None = None
    late: FieldError | None = None

    def fingerprint(self) -> str:
        """The same for two bodies that ask for the same, however they are written."""
        parts: tuple[object, ...] = (
            self.token_in.mint,
            self.token_out.mint,
            self.amount_in,
            self.slippage_bps,
            self.expires_at,
        )
        if terms := self.terms:
            if terms.metadata:  # members of an object have no order: many a client sends them in another each time
                terms = terms.model_copy(update={"metadata": dict(sorted(terms.metadata.items()))})
            parts += (terms.model_dump_json(),)
        if self.quote_id:
            parts += (self.quote_id,)
        return sha256(repr(parts).encode()).hexdigest()


def read_order(body: bytes, now: datetime) -> OrderRequest:
    """Everything about the order that can be checked without asking anybody; all faults are told at once.

    Raises:
        Malformed, Invalid
    """
    return _order(validate(OrderBody, parse(body)), now)


def read_orders(body: bytes, now: datetime, key: str | None) -> list[tuple[OrderRequest, str | None] | Invalid]:
    """The orders of a batch, each with its key; what is wrong with one is its own outcome.

    `key`: of the whole request; it stands for `key/0`, `key/1` … where an order has neither one of its own nor a
    clientOrderId.

    Raises:
        Malformed, Invalid: the batch itself cannot be read.
    """
    batch = parse(body)
    orders = batch.get("orders")
    if batch.keys() != {"orders"} or not isinstance(orders, list):
        raise Invalid(FieldError("#/orders", "list_expected", 'Send {"orders": [...]} and nothing beside it.'))
    if not 1 <= len(orders) <= limits.ORDERS_PER_BATCH_MAX:
        raise Invalid(FieldError("#/orders", "list_length", f"Send 1 to {limits.ORDERS_PER_BATCH_MAX} orders at once."))
    return [read_item(item, now, f"{key}/{place}" if key else None) for place, item in enumerate(orders)]


def read_order_ids(body: bytes) -> list[str]:
    """The orders of POST /api/orders/cancel, each once.

    Raises:
        Malformed, Invalid
    """
    asked = parse(body)
    ids = asked.get("orderIds")
    if asked.keys() != {"orderIds"} or not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
        raise Invalid(FieldError("#/orderIds", "list_expected", 'Send {"orderIds": ["..."]} and nothing beside it.'))
    if not 1 <= len(ids) <= limits.ORDERS_PER_BATCH_MAX:
        raise Invalid(FieldError("#/orderIds", "list_length", f"Name 1 to {limits.ORDERS_PER_BATCH_MAX} orders."))
    return list(dict.fromkeys(ids))


def is_key(text: str) -> bool:
    """Whether it may serve as an idempotency key."""
    return len(text) <= limits.IDEMPOTENCY_KEY_CHARS_MAX and _KEY.fullmatch(text) is not None


def read_item(item: object, now: datetime, key: str | None = None) -> tuple[OrderRequest, str | None] | Invalid:
    """One order that may have its key beside it; else `key` is its own."""
    try:
        if not isinstance(item, dict):
            raise Invalid(FieldError("#", "object_expected", "An order is a JSON object."))
        order = validate(BatchItemBody, item)
        if order.idempotency_key is not None:
            key = order.idempotency_key  # an empty one, too: without any, a repetition would be another order
        elif order.client_order_id:
            key = None  # that id is as good as a key
        if key is not None and not is_key(key):
            raise Invalid(
                FieldError("#/idempotencyKey", "key_invalid", "A key is printable ASCII, up to 255 characters.")
            )
        return _order(order, now), key
    except Invalid as fault:
        return fault


def _order(order: OrderBody, now: datetime) -> OrderRequest:
    errors: list[FieldError] = []
    token_in = _token(order.token_in, "#/tokenIn", errors)
    token_out = _token(order.token_out, "#/tokenOut", errors)
    if token_in and token_in is token_out:
        errors.append(FieldError("#/tokenOut", "same_token", "tokenIn and tokenOut are the same token."))
    amount_in = _amount(order.amount, token_in, errors)
    within = limits.EXPIRES_IN_MAX if order.limit_price is None else limits.LIMIT_EXPIRES_IN_MAX
    terms = read_terms(order, token_in, token_out, amount_in, errors)
    wrong = len(errors)
    expires_at = read_time(order.expires_at, now, within, errors)
    late = errors[-1] if expires_at is not None and expires_at <= now else None
    if wrong or token_in is None or token_out is None or (errors and not late):
        raise Invalid(*errors)
    return OrderRequest(token_in, token_out, amount_in, order.slippage_bps, expires_at, terms, order.quote_id, late)


def _token(text: str, pointer: str, errors: list[FieldError]) -> Token | None:
    token = find_token(text)
    if token is None:
        nearest = nearest_symbols(text)
        hint = f"Did you mean {' or '.join(nearest)}?" if nearest else f"Known are {', '.join(TOKENS)}."
        errors.append(FieldError(pointer, "unknown_token", f'There is no token "{quoted(text)}". {hint}'))
    return token


def _amount(value: object, token: Token | None, errors: list[FieldError]) -> int:
    if token is None:
        return 0
    try:
        return to_base_units(value, token)  # type: ignore[arg-type]  # any other type is refused there
    except AmountError as error:
        errors.append(FieldError("#/amount", "amount_invalid", str(error)))
        return 0
