"""Every number of the worker runtime, and how long it waits after a failure."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """Every number of the runtime."""

    in_flight_max: int = 256
    # Fresh items that share one call of the handler and one write: the slowest answer among them is everybody's.
    together_max: int = 64
    handle_seconds_max: float = 30
    deliveries_max: int = 5
    # From this delivery on an item is suspected of killing the process; so many are then handled at once, and fewer
    # with each delivery more, until the last try is made alone.
    suspect_from_delivery: int = 3
    suspects_at_once: int = 64
    block_ms: int = 1_000
    # The longest that items gather between two reads where cores are short, and how long with 1,000 of them a second.
    gather_ms_max: float = 30
    gather_ms_at_1_000_per_s: float = 150
    # Longer than the longest handler: an item whose holder is alive and busy is not stolen even if renewal fails once.
    claim_idle_ms: int = 45_000
    renew_every_s: float = 10
    claim_every_s: float = 5
    timers_every_s: float = 0.25
    ask_again_s: float = 0.02
    retry_base_s: float = 0.1
    retry_cap_s: float = 5


def jittered(failures: int, limits: WorkerLimits) -> float:
    """Seconds to wait after so many failures in a row."""
    ceiling = min(limits.retry_cap_s, limits.retry_base_s * 2 ** min(failures, 16))
    return random.uniform(ceiling / 2, ceiling)  # noqa: S311 - spreads load, guards nothing
