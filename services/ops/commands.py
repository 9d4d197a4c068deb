"""The commands of `swaplog`: each finds the stack, asks, and prints."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from libs.events.ids import PARTITIONS_MAX, Position, partition_of
from libs.events.model import EVENT_TYPES
from libs.orders.rows import is_order_id
from libs.service.settings import Settings, is_http_address
from services.ops.history import END_OF_TIME_MS, Selection, tips
from services.ops.journey import END_WITHIN_S, journey as run_journey
from services.ops.output import Output, print_live, print_past
from services.ops.replay import replay as tell
from services.ops.show import (
    json_line,
    make_console,
    replay_json,
    replay_table,
)
from services.ops.stack import EXIT_DIFFERS, EXIT_UNREACHABLE, EXIT_USAGE, Refusal, Stack, find_settings
from services.ops.status import MIB, print_status, read_status
from services.ops.stuck import STUCK_MAX, stuck
from services.ops.times import to_ms

AsJson = Annotated[bool, Parameter(name="--json")]


class Commands:
    """`open_stack` gives the stack some settings describe; it is asked anew by each command."""

    def __init__(self, open_stack: Callable[[Settings], AbstractAsyncContextManager[Stack]]) -> None:
        self._open = open_stack

    async def events(
        self,
        order: str | None = None,
        /,
        *,
        follow: bool = False,
        since: str = "",
        until: str = "",
        user: str | None = None,
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
            Only this user's orders: the id, or the email.
        type
            Only this type of event, e.g. OrderFailed; may be repeated.
        as_json
            One JSON document per line, with its cursor.
        """
        if follow and until:
            raise Refusal("--follow never ends, --until does: give one of them", EXIT_USAGE)
        selection = _selection(order, since, until, user, type)
        settings, _ = find_settings()
        async with self._open(settings) as stack:
            output = Output(stack, as_json=as_json, one_order=order is not None)
            output.note(stack.why_no_store)
            selection = await _by_id(selection, stack)
            ends = await _ends(order, stack)
            if order or since or not follow:
                await _print_known(stack, ends, selection, output)
            if follow:
                await print_live(stack, ends, selection, output)
        return 0

    async def replay(self, order: str, /, *, as_json: AsJson = False) -> int:
        """Tell one order again: every event, which store has it, and what it changed. Exit 1 when the stores disagree.

        Parameters
        ----------
        order
            The order's id.
        as_json
            One JSON document per event, with the whole order after it.
        """
        settings, _ = find_settings()
        async with self._open(settings) as stack:
            _partition(order, stack)
            story = await tell(stack, order)
            if not story.steps:
                raise stack.unknown(order)
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
            if story.problems:
                return EXIT_UNREACHABLE if story.half_told and not stack.store else EXIT_DIFFERS
        return 0

    async def stuck(self, *, quiet: Annotated[str, Parameter(name="--for")] = "1m", as_json: AsJson = False) -> int:
        """List orders that have not ended and of which nothing was heard for a while. Exit 1 when there are any.

        Those that wait for their price are not meant: `swaplog events --type OrderOpened` has them.

        Parameters
        ----------
        quiet
            For how long: 30s, 5m, 2h; 1m by itself.
        as_json
            The last event of each as one JSON document per line.
        """
        since = datetime.fromtimestamp(_ms(quiet, datetime.now(UTC)) / 1_000, UTC)
        settings, _ = find_settings()
        async with self._open(settings) as stack:
            output = Output(stack, as_json=as_json, one_order=False)
            found = await stuck(stack, since)
            for entry, parked in found:
                await output.standing(entry, parked)
        if len(found) == STUCK_MAX:
            output.errors.print(f"these {STUCK_MAX} are the longest quiet, and there may be more", style="yellow")
        return EXIT_DIFFERS if found else 0

    async def journey(
        self,
        *,
        base: str = "",
        amount: str = "10",
        sell: str = "SOL",
        buy: str = "USDC",
        within_s: float = END_WITHIN_S,
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
        if not is_http_address(address) or address.count("/") > 2:
            raise Refusal(f"--base must be an http:// address without a path, not {address}", EXIT_USAGE)
        order = {"tokenIn": sell, "tokenOut": buy, "amount": amount}
        return await run_journey(address, order, make_console(), within_s)

    async def status(self, *, as_json: AsJson = False) -> int:
        """Where everything stands: ends of the log, how far the projection is, work waiting, what was set aside.

        Parameters
        ----------
        as_json
            One JSON document.
        """
        settings, _ = find_settings()
        async with self._open(settings) as stack:
            numbers = await read_status(stack, settings.redis_memory_mb * MIB)
        if as_json:
            json_line(numbers)
        else:
            print_status(numbers, make_console())
        return 0


def _selection(order: str | None, since: str, until: str, user: str | None, types: tuple[str, ...]) -> Selection:
    unknown = [name for name in types if name not in EVENT_TYPES]
    if unknown:
        raise Refusal(f"no event type {unknown[0]}; there are {', '.join(EVENT_TYPES)}", EXIT_USAGE)
    now = datetime.now(UTC)
    since_ms = _ms(since, now) if since else 0
    until_ms = _ms(until, now) if until else END_OF_TIME_MS
    if since_ms > until_ms:
        raise Refusal(f"--since {since} is after --until {until}: no event can be", EXIT_USAGE)
    return Selection(since_ms=since_ms, until_ms=until_ms, user=user, types=frozenset(types), order_id=order)


def _ms(text: str, now: datetime) -> int:
    try:
        return to_ms(text, now)
    except ValueError as error:
        raise Refusal(str(error), EXIT_USAGE) from None


async def _by_id(selection: Selection, stack: Stack) -> Selection:
    """The same with the user's id, where the user was named by email.

    Raises:
        Refusal: nobody has this email, or it cannot be looked up.
    """
    if selection.user is None or "@" not in selection.user:
        return selection
    user = await stack.archive().user_of(selection.user)
    if user is None:
        raise Refusal(f"no account has the email {selection.user}", EXIT_DIFFERS)
    return replace(selection, user=user)


async def _ends(order: str | None, stack: Stack) -> dict[int, Position]:
    """Where the log ends now, in each partition or in the order's."""
    numbers = list(range(stack.log.partitions)) if order is None else [_partition(order, stack)]
    return await tips(stack.log, numbers)


async def _print_known(stack: Stack, ends: dict[int, Position], selection: Selection, output: Output) -> None:
    """What there is up to `ends`.

    Raises:
        Refusal: an event is missing, or nobody knows the order.
    """
    order = selection.order_id
    if await print_past(stack, ends, selection, output):
        return
    if order and await stack.find(order) is None:
        raise stack.unknown(order)
    output.nothing()


def _partition(order: str, stack: Stack) -> int:
    try:
        partition = partition_of(order) if is_order_id(order) else PARTITIONS_MAX
    except ValueError:
        partition = PARTITIONS_MAX
    if partition >= stack.log.partitions:
        raise Refusal(f"no order {order}: that is not an id of this log", EXIT_DIFFERS)
    return partition
