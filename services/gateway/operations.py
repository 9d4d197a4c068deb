"""Every operation of the API, for the OpenAPI document: a table beside the routes in `services.gateway.app`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, Field

from services.gateway import limits, shapes, shapes_accounts
from services.gateway.bodies import Body
from services.gateway.dto import BatchItemBody, OrderBody
from services.gateway.dto_accounts import KeyBody, LoginBody, PasswordBody, RefreshBody, SignupBody

Parameter = Mapping[str, Any]

TAGS: Mapping[str, str] = {
    "Orders": "place them, find them, cancel them",
    "Quotes": "what an order would get, before it is placed",
    "Live": "what happens, as it happens or since a cursor",
    "Accounts": "sign up, log in, stay logged in",
    "API keys": "for programs",
    "Health": "for whoever runs it",
}
_TAG_OF = {
    "orders": "Orders", "quotes": "Quotes", "tokens": "Quotes", "events": "Live", "stream": "Live", "auth": "Accounts",
    "keys": "API keys",
}  # fmt: skip

_ORDER = {"tokenIn": "SOL", "tokenOut": "USDC", "amount": "1.5"}
_PERSON = {"email": "ada@example.org", "password": "correct horse battery"}
_REFRESH = {"refreshToken": "swr_01a205c4-6fe7-7367-94f4-2ccd80d6a003_x"}
EXAMPLES: Mapping[str, dict[str, Any]] = {
    "signUp": _PERSON,
    "logIn": _PERSON,
    "renew": _REFRESH,
    "logOut": _REFRESH,
    "makeKey": {"name": "market maker", "scopes": ["orders:read", "orders:write"]},
    "placeOrder": {**_ORDER, "limitPrice": "150", "clientOrderId": "swap-1", "metadata": {"strategy": "dip"}},
    "placeOrders": {"orders": [_ORDER, {"tokenIn": "USDC", "tokenOut": "SOL", "amount": 100}]},
    "cancelOrders": {"orderIds": ["01a205c4-6fe7-7367-94f4-2ccd80d6a003"]},
}


class BatchBody(Body):
    """POST /api/orders/batch."""

    orders: list[BatchItemBody] = Field(min_length=1, max_length=limits.ORDERS_PER_BATCH_MAX)


def query(name: str, description: str, **schema: Any) -> Parameter:
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string", **schema}}


def header(name: str, description: str, **schema: Any) -> Parameter:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string", **schema}}


ORDER_ID: Parameter = {"name": "order_id", "in": "path", "required": True, "schema": {"type": "string"}}
KEY = header("Idempotency-Key", "Send it again with the same key: one order comes of it.", maxLength=255)
LIMIT = query("limit", "Most of a page.", type="integer", minimum=1, maximum=200, default=limits.PAGE_DEFAULT)
EXPAND = query("expand", "events: the history of each order comes along.", enum=["events", "route", "events,route"])
QUOTED = (
    {**query("tokenIn", "Symbol or mint."), "required": True, "example": "SOL"},
    {**query("tokenOut", "Symbol or mint."), "required": True, "example": "USDC"},
    {**query("amount", "Whole tokens, a decimal."), "required": True, "example": "1.5"},
    query("slippageBps", "Basis points.", type="integer", minimum=0, maximum=10_000),
)
IF_NONE_MATCH = header("If-None-Match", "The ETag of what you have: 304 while it is still so.")


@dataclass(frozen=True, slots=True)
class Operation:
    """`answers`: shape by status; None: no body. `scope`: what an API key needs; "": a login; None: nothing.

    `streams`: the answer is Server-Sent Events without an end, and what these are called.
    """

    method: str
    path: str
    name: str
    summary: str
    answers: Mapping[int, type[BaseModel] | None]
    problems: tuple[int, ...] = ()
    body: type[BaseModel] | None = None
    scope: str | None = "orders:read"
    parameters: tuple[Parameter, ...] = field(default_factory=tuple)
    streams: str = ""


_BODY = (400, 408, 413, 415, 422)
_WRITE = (*_BODY, 429, 503)

OPERATIONS: tuple[Operation, ...] = (
    Operation("post", "/api/auth/signup", "signUp", "Make an account", {201: shapes_accounts.SessionShape},
              (*_BODY, 409, 429, 503), SignupBody, None),
    Operation("post", "/api/auth/login", "logIn", "Begin a session", {200: shapes_accounts.SessionShape},
              (*_BODY, 401, 429, 503), LoginBody, None),
    Operation("post", "/api/auth/password", "changePassword", "Change the password, which ends all sessions",
              {200: shapes_accounts.SessionShape}, (*_BODY, 401, 429, 503), PasswordBody, None),
    Operation("post", "/api/auth/refresh", "renew", "Renew an access token; the refresh token changes",
              {200: shapes_accounts.SessionShape}, (*_BODY, 401, 503), RefreshBody, None),
    Operation("post", "/api/auth/logout", "logOut", "End a session", {204: None}, (*_BODY, 503), RefreshBody, None),
    Operation("post", "/api/auth/tickets", "makeTicket", "Get a ticket for one WebSocket or event stream",
              {201: shapes_accounts.TicketShape}, (429, 503)),
    Operation("post", "/api/keys", "makeKey", "Make an API key", {201: shapes_accounts.NewKeyShape},
              (*_BODY, 409, 429, 503), KeyBody, ""),
    Operation("get", "/api/keys", "listKeys", "List API keys", {200: shapes_accounts.KeysShape}, (429, 503), None,
              ""),
    Operation("delete", "/api/keys/{key_id}", "dropKey", "Delete an API key", {204: None}, (404, 429, 503), None, "",
              ({**ORDER_ID, "name": "key_id"},)),
    Operation("get", "/api/tokens", "tokens", "List the tokens orders may name", {200: shapes.TokensShape}, (), None,
              None),
    Operation("post", "/api/orders", "placeOrder", "Place an order: 202 once it is in the log",
              {202: shapes.OrderShape}, (*_WRITE, 409), OrderBody, "orders:write", (KEY,)),
    Operation("post", "/api/orders/batch", "placeOrders", "Place up to 100 orders, each with its own outcome",
              {202: shapes.BatchShape, 207: shapes.BatchShape}, _WRITE, BatchBody, "orders:write", (KEY,)),
    Operation("post", "/api/orders/cancel", "cancelOrders", "Cancel up to 100 orders, each with its own outcome",
              {200: shapes.CancelsShape, 207: shapes.CancelsShape}, _WRITE, shapes.CancelBody, "orders:write"),
    Operation("get", "/api/orders", "listOrders", "List your orders, newest first", {200: shapes.OrdersShape},
              (400, 429, 503), None, "orders:read", (
                  LIMIT, query("cursor", "The nextCursor of the page before."),
                  query("status", "Only these, separated by commas."),
                  query("from", "Made at or after.", format="date-time"),
                  query("to", "Made before.", format="date-time"), EXPAND)),
    Operation("get", "/api/orders/by-client-id/{client_id}", "orderByClientId", "One order, by your own id",
              {200: shapes.OrderShape, 304: None}, (400, 404, 429, 503), None, "orders:read",
              ({**ORDER_ID, "name": "client_id"}, EXPAND, IF_NONE_MATCH)),
    Operation("get", "/api/orders/{order_id}", "order", "One order", {200: shapes.OrderShape, 304: None},
              (400, 404, 429, 503), None, "orders:read", (ORDER_ID, EXPAND, IF_NONE_MATCH)),
    Operation("delete", "/api/orders/{order_id}", "cancelOrder", "Cancel an order that is not submitted yet",
              {200: shapes.OrderShape}, (404, 409, 412, 429, 503), None, "orders:write",
              (ORDER_ID, header("If-Match", "The ETag you saw: cancel only this version."))),
    Operation("get", "/api/orders/{order_id}/events", "orderEvents", "The history of one order",
              {200: shapes.EventsShape}, (404, 429, 503), None, "orders:read", (ORDER_ID,)),
    Operation("get", "/api/events", "eventsAfter", "What happened to all your orders since a cursor",
              {200: shapes.EventsAfterShape}, (400, 410, 429, 503), None, "orders:read",
              (LIMIT, query("cursor", "Where to go on; without one, nothing but the present place is told."))),
    Operation("get", "/api/quotes", "quote", "What an order would get now, firm for some seconds",
              {200: shapes.QuoteShape}, (400, 404, 422, 429, 503), None, "orders:read", QUOTED),
    Operation("get", "/api/quotes/stream", "quotes", "The same as Server-Sent Events, whenever it gets better",
              {200: None}, (400, 404, 422, 429, 503), None, "orders:read", QUOTED, streams="`quote`: a Quote"),
    Operation("get", "/api/stream/orders", "orderStream", "What happens to your orders as Server-Sent Events",
              {200: None}, (400, 404, 429, 503), None, "orders:read",
              (query("orderId", "This order only; may be repeated."),
               query("cursor", "Go on from here, without a gap."),
               query("ticket", "Instead of a header: from POST /api/auth/tickets."),
               header("Last-Event-ID", "What EventSource sends when it comes back: as cursor.")),
              streams="`order`: an Event; `snapshot`, `heartbeat`, `reset`: as on the socket; "
              "`close`: code and reason, at the end"),
    Operation("get", "/livez", "live", "Whether the process runs", {200: shapes.HealthShape}, (), None, None),
    Operation("get", "/readyz", "ready", "Whether it has what it needs",
              {200: shapes.HealthShape, 503: shapes.HealthShape}, (), None, None),
)  # fmt: skip


def tag_of(one: Operation) -> str:
    """The group it belongs to."""
    return _TAG_OF.get(one.path.split("/")[2] if one.path.startswith("/api/") else "", "Health")
