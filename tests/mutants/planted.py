"""Bugs somebody might write, as one change of text each, and the tests that must not let them pass."""

from dataclasses import dataclass

SIMULATION = "tests/simulation/test_simulation.py::test_every_promise_is_kept_under_every_schedule"


@dataclass(frozen=True)
class Mutant:
    """`old` stands once in the file `path`. One of `tests` is enough to turn red."""

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "an item is acknowledged before its events are in the log",
        "libs/events/alone.py",
        "            outcome = await self._log.commit(step)\n            match outcome:",
        "            order = now.order\n"
        "            await self._log.commit(Step(item.order_id, order.user, order.version, item=item))\n"
        "            outcome = await self._log.commit(replace(step, item=None))\n            match outcome:",
        (SIMULATION,),
    ),
    Mutant(
        "an order's version is not checked (Redis)",
        "libs/events/commit.lua",
        "if (tonumber(held[1] or 0)) ~= expected then",
        "if held[1] and expected == 0 then",
        ("tests/contract/test_event_log.py",),
    ),
    Mutant(
        "an order's version is not checked (in memory)",
        "libs/events/memory_log.py",
        "        if version != step.expected_version:",
        "        if held and step.expected_version == 0:",
        (SIMULATION,),
    ),
    Mutant(
        "whose item it is, is not checked",
        "libs/events/commit.lua",
        "    if #mine == 0 then",
        "    if false then",
        ("tests/contract/test_event_log_work.py",),
    ),
    Mutant(
        "the checkpoint moves outside the transaction",
        "libs/orders/projection.py",
        "            async with self._database.connection() as connection, connection.transaction():\n"
        "                orders = await self.write",
        "            async with self._database.connection() as connection:\n                orders = await self.write",
        ("tests/contract/test_order_store.py",),
    ),
    Mutant(
        "the claim's cursor starts again every time",
        "libs/events/redis_taking.py",
        "        self._claim_cursors[where] = cursor\n",
        '        self._claim_cursors[where] = "0-0"\n',
        ("tests/contract/test_redis_claims.py",),
    ),
    Mutant(
        "a socket is registered after its snapshot was read",
        "services/notifier/joining.py",
        "            self._listeners.add(subscriber, subscriber.orders)\n            subscriber.hold()\n",
        "            subscriber.hold()\n            loop = asyncio.get_running_loop()\n"
        "            loop.call_later(0.005, self._listeners.add, subscriber, subscriber.orders)\n",
        (SIMULATION,),
    ),
    Mutant(
        "signed again although the node that says so may lag behind",
        "services/executor/domain.py",
        "look.status is None and view is not None and look.slot >= view.slot",
        "look.status is None and view is not None",
        ("tests/unit/test_executor_domain.py", SIMULATION),
    ),
    Mutant(
        "signed again without a last look after the height was seen",
        "services/executor/settling.py",
        "await self.chain.look_back(sent.signature, blocks_from)",
        "Look(view.slot, None)",
        ("tests/contract/test_chain_client.py", SIMULATION),
    ),
    Mutant(
        "sent before the intent is in the log",
        "services/executor/handlers.py",
        "        observe.transaction_signed(order, intent, venue)\n",
        "        observe.transaction_signed(order, intent, venue)\n"
        "        asyncio.ensure_future(self._settling._send(order, intent, again=False))\n",
        (SIMULATION,),
    ),
    Mutant(
        "after a lost reply the gateway says that nothing was written",
        "services/gateway/commands.py",
        "    except OutcomeUnknown as lost:\n        reason = str(lost)\n",
        "    except OutcomeUnknown as lost:\n        raise LogUnavailable(str(lost)) from lost\n",
        ("tests/contract/test_http_orders_trouble.py", "tests/contract/test_http_errors.py"),
    ),
    Mutant(
        "after a lost reply of the chain the order is tried again blindly",
        "services/executor/settling.py",
        "            sends += 1\n",
        "            sends += 1\n            if not taken:\n"
        '                return [self.failing.event(order, Reason.VENUES_UNAVAILABLE, "not taken")]\n',
        (SIMULATION,),
    ),
    Mutant(
        "trimmed by count",
        "libs/events/redis_upkeep.py",
        "return redis.call('XTRIM', KEYS[2], 'MINID', '~', before)",
        "return redis.call('XTRIM', KEYS[2], 'MAXLEN', '~', 100)",
        ("tests/contract/test_upkeep.py",),
    ),
    Mutant(
        "trimmed before it is archived",
        "services/projector/janitor.py",
        "return min([archived, max(Position(floor_ms, 0), old), *needed])",
        "return min([max(Position(floor_ms, 0), old), *needed])",
        ("tests/contract/test_upkeep.py",),
    ),
    Mutant(
        "written to a Redis that may have lost something",
        "libs/events/commit.lua",
        "if head[4] ~= ARGV[1] then",
        "if false then",
        ("tests/contract/test_repair_meanwhile.py",),
    ),
    Mutant(
        "a hole in the positions is read over",
        "libs/orders/batch.py",
        "            if entry.at.position != last.position + 1:\n",
        "            if entry.at.position <= last.position:\n",
        ("tests/contract/test_order_store_refused.py",),
    ),
    Mutant(
        "a delivery is counted after it was handled",
        "libs/events/alone.py",
        "        if item.deliveries > 1:\n            # Counted before",
        "        if item.deliveries > 1_000:\n            # Counted before",
        ("tests/unit/test_worker_parking.py", "tests/fault/test_poison.py"),
    ),
    Mutant(
        "a repair goes by what it saw while others still wrote",
        "services/projector/repair.py",
        "            held = await self._redis.close()\n",
        "            await self._redis.close()\n",
        ("tests/contract/test_repair_meanwhile.py",),
    ),
    Mutant(
        "who was frozen in the middle of a repair goes on with it",
        "libs/events/redis_repair.py",
        "if redis.call('HGET', KEYS[1], 'mender') ~= ARGV[1] then",
        "if false then",
        ("tests/contract/test_repair_meanwhile.py",),
    ),
    Mutant(
        "trimmed although a reader registered meanwhile",
        "libs/events/redis_upkeep.py",
        "      before = said.at\n",
        "",
        ("tests/contract/test_upkeep.py",),
    ),
    Mutant(
        "an item whose order was let go is kept",
        "libs/events/alone.py",
        "        version = now.order.version if now else await self._version(item)\n",
        "        version = now.order.version if now else 0\n",
        ("tests/unit/test_worker_parking.py",),
    ),
    Mutant(
        "a Redis that may have lost what nobody archived is the same log",
        "services/projector/verdict.py",
        "restarted and not keeps_all and held.position > 0",
        "False",
        ("tests/fault/test_redis_files.py",),
    ),
    Mutant(
        "a batch is written by another connection than the one that holds the projector's place",
        "libs/orders/locks.py",
        "            with told_as_unavailable():\n                yield held\n",
        "            async with self._store.connection() as other:\n                yield other\n",
        ("tests/contract/test_projector_standby.py",),
    ),
    Mutant(
        "the least of a split order is asked of its first leg alone",
        "services/executor/joining.py",
        "route.min_out * quoted // route.quoted_out - sum(least)",
        "0 if least else route.min_out * leg.amount_out // route.quoted_out",
        ("tests/unit/test_executor_joining.py",),
    ),
    Mutant(
        "work is moved on a Redis that may have lost something",
        "libs/events/move.lua",
        "if redis.call('HGET', meta, 'run') ~= run then",
        "if false then",
        ("tests/contract/test_redis_work.py",),
    ),
    Mutant(
        "what a worker has in hand is not kept from others",
        "libs/events/redis_work.py",
        '            commands.append(["XCLAIM", work, service, consumer, 0, *ids, "IDLE", 0, "JUSTID"])\n',
        "",
        ("tests/contract/test_event_log_work.py",),
    ),
    Mutant(
        "a log that was replaced is worked on as if nothing were",
        "libs/events/worker.py",
        "            self._mismatch = self._mismatch or error\n",
        "            pass\n",
        ("tests/unit/test_worker.py",),
    ),
    Mutant(
        "an order that somebody changed in Postgres is passed over",
        "libs/orders/projection.py",
        'if changed != f"UPDATE {len(went_on)}":',
        "if False:",
        ("tests/contract/test_order_store_refused.py",),
    ),
    Mutant(
        "a stream that goes on from a cursor shows what another user's order did",
        "libs/orders/resume.py",
        'yield [entry for entry in entries if entry.fields["user"] == user], after',
        "yield entries, after",
        ("tests/unit/test_resume.py",),
    ),
    Mutant(
        "what happens while a listener's history is read is not told",
        "services/notifier/subscriber.py",
        "        held, self._held, self._held_bytes, self._versions = self._held or [], None, 0, None\n",
        "        held, self._held, self._held_bytes, self._versions = list[Told](), None, 0, None\n",
        ("tests/unit/test_hub.py",),
    ),
)
