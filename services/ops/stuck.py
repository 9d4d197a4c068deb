"""Orders that should have moved and have not: what each said last, and whether it was set aside."""

from datetime import datetime

from libs.events.log import Entry
from libs.events.model import Status
from libs.events.reactions import TERMINAL
from services.ops.replay import Step, replay
from services.ops.show_parked import name_of
from services.ops.stack import Stack

STUCK_MAX = 100
PARKED_LOOKED_AT = 100_000
_MOVING = frozenset(Status) - TERMINAL - {Status.OPEN}


async def stuck(stack: Stack, since: datetime) -> list[tuple[Entry, str | None]]:
    """The last event of each, the longest quiet first, and as what it is parked; at most `STUCK_MAX`.

    Raises:
        LogUnavailable, StoreUnavailable
        Refusal: there is no archive to ask.
    """
    order_ids = await stack.archive().quiet_since(since, _MOVING, STUCK_MAX)
    lasts = [story.steps[-1] for story in [await replay(stack, order_id) for order_id in order_ids] if story.steps]
    still = [step.entry for step in lasts if _stands(step, since)]
    parked = {item.order_id: name_of(item) for item in await stack.log.parked(PARKED_LOOKED_AT)} if still else {}
    return [(entry, parked.get(entry.fields["subject"])) for entry in still]


def _stands(last: Step, since: datetime) -> bool:
    """What happened since is in the log before it is projected."""
    may_move = last.order is None or last.order.status in _MOVING
    return may_move and datetime.fromisoformat(last.entry.fields["time"]) < since
