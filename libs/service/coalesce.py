"""Many callers, few calls: what arrives while a call is in flight leaves together in the next one."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


async def each(calls: Iterable[Awaitable[Out]]) -> list[Out | Exception]:
    """All calls at once; what one raises is its own result, as `Coalescer` wants it."""
    calls = list(calls)
    if len(calls) == 1:
        try:
            return [await calls[0]]
        except Exception as error:
            return [error]
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, Exception):
            raise result
    return [result for result in results if not isinstance(result, BaseException) or isinstance(result, Exception)]


class Coalescer(Generic[In, Out]):
    """Turns single submits into batched calls.

    Low load: one item per call, no added delay. High load: batches of up to `batch_max`. `call` gives one result per
    item, in order; a result that is an exception is raised to its own caller only.
    """

    def __init__(
        self,
        call: Callable[[list[In]], Awaitable[Sequence[Out | Exception]]],
        batch_max: int,
        in_flight_max: int = 1,
        weight: Callable[[In], int] | None = None,
    ) -> None:
        """`weight`: what an item counts towards `batch_max`; an item that exceeds it alone makes a call of its own."""
        self._call, self._batch_max, self._in_flight_max = call, batch_max, in_flight_max
        self._weight = weight
        self._waiting: deque[tuple[In, asyncio.Future[Out]]] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        # A batch serves many callers: what it logs must not carry the first caller's order.
        self._context = contextvars.copy_context()

    async def submit(self, item: In) -> Out:
        """The result for `item`. A caller that is cancelled leaves the others' results as they are.

        Raises:
            Exception: whatever `call` raised, or gave for this item.
        """
        return await self.enqueue(item)

    def enqueue(self, item: In) -> asyncio.Future[Out]:
        """`submit` for those who wait for many."""
        result = self._wait_for(item)
        self._start_calls()
        return result

    async def gather(self, items: Iterable[In], timeout_s: float) -> list[Out | Exception]:
        """`submit` for all of them; what one would raise, or TimeoutError after so many seconds, is its own result."""
        waiting = [self._wait_for(item) for item in items]
        self._start_calls()  # with all of them there: they share a call
        too_late = asyncio.get_running_loop().call_later(timeout_s, _give_up, waiting)
        try:
            outcomes = [await self._outcome(result) for result in waiting]
        finally:
            too_late.cancel()
            for result in waiting:
                result.cancel()  # if it is still to come, nobody waits for it any more
        return outcomes

    async def _outcome(self, result: asyncio.Future[Out]) -> Out | Exception:
        """What came, or the error in its place."""
        try:
            return await result
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task and task.cancelling():
                raise
            return TimeoutError()  # everything is being closed
        except Exception as error:
            return error

    async def aclose(self) -> None:
        """End the calls in flight; everybody still waiting is cancelled."""
        for _item, result in self._waiting:
            result.cancel()
        self._waiting.clear()
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    def _wait_for(self, item: In) -> asyncio.Future[Out]:
        result: asyncio.Future[Out] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, result))
        return result

    def _start_calls(self) -> None:
        while len(self._calls) < self._in_flight_max and (batch := self._next_batch()):
            task = asyncio.get_running_loop().create_task(self._run(batch), context=self._context)
            self._calls.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self._start_calls()

    def _next_batch(self) -> list[tuple[In, asyncio.Future[Out]]]:
        batch: list[tuple[In, asyncio.Future[Out]]] = []
        weight, left = self._weight, self._batch_max
        while self._waiting and left > 0:
            item, result = self._waiting[0]
            if not result.done():
                left -= weight(item) if weight else 1
                if left < 0 and batch:
                    break
                batch.append((item, result))
            # Else its caller gave up while it waited.
            self._waiting.popleft()
        return batch

    async def _run(self, batch: list[tuple[In, asyncio.Future[Out]]]) -> None:
        try:
            outs = await self._call([item for item, _result in batch])
            if len(outs) != len(batch):
                raise RuntimeError(f"a call with {len(batch)} items gave {len(outs)} results")
        except asyncio.CancelledError:
            for _item, result in batch:
                result.cancel()
            raise
        except Exception as error:  # handed to everybody who waits for this call
            outs = [error] * len(batch)
        for (_item, result), out in zip(batch, outs, strict=True):
            if result.done():
                continue
            if isinstance(out, Exception):
                result.set_exception(out)
            else:
                result.set_result(out)


def _give_up(waiting: Iterable[asyncio.Future[Out]]) -> None:
    for result in waiting:
        if not result.done():
            result.set_exception(TimeoutError())
