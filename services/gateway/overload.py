"""Whether new orders may come in: work in hand goes first, and a full Redis loses orders or stops for everybody."""

import asyncio

from libs.events.errors import EventLogError
from libs.events.model import Terms
from libs.events.upkeep import TIGHT_FROM, Pressure, Upkeep
from services.gateway import limits, observe
from services.gateway.problems import Problem


class Overload:
    """Measured once a second; in between everybody is told the same."""

    def __init__(self, log: Upkeep, *, wait_s_max: float, memory_max_bytes: int) -> None:
        """`wait_s_max`: how long the oldest item may wait for a worker."""
        self._log, self._wait_s_max, self._memory_max_bytes = log, wait_s_max, memory_max_bytes
        self._reason = self._reason_not_to_keep = ""

    def check(self) -> None:
        """Raises Problem while nothing more should come in."""
        _refuse(self._reason)

    def check_waiting(self, terms: Terms | None) -> None:
        """Raises Problem for an order that waits for its price, while there is room only for what ends soon."""
        if terms and terms.time_in_force in {"GTC", "GTT"}:
            _refuse(self._reason_not_to_keep)

    async def watch(self) -> None:
        """Measure until cancelled. While Redis is away the last finding stands: commits fail by themselves then."""
        while True:
            try:
                await self.measure()
            except EventLogError as error:
                observe.pressure_unknown(str(error))
            await asyncio.sleep(limits.PRESSURE_EVERY_S)

    async def measure(self) -> None:
        """Look once.

        Raises:
            LogUnavailable
        """
        pressure = await self._log.pressure()
        observe.pressure_measured(pressure.waiting_s, pressure.fullness(self._memory_max_bytes))
        reason = self._judge(pressure)
        if bool(reason) != bool(self._reason):
            observe.overload_changed(reason)
        # Whoever fills the log with orders that wait for months must not keep all others from trading meanwhile.
        crowded = pressure.fullness(self._memory_max_bytes) >= TIGHT_FROM
        not_to_keep = "The log has no room for more orders that wait." if crowded else ""
        if bool(not_to_keep) != bool(self._reason_not_to_keep):
            observe.waiting_orders_refused(not_to_keep)
        self._reason, self._reason_not_to_keep = reason, not_to_keep

    def _judge(self, pressure: Pressure) -> str:
        if pressure.waiting_s > self._wait_s_max:
            return f"Orders wait for longer than {self._wait_s_max:g} s."
        return "The log is full." if pressure.fullness(self._memory_max_bytes) > 1 else ""


def _refuse(reason: str) -> None:
    if reason:
        raise Problem(
            "overloaded",
            f"{reason} Nothing was written; orders taken before are worked on.",
            headers={"Retry-After": str(limits.OVERLOAD_RETRY_AFTER_S)},
        )
