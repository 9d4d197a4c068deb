"""How events, orders and their changes look on a terminal, and as JSON lines."""

import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
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
from libs.orders.presentation import event_body, order_body
from libs.service.terminal import harmless
from services.ops.replay import Replay, Step

ORDERS_KEPT = 10_000
SIGNATURE_SHOWN = 12
PIPED_WIDTH = 10_000
STATUS_STYLE = {
    "CONFIRMED": "bold green",
    "FAILED": "bold red",
    "CANCELLED": "yellow",
    "EXPIRED": "yellow",
    "RETRYING": "magenta",
}

Body = Mapping[str, Any]


class PipedConsole(Console):
    """rich's own ends the process with 1 on a broken pipe, and here 1 says that stores differ."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def make_console(*, stderr: bool = False) -> Console:
    """Colours on a terminal and lines that fit it; piped, plain text that is never wrapped or cut."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return PipedConsole(stderr=stderr, highlight=False, soft_wrap=stderr, width=None if terminal else PIPED_WIDTH)


def print_line(console: Console, line: Text) -> None:
    """One line, cut where a terminal ends."""
    console.print(line, no_wrap=True, overflow="ellipsis")


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


def event_line(entry: Entry, body: Body | None, *, order_known: bool, short: bool) -> Text:
    """One event, one line. `order_known`: the id need not be repeated; `short`: the time of day is enough."""
    fields = entry.fields
    at = fields.get("time", "")[:23]
    line = Text(f"{at[11:] if short else at.replace('T', ' ')}  ", "dim")
    line = Text.assemble(line, "" if order_known else f"{fields.get('subject', '?')} ")
    line.append(f"{fields.get('version', '?'):>2}  ")
    line.append(f"{fields.get('type', '?'):<15} ", "bold")
    status = str(body["status"]) if body else "?"
    line.append(f"{status:<10} ", STATUS_STYLE.get(status, "cyan"))
    line.append(harmless(describe(body)) if body else "cannot be shown by this release", "" if body else "red")
    return line


def describe(body: Body) -> str:  # noqa: C901 - one case an event
    """What an event says, in one line."""
    data = body["data"]
    match body["type"]:
        case "OrderRequested":
            return f"{data['amount']} {data['tokenIn']} for {data['tokenOut']}{_floor(data)}"
        case "RoutingStarted":
            return f"attempt {data['attempt']}"
        case "RouteSelected":
            return _route(data)
        case "OrderOpened":
            return f"waits for {data['wantedAmountOut']}, {_best(data)}, until {data['until']}"
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


def _floor(data: Mapping[str, Any]) -> str:
    """Below what it may not settle."""
    least = f", at least {data['minAmountOut']}" if data.get("minAmountOut") else ""
    limit = f", at {data['limitPrice']} or better" if data.get("limitPrice") else ""
    return f", slippage {data['slippageBps']} bps{limit or least}"


def shortened(signature: str) -> str:
    return signature if len(signature) <= SIGNATURE_SHOWN else f"{signature[:SIGNATURE_SHOWN]}…"


def replay_table(story: Replay) -> Table:
    """Every event of one order, where it is kept and what it changed."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("v", "time", "by", "event", "status", "attempt", "kept in"):
        table.add_column(title, no_wrap=True)
    table.add_column("changed", overflow="fold")
    for step in story.steps:
        fields, order = step.entry.fields, step.order
        status = order.status.value if order else "?"
        table.add_row(
            fields["version"],
            fields["time"][11:23],
            Text(fields["source"]),
            Text(fields["type"], "bold"),
            Text(status, STATUS_STYLE.get(status, "cyan")),
            str(order.attempt) if order else "?",
            "+".join(step.stores),
            Text(harmless(step.problem), "red") if step.problem else Text(harmless(_changes(step))),
        )
    return table


def replay_json(step: Step, epoch: str) -> dict[str, Any]:
    """One event of the story for programs."""
    return {
        **entry_json(step.entry, epoch),
        "stores": step.stores,
        "changed": {name: {"from": old, "to": new} for name, (old, new) in step.changed.items()},
        "order": order_body(step.order) if step.order else None,
        "problem": step.problem or None,
    }


def _changes(step: Step) -> str:
    changed = {name: new for name, (_, new) in step.changed.items() if name not in ("status", "attempt")}
    if step.entry.fields["version"] == "1":
        # The decimals of a token that this release does not know are unknown, and so is the amount.
        return "{amount} {tokenIn} for {tokenOut}".format(**{"amount": "?"} | changed) + _floor(changed)
    return ", ".join(f"{name} {_value(name, value)}" for name, value in changed.items())


def _value(name: str, value: Any) -> str:
    match name, value:
        case _, None:
            return "-"
        case "route", {"legs": legs, "quotedAmountOut": out}:
            return f"{_venues(legs)} for {out}"
        case "failure", {"stage": stage, "code": code, "detail": detail}:
            return f"{stage}: {code} ({detail})"
        case "signature", str():
            return shortened(value)
        case _:
            return str(value)


def _route(data: Mapping[str, Any]) -> str:
    route = data["route"]
    lost = [f"{c['venue']} {c['outcome']}: {c['why']}" for c in data["candidates"] if c["outcome"] != "selected"]
    return "; ".join(
        [f"{_venues(route['legs'])} quotes {route['quotedAmountOut']}, at least {route['minAmountOut']}", *lost]
    )


def _venues(legs: Sequence[Mapping[str, Any]]) -> str:
    if len(legs) == 1:
        return str(legs[0]["venue"])
    return " + ".join(f"{leg['shareBps'] / 100:g} % {leg['venue']}" for leg in legs)


def _best(data: Mapping[str, Any]) -> str:
    best = data["bestAmountOut"]
    return "nobody quotes" if best is None else f"the best quote is {best}"


def _failure(data: Mapping[str, Any]) -> str:
    failure = data["failure"]
    return f"attempt {data['attempt']}, {failure['stage']}: {failure['code']} ({failure['detail']})"
