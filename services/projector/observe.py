"""What the projector says of itself: log line and metric in one place, in the domain's words."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram

from libs.events.ids import Position

_log: Any = structlog.get_logger()

LAG_EVENTS = Gauge("swaplog_projection_lag_events", "Entries in the log beyond the checkpoint", ["partition"])
LAG_SECONDS = Gauge("swaplog_projection_lag_seconds", "Age of the oldest entry read and not yet projected")
BATCHES = Counter("swaplog_projection_batches_total", "Batches committed")
EVENTS = Counter("swaplog_projection_events_total", "Events committed")
REPAIRS = Counter("swaplog_log_repairs_total", "Times the log or its work was made again from the archive")
TRIMMED = Counter("swaplog_log_trimmed_entries_total", "Entries the janitor took out of Redis", ["partition"])
BATCH_SECONDS = Histogram("swaplog_projection_batch_seconds", "Time to commit a batch")


def resumed(epoch: str, at: Mapping[int, Position]) -> None:
    """The checkpoint is read and matches the log. What was in hand before is in Postgres, or will be read again."""
    LAG_SECONDS.set_function(lambda: 0.0)
    _log.info("projection resumed", epoch=epoch, at={partition: str(position) for partition, position in at.items()})


def standing_by() -> None:
    """Another process has the projector's place; this one waits for it, and is behind nothing."""
    LAG_SECONDS.set_function(lambda: 0.0)
    LAG_EVENTS.clear()
    _log.info("standing by: another projector is at work")


def trouble_ahead(reason: str) -> None:
    """Nothing is wrong yet, and there may be months to mend it."""
    _log.warning("projection will have to wait at the end of the archive's last leaf", reason=reason)


def batch_read(oldest_ms: int) -> None:
    """Entries are in hand; from now on their age is the lag."""
    LAG_SECONDS.set_function(lambda: max(0.0, time.time() - oldest_ms / 1_000))


def batch_projected(events: int, took_s: float) -> None:
    """They are in Postgres."""
    BATCHES.inc()
    EVENTS.inc(events)
    BATCH_SECONDS.observe(took_s)
    LAG_SECONDS.set_function(lambda: 0.0)


def lag(partition: int, events: int) -> None:
    """How far behind the log's end a partition is."""
    LAG_EVENTS.labels(partition).set(events)


def waiting(need: str, reason: str, attempt: int, delay_s: float) -> None:
    """A store is away."""
    _log.warning("waiting for a store", need=need, reason=reason, attempt=attempt, delay_s=round(delay_s, 2))


def repair_begun(epoch: str, reasons: Sequence[str]) -> None:
    """Redis lost something: the alarm for a human, though the rest goes by itself."""
    REPAIRS.inc()
    _log.error("alarm_log_lost: it is restored from the archive, with a new epoch", epoch=epoch, reasons=list(reasons))


def strangers_dropped(partition: int, entry_ids: Sequence[str]) -> None:
    """Somebody writes into the log who must not."""
    _log.error("alarm_strangers_dropped: what was in the log is no event", partition=partition, ids=entry_ids)


def brought_up_to_date(epoch: str) -> None:
    """An earlier release kept it in another way; nothing is lost, but cursors of before get a reset."""
    _log.warning("log of an earlier release brought up to date, with a new epoch", epoch=epoch)


def log_made(epoch: str) -> None:
    """Neither Redis nor Postgres had one."""
    _log.info("log made", epoch=epoch)


def entries_restored(partition: int, entries: int) -> None:
    """They are in the log again."""
    _log.warning("entries restored from the archive", partition=partition, entries=entries)


def work_remade(partitions: Sequence[int]) -> None:
    """Somebody missed work items."""
    REPAIRS.inc()
    _log.error("alarm_work_lost: it is made again from the archive", partitions=list(partitions))


def fence_opened(epoch: str) -> None:
    """The log is the one it should be: everybody may write."""
    _log.info("log checked", epoch=epoch)


def replaced(reason: Exception) -> None:
    """The log is not what it was a second ago."""
    _log.warning("the log must be checked", reason=str(reason))


def stopped(reason: Exception) -> None:
    """Going on would write something wrong; an operator must look."""
    _log.error("projection stopped: nothing more will be projected", error=type(reason).__name__, reason=str(reason))


def trimmed(partition: int, entries: int) -> None:
    """They are in the archive only, from now on."""
    if entries:
        TRIMMED.labels(partition).inc(entries)
        _log.info("log trimmed", partition=partition, entries=entries)


def not_swept(reason: str) -> None:
    """What could leave Redis stays there for now."""
    _log.warning("log not trimmed", reason=reason)


def room_changed(used_bytes: int, allowed_bytes: int, *, tight: bool) -> None:
    """Of the memory orders may take so much is used that new ones will soon be refused, or no longer."""
    used_mb, allowed_mb = used_bytes >> 20, allowed_bytes >> 20
    if tight:
        _log.warning(
            "redis is nearly full: orders that wait for a price are refused, beyond allowed_mb all new ones",
            used_mb=used_mb,
            allowed_mb=allowed_mb,
        )
    else:
        _log.info("redis has room again", used_mb=used_mb, allowed_mb=allowed_mb)


def may_be_evicted(policy: str) -> None:
    """Redis is set up as a cache is, and drops what nobody would miss in one, such as the keys of requests."""
    _log.warning(
        "redis may drop orders and idempotency keys when it is full: set maxmemory-policy noeviction", policy=policy
    )


def reader_expired(name: str, partition: int, silent_s: float) -> None:
    """It holds nothing back any more; when it comes again it may find its place in the archive only."""
    _log.warning("reader expired", reader=name, partition=partition, silent_s=round(silent_s))
