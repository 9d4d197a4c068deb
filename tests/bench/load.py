"""Orders posted as fast as they are taken, or at times fixed before; each followed to its end."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.bench.client import Answer, Connection, NotHttp, connect
from tests.bench.cpu import Costs, CpuMeter
from tests.bench.ending import listed_ends, until_last_ended
from tests.bench.figures import Result, curve_ms, latencies_ms, per_second, schedule
from tests.bench.users import Crowd, Place, Request
from tests.bench.watch import End, Watch, WatchLost, watch_order, watching

END_WITHIN_S = 120
LEAD_S = 0.1
PROJECTED_WITHIN_S = 0.5  # the projector's share of the CPU comes a moment after the end
ACCEPTED = frozenset({201, 202, 207})
now = time.perf_counter


@dataclass
class Sent:
    """What became of the requests, by order. Times are `time.perf_counter`."""

    due: dict[str, float] = field(default_factory=dict)
    owner: dict[str, int] = field(default_factory=dict)
    answered_after: list[float] = field(default_factory=list)
    sent_late: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    last_answer: float = 0.0
    on_accepted: Callable[[str, int], None] | None = None

    def took(self, due: float, request: Request, answer: Answer) -> None:
        """One answer has come."""
        self.last_answer = now()
        if answer.status not in ACCEPTED:
            self.errors[f"HTTP {answer.status}"] += request.orders
            return
        self.answered_after.append(self.last_answer - due)
        body = orjson.loads(answer.body)
        for placed in [body] if request.orders == 1 else _placed(body, self.errors):
            order_id = placed["orderId"]
            self.due[order_id], self.owner[order_id] = due, request.owner
            if self.on_accepted:
                self.on_accepted(order_id, request.owner)


def _placed(body: Mapping[str, Any], errors: Counter[str]) -> Iterator[Mapping[str, Any]]:
    for outcome in body["results"]:
        if outcome.get("order"):
            yield outcome["order"]
        else:
            errors[f"HTTP {outcome['status']} in a batch"] += 1


async def throughput(crowd: Crowd, cpu: CpuMeter, *, orders: int, connections: int, size: int = 1) -> Result:
    """Closed loop: every connection sends its next request when the last is answered. `size` orders in each request.

    Nobody watches but those who wait for the last orders; afterwards all of them are listed.

    Raises:
        OSError: nobody listens.
    """
    requests = crowd.requests(orders, size)
    sent, costs, began = Sent(), Costs(cpu), now()
    trouble = await _bounded(send_all(crowd.place, unhurried(requests), sent, connections))
    until = await until_last_ended(crowd, sent.owner, END_WITHIN_S)
    await asyncio.sleep(PROJECTED_WITHIN_S)
    spent = costs.per_order(len(sent.due))
    statuses, waited = await listed_ends(crowd, sent.owner, END_WITHIN_S)
    # Others may end after the last ones; how long that was is seen by asking again and again.
    until = now() if waited else until
    return {
        "size": size,
        "orders": orders,
        "connections": connections,
        "accepted_per_s": per_second(len(sent.due), sent.last_answer - began),
        "completed_per_s": per_second(statuses["CONFIRMED"], until - began),
        "post_ms": latencies_ms(sent.answered_after),
        **_outcomes(sent, statuses, trouble),
        **spent,
    }


async def watched(crowd: Crowd, cpu: CpuMeter, *, orders: int, connections: int) -> Result:
    """`throughput`, with a socket of every user on which all the events of all orders arrive.

    Raises:
        OSError: nobody listens.
        WatchLost: a socket was refused.
    """
    async with watching(crowd) as watch:
        sent, costs, began = Sent(), Costs(cpu), now()
        sending = send_all(crowd.place, unhurried(crowd.requests(orders)), sent, connections)
        trouble = await _bounded(_seen_to_end(watch, sending, sent))
        ends = _ends(watch, sent)
        until = max((end.at for end in ends.values()), default=now())
        await asyncio.sleep(PROJECTED_WITHIN_S)
        statuses = Counter(end.status for end in ends.values())
        return {
            "orders": orders,
            "connections": connections,
            "completed_per_s": per_second(statuses["CONFIRMED"], until - began),
            "messages": watch.messages,
            **_outcomes(sent, statuses, trouble),
            **costs.per_order(len(sent.due)),
        }


async def latency(
    crowd: Crowd, cpu: CpuMeter, *, rate: float, seconds: float, connections: int, socket_each: bool = False
) -> Result:
    """Open loop: orders at fixed times. Everything counts from when an order was due, not from when it could be sent.

    `socket_each`: a WebSocket for each order once it is accepted, instead of one for each user.

    Raises:
        OSError: nobody listens.
        WatchLost: a user's socket was refused.
    """
    if socket_each:
        return await _opened(crowd, cpu, Watch(), rate, seconds, connections, each=True)
    async with watching(crowd) as watch:
        return await _opened(crowd, cpu, watch, rate, seconds, connections, each=False)


async def _opened(
    crowd: Crowd, cpu: CpuMeter, watch: Watch, rate: float, seconds: float, connections: int, *, each: bool
) -> Result:
    watchers: set[asyncio.Task[None]] = set()

    def watch_each(order_id: str, owner: int) -> None:
        watchers.add(asyncio.create_task(watch_order(watch, crowd.place, crowd.users[owner].token, order_id)))

    start = now() + LEAD_S
    dues = [start + offset for offset in schedule(rate, seconds)]
    sent, costs = Sent(on_accepted=watch_each if each else None), Costs(cpu)
    requests = zip(dues, crowd.requests(len(dues)), strict=True)
    sending = send_all(crowd.place, requests, sent, connections)
    trouble = await _bounded(_seen_to_end(watch, sending, sent), seconds)
    await asyncio.sleep(PROJECTED_WITHIN_S)
    ends = _ends(watch, sent)
    took = [end.at - sent.due[order] for order, end in ends.items() if end.status == "CONFIRMED"]
    return {
        "orders": len(dues),
        "rate_per_s": rate,
        "post_ms": latencies_ms(sent.answered_after),
        "confirmed_ms": latencies_ms(took),
        "sent_late_ms": latencies_ms(sent.sent_late),
        "curves": {"to 202": curve_ms(sent.answered_after), "to CONFIRMED": curve_ms(took)},
        **_outcomes(sent, Counter(end.status for end in ends.values()), trouble),
        **costs.per_order(len(sent.due)),
    }


async def _seen_to_end(watch: Watch, sending: Any, sent: Sent) -> None:
    await sending
    await watch.until_ended(sent.due.keys())


async def _bounded(work: Any, longer_s: float = 0) -> str:
    """What kept the work from its end, else ""."""
    try:
        async with asyncio.timeout(END_WITHIN_S + longer_s):
            await work
    except TimeoutError:
        return f"not all had ended after {END_WITHIN_S + longer_s:g} s"
    except WatchLost as error:
        return str(error)
    return ""


def _ends(watch: Watch, sent: Sent) -> dict[str, End]:
    return {order_id: watch.ends[order_id] for order_id in sent.due if order_id in watch.ends}


def _outcomes(sent: Sent, statuses: Mapping[str, int], trouble: str) -> Result:
    return {
        "accepted": len(sent.due),
        "ended": dict(statuses),
        "not_ended": len(sent.due) - sum(statuses.values()),
        "refused": dict(sent.errors),
        "trouble": trouble,
    }


Timed = Iterator[tuple[float | None, Request]]


def unhurried(requests: list[Request]) -> Timed:
    """Each as soon as somebody is free to send it."""
    return ((None, request) for request in requests)


async def send_all(place: Place, requests: Timed, sent: Sent, connections: int) -> None:
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


async def _send(line: Connection, requests: Timed, sent: Sent) -> None:
    """One connection's share: whoever is free takes the next request, and waits for its time."""
    for due, request in requests:
        if due is None:
            due = now()  # noqa: PLW2901 - due is when it is sent
        elif (early_s := due - now()) > 0:
            await asyncio.sleep(early_s)
        sent.sent_late.append(now() - due)
        try:
            sent.took(due, request, await line.ask(request.data))
        except (OSError, NotHttp) as error:
            sent.errors[type(error).__name__] += request.orders
            return
