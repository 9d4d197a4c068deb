"""What the projector says of itself: log line and metric in one place, in the domain's words."""

import time
from collections.abc import Mapping
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram

from libs.events.ids import Position

_log: Any = structlog.get_logger()

LAG_EVENTS = Gauge("swaplog_projection_lag_events", "Entries in the log beyond the checkpoint", ["partition"])
LAG_SECONDS = Gauge("swaplog_projection_lag_seconds", "Age of the oldest entry read and not yet projected")
BATCHES = Counter("swaplog_projection_batches_total", "Batches committed")
EVENTS = Counter("swaplog_projection_events_total", "Events committed")
BATCH_SECONDS = Histogram("swaplog_projection_batch_seconds", "Time to commit a batch")


def resumed(epoch: str, at: Mapping[int, Position]) -> None:
    """The checkpoint is read and matches the log."""
    _log.info("projection resumed", epoch=epoch, at={partition: str(position) for partition, position in at.items()})


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


def stopped(reason: Exception) -> None:
    """Going on would write something wrong; an operator must look."""
    _log.error("projection stopped: nothing more will be projected", error=type(reason).__name__, reason=str(reason))
