"""How parked items look on a terminal of a hundred columns: what is to be copied is whole, what is odd is one line."""

from dataclasses import replace
from io import StringIO

from rich.console import Console

from libs.events.parked import Discarded, Parked
from services.ops.show_parked import name_of, print_parked

ORDER = "01a21af2-830a-70d1-afd0-cf6acce86003"
ITEM = Parked(
    partition=3,
    id="1795748441639-0",
    service="executor",
    order_id=ORDER,
    event_id=f"{ORDER}/3",
    event_type="RouteSelected",
    deliveries=5,
    reason="cannot be decoded: 1 validation error\ntoken_in\n  Input should be [/bold] a string",
    fingerprint="1234765f2cc47072",
    traceparent="",
    made_ms=1_795_748_441_638,
    parked_ms=1_795_748_441_639,
)


def shown(items: list[Parked], about: dict[str, Discarded]) -> list[str]:
    told = StringIO()
    print_parked(items, about, Console(file=told, width=100))
    return told.getvalue().splitlines()


def test_each_item_and_order_can_be_copied_and_a_reason_is_told_in_one_piece() -> None:
    first, when, why = shown([ITEM], {})
    assert first.split() == ["3:1795748441639-0", "executor", "RouteSelected", ORDER]
    assert when.split()[:4] == ["parked", "2026-11-27T03:00:41.639Z", "after", "5"]
    assert "1234765f2cc47072" in when
    assert why.strip() == "cannot be decoded: 1 validation error token_in Input should be [/bold] a string"


def test_what_an_odd_item_holds_gives_no_orders_to_a_terminal() -> None:
    odd = replace(ITEM, order_id="\x1b]0;mine\x07", event_type="\x1b[2J")
    assert "\x1b" not in "".join(shown([odd], {}))


def test_of_what_was_given_up_it_is_told_by_whom_and_why() -> None:
    about = {name_of(ITEM): Discarded(ITEM, "mara", "the pool is gone", 1_795_748_500_000)}
    assert shown([ITEM], about)[-1].strip() == "discarded 2026-11-27T03:01:40.000Z by mara: the pool is gone"
