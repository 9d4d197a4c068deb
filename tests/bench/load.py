"""Orders posted as fast as they are taken, or at times fixed before; each followed to its end."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import orjson

from tests.bench.client import Connection, NotHttp, connect
from tests.bench.cpu import CpuMeter, spent
from tests.bench.figures import Result, cpu_per_order_ms, latencies_ms, per_second, schedule
from tests.bench.users import Crowd, Place, orders_of
from tests.bench.watch import End, WatchLost

END_WITHIN_S = 120
LEAD_S = 0.1
PROJECTED_WITHIN_S = 0.5  # the projector's share of the CPU comes a moment after the end
now = time.perf_counter


@dataclass
class Sent:
    """What became of the requests. Times are `time.perf_counter`."""

    due: dict[str, float] = field(default_factory=dict)
    answered_after: list[float] = field(default_factory=list)
    sent_late: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    last_answer: float = 0.0

    def took(self, due: float, status: int, body: bytes) -> None:
        """One answer has come."""
        self.last_answer = now()
        if status != 202:
            self.errors[f"HTTP {status}"] += 1
            return
        self.due[orjson.loads(body)["orderId"]] = due
        self.answered_after.append(self.last_answer - due)


async def throughput(crowd: Crowd, cpu: CpuMeter, *, orders: int, connections: int) -> Result:
    """Closed loop: every connection sends its next order when the last is answered.

    Raises:
        OSError: nobody listens.
    """
    began, count = now(), _Costs(cpu)
    requests = ((None, request) for request in orders_of(crowd.users, orders))
    sent, trouble = await _send_and_watch(crowd, requests, connections)
    ends = crowd.ends_of(sent.due)
    confirmed = [end for end in ends.values() if end.status == "CONFIRMED"]
    until = max((end.at for end in ends.values()), default=now())
    await asyncio.sleep(PROJECTED_WITHIN_S)
    return {
        "orders": orders,
        "connections": connections,
        "accepted_per_s": per_second(len(sent.due), sent.last_answer - began),
        "completed_per_s": per_second(len(confirmed), until - began),
        "post_ms": latencies_ms(sent.answered_after),
        **_outcomes(sent, ends, trouble),
        **count.per_order(len(sent.due)),
    }


async def latency(crowd: Crowd, cpu: CpuMeter, *, rate: float, seconds: float, connections: int) -> Result:
    """Open loop: orders at fixed times. Everything counts from when an order was due, not from when it could be sent.

    Raises:
        OSError: nobody listens.
    """
    start = now() + LEAD_S
    dues = [start + offset for offset in schedule(rate, seconds)]
    count = _Costs(cpu)
    requests = zip(dues, orders_of(crowd.users, len(dues)), strict=True)
    sent, trouble = await _send_and_watch(crowd, requests, connections, seconds)
    ends = crowd.ends_of(sent.due)
    await asyncio.sleep(PROJECTED_WITHIN_S)
    return {
        "orders": len(dues),
        "rate_per_s": rate,
        "post_ms": latencies_ms(sent.answered_after),
        "confirmed_ms": latencies_ms(
            [end.at - sent.due[order] for order, end in ends.items() if end.status == "CONFIRMED"]
        ),
        "sent_late_ms": latencies_ms(sent.sent_late),
        **_outcomes(sent, ends, trouble),
        **count.per_order(len(sent.due)),
    }


class _Costs:
    """CPU time from its making on."""

    def __init__(self, cpu: CpuMeter) -> None:
        self._cpu, self._began = cpu, now()
        self._before, self._own_before, self._all_before = cpu.read(), cpu.read_self(), cpu.read_machine()

    def per_order(self, orders: int) -> Result:
        used, everybody = spent(self._before, self._cpu.read()), self._cpu.read_machine() - self._all_before
        own = self._cpu.read_self() - self._own_before
        others = max(0.0, everybody - own - sum(used.values()))
        return {
            "cpu_ms_per_order": cpu_per_order_ms(used, orders),
            "generator_cpu_ms_per_order": cpu_per_order_ms({"generator": own}, orders).get("total", 0.0),
            # Somebody else's work on the same cores: the first thing to look at when figures differ.
            "cores_used_by_others": round(others / (now() - self._began), 2),
        }


def _outcomes(sent: Sent, ends: Mapping[str, End], trouble: str) -> Result:
    return {
        "accepted": len(sent.due),
        "ended": dict(Counter(end.status for end in ends.values())),
        "not_ended": len(sent.due) - len(ends),
        "refused": dict(sent.errors),
        "trouble": trouble,
    }


Requests = Iterator[tuple[float | None, bytes]]


async def _send_and_watch(crowd: Crowd, requests: Requests, connections: int, longer_s: float = 0) -> tuple[Sent, str]:
    """Send everything and wait until all of it has ended; what kept it from that, else ""."""
    sent = Sent()
    try:
        async with asyncio.timeout(END_WITHIN_S + longer_s):
            await send_all(crowd.place, requests, sent, connections)
            await crowd.watch.until_ended(sent.due.keys())
    except TimeoutError:
        return sent, f"not all had ended after {END_WITHIN_S + longer_s:g} s"
    except WatchLost as error:
        return sent, str(error)
    return sent, ""


async def send_all(place: Place, requests: Requests, sent: Sent, connections: int) -> None:
    """Send everything over so many kept connections; `sent` collects what becomes of it.

    Raises:
        OSError: nobody listens.
    """
    lines = await asyncio.gather(*(connect(*place) for _ in range(connections)))
    try:
        await asyncio.gather(*(_send(line, requests, sent) for line in lines))
    finally:
        for line in lines:
            line.close()


async def _send(line: Connection, requests: Requests, sent: Sent) -> None:
    """One connection's share: whoever is free takes the next request, and waits for its time."""
    for due, request in requests:
        if due is None:
            due = now()  # noqa: PLW2901 - due is when it is sent
        elif (early_s := due - now()) > 0:
            await asyncio.sleep(early_s)
        sent.sent_late.append(now() - due)
        try:
            sent.took(due, *await line.ask(request))
        except (OSError, NotHttp) as error:
            sent.errors[type(error).__name__] += 1
            return
