"""`swaplog rebuild`: is the projection the fold of the log? And if not, put one in its place that is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from libs.events.errors import EventLogError
from libs.orders import rebuild as blue_green
from libs.orders.rebuild_report import Report
from libs.orders.shadow import ENTRIES_PER_PARTITION, NEXT, PREVIOUS, RebuildRefused
from libs.orders.store import CheckpointMoved
from services.ops.show import json_line, make_console
from services.ops.stack import EXIT_DIFFERS, EXIT_UNREACHABLE, EXIT_USAGE, Refusal, find_settings, refusing

SHOWN_EVERY = 20_000


async def rebuild(
    *,
    switch: bool = False,
    accept_differences: bool = False,
    rollback: bool = False,
    drop: bool = False,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> int:
    """Fold every order again beside the live tables and compare row by row. Exit 1 when orders differ.

    Orders flow meanwhile. What is built stays for the next call, which goes on from there if it folds alike.

    Parameters
    ----------
    switch
        Put the rebuilt tables in the place of the live ones, if they do not differ; the old ones stay for --rollback.
    accept_differences
        With --switch: also if they differ, because the fold was mended.
    rollback
        Make live again what was live before the last switch, brought up to date.
    drop
        Remove what was built, and what was kept for a rollback.
    as_json
        One JSON document.
    """
    if switch + rollback + drop > 1:
        raise Refusal("--switch, --rollback and --drop: give one of them", EXIT_USAGE)
    settings, _ = find_settings()
    if not settings.database_url:
        raise Refusal("DATABASE_URL is not set", EXIT_USAGE)
    dsn = settings.database_url
    with _refusing():
        if drop:
            for side in (NEXT, PREVIOUS):
                await blue_green.drop(dsn, side)
            return 0
        if rollback:
            report = await blue_green.roll_back(dsn)
        else:
            progress = _progress(make_console(stderr=True))
            report = await blue_green.rebuild(dsn, switch=switch, accept=accept_differences, progress=progress)
    _print(report, as_json=as_json)
    return EXIT_DIFFERS if report.differing and not report.switched else 0


@contextmanager
def _refusing() -> Iterator[None]:
    """Whatever ends a rebuild ends the command with one line."""
    with refusing():
        try:
            yield
        except RebuildRefused as refused:
            raise Refusal(str(refused), EXIT_DIFFERS) from None
        except CheckpointMoved as moved:
            text = "the log was made again meanwhile, or somebody else is at the same tables: call it again"
            raise Refusal(text, EXIT_UNREACHABLE) from moved
        except EventLogError as error:
            raise Refusal(f"the archive is not whole: {error}", EXIT_UNREACHABLE) from None


def _progress(console: Console) -> Callable[[int], None]:
    def show(count: int) -> None:
        if count % SHOWN_EVERY < ENTRIES_PER_PARTITION:
            console.print(f"{count} events folded", markup=False)

    return show


def _print(report: Report, *, as_json: bool) -> None:
    if as_json:
        json_line(
            {
                "events": report.events,
                "orders": report.orders,
                "differing": report.differing,
                "differences": [
                    {"orderId": difference.order_id, "fields": dict(difference.fields)}
                    for difference in report.differences
                ],
                "switched": report.switched,
                "seconds": round(report.seconds, 3),
            }
        )
        return
    console = make_console()
    rate = report.events / report.seconds if report.seconds else 0
    console.print(f"{report.events} events folded in {report.seconds:.1f} s ({rate:.0f}/s)", markup=False)
    if report.orders:
        console.print(f"{report.orders} orders compared, {report.differing} differ", markup=False)
    for difference in report.differences:
        for name, (live, rebuilt) in difference.fields.items():
            console.print(f"  {difference.order_id} {name}: {live} live, {rebuilt} rebuilt", markup=False)
    console.print("switched: what was live is kept for --rollback" if report.switched else "nothing was switched")
