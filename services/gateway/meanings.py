"""What every code means that a client may meet beside a problem's own: one table each, for all descriptions."""

from collections.abc import Mapping
from dataclasses import dataclass

from libs.events.model import Reason
from libs.events.reactions import PERMANENT


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt, or the order, failed. `again`: another attempt follows while any is left."""

    stage: str
    means: str
    again: bool


def _failure(reason: Reason) -> Failure:
    stage, means = _FAILURES[reason]
    return Failure(stage, means, reason not in PERMANENT | {Reason.DISCARDED_BY_OPERATOR})


_FAILURES: Mapping[Reason, tuple[str, str]] = {
    Reason.NO_ROUTE: ("routing", "no venue has pools that lead from one token to the other"),
    Reason.AMOUNT_TOO_SMALL: ("any", "nothing would come out for this amount"),
    Reason.UNKNOWN_TOKEN: ("routing", "no venue trades one of the tokens"),
    Reason.VENUES_UNAVAILABLE: ("any", "no venue, or not the one chosen, could be reached or answered in time"),
    Reason.VENUE_REFUSED: ("any", "a venue answered, but not with a quote or a transaction"),
    Reason.INSUFFICIENT_LIQUIDITY: ("any", "the pools do not hold so much"),
    Reason.INSUFFICIENT_FUNDS: ("execution", "the wallet does not hold the amount, or the network's fee"),
    Reason.PRICE_NOT_MET: ("routing", "the best quote is below minAmountOut, limitPrice or the quote it is held to"),
    Reason.SLIPPAGE_EXCEEDED: ("execution", "the price moved further than slippageBps before it settled"),
    Reason.TRANSACTION_EXPIRED: ("execution", "its last block passed without it: proven not settled"),
    Reason.TRANSACTION_REJECTED: ("execution", "the chain refused it or ran it without success; detail has its words"),
    Reason.DISCARDED_BY_OPERATOR: ("any", "an operator ended an order that could not be worked on"),
}
FAILURES: Mapping[Reason, Failure] = {reason: _failure(reason) for reason in Reason}

# `errors[].code` of an `invalid_body`. A released code keeps its meaning.
FIELD_CODES: Mapping[str, str] = {
    "missing": "it must be there",
    "extra_forbidden": "there is no such member: look for a misspelling",
    "string_type": "a text is expected",
    "string_unicode": "a text is expected: this holds half a character",
    "string_too_short": "the text is too short",
    "string_too_long": "the text is too long",
    "int_type": "a whole number is expected",
    "greater_than_equal": "the number is too small",
    "less_than_equal": "the number is too large",
    "literal_error": "it must be one of the values listed",
    "dict_type": "an object is expected",
    "list_type": "a list is expected",
    "too_short": "the list is too short",
    "too_long": "the list, or the object, is too long",
    "object_expected": "an object is expected",
    "list_expected": "a list under exactly this name is expected",
    "list_length": "the list is empty or too long",
    "amount_invalid": "not a positive decimal within the token's decimals and 64 bits",
    "unknown_token": "no such token; the nearest are named",
    "same_token": "both tokens are the same",
    "price_invalid": "not a positive decimal of at most 18 places",
    "price_out_of_range": "amount and price together are beyond 64 bits",
    "time_invalid": "not RFC 3339 with an offset",
    "time_out_of_range": "in the past, or too far ahead",
    "time_in_force_needs_price": "GTC and GTT wait for a limitPrice",
    "time_in_force_needs_end": "GTT needs expiresAt",
    "time_in_force_has_no_end": "GTC has no expiresAt; with one it is GTT",
    "client_order_id_invalid": "1 to 64 letters, digits or any of . _ : @ + = -",
    "differs_from_idempotency_key": "clientOrderId and Idempotency-Key, when both are sent, are the same text",
    "key_invalid": "1 to 255 printable ASCII characters",
    "metadata_too_large": "at most 16 keys, each text at most 256 characters",
    "metadata_invalid": "a text holds NUL or half a character",
    "quote_unknown": "no quote of yours has this id",
    "quote_differs": "the quote was for another swap",
    "quote_expired": "get a new quote",
    "email_invalid": "not an email address",
    "name_invalid": "it holds control characters",
    "unknown_scope": "known are orders:read and orders:write",
}

CLOSES: Mapping[int, str] = {
    4001: "the service restarts: come back, after the milliseconds in the reason",
    4008: "you read too slowly: come back with the last cursor",
    1013: "orders, or API keys, cannot be read now: come back",
    1006: "the connection broke (no close was sent): come back with the last cursor",
    4401: "no valid token of yours, or none within 10 s, or it has expired: come back with a new one",
    4404: "no such order: coming back will not help",
    4429: "too many connections of yours: close one first",
    1009: "your message was too long: coming back will not help while you send such",
}

# What may be said on the socket for orders: members beside `op` and `id`, and what comes of it.
ENTRY_OPS: Mapping[str, tuple[str, str]] = {
    "order.place": ("order", "a body of POST /api/orders, idempotencyKey too: a result with status 202 and order"),
    "order.cancel": ("orderId", "a result with status 200 and order"),
    "auth": ("token", "who you are, when no header said it, or a new token before the old one ends: authenticated"),
    "ping": ("", "pong"),
}

# `{"type":"error","code":…}` on a WebSocket: the message was not acted on, and nothing else changed.
LIVE_ERRORS: Mapping[str, str] = {
    "bad_message": "not a JSON object with a known shape",
    "unknown_op": "no such op",
    "order_not_found": "you have no order with one of these ids; none was subscribed to",
    "too_many_orders": "a socket carries at most 100 orders by name",
    "subscribed_to_all": "a socket opened without orderId carries all of your orders already",
}

# What an order's body may hold.
MEMBERS: Mapping[str, str] = {
    "tokenIn": "what is sold: symbol or mint address",
    "tokenOut": "what is bought: symbol or mint address",
    "amount": "whole tokens, as text or JSON number; more decimals than the token has is an error, never a rounding",
    "slippageBps": "how far below the quote the swap may settle; default 50",
    "minAmountOut": "the least to come out, whatever the slippage allows",
    "limitPrice": "the least price, tokenOut per tokenIn: the order waits as OPEN until a route beats it",
    "timeInForce": "GTC (at most 90 days) and GTT (until expiresAt) wait, and a limitPrice alone means one of them; "
    "IOC and FOK get one attempt. A swap is never partial",
    "expiresAt": "RFC 3339; not submitted by then: EXPIRED. At most 24 h ahead, for limit orders 90 days",
    "clientOrderId": "your own id, unique for 24 h: looks the order up, and is as good as an Idempotency-Key",
    "quoteId": "of a quote for the same swap: settles at no less than its minAmountOut, or not at all",
    "metadata": "up to 16 texts of yours, given back as they came",
    "idempotencyKey": "in a batch: this order's own key",
}
