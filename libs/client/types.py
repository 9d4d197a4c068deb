"""Orders and events as the API tells them. Amounts are decimals of whole tokens; `raw` holds every member."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

TERMINAL = frozenset({"CONFIRMED", "FAILED", "CANCELLED", "EXPIRED"})


@dataclass(frozen=True, slots=True)
class Order:
    """One order as it was when it was read."""

    order_id: str
    status: str
    version: int
    token_in: str
    token_out: str
    amount: Decimal
    amount_out: Decimal | None
    signature: str | None
    failure: Mapping[str, str] | None
    created_at: datetime
    updated_at: datetime
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Order":
        return cls(
            body["orderId"],
            body["status"],
            body["version"],
            body["tokenIn"],
            body["tokenOut"],
            Decimal(body["amount"]),
            Decimal(body["amountOut"]) if body["amountOut"] is not None else None,
            body["signature"],
            body["failure"],
            datetime.fromisoformat(body["createdAt"]),
            datetime.fromisoformat(body["updatedAt"]),
            body,
        )


@dataclass(frozen=True, slots=True)
class Quote:
    """What an order would get; one placed with `quoteId=quote.quote_id` settles at no less than `min_amount_out`."""

    quote_id: str
    amount_out: Decimal
    min_amount_out: Decimal
    expires_at: datetime
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Quote":
        return cls(
            body["quoteId"],
            Decimal(body["amountOut"]),
            Decimal(body["minAmountOut"]),
            datetime.fromisoformat(body["expiresAt"]),
            body,
        )


@dataclass(frozen=True, slots=True)
class Event:
    """One event of an order; `status` is the one it led to. `cursor`: where to go on after it."""

    order_id: str
    version: int
    type: str
    status: str
    time: datetime
    cursor: str
    data: Mapping[str, Any]

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Event":
        at = datetime.fromisoformat(body["time"])
        return cls(body["orderId"], body["version"], body["type"], body["status"], at, body["cursor"], body["data"])
