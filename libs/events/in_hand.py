"""What a worker has in hand: the items it was given and has not finished, each with the task that works on it."""

import asyncio
from collections.abc import Collection, Coroutine, Sequence
from contextlib import suppress

from libs.events.work import Item


class InHand:
    """Room for so many items; those claimed from others may come on top."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[tuple[int, str], tuple[Item, asyncio.Task[None]]] = {}
        self._ended = asyncio.Event()

    def __contains__(self, item: Item) -> bool:
        return (item.partition, item.id) in self._held

    def items(self) -> list[Item]:
        return [item for item, _ in self._held.values()]

    def room(self) -> int:
        """For how many more; none if it is not positive."""
        return self._most - len(self._held)

    async def until_an_end(self, seconds_max: float) -> None:
        """Wait until some work ends, whether that makes room or shows that there is none to be made."""
        self._ended.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds_max):
                await self._ended.wait()

    def start(self, items: Sequence[Item], work: Coroutine[None, None, None]) -> None:
        """Have the items in hand until this work on them ends, or other work on them is started."""
        task = asyncio.create_task(work)
        for item in items:
            self._held[item.partition, item.id] = (item, task)
        task.add_done_callback(lambda _: self._end(items, task))

    def _end(self, items: Sequence[Item], task: asyncio.Task[None]) -> None:
        for item in items:
            place = (item.partition, item.id)
            # What was left of a group has a task of its own by now.
            if self._held.get(place, (None, None))[1] is task:
                del self._held[place]
        self._ended.set()

    async def drain(self, seconds: float) -> list[Item]:
        """Finish what is in hand; what is not done in time stays pending and is taken up at the next start: these."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        # Again, because what is left of a group goes on in tasks of its own.
        while (tasks := self._tasks()) and (left := deadline - loop.time()) > 0:
            await asyncio.wait(tasks, timeout=left)
        late = self.items()
        await self.drop()
        return late

    async def drop(self) -> None:
        """Let everything go, unfinished."""
        await _cancel(self._tasks())

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [task for _, task in self._held.values()]


async def _cancel(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
