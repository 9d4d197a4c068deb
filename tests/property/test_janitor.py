"""Whatever writers, readers and the janitor do in whatever order: nobody who is registered misses an entry."""

import asyncio
import random
from collections.abc import Iterator

import pytest

from libs.events.errors import Trimmed
from libs.events.ids import START, Position
from libs.events.log import Committed
from libs.events.memory_log import MemoryLog
from libs.events.upkeep import READER_EXPIRES_S
from services.projector import janitor
from services.projector.janitor import Janitor
from tests.builders import a_request

SEEDS = 150
STEPS = 120
READERS = ("slow", "quick", "replay")
KEEP_S = 30


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(janitor, "SWEEP_EVERY_S", 0)
        yield


class World:
    """One partition, a clock that a seed moves, and readers that speak when a seed lets them."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now_ms = 1_000_000_000
        self.log = MemoryLog(1, lambda: self.now_ms)
        self.sweeper = Janitor(self.log, keep_s=KEEP_S, memory_max_bytes=2**40)
        self.at: dict[str, Position] = {}
        self.spoke_ms: dict[str, int] = {}
        self.archived = START

    async def write(self) -> None:
        for _ in range(self.chance.randrange(1, 5)):
            step, _ = a_request(1)
            assert isinstance(await self.log.commit(step), Committed)

    async def archive(self) -> None:
        tip = await self.log.tip(0)
        entries = await self.log.read({0: self.archived}, self.chance.randrange(1, 10), 0)
        self.archived = entries[-1].at if entries else min(self.archived, tip)

    async def read(self) -> None:
        name = self.chance.choice(READERS)
        entries = await self.log.read({0: self.at[name]}, 3, 0) if name in self.at else []
        if entries:
            self.at[name] = entries[-1].at
        await self.speak(name)

    async def join(self) -> None:
        """At any place that is still there, or goes back to one."""
        name = self.chance.choice(READERS)
        first = self.log._parts[0].first
        entries = self.log._parts[0].entries[max(0, first - 1) :]
        self.at[name] = self.chance.choice(entries).at if entries else START
        await self.speak(name)

    async def speak(self, name: str) -> None:
        if name in self.at:
            await self.log.register_reader(name, {0: self.at[name]})
            self.spoke_ms[name] = self.now_ms

    async def sweep(self) -> None:
        await self.sweeper.sweep({0: self.archived})

    async def wait(self) -> None:
        self.now_ms += self.chance.choice((10, 1_000, 20_000, 70_000))

    async def holds(self) -> None:
        for name, at in list(self.at.items()):
            silent_s = (self.now_ms - self.spoke_ms[name]) / 1_000
            try:
                await self.log.read({0: at}, 1, 0)
            except Trimmed:
                # It may have been forgotten at any moment since it was silent for too long.
                assert silent_s > READER_EXPIRES_S, (name, at, silent_s)
                del self.at[name]
        await self.log.read({0: self.archived}, 1, 0)  # what is not archived is never gone


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_a_registered_reader_needs_is_there(seed: int) -> None:
    async def run() -> None:
        world = World(seed)
        acts = (world.write, world.archive, world.read, world.join, world.sweep, world.wait)
        for _ in range(STEPS):
            await world.chance.choice(acts)()
            await world.holds()
        # Everybody silent, everything archived: the dead hold nothing back.
        world.now_ms += (READER_EXPIRES_S + KEEP_S + 1) * 1_000
        world.archived = await world.log.tip(0)
        await world.sweep()
        assert len(world.log._parts[0].entries) - world.log._parts[0].first + 1 <= 1
        assert await world.log.readers() == []

    asyncio.run(run())
