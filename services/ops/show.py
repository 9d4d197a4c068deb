"""How events, orders and their changes look on a terminal, and as JSON lines."""

import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from libs.events.ids import Cursor
from libs.events.log import Entry
from libs.events.model import OrderRequested
from libs.events.order import Order, evolve
from libs.orders.presentation import event_body
from services.ops.replay import Replay, Step

ORDERS_KEPT = 10_000
SIGNATURE_SHOWN = 12
STATUS_STYLE = {
    "CONFIRMED": "bold green",
    "FAILED": "bold red",
    "CANCELLED": "yellow",
    "EXPIRED": "yellow",
    "RETRYING": "magenta",
}

Body = Mapping[str, Any]


def make_console(*, stderr: bool = False) -> Console:
    """Colours and tables on a terminal; piped, plain text that is never wrapped or cut."""
    return Console(stderr=stderr, highlight=False, soft_wrap=not sys.stdout.isatty())


def json_line(value: object) -> None:
    """One JSON document per line, for programs."""
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


def entry_json(entry: Entry, epoch: str) -> dict[str, Any]:
    """The entry as it is in the log, its body parsed, with the cursor that leads back to it."""
    fields: dict[str, Any] = dict(entry.fields)
    with suppress(orjson.JSONDecodeError):  # then it is shown as it is
        fields["data"] = orjson.loads(fields.get("data", ""))
    return {"cursor": str(Cursor(epoch, entry.partition, entry.at)), "partition": entry.partition, **fields}


class Describer:
    """Events in clients' words: amounts need the order's tokens, which are remembered, or asked for."""

    def __init__(self, find: Callable[[str], Awaitable[Order | None]]) -> None:
        self._find = find
        self._orders: OrderedDict[str, Order] = OrderedDict()

    async def body(self, entry: Entry) -> Body | None:
        """What clients see of it; None: it cannot be decoded, or nobody knows its order."""
        try:
            event = entry.decode()
        except ValueError:
            return None
        if isinstance(event.data, OrderRequested):
            order: Order | None = evolve(None, event)
        else:
            order = self._orders.get(event.subject) or await self._find(event.subject)
        if order is None:
            return None
        self._orders[event.subject] = order.model_copy(update={"route": None, "transaction": None})
        if len(self._orders) > ORDERS_KEPT:
            self._orders.popitem(last=False)
        return event_body(event, str(entry.at), order)


def event_line(entry: Entry, body: Body | None) -> Text:
    """One event, one line."""
    fields = entry.fields
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{fields.get('time', '')[:23].replace('T', ' ')}  ", "dim")
    line.append(f"{fields.get('subject', '?')} {fields.get('version', '?'):>3}  ")
    line.append(f"{fields.get('type', '?'):<15} ", "bold")
    status = str(body["status"]) if body else "?"
    line.append(f"{status:<10} ", STATUS_STYLE.get(status, "cyan"))
    line.append(describe(body) if body else "cannot be shown by this release", "" if body else "red")
    return line


def describe(body: Body) -> str:
    """What an event says, in one line."""
    data = body["data"]
    match body["type"]:
        case "OrderRequested":
            return f"{data['amount']} {data['tokenIn']} for {data['tokenOut']}, slippage {data['slippageBps']} bps"
        case "RoutingStarted":
            return f"attempt {data['attempt']}"
        case "RouteSelected":
            return _route(data)
        case "TxSubmitted":
            return f"signature {shortened(data['signature'])}, valid to block {data['lastValidBlockHeight']}"
        case "TxConfirmed":
            return f"{data['amountOut']} in slot {data['slot']}, {data['againstQuotePpm']:+d} ppm against the quote"
        case "AttemptFailed":
            return f"{_failure(data)}; again at {data['retryAt']}"
        case "OrderFailed":
            return _failure(data)
        case "OrderCancelled":
            return f"by the {data['requestedBy']}"
        case "OrderExpired":
            return f"not submitted by {data['expiresAt']}"
        case _:
            return ""


def shortened(signature: str) -> str:
    return signature if len(signature) <= SIGNATURE_SHOWN else f"{signature[:SIGNATURE_SHOWN]}…"


def replay_table(story: Replay) -> Table:
    """Every event of one order, where it is kept and what it changed."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title, options in (
        ("v", {"justify": "right"}),
        ("time", {"no_wrap": True}),
        ("by", {}),
        ("event", {"style": "bold"}),
        ("status", {}),
        ("attempt", {"justify": "right"}),
        ("in", {}),
        ("changed", {"ratio": 1}),
    ):
        table.add_column(title, **options)
    for step in story.steps:
        fields, order = step.entry.fields, step.order
        status = order.status.value if order else "?"
        table.add_row(
            fields["version"],
            fields["time"][11:23],
            fields["source"],
            fields["type"],
            Text(status, STATUS_STYLE.get(status, "cyan")),
            str(order.attempt) if order else "?",
            "+".join(step.stores),
            Text(step.problem, "red") if step.problem else changes(step),
        )
    return table


def changes(step: Step) -> str:
    """What an event changed, in one line; the whole of it is in the JSON."""
    told = {name: pair for name, pair in step.changed.items() if name not in ("status", "attempt")}
    if not step.entry.fields.get("cause"):
        return "a new order"
    return ", ".join(f"{name}={_value(name, new)}" for name, (_, new) in told.items())


def replay_json(step: Step, epoch: str) -> dict[str, Any]:
    """One event of the story for programs."""
    return {
        **entry_json(step.entry, epoch),
        "stores": step.stores,
        "changed": {name: {"from": old, "to": new} for name, (old, new) in step.changed.items()},
        "order": step.order.model_dump(mode="json", exclude={"transaction"}) if step.order else None,
        "problem": step.problem or None,
    }


def _value(name: str, value: Any) -> str:
    match name, value:
        case "route", {"legs": legs, "quoted_out": out}:
            return f"{'+'.join(leg['venue'] for leg in legs)} for {out}"
        case "failure", {"stage": stage, "reason": reason}:
            return f"{stage}:{reason}"
        case "signature", str():
            return shortened(value)
        case _:
            return "-" if value is None else str(value)


def _route(data: Mapping[str, Any]) -> str:
    route = data["route"]
    venues = "+".join(leg["venue"] for leg in route["legs"])
    lost = [f"{c['venue']} {c['outcome']}: {c['why']}" for c in data["candidates"] if c["outcome"] != "selected"]
    return "; ".join([f"{venues} quotes {route['quotedAmountOut']}, at least {route['minAmountOut']}", *lost])


def _failure(data: Mapping[str, Any]) -> str:
    failure = data["failure"]
    return f"attempt {data['attempt']}, {failure['stage']}: {failure['code']} ({failure['detail']})"
