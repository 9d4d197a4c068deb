"""The log stays small, and nobody misses what left it."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
import pytest
from structlog.testing import capture_logs

from libs.events.errors import PositionGap, Trimmed
from libs.events.ids import START, Position, partition_of
from libs.events.log import Committed, Entry
from libs.events.memory_log import MemoryLog
from libs.events.redis_log import RedisLog, open_redis_log
from libs.events.upkeep import READER_EXPIRES_S, Pressure, Reader
from libs.orders.archived import ArchivedReads
from services.projector import janitor
from services.projector.janitor import Janitor, keep_from
from tests.builders import a_request
from tests.contract.event_log_rig import new_redis_log

PARTITIONS = 2
NOTHING_S = -1.0  # entries are older than a second from now: none is kept for its age
MIB = 1024 * 1024

AnyLog = MemoryLog | RedisLog


@pytest.fixture
async def log(log_url: str) -> AsyncIterator[AnyLog]:
    if not log_url:
        yield MemoryLog(PARTITIONS)
        return
    async with open_redis_log(log_url, PARTITIONS) as redis_log:
        # Pages of ten entries, so that trimming by whole pages shows in a short log.
        await redis_log._redis.send([["FLUSHALL"], ["CONFIG", "SET", "stream-node-max-entries", 10]])
        await redis_log.start(create=True)
        yield redis_log
        await redis_log._redis.send([["CONFIG", "SET", "stream-node-max-entries", 100]])


class Archive:
    """Everything that was in the log when it was asked."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries

    async def archived(self, partition: int, after: int, count: int) -> list[Entry]:
        mine = [entry for entry in self.entries if entry.partition == partition and entry.at.position > after]
        return mine[:count]


async def filled(log: AnyLog, count: int) -> tuple[int, list[Entry]]:
    for _ in range(count):
        step, made = a_request(PARTITIONS)
        assert isinstance(await log.commit(step), Committed)
    partition = partition_of(made.order.id)
    return partition, await log.read({partition: START}, count, 0)


async def test_what_is_older_goes_and_what_is_asked_for_stays(log: AnyLog) -> None:
    partition, entries = await filled(log, 55)
    gone = await log.trim(partition, entries[32].at)
    assert 30 <= gone <= 32, "by whole pages, and never more than asked for"
    assert (await log.read({partition: entries[gone - 1].at}, 100, 0)) == entries[gone:]
    assert await log.tip(partition) == entries[-1].at
    with pytest.raises(Trimmed) as trimmed:
        await log.read({partition: START}, 100, 0)
    assert (trimmed.value.expected, trimmed.value.found) == (1, gone + 1)


async def test_however_much_is_older_goes_at_once(log: AnyLog) -> None:
    """Redis by itself drops a hundred pages for each call, which a busy or a long log outgrows."""
    steps = [a_request(PARTITIONS, "user-1")[0] for _ in range(1_300)]
    await log.commit_many(steps)
    partition = partition_of(steps[0].order_id)
    entries = await log.read({partition: START}, 2_000, 0)
    assert 1_280 <= await log.trim(partition, entries[-1].at) < 1_300


async def test_a_reader_of_the_archive_does_not_notice(log: AnyLog) -> None:
    partition, entries = await filled(log, 55)
    await log.trim(partition, entries[40].at)
    both, at, read = ArchivedReads(log, Archive(entries)), START, list[Entry]()
    while page := await both.read({partition: at, 1 - partition: START}, 7, 0):
        read += page
        at = page[-1].at
    assert read == entries


async def test_a_hole_in_both_is_told(log: AnyLog) -> None:
    partition, entries = await filled(log, 55)
    await log.trim(partition, entries[40].at)
    with pytest.raises(PositionGap):
        await ArchivedReads(log, Archive(entries[5:])).read({partition: START}, 7, 0)


async def test_registered_readers_are_known_until_they_are_forgotten(log: AnyLog) -> None:
    at = {0: Position(7, 3), 1: START}
    await log.register_reader("integrator", at)
    found = await log.readers()
    assert {(reader.name, reader.partition, reader.at) for reader in found} == {
        ("integrator", 0, Position(7, 3)),
        ("integrator", 1, START),
    }
    assert all(reader.silent_s < READER_EXPIRES_S for reader in found)
    await log.forget_reader(found[0])
    assert len(await log.readers()) == 1


def test_the_slowest_of_archive_readers_and_floor_decides() -> None:
    archived, floor = Position(1_000, 100), 900
    slow, gone = Reader("slow", 0, Position(800, 50), 1), Reader("gone", 0, Position(1, 1), READER_EXPIRES_S + 1)
    assert keep_from(archived, [], 2_000) == archived
    assert keep_from(archived, [], floor) == Position(900, 0)
    assert keep_from(archived, [slow, gone], floor) == slow.at


async def test_an_endless_run_stays_small(log: AnyLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janitor, "SWEEP_EVERY_S", 0)
    sweeper = Janitor(log, keep_s=NOTHING_S, memory_max_bytes=1_024 * MIB)
    held: list[int] = []
    for _ in range(6):
        partition, _ = await filled_on(log, 40)
        await sweeper.sweep({partition: await log.tip(partition)})
        held.append(await kept(log, partition))
    assert max(held) <= 20, held


async def test_what_a_reader_needs_stays_and_an_expired_one_is_forgotten(
    log: AnyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "SWEEP_EVERY_S", 0)
    sweeper = Janitor(log, keep_s=NOTHING_S, memory_max_bytes=1_024 * MIB)
    partition, entries = await filled(log, 55)
    await log.register_reader("slow", {partition: entries[3].at})
    await sweeper.sweep({partition: entries[-1].at})
    assert await log.read({partition: entries[3].at}, 100, 0) == entries[4:]

    monkeypatch.setattr(janitor, "READER_EXPIRES_S", -1)
    await sweeper.sweep({partition: entries[-1].at})
    assert await log.readers() == []
    assert await kept(log, partition) <= 10


async def test_a_full_redis_keeps_no_more_than_the_resume_window(log: AnyLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janitor, "SWEEP_EVERY_S", 0)
    partition, entries = await filled(log, 55)
    await Janitor(log, keep_s=3_600, memory_max_bytes=0).sweep({partition: entries[-1].at})
    assert await kept(log, partition) == 55, "the window is a minute"
    monkeypatch.setattr(janitor, "RESUME_WINDOW_S", NOTHING_S)
    await Janitor(log, keep_s=3_600, memory_max_bytes=10**15).sweep({partition: entries[-1].at})
    assert await kept(log, partition) == 55, "there is room"
    await Janitor(log, keep_s=3_600, memory_max_bytes=0).sweep({partition: entries[-1].at})
    assert await kept(log, partition) <= 10


async def test_who_registers_while_the_janitor_works_keeps_what_he_needs(
    log: AnyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "SWEEP_EVERY_S", 0)
    partition, entries = await filled(log, 55)
    pressure = log.pressure

    async def meanwhile() -> Pressure:
        await log.register_reader("late", {partition: entries[3].at})
        return await pressure()

    monkeypatch.setattr(log, "pressure", meanwhile)
    sweeper = Janitor(log, keep_s=NOTHING_S, memory_max_bytes=1_024 * MIB)
    await sweeper.sweep({partition: entries[-1].at})
    assert await log.read({partition: entries[3].at}, 100, 0) == entries[4:]


async def test_a_reader_that_speaks_again_is_not_forgotten(log: AnyLog) -> None:
    await log.register_reader("slow", {0: START})
    [reader] = await log.readers()
    await log.forget_reader(replace(reader, silent_s=READER_EXPIRES_S + 1))
    assert [one.name for one in await log.readers()] == ["slow"], "it was silent when it was looked at, and is not now"
    await log.forget_reader(reader)
    assert await log.readers() == []


async def test_what_others_wrote_among_the_readers_stops_no_trimming(redis_url: str) -> None:
    async with new_redis_log(redis_url, PARTITIONS) as log:
        partition, entries = await filled(log, 3)
        readers = log._keys[partition].readers
        odd = ("", "7", "null", "[]", '{"at": 7, "seen": 1}', '{"at": "x", "seen": 9e99}', '{"at": "1-1", "seen": {}}')
        await log._redis.send([["HSET", readers, f"odd-{n}", value] for n, value in enumerate(odd)])
        assert await log.trim(partition, entries[-1].at) >= 0
        await log.register_reader("sound", {partition: START})
        assert [reader.name for reader in await log.readers()] == ["sound"]


async def test_who_was_registered_before_the_clock_went_back_is_silent_all_the_same(redis_url: str) -> None:
    async with new_redis_log(redis_url, PARTITIONS) as log:
        partition, entries = await filled(log, 3)
        in_a_year = f'{{"at":"{entries[0].at}","seen":{time.time() + 31_536_000:.0f}}}'
        readers = log._keys[partition].readers
        await log._redis.send([["HSET", readers, "gone", in_a_year]])
        await log.trim(partition, entries[-1].at)
        [reader] = await log.readers()
        assert (reader.name, reader.at) == ("gone", entries[0].at)
        [[_, said]] = await log._redis.send([["HGETALL", readers]])
        assert orjson.loads(said)["seen"] <= time.time() + 1


async def test_the_age_of_entries_is_told_by_the_clock_that_stamped_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janitor, "SWEEP_EVERY_S", 0)
    for skew_ms in (-3_600_000, 3_600_000):
        now_ms = time.time_ns() // 1_000_000 + skew_ms
        log = MemoryLog(PARTITIONS, lambda stamp=now_ms: stamp)  # type: ignore[misc]
        partition, entries = await filled(log, 5)
        await Janitor(log, keep_s=1, memory_max_bytes=10**15).sweep({partition: entries[-1].at})
        assert await kept(log, partition) == 5
        await Janitor(log, keep_s=NOTHING_S, memory_max_bytes=10**15).sweep({partition: entries[-1].at})
        assert await kept(log, partition) == 1


async def filled_on(log: AnyLog, count: int) -> tuple[int, Position]:
    for _ in range(count):
        step, made = a_request(PARTITIONS)
        assert isinstance(await log.commit(step), Committed)
    partition = partition_of(made.order.id)
    return partition, await log.tip(partition)


async def kept(log: AnyLog, partition: int) -> int:
    tip = await log.tip(partition)
    try:
        return len(await log.read({partition: START}, 10_000, 0))
    except Trimmed as trimmed:
        return tip.position - trimmed.found + 1


async def test_operators_hear_once_that_redis_is_nearly_full_and_once_that_it_has_room(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "SWEEP_EVERY_S", 0)
    async with new_redis_log(redis_url, PARTITIONS) as log:
        sweeper = Janitor(log, keep_s=900, memory_max_bytes=int((await log.pressure()).memory_bytes * 1.1))
        with capture_logs() as said:
            await sweeper.sweep({})
            await sweeper.sweep({})
            sweeper._memory_max_bytes = 10**15
            await sweeper.sweep({})
            await sweeper.sweep({})
    told = [line["log_level"] for line in said if line["event"].startswith("redis ")]
    assert told == ["warning", "info"]
