"""Items no service could handle: shown, put back to work, or given up. Nothing changes without `--apply`."""

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime
from typing import Annotated, TypeVar

from cyclopts import Parameter
from rich.console import Console

from libs.events.log import Snapshot
from libs.events.parked import Parked
from libs.events.parking import NotDiscardable, discard, discardable, redrivable
from libs.events.reactions import TERMINAL, WORKERS
from libs.service.settings import Settings
from services.ops.show import json_line, make_console
from services.ops.show_parked import discarded_json, name_of, parked_json, print_parked
from services.ops.stack import EXIT_DIFFERS, EXIT_USAGE, Refusal, Stack, find_settings

PARKED_MAX = 1_000  # told of a status
ASKED_FIRST = 1_000
REDRIVES_PER_S = 20.0
AsJson = Annotated[bool, Parameter(name="--json")]
T = TypeVar("T")


class ParkingCommands:
    """`open_stack` gives the stack some settings describe; it is asked anew by each command."""

    def __init__(self, open_stack: Callable[[Settings], AbstractAsyncContextManager[Stack]]) -> None:
        self._open = open_stack

    async def parked(
        self,
        *,
        service: str | None = None,
        fingerprint: str | None = None,
        discarded: bool = False,
        as_json: AsJson = False,
    ) -> int:
        """List the work items no service could handle, oldest first.

        Parameters
        ----------
        service
            Only this service's.
        fingerprint
            Only those that failed in this way.
        discarded
            Those that were given up instead, with who and why.
        as_json
            One JSON document per item.
        """
        _check_service(service)
        settings, _ = find_settings()
        async with self._open(settings) as stack:
            given_up = await _all(stack.log.discarded) if discarded else []
            items = [d.parked for d in given_up] if discarded else await _all(stack.log.parked)
        about = {name_of(d.parked): d for d in given_up}
        shown = [item for item in items if _wanted(item, service, fingerprint)]
        if as_json:
            for item in shown:
                json_line(parked_json(item) | discarded_json(about.get(name_of(item))))
        else:
            print_parked(shown, about, make_console())
        return 0

    async def redrive(
        self,
        *items: str,
        every: Annotated[bool, Parameter(name="--all")] = False,
        service: str | None = None,
        fingerprint: str | None = None,
        rate: float = REDRIVES_PER_S,
        apply: bool = False,
    ) -> int:
        """Put parked items back to work, with their orders as they are now. Without --apply it only says which.

        Parameters
        ----------
        items
            Ids that `swaplog parked` shows.
        every
            All of them, or all that --service and --fingerprint leave.
        service
            With --all: only this service's.
        fingerprint
            With --all: only those that failed in this way.
        rate
            At most so many a second.
        apply
            Do it.
        """
        if bool(items) == every or rate <= 0:
            raise Refusal("name items, or say --all; --rate must be above 0", EXIT_USAGE)
        _check_service(service)
        settings, _ = find_settings()
        console = make_console()
        async with self._open(settings) as stack:
            found = await _find(stack, items)
            chosen = found if items else [item for item in found if _wanted(item, service, fingerprint)]
            moved = 0
            for number, item in enumerate(chosen):
                if apply and number:
                    await asyncio.sleep(1 / rate)
                moved += await _redrive(stack, item, console, apply=apply)
        _say_how_many(moved, apply, console)
        return 0 if moved == len(chosen) else EXIT_DIFFERS

    async def discard(
        self, item: str, /, *, reason: str, by: str = "", not_settled: bool = False, apply: bool = False
    ) -> int:
        """Give a parked item up: its order ends as FAILED, and who did it and why is kept. Without --apply, a dry run.

        Parameters
        ----------
        item
            The id `swaplog parked` shows.
        reason
            Why; the order's owner can read it.
        by
            Who; the name of this login by itself.
        not_settled
            You have proof that the submitted transaction of this order is not on the chain and never will be.
        apply
            Do it.
        """
        if not reason.strip():
            raise Refusal("--reason must say why", EXIT_USAGE)
        settings, _ = find_settings()
        console = make_console()
        async with self._open(settings) as stack:
            (parked,) = await _find(stack, (item,))
            try:
                if apply:
                    # What a terminal says in another encoding than ours can be written nowhere.
                    who, why = (text.encode(errors="replace").decode() for text in (by or _login(), reason.strip()))
                    now = datetime.now(UTC)
                    order = await discard(stack.log, parked, by=who, reason=why, now=now, not_settled=not_settled)
                    fate = f"order {order.id} is {order.status}" if order else "no order of it is open"
                    console.print(f"{item} is discarded; {fate}", markup=False)
                else:
                    fate = _would_end(await discardable(stack.log, parked, not_settled=not_settled))
                    console.print(f"{item} would be discarded{fate}", markup=False)
            except NotDiscardable as doubt:
                raise Refusal(f"order {parked.order_id}: {doubt}", EXIT_DIFFERS) from None
        _say_how_many(1, apply, console)
        return 0


async def _redrive(stack: Stack, item: Parked, console: Console, *, apply: bool) -> bool:
    done = await (stack.log.redrive(item) if apply else redrivable(stack.log, item))
    said = "back with" if apply else "would go back to"
    fate = f"{said} the {item.service}" if done else "left: it or its order is gone"
    with suppress(OSError):  # an output that is closed or full must not keep the rest from being done
        console.print(f"{name_of(item)}  order {item.order_id}  {fate}", markup=False)
    return done


async def _find(stack: Stack, names: tuple[str, ...]) -> list[Parked]:
    """The parked items of these names, or all.

    Raises:
        Refusal: one of them is not there.
    """
    bad = [name for name in names if name.count(":") != 1]
    if bad:
        raise Refusal(f"{bad[0]!r} is not the id of a parked item: see `swaplog parked`", EXIT_USAGE)
    held = {name_of(item): item for item in await _all(stack.log.parked)}
    missing = [name for name in names if name not in held]
    if missing:
        raise Refusal(f"no parked item {missing[0]}", EXIT_DIFFERS)
    return [held[name] for name in names] if names else list(held.values())


async def _all(read: Callable[[int], Awaitable[list[T]]]) -> list[T]:
    """All that `read` has to give. It must be told how many, and an item asked for by name may be the last."""
    count = ASKED_FIRST
    while len(found := await read(count)) >= count:
        count *= 8
    return found


def _check_service(service: str | None) -> None:
    # A variable that is not set must not mean everybody's, and a misspelling not that nothing is parked.
    if service is not None and service not in WORKERS:
        raise Refusal(f"no service {service!r} parks items; there are {', '.join(WORKERS)}", EXIT_USAGE)


def _wanted(item: Parked, service: str | None, fingerprint: str | None) -> bool:
    return service in (None, item.service) and fingerprint in (None, item.fingerprint)


def _would_end(held: Snapshot | None) -> str:
    if held is None:
        return "; no order of it is open"
    if held.order.status in TERMINAL:
        return f"; order {held.order.id} stays {held.order.status}"
    return f", and order {held.order.id} end as FAILED"


def _say_how_many(count: int, apply: bool, console: Console) -> None:
    console.print(f"{count} done" if apply else f"{count}, and nothing was changed: say --apply")


def _login() -> str:
    with suppress(KeyError, OSError):
        return getpass.getuser()
    return "unknown"
