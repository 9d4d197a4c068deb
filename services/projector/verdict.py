"""Whether what Redis holds of a partition is the log the archive knows. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from libs.events.errors import LogMismatch
from libs.events.ids import Position
from libs.events.log import Entry
from libs.events.repair import Held, is_earlier, layout_of
from libs.orders.store import Checkpoint


class Diverged(LogMismatch):
    """Log and archive tell different stories; only an operator can say which is true."""


class Unreachable(LogMismatch):
    """The log was trimmed beyond what the archive has: events are in neither."""


OUTDATED = "an earlier release kept its orders"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`lost`: why facts, or what follows from them, are missing; `alarm`: somebody missed work; neither: whole."""

    lost: tuple[str, ...]
    alarm: bool


def judge(
    held: Held,
    checkpoint: Checkpoint | None,
    *,
    restarted: bool = False,
    keeps_all: bool = True,
    outdated: bool = False,
) -> Verdict:
    """Compare positions; see `compare` for what is in them.

    `restarted`: since Redis was last checked. Only then a reader beyond the end is proof of a lost tail; at other times
    it is one that has not noticed a repair. Where a restart may lose something (not `keeps_all`), positions may be used
    again for other events, and no reader could tell which it saw: that needs another epoch, even if nothing is known to
    be lost. `outdated`: an earlier release kept it, in another way.
    """
    archived = checkpoint.at.position if checkpoint else 0
    found = {
        "there is no log": held.position < 0,
        "it has another epoch than the archive": checkpoint is not None and held.epoch != checkpoint.epoch,
        f"it ends at position {held.last.position}, and the archive at {archived}": held.last.position < archived,
        f"it ends at position {held.last.position}, and should at {held.position}": held.position
        not in {-1, held.last.position},
        f"its positions {held.first.position} to {held.last.position} have {held.length} entries": not held.is_whole,
        OUTDATED: outdated,
        f"a reader was at position {held.farthest_reader}": restarted and held.farthest_reader > held.last.position,
        "it restarted, and may have lost what nobody else has": restarted and not keeps_all and held.position > 0,
    }
    return Verdict(tuple(reason for reason, is_so in found.items() if is_so), alarm=not held.run)


def place_to_compare(held: Held, checkpoint: Checkpoint) -> Position | None:
    """Where log and archive must have the same entry, if there is such a place."""
    if held.last.position == 0 or checkpoint.at.position == 0:
        return None
    if held.last.position < checkpoint.at.position:
        return held.last
    return checkpoint.at if held.first.position <= checkpoint.at.position else None


def compare(at: Position, logged: Entry | None, archived: Entry | None) -> None:
    """Two entries of one place must be one.

    Raises:
        Diverged
    """
    if logged and archived and logged.at == archived.at and dict(logged.fields) == dict(archived.fields):
        return
    raise Diverged(
        f"at {at} the log holds {_name(logged)} and the archive {_name(archived)}: they are not of one log. "
        "Nothing was written. Bring back the Redis, or the Postgres, that belongs to the other"
    )


def check_reach(held: Held, checkpoint: Checkpoint | None) -> None:
    """The archive must be able to go on where it is.

    Raises:
        Unreachable
    """
    archived = checkpoint.at.position if checkpoint else 0
    if held.last.position > archived and held.first.position > archived + 1:
        raise Unreachable(
            f"partition {held.partition}: the archive ends at position {archived} and the log begins at "
            f"{held.first.position}: what lies between is in neither. Nothing was written. Restore a backup of "
            f"Postgres that reaches position {held.first.position - 1} of this partition"
        )


def check_layout(held: Sequence[Held], checkpoints: Mapping[int, Checkpoint]) -> None:
    """Log, archive and this process must have as many partitions.

    Raises:
        LogMismatch
    """
    wanted = layout_of(len(held))
    for one in held:
        if one.layout not in {"", wanted} and not is_earlier(one.layout, len(held)):
            raise LogMismatch(f"this log was made as '{one.layout}', not '{wanted}': set PARTITIONS to match")
    if checkpoints and len(checkpoints) != len(held):
        raise LogMismatch(
            f"the projection has {len(checkpoints)} partitions, the log {len(held)}: set PARTITIONS to match"
        )


def is_new(held: Sequence[Held], checkpoints: Mapping[int, Checkpoint]) -> bool:
    """Whether nobody ever wrote an event."""
    archived = any(checkpoint.at.position for checkpoint in checkpoints.values())
    return not archived and all(one.last.position == 0 and one.position < 0 for one in held)


def is_outdated_alone(verdicts: Mapping[int, Verdict]) -> bool:
    """Whether nothing is missing, but for what this release keeps in another way."""
    return all(set(verdict.lost) <= {OUTDATED} for verdict in verdicts.values())


def told(verdicts: Mapping[int, Verdict]) -> Sequence[str]:
    """The losses in one line each."""
    return [f"partition {number}: {', '.join(verdict.lost)}" for number, verdict in verdicts.items() if verdict.lost]


def _name(entry: Entry | None) -> str:
    return f"{entry.fields.get('id')} of {entry.at}" if entry else "nothing"
