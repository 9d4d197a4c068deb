"""What can go wrong for a caller: one tree, each with what to do about it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from libs.client.types import Order


class SwaplogError(Exception):
    """Any of the below."""


class Unreachable(SwaplogError):
    """No answer, however often asked. An order may have been placed: ask again with the same `key`, or look it up."""

    def __init__(self, what: str, key: str = "") -> None:
        super().__init__(f"{what} (Idempotency-Key {key})" if key else what)
        self.key = key


class ApiError(SwaplogError):
    """The API's own answer (RFC 9457). `code` is stable; `errors` says what is wrong with which part of the body."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        self.problem = dict(problem)
        self.status = int(problem.get("status", 0))
        self.code = str(problem.get("code", ""))
        self.detail = str(problem.get("detail", ""))
        self.retryable = bool(problem.get("retryable", False))
        self.request_id = str(problem.get("requestId", ""))
        self.retry_after_s = float(problem.get("retryAfter", 0))
        self.errors: list[dict[str, str]] = list(problem.get("errors", ()))
        places = "".join(f" {each.get('pointer')}: {each.get('detail')}" for each in self.errors)
        super().__init__(f"{self.status} {self.code}: {self.detail}{places} (request {self.request_id})")


class NotSettled(SwaplogError):
    """The order ended, but not as CONFIRMED: `order.failure` says why."""

    def __init__(self, order: "Order") -> None:
        self.order = order
        why = f": {order.failure['code']}, {order.failure['detail']}" if order.failure else ""
        super().__init__(f"order {order.order_id} is {order.status}{why}")
