"""Where a command prints, and in which of the two shapes."""

import asyncio
import random
from collections.abc import Iterable

from libs.events.errors import LogUnavailable, PositionGap
from libs.events.ids import Position
from libs.events.log import Entry
from libs.orders.archived import ArchivedReads
from libs.orders.store import OrderStore
from services.ops.history import Selection, first_archived, live, past
from services.ops.replay import replay as tell
from services.ops.show import Describer, entry_json, event_line, json_line, make_console, print_line
from services.ops.stack import EXIT_DIFFERS, Refusal, Stack

RETRY_S = 2.0


class Output:
    """One command's output."""

    def __init__(self, stack: Stack, *, as_json: bool, one_order: bool) -> None:
        self.console, self.errors = make_console(), make_console(stderr=True)
        self._epoch, self._as_json = stack.log.epoch, as_json
        self._describer, self._one_order = Describer(stack.find), one_order

    def note(self, why_no_store: str) -> None:
        if why_no_store:
            self.errors.print(f"without the archive: {why_no_store}", style="yellow", markup=False)

    async def note_let_go(self, store: OrderStore, partitions: Iterable[int], since_ms: int) -> None:
        for partition in partitions:
            first = await first_archived(store, partition)
            if first and first.at.position > 1 and first.at.ms > since_ms:
                text = f"partition {partition}: what was before {first.fields['time']} was let go"
                self.errors.print(text, style="yellow", markup=False)

    async def event(self, entry: Entry) -> None:
        if self._as_json:
            json_line(entry_json(entry, self._epoch))
        else:
            body = await self._describer.body(entry)
            short = self.console.is_terminal
            print_line(self.console, event_line(entry, body, order_known=short and self._one_order, short=short))

    def nothing(self) -> None:
        """For people, who else wonder whether it has looked."""
        if self.console.is_terminal and not self._as_json:
            self.errors.print("no such event", style="dim")

    async def standing(self, last: Entry, parked: str | None) -> None:
        """The last event of an order that stands still."""
        if self._as_json:
            json_line(entry_json(last, self._epoch) | {"parked": parked})
            return
        await self.event(last)
        if parked:
            self.console.print(f"  set aside as {parked}: see `swaplog parked`", style="red", markup=False)


async def print_past(stack: Stack, ends: dict[int, Position], selection: Selection, output: Output) -> int:
    """Print what there is up to `ends`; gives how many events that were.

    Raises:
        Refusal: an event is missing.
    """
    shown = 0
    if selection.order_id:
        story = await tell(stack, selection.order_id)
        found = [step.entry for step in story.steps if step.entry.at.position <= ends[step.entry.partition].position]
        for entry in filter(selection.wants, found):
            await output.event(entry)
            shown += 1
        return shown
    if stack.store:
        await output.note_let_go(stack.store, ends, selection.since_ms)
    try:
        async for entry in past(stack.log, stack.store, ends, selection):
            await output.event(entry)
            shown += 1
    except PositionGap as gap:
        raise Refusal(str(gap), EXIT_DIFFERS) from None
    return shown


async def print_live(stack: Stack, ends: dict[int, Position], selection: Selection, output: Output) -> None:
    """Print what happens after `ends`, for ever; through outages of the log, but not past a hole.

    Raises:
        Refusal: an event is missing.
    """
    at = dict(ends)
    everything = Selection()
    log = ArchivedReads(stack.log, stack.store) if stack.store else stack.log
    while True:
        try:
            async for entry in live(log, at, everything):
                if selection.wants(entry):
                    await output.event(entry)
                at[entry.partition] = entry.at
        except PositionGap as gap:
            raise Refusal(str(gap), EXIT_DIFFERS) from None
        except LogUnavailable as away:
            output.errors.print(f"the log is away, trying again: {away}", style="yellow", markup=False)
            await asyncio.sleep(random.uniform(0, RETRY_S))  # noqa: S311 - jitter
