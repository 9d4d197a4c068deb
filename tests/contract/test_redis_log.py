"""What the log over Redis promises beyond what every log does."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis.exceptions import NoScriptError

from libs.events import redis_client, redis_commit
from libs.events.errors import LogMismatch, LogUnavailable
from libs.events.ids import partition_of
from libs.events.log import Committed, Idempotency
from libs.events.model import OrderCancelled
from libs.events.redis_log import RedisLog, open_redis_log
from libs.events.redis_node import Commands
from tests.builders import a_request, then
from tests.contract.event_log_rig import new_redis_log

PARTITIONS = 4


async def requested(log: RedisLog, user: str) -> None:
    step, _ = a_request(PARTITIONS, user)
    assert isinstance(await log.commit(step), Committed)


async def test_commits_survive_a_redis_that_forgot_its_scripts(redis_url: str) -> None:
    async with open_redis_log(redis_url, PARTITIONS) as log:
        await log.start(create=True)
        await requested(log, "user-1")
        for reply in await log._redis.send([["SCRIPT", "FLUSH"]]):
            assert reply in (b"OK", "OK")
        await requested(log, "user-1")


async def test_who_was_answered_is_not_told_of_a_connection_that_broke_later(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scripts are forgotten between the calls for two partitions, and the second try finds Redis away."""
    async with new_redis_log(redis_url, PARTITIONS) as log:
        send, sent = log._redis.send, 0

        async def troubled(commands: Commands) -> list[Any]:
            nonlocal sent
            sent += 1
            if sent > 1:
                raise LogUnavailable("away")
            assert callable(commands)
            missing = [NoScriptError() for _ in commands("")[1:]]
            return [*await send(lambda run: commands(run)[:1]), *missing]

        monkeypatch.setattr(log._redis, "send", troubled)
        steps = sorted([a_request(PARTITIONS, f"user-{n}")[0] for n in range(8)], key=lambda step: step.order_id[-3:])
        outcomes = await log.commit_many(steps)
        monkeypatch.undo()
        for step, outcome in zip(steps, outcomes, strict=True):
            assert isinstance(outcome, Committed) == (await log.find(step.order_id) is not None)
        assert {type(outcome) for outcome in outcomes} == {Committed, LogUnavailable}


async def test_concurrent_commits_share_calls(redis_url: str) -> None:
    """Group commit: many steps at once take far fewer calls than steps."""
    async with open_redis_log(redis_url, PARTITIONS) as log:
        await log.start(create=True)
        before = await calls_of_scripts(log)
        await asyncio.gather(*(requested(log, f"user-{number}") for number in range(400)))

        assert await calls_of_scripts(log) - before < 40


async def calls_of_scripts(log: RedisLog) -> int:
    [info] = await log._redis.send([["INFO", "commandstats"]])
    text = info.decode() if isinstance(info, bytes) else info
    lines = [line for line in text.splitlines() if line.startswith("cmdstat_evalsha:")]
    return int(lines[0].split("calls=")[1].split(",")[0]) if lines else 0


async def test_who_no_longer_waits_for_his_step_holds_up_no_other(redis_url: str) -> None:
    """A client that left, a handler out of time: the step of each is on its way, in one call with those of others."""
    async with new_redis_log(redis_url, 1) as log:
        steps = [a_request(1)[0] for _ in range(10)]
        waiting = [asyncio.create_task(log.commit(step)) for step in steps]
        await asyncio.sleep(0)  # all are handed in
        waiting[3].cancel()
        outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 30)
        assert [type(outcome) for outcome in outcomes] == [Committed] * 3 + [asyncio.CancelledError] + [Committed] * 6
        assert [await log.version(step.order_id) for step in steps] == [1] * 10


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ([["SET", "{key}", "no hash"]], LogUnavailable),
        ([["HSET", "{key}", "version", "2", "OrderRequested", "no event"]], LogMismatch),
    ],
    ids=["another type", "no state"],
)
async def test_an_order_whose_key_is_damaged_holds_up_no_other(
    redis_url: str, damage: list[list[str]], told: type[Exception]
) -> None:
    async with new_redis_log(redis_url, 1) as log:
        steps = [a_request(1)[0] for _ in range(3)]
        key = log._keys[0].order(steps[1].order_id)
        await log._redis.send([[word.format(key=key) for word in command] for command in damage])
        outcomes = await asyncio.wait_for(log.commit_many(steps), 30)
        assert [type(outcome) for outcome in outcomes] == [Committed, told, Committed]
        assert (await log.tip(0)).position == 2


async def test_what_is_kept_of_an_ended_order_and_its_key_goes_after_a_day(redis_url: str) -> None:
    async with new_redis_log(redis_url, PARTITIONS) as log:
        step, made = a_request(PARTITIONS, "user-1", idempotency=Idempotency("key-1", "print"))
        await log.commit(step)
        keys = log._keys[partition_of(step.order_id)]
        names = [keys.order(step.order_id), keys.idempotency("user-1", "key-1"), keys.recent("user-1")]

        async def left_h() -> list[int]:
            return [round(ms / 3_600_000) for ms in await log._redis.send([["PTTL", name] for name in names])]

        assert await left_h() == [0, 24, 24], "an order under way has no end"
        await log.commit(then(made, OrderCancelled(requested_by="client"), source="gateway")[0])
        assert await left_h() == [24, 24, 24]


async def test_an_unreachable_redis_is_said_to_be_unavailable() -> None:
    async with open_redis_log("redis://127.0.0.1:1/0", PARTITIONS) as log:
        with pytest.raises(LogUnavailable):
            await log.start(create=True)


async def test_all_who_wait_for_a_silent_redis_wait_for_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tried to connect by himself, after all those before him had."""
    monkeypatch.setattr(redis_client, "CONNECT_TIMEOUT_S", 0.3)
    async with await asyncio.start_server(_says_nothing, "127.0.0.1", 0) as silent, asyncio.timeout(3):
        port = silent.sockets[0].getsockname()[1]
        async with open_redis_log(f"redis://127.0.0.1:{port}/0", PARTITIONS) as log:
            for _ in range(2):
                order_ids = [a_request(PARTITIONS)[0].order_id for _ in range(20)]
                answers = await asyncio.gather(*map(log.find, order_ids), return_exceptions=True)
                assert {type(answer) for answer in answers} == {LogUnavailable}


async def test_however_many_steps_wait_for_a_silent_redis_they_wait_for_it_once(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each hundred of them tried to connect by itself, after all those before it had."""
    tried = 0

    async def silent(_: Any) -> None:
        nonlocal tried
        tried += 1
        await asyncio.sleep(0.01)
        raise LogUnavailable("silent")

    async with new_redis_log(redis_url, PARTITIONS) as log:
        monkeypatch.setattr(redis_client, "wired", silent)
        log._redis._first.pipe._wire.end()  # type: ignore[union-attr]  # it is connected
        outcomes = await log.commit_many([a_request(PARTITIONS)[0] for _ in range(450)])
        assert {type(outcome) for outcome in outcomes} == {LogUnavailable}
        assert tried == 1
        monkeypatch.undo()
        assert isinstance(await log.commit(a_request(PARTITIONS)[0]), Committed)


async def _says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def test_another_number_of_partitions_is_refused(redis_url: str) -> None:
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(open_redis_log(redis_url, PARTITIONS))
        await log.start(create=True)
        other = await stack.enter_async_context(open_redis_log(redis_url, PARTITIONS - 1))
        with pytest.raises(Exception, match="set PARTITIONS to match"):
            await other.start()


async def test_steps_that_wait_for_redis_are_bounded(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_commit, "STEPS_WAITING_MAX", 20)
    async with new_redis_log(redis_url, 1) as redis_log:
        steps = [a_request(1)[0] for _ in range(50)]
        outcomes = await asyncio.gather(*map(redis_log.commit, steps), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, LogUnavailable)]
    assert len(refused) == 30
    assert "20 steps wait for Redis already" in str(refused[0])
    assert sum(isinstance(outcome, Committed) for outcome in outcomes) == 20


async def test_of_many_steps_those_that_found_room_are_said_to_be_written(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_commit, "STEPS_WAITING_MAX", 20)
    async with new_redis_log(redis_url, 1) as redis_log:
        outcomes = await redis_log.commit_many([a_request(1)[0] for _ in range(30)])
        written = (await redis_log.tip(0)).position
    assert [type(outcome) for outcome in outcomes] == [Committed] * 20 + [LogUnavailable] * 10
    assert written == 20
