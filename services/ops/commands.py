"""The commands of `swaplog`: each finds the stack, asks, and prints."""

import asyncio
import random
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from libs.events.errors import LogUnavailable, PositionGap
from libs.events.ids import PARTITIONS_MAX, Position, partition_of
from libs.events.model import EVENT_TYPES
from services.ops.history import END_OF_TIME_MS, Selection, live, past, tips
from services.ops.journey import END_WITHIN_S, journey as run_journey
from services.ops.output import Output
from services.ops.replay import replay as tell
from services.ops.show import (
    json_line,
    make_console,
    replay_json,
    replay_table,
)
from services.ops.stack import EXIT_DIFFERS, EXIT_USAGE, Refusal, Stack, find_settings, open_stack
from services.ops.status import PARKED_MAX, parked_id, print_parked, print_status, put_back, read_status
from services.ops.times import to_ms

RETRY_S = 2.0

AsJson = Annotated[bool, Parameter(name="--json")]


async def events(
    order: str = "",
    /,
    *,
    follow: bool = False,
    since: str = "",
    until: str = "",
    user: str = "",
    type: tuple[str, ...] = (),  # noqa: A002 - the option's name
    as_json: AsJson = False,
) -> int:
    """Print events from the log and the archive, all partitions in the order of time.

    Parameters
    ----------
    order
        Only this order's events.
    follow
        Go on with what happens from now; without --since or an order, only that.
    since
        From this time on: 10m, 2h, 1d, or 2026-01-02T03:04Z.
    until
        Up to this time.
    user
        Only this user's orders.
    type
        Only this type of event, e.g. OrderFailed; may be repeated.
    as_json
        One JSON document per line, with its cursor.
    """
    if follow and until:
        raise Refusal("--follow never ends, --until does: give one of them", EXIT_USAGE)
    selection = _selection(order, since, until, user, type)
    settings, _ = find_settings()
    async with open_stack(settings) as stack:
        output = Output(stack, as_json=as_json, one_order=bool(order))
        output.note(stack.why_no_store)
        numbers = [_partition(order, stack)] if order else list(range(stack.log.partitions))
        ends = await tips(stack.log, numbers)
        shown = 0
        if order or since or not follow:
            shown = await _print_past(stack, ends, selection, output)
        if order and not shown and await stack.find(order) is None:
            raise Refusal(f"no order {order}", EXIT_DIFFERS)
        if follow:
            await _print_live(stack, ends, selection, output)
    return 0


async def replay(order: str, /, *, as_json: AsJson = False) -> int:
    """Tell one order again: every event, which store has it, and what it changed. Exit 1 when the stores disagree.

    Parameters
    ----------
    order
        The order's id.
    as_json
        One JSON document per event, with the whole order after it.
    """
    settings, _ = find_settings()
    async with open_stack(settings) as stack:
        _partition(order, stack)
        story = await tell(stack, order)
        if not story.steps:
            raise Refusal(f"no order {order}", EXIT_DIFFERS)
        output = Output(stack, as_json=as_json, one_order=True)
        output.note(stack.why_no_store)
        if as_json:
            for step in story.steps:
                json_line(replay_json(step, stack.log.epoch))
        else:
            first = story.steps[0].entry.fields
            output.console.print(Text(f"order {order} of user {first['user']}\n"))
            output.console.print(replay_table(story))
        for problem in story.problems:
            output.errors.print(problem, style="red", markup=False)
    return EXIT_DIFFERS if story.problems else 0


async def journey(
    *, base: str = "", amount: str = "10", sell: str = "SOL", buy: str = "USDC", within_s: float = END_WITHIN_S
) -> int:
    """Sign up somebody new, post an order, and print each event as it arrives. Exit 1 when it is not CONFIRMED.

    Parameters
    ----------
    base
        The gateway's address; default: the running stack's.
    amount
        How much to sell; 10 by itself.
    sell
        The token to sell; SOL by itself.
    buy
        The token to buy; USDC by itself.
    within_s
        How long the order may take; 60 by itself.
    """
    address = base.rstrip("/") or find_settings()[1]
    if not address.startswith(("http://", "https://")):
        raise Refusal(f"--base must be an http:// address, not {address}", EXIT_USAGE)
    order = {"tokenIn": sell, "tokenOut": buy, "amount": amount}
    return await run_journey(address, order, make_console(), within_s)


async def status(*, as_json: AsJson = False) -> int:
    """Where everything stands: ends of the log, how far the projection is, work waiting, what was set aside.

    Parameters
    ----------
    as_json
        One JSON document.
    """
    settings, _ = find_settings()
    async with open_stack(settings) as stack:
        numbers = await read_status(stack)
    if as_json:
        json_line(numbers)
    else:
        print_status(numbers, make_console())
    return 0


async def parked(*, as_json: AsJson = False) -> int:
    """List the work items no service could handle, oldest first.

    Parameters
    ----------
    as_json
        One JSON document per item.
    """
    settings, _ = find_settings()
    async with open_stack(settings) as stack:
        items = await stack.log.parked(PARKED_MAX)
    if not as_json:
        print_parked(items, make_console())
        return 0
    for item in items:
        json_line(
            {
                "id": parked_id(item),
                "service": item.service,
                "order": item.order_id,
                "deliveries": item.deliveries,
                "reason": item.reason,
                "fingerprint": item.fingerprint,
            }
        )
    return 0


async def redrive(item: str, /) -> int:
    """Put a parked item back to work, with its order as it is now.

    Parameters
    ----------
    item
        The id `swaplog parked` shows.
    """
    settings, _ = find_settings()
    async with open_stack(settings) as stack:
        moved = await put_back(stack, item)
    make_console().print(f"order {moved.order_id} is with the {moved.service} again")
    return 0


async def _print_past(stack: Stack, ends: dict[int, Position], selection: Selection, output: Output) -> int:
    shown = 0
    if selection.order_id:
        story = await tell(stack, selection.order_id)
        found = [step.entry for step in story.steps if step.entry.at.position <= ends[step.entry.partition].position]
        for entry in filter(selection.wants, found):
            await output.event(entry)
            shown += 1
        return shown
    try:
        async for entry in past(stack.log, stack.store, ends, selection):
            await output.event(entry)
            shown += 1
    except PositionGap as gap:
        raise Refusal(str(gap), EXIT_DIFFERS) from None
    return shown


async def _print_live(stack: Stack, ends: dict[int, Position], selection: Selection, output: Output) -> None:
    at = dict(ends)
    everything = Selection()
    while True:
        try:
            async for entry in live(stack.log, at, everything):
                at[entry.partition] = entry.at
                if selection.wants(entry):
                    await output.event(entry)
        except PositionGap as gap:
            raise Refusal(str(gap), EXIT_DIFFERS) from None
        except LogUnavailable as away:
            output.errors.print(f"the log is away, trying again: {away}", style="yellow", markup=False)
            await asyncio.sleep(random.uniform(0, RETRY_S))  # noqa: S311 - jitter


def _selection(order: str, since: str, until: str, user: str, types: tuple[str, ...]) -> Selection:
    unknown = [name for name in types if name not in EVENT_TYPES]
    if unknown:
        raise Refusal(f"no event type {unknown[0]}; there are {', '.join(EVENT_TYPES)}", EXIT_USAGE)
    now = datetime.now(UTC)
    try:
        return Selection(
            since_ms=to_ms(since, now) if since else 0,
            until_ms=to_ms(until, now) if until else END_OF_TIME_MS,
            user=user or None,
            types=frozenset(types),
            order_id=order or None,
        )
    except ValueError as error:
        raise Refusal(str(error), EXIT_USAGE) from None


def _partition(order: str, stack: Stack) -> int:
    try:
        partition = partition_of(order) if len(order) == 36 else PARTITIONS_MAX
    except ValueError:
        partition = PARTITIONS_MAX
    if partition >= stack.log.partitions:
        raise Refusal(f"no order {order}: that is not an id of this log", EXIT_DIFFERS)
    return partition
