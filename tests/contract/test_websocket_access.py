"""Who may listen, to what, for how long, and how many at once."""

from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import WSMsgType, WSServerHandshakeError

from libs.events.ids import new_order_id, partition_of_user
from libs.events.memory_log import MemoryLog
from libs.service.tokens import issue_token, verify_token
from services.notifier.limits import Limits
from tests.contract.notifier_rig import (
    LIMITS,
    PARTITIONS,
    SECRET,
    UPGRADE,
    Notifier,
    closed_with,
    running,
)
from tests.waiting import eventually


async def test_a_wrong_token_in_the_header_is_refused_before_the_upgrade(notifier: Notifier) -> None:
    async with notifier.session.get(notifier.url, headers=UPGRADE | {"Authorization": "Bearer bad"}) as answer:
        problem = await answer.json(content_type="application/problem+json")
        assert (answer.status, problem["status"], problem["code"]) == (401, 401, "token_invalid")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_scheme_other_than_bearer_is_refused(notifier: Notifier) -> None:
    async with notifier.session.get(notifier.url, headers=UPGRADE | {"Authorization": "Basic YTpi"}) as answer:
        assert answer.status == 401


async def test_the_token_may_come_as_the_first_message(notifier: Notifier) -> None:
    order = await notifier.requested()
    async with notifier.connect(order_id=order.order.id) as ws:
        await notifier.sign_in(ws, "alice")
        assert (await ws.receive_json())["orders"][0]["orderId"] == order.order.id


@pytest.mark.parametrize("first", ['{"op":"auth","token":"bad"}', '{"op":"hello"}', "not json", "[]", ""])
async def test_any_other_first_message_closes_the_socket(notifier: Notifier, first: str) -> None:
    async with notifier.connect() as ws:
        await ws.send_str(first)
        assert (await closed_with(ws))[0] == 4401


async def test_a_socket_that_never_says_who_it_is_is_closed() -> None:
    async with running(MemoryLog(PARTITIONS), replace(LIMITS, auth_wait_s=0.01)) as notifier, notifier.connect() as ws:
        assert (await closed_with(ws))[0] == 4401


async def test_of_too_many_that_do_not_say_who_they_are_the_oldest_goes_and_nobody_who_does() -> None:
    limits = replace(LIMITS, sockets_max=5, strangers_max=2, auth_wait_s=60)
    async with running(MemoryLog(PARTITIONS), limits) as notifier, AsyncExitStack() as stack:
        known = [await stack.enter_async_context(notifier.connect(user)) for user in ("alice", None)]
        await notifier.sign_in(known[1], "bob")
        for one in known:
            assert (await one.receive_json())["type"] == "snapshot"
        strangers = [await stack.enter_async_context(notifier.connect()) for _ in range(2)]
        for _ in range(6):
            strangers.append(await stack.enter_async_context(notifier.connect()))
            assert (await closed_with(strangers.pop(0)))[0] == 1006
        await notifier.sign_in(strangers[0], "carol")
        assert (await strangers[0].receive_json())["type"] == "snapshot"
        for one in known:
            await one.send_json({"op": "ping"})
            assert await one.receive_json() == {"type": "pong"}


@pytest.mark.parametrize("whose", ["somebody else's", "nobody's", "malformed"])
async def test_orders_of_others_and_unknown_ones_are_one_answer(notifier: Notifier, whose: str) -> None:
    foreign = await notifier.requested("bob")
    unknown = new_order_id(partition_of_user("alice", PARTITIONS))
    order_id = {"somebody else's": foreign.order.id, "nobody's": unknown, "malformed": "../../etc"}[whose]

    headers = UPGRADE | {"Authorization": "Bearer alice"}
    async with notifier.session.get(notifier.url, headers=headers, params={"orderId": order_id}) as answer:
        problem = await answer.json(content_type="application/problem+json")
        assert (answer.status, problem["code"]) == (404, "order_not_found")
    async with notifier.connect(order_id=order_id) as ws:
        await notifier.sign_in(ws, "alice")
        assert await closed_with(ws) == (4404, "no such order")


async def test_a_plain_request_is_told_to_upgrade(notifier: Notifier) -> None:
    async with notifier.session.get(notifier.url) as answer:
        assert answer.status == 426


async def test_the_connection_ends_with_its_token() -> None:
    token = issue_token("alice", SECRET, lifetime=timedelta(seconds=2))
    async with running(MemoryLog(PARTITIONS), verify=lambda token: verify_token(token, SECRET)) as notifier:
        async with notifier.connect(token) as ws:
            assert (await ws.receive_json())["type"] == "snapshot"
            assert await closed_with(ws) == (4401, "token expired, reconnect with a new one")
        with pytest.raises(WSServerHandshakeError, match="401"):
            await notifier.session.ws_connect(notifier.url, headers={"Authorization": f"Bearer {token}"})


async def test_a_new_token_of_the_same_user_prolongs_the_connection() -> None:
    short, long = (issue_token("alice", SECRET, lifetime=timedelta(seconds=s)) for s in (2, 3600))
    async with (
        running(MemoryLog(PARTITIONS), verify=lambda token: verify_token(token, SECRET)) as notifier,
        notifier.connect(short) as ws,
    ):
        await ws.receive_json()
        await notifier.sign_in(ws, long)
        told = await ws.receive_json()
        assert told["type"] == "authenticated"
        assert datetime.fromisoformat(told["expiresAt"]) > datetime.now(UTC) + timedelta(minutes=30)
        async with notifier.connect(short) as another:
            assert (await closed_with(another))[0] == 4401, "the first token is over"
        await ws.send_json({"op": "ping"})
        assert await ws.receive_json() == {"type": "pong"}


@pytest.mark.parametrize("token", ["bob", "bad"])
async def test_a_token_of_another_user_or_of_nobody_ends_the_connection(notifier: Notifier, token: str) -> None:
    async with notifier.connect("alice") as ws:
        await ws.receive_json()
        await notifier.sign_in(ws, token)
        assert (await closed_with(ws))[0] == 4401


async def test_a_user_has_a_limited_number_of_sockets() -> None:
    async with running(MemoryLog(PARTITIONS), replace(LIMITS, sockets_per_user_max=1)) as notifier:
        async with notifier.connect("alice") as first:
            await first.receive_json()
            with pytest.raises(WSServerHandshakeError, match="429"):
                await notifier.session.ws_connect(notifier.url, headers={"Authorization": "Bearer alice"})
            async with notifier.connect() as second:
                await notifier.sign_in(second, "alice")
                assert (await closed_with(second))[0] == 4429
        async with notifier.connect() as bob:
            await notifier.sign_in(bob, "bob")
            assert (await bob.receive_json())["type"] == "snapshot"


@pytest.mark.parametrize(
    "limits", [replace(LIMITS, sockets_max=1), replace(LIMITS, sockets_per_user_max=1)], ids=["in all", "of a user"]
)
@pytest.mark.parametrize("named", [True, False], ids=["by header", "by message"])
async def test_who_leaves_makes_room(limits: Limits, named: bool) -> None:
    async with running(MemoryLog(PARTITIONS), limits) as notifier:

        async def let_in() -> bool:
            try:
                ws = await notifier.session.ws_connect(
                    notifier.url, headers={"Authorization": "Bearer alice"} if named else {}
                )
            except WSServerHandshakeError:
                return False  # the one before is not seen to have left yet
            async with ws:
                if not named:
                    await notifier.sign_in(ws, "alice")
                if (await ws.receive()).type is not WSMsgType.TEXT:
                    return False
                with pytest.raises(WSServerHandshakeError):
                    await notifier.session.ws_connect(notifier.url, headers={"Authorization": "Bearer alice"})
            return True

        for _ in range(3):
            await eventually(let_in, within_s=30)


async def test_a_full_process_sends_new_sockets_elsewhere() -> None:
    async with running(MemoryLog(PARTITIONS), replace(LIMITS, sockets_max=1)) as notifier, notifier.connect("alice"):
        with pytest.raises(WSServerHandshakeError, match="503"):
            await notifier.session.ws_connect(notifier.url, headers={"Authorization": "Bearer bob"})


async def test_who_waits_to_be_answered_has_a_place_already() -> None:
    async with running(MemoryLog(PARTITIONS), replace(LIMITS, sockets_max=1)) as notifier:
        made, answered = await notifier.requested("alice"), list[int]()

        async def meanwhile() -> None:
            async with notifier.session.get(notifier.url, headers={"Authorization": "Bearer bob", **UPGRADE}) as answer:
                answered.append(answer.status)

        notifier.views.before = meanwhile
        async with notifier.connect("alice", made.order.id) as ws:
            assert (await ws.receive_json())["type"] == "snapshot"
        assert answered == [503]


async def test_who_is_refused_leaves_his_place_to_others() -> None:
    async with running(MemoryLog(PARTITIONS), replace(LIMITS, sockets_max=1)) as notifier:
        made = await notifier.requested("alice")
        with pytest.raises(WSServerHandshakeError, match="404"):
            async with notifier.connect("bob", made.order.id):
                pass
        async with notifier.connect("alice", made.order.id) as ws:
            assert (await ws.receive_json())["type"] == "snapshot"
