"""A venue that is away is told of once, and once that it is back: orders go on without it, at a price."""

from typing import Any

from structlog.testing import capture_logs

from libs.events.model import Reason
from libs.quoting.answer import Answer, NoQuote, Quote
from services.router.attendance import MISSED_MIN, Attendance
from tests.builders import SOL

QUOTE = Quote(1_500, "pool", 1, SOL, 5_000, None, {})
AWAY = NoQuote(Reason.VENUES_UNAVAILABLE, "cannot connect")


def told(*answers: Quote | NoQuote, venue: str = "foo", to: Attendance | None = None) -> list[dict[str, Any]]:
    attendance = to or Attendance()
    with capture_logs() as logs:
        for answer in answers:
            attendance.heard([Answer(venue, 1, answer)])
    return [{name: log[name] for name in log if name != "log_level"} for log in logs]


def test_who_misses_so_many_questions_in_a_row_is_away_and_told_of_once() -> None:
    said = told(*[AWAY] * (3 * MISSED_MIN))
    assert said == [{"event": "venue_away", "venue": "foo", "why": "cannot connect"}]


def test_who_quotes_again_is_back_with_how_many_orders_went_without_it() -> None:
    said = told(*[AWAY] * (MISSED_MIN + 2), QUOTE, QUOTE)
    assert said[1:] == [{"event": "venue_back", "venue": "foo", "missed": MISSED_MIN + 2}]


def test_who_misses_one_now_and_then_is_not_told_of() -> None:
    round_of: list[Quote | NoQuote] = [*[AWAY] * (MISSED_MIN - 1), QUOTE]
    assert told(*round_of * 3) == []


def test_a_refusal_that_the_order_is_the_reason_of_is_an_answer() -> None:
    assert told(*[NoQuote(Reason.INSUFFICIENT_LIQUIDITY, "too much")] * (3 * MISSED_MIN)) == []


def test_orders_asked_about_together_count_each_and_venues_apart() -> None:
    attendance = Attendance()
    with capture_logs() as logs:
        attendance.heard([Answer("foo", 1, AWAY)] * MISSED_MIN)
        attendance.heard([Answer("bar", 1, AWAY)] * (MISSED_MIN - 1))
    assert [log["venue"] for log in logs] == ["foo"]
