"""A log in memory that goes wrong as a test of the gateway tells it to."""

from collections.abc import Sequence

from libs.events.errors import LogMismatch, LogUnavailable, OutcomeUnknown
from libs.events.ids import partition_of_user
from libs.events.log import Outcome, Snapshot, Step
from libs.events.memory_log import MemoryLog
from tests.contract.http_gateway import PARTITIONS


class TroubledLog(MemoryLog):
    """Goes wrong as told: each trouble meets one commit, "lost" ones after the write happened."""

    def __init__(self) -> None:
        super().__init__(PARTITIONS)
        self.troubles: list[str] = []
        self.away: LogUnavailable | None = None
        self.commits = 0

    async def commit(self, step: Step) -> Outcome:
        self.commits += 1
        trouble = self.troubles.pop(0) if self.troubles else ""
        match trouble:
            case "away":
                raise LogUnavailable("redis://:secret@host is away")
            case "another":
                raise LogMismatch("another epoch")
            case "never arrived":
                raise OutcomeUnknown("reset")
            case "reply lost":
                await super().commit(step)
                raise OutcomeUnknown("reset")
            case "broken":
                raise ZeroDivisionError("secret internals")
        return await super().commit(step)

    async def find_many(self, order_ids: Sequence[str]) -> dict[str, Snapshot]:
        if self.away:
            raise self.away
        return await super().find_many(order_ids)


async def entries_of(log: MemoryLog, user: str = "user-1") -> int:
    return (await log.tip(partition_of_user(user, PARTITIONS))).position
