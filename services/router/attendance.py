"""Which venues still take part. Orders go on without one, at the others' price: nobody else would notice."""

from collections.abc import Sequence

from libs.events.model import Reason
from libs.quoting.answer import Answer, NoQuote
from services.router import observe

MISSED_MIN = 5  # questions in a row: one that was too late now and then is none that is away
_ABSENCE = frozenset({Reason.VENUES_UNAVAILABLE, Reason.VENUE_REFUSED})


class Attendance:
    """Counts what each venue has missed since it last gave an answer."""

    def __init__(self) -> None:
        self._missed: dict[str, int] = {}

    def heard(self, answers: Sequence[Answer]) -> None:
        """One venue's answers to questions that were asked together."""
        venue = answers[0].venue
        absent = [why for answer in answers if (why := _absence(answer))]
        before = self._missed.get(venue, 0)
        if len(absent) < len(answers):
            self._missed[venue] = 0
            if before >= MISSED_MIN:
                observe.venue_back(venue, before)
            return
        self._missed[venue] = before + len(absent)
        if before < MISSED_MIN <= self._missed[venue]:
            observe.venue_away(venue, absent[-1])


def _absence(answer: Answer) -> str:
    """Why it did not answer; empty: it did."""
    if isinstance(answer.result, NoQuote) and answer.result.reason in _ABSENCE:
        return answer.result.why or answer.result.reason
    return ""
