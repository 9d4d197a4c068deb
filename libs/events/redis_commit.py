"""Group commit: while one script call is in flight, the next batch collects."""

import asyncio
from collections import deque
from collections.abc import Iterable
from hashlib import sha1
from itertools import islice
from pathlib import Path
from typing import Any

from redis.exceptions import NoScriptError, ResponseError

from libs.events.crash import crossing
from libs.events.errors import EventLogError, LogMismatch, LogReplaced, LogUnavailable, OutcomeUnknown
from libs.events.ids import Position, partition_of
from libs.events.log import (
    STEPS_PER_COMMIT_MAX,
    STEPS_WAITING_MAX,
    Committed,
    Conflict,
    Duplicate,
    NotYours,
    Outcome,
    Step,
    TooManyOpen,
)
from libs.events.reactions import TERMINAL, delay_ms, next_actor
from libs.events.record import snapshot
from libs.events.redis_client import FENCED, Pipe, as_dict, translate
from libs.events.redis_keys import Keys
from libs.events.redis_node import Node
from libs.events.redis_nodes import Nodes


class Script:
    """A Lua file, called by its digest; Redis forgets scripts when it restarts, so the text may have to follow."""

    def __init__(self, name: str) -> None:
        self.text = (Path(__file__).parent / name).read_text()
        # Not security: Redis names scripts by SHA-1.
        self.digest = sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def call(self, pipe: Pipe | Nodes, calls: list[tuple[list[str], list[Any]]]) -> list[Any]:
        """Run the script once for each (keys, arguments), in one round trip; error replies are raised or returned.

        The run of Redis it is meant for goes before the arguments.
        """

        def commands(run: str) -> list[list[Any]]:
            return [["EVALSHA", self.digest, len(keys), *keys, run, *args] for keys, args in calls]

        replies = await pipe.send(commands)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            # A missing script ran nothing, so running it again is no repetition.
            again = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            try:
                await pipe.send([["SCRIPT", "LOAD", self.text]])
                second = await pipe.send(lambda run: [commands(run)[index] for index in again])
            except LogUnavailable as error:
                second = [error] * len(again)  # the others have their answers
            for index, reply in zip(again, second, strict=True):
                replies[index] = reply
        return replies


COMMIT = Script("commit.lua")


class GroupCommit:
    """Steps of one process on their way: at most one call in flight, with up to 100 steps of each partition.

    On a cluster one for each node: none waits for another.
    """

    def __init__(self, redis: Nodes, keys: list[Keys], epoch: str) -> None:
        self._redis, self._keys, self._epoch = redis, keys, epoch
        self._waiting: list[deque[tuple[Step, asyncio.Future[Outcome]]]] = [deque() for _ in keys]
        self._flushing: dict[Node | None, asyncio.Task[None]] = {}

    def submit(self, step: Step) -> asyncio.Future[Outcome]:
        """See `Commits.commit`.

        Raises:
            LogUnavailable: too many wait already.
        """
        partition = partition_of(step.order_id)
        waiting = self._waiting[partition]
        if len(waiting) >= STEPS_WAITING_MAX:
            raise LogUnavailable(f"{len(waiting)} steps wait for Redis already")
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        waiting.append((step, done))
        self._begin(partition)
        return done

    def _begin(self, partition: int) -> None:
        node = self._node_of(partition)
        if node not in self._flushing:
            self._flushing[node] = asyncio.create_task(self._flush(node))

    def _node_of(self, partition: int) -> Node | None:
        return self._redis.place_of(self._keys[partition].log)

    async def _flush(self, node: Node | None) -> None:
        try:
            while batches := self._next_batches(node):
                await self._send(batches)
        finally:
            del self._flushing[node]
            # Of a partition that moved to another node meanwhile.
            for partition, queue in enumerate(self._waiting):
                if queue:
                    self._begin(partition)

    def _next_batches(self, node: Node | None) -> dict[int, list[tuple[Step, asyncio.Future[Outcome]]]]:
        return {
            partition: [queue.popleft() for _ in range(min(len(queue), STEPS_PER_COMMIT_MAX))]
            for partition, queue in enumerate(self._waiting)
            if queue and self._node_of(partition) is node
        }

    async def _send(self, batches: dict[int, list[tuple[Step, asyncio.Future[Outcome]]]]) -> None:
        try:
            calls = [
                encode(self._keys[partition], self._epoch, [step for step, _ in batch])
                for partition, batch in batches.items()
            ]
            with crossing("log.commit"):
                replies = await COMMIT.call(self._redis, calls)
        except Exception as error:
            # Whatever it was, every waiter must hear of it.
            for batch in batches.values():
                _fail(batch, error)
            if isinstance(error, LogUnavailable) and not isinstance(error, OutcomeUnknown):
                self._give_up(batches, error)
            return
        for batch, reply in zip(batches.values(), replies, strict=True):
            _settle(batch, reply)

    def _give_up(self, partitions: Iterable[int], away: LogUnavailable) -> None:
        """There was no connection to be had: each hundred of those behind would wait for that once more."""
        for partition in partitions:
            _fail(self._waiting[partition], away)
            self._waiting[partition].clear()


def _fail(batch: Iterable[tuple[Step, asyncio.Future[Outcome]]], error: Exception) -> None:
    for _, done in batch:
        if not done.done():
            done.set_exception(error)


def _settle(batch: list[tuple[Step, asyncio.Future[Outcome]]], reply: Any) -> None:
    if isinstance(reply, Exception):
        _fail(batch, translate(reply))
        return
    if reply and reply[0] == "epoch":
        found = f"epoch {reply[1]}" if reply[1] else "none"
        _fail(batch, LogReplaced(f"the log this process opened is gone; Redis now holds: {found}"))
        return
    if reply == ["fenced"]:
        _fail(batch, LogUnavailable(FENCED))
        return
    ms = int(reply[0])
    for (step, done), answer in zip(batch, islice(reply, 1, None), strict=True):
        if done.done():
            continue
        if isinstance(answer, int):
            done.set_result(Committed(tuple(Position(ms, answer + index) for index in range(len(step.events)))))
            continue
        try:
            done.set_result(_refusal(step, answer))
        except EventLogError as error:
            done.set_exception(error)
        except ValueError as error:
            done.set_exception(LogMismatch(f"order {step.order_id}: the log's state cannot be read: {error}"))


def _refusal(step: Step, answer: list[Any]) -> Outcome:
    match answer:
        case ["conflict", flat]:
            return Conflict(snapshot(step.order_id, as_dict(flat)))
        case ["not_yours"]:
            return NotYours()
        case ["duplicate", order_id, fingerprint]:
            return Duplicate(order_id, fingerprint)
        case ["too_many", count]:
            return TooManyOpen(count)
        case ["refused", error]:
            raise translate(ResponseError(error))
    raise LogMismatch(f"commit script answered {answer!r}")


def encode(keys: Keys, epoch: str, steps: list[Step]) -> tuple[list[str], list[Any]]:
    """KEYS and ARGV of one script call; the layout is told at the head of `commit.lua`."""
    names = [keys.log, keys.meta, keys.timers]
    args: list[Any] = [epoch, len(steps)]
    for step in steps:
        last = step.events[-1] if step.events else None
        actor = next_actor(last.data) if last else None
        delay = delay_ms(last.data) if last else None
        created = step.expected_version == 0 and bool(step.events)
        ended = step.order is not None and step.order.status in TERMINAL
        names.append(keys.order(step.order_id))
        if created:
            key = step.idempotency.key if step.idempotency else ""
            names += [keys.recent(step.user), keys.idempotency(step.user, key)]
        if created or ended:
            names.append(keys.open(step.user))
        if step.item:
            names.append(keys.work(step.item.service))
        if actor:
            names.append(keys.work(actor))
        args += [
            step.expected_version,
            len(step.events),
            step.order_id,
            step.user,
            step.order.status.value if step.order else "",
            step.item.service if step.item else "",
            step.item.id if step.item else "",
            step.item.consumer if step.item else "",
            actor or "",
            -1 if delay is None else delay,
            "1" if ended else "0",
            step.idempotency.fingerprint if step.idempotency else "",
            -1 if step.open_max is None else step.open_max,
        ]
        for event in step.events:
            args += event.values()
    return names, args
