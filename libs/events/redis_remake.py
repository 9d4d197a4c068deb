"""What a repair writes of an order, of its work and of its request: as the commits of their events left them."""

from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from libs.events.log import RECENT_MAX, Entry
from libs.events.model import OrderRequested
from libs.events.reactions import TERMINAL, delay_ms, next_actor
from libs.events.record import RETIRED_FIELDS, item_fields, record
from libs.events.redis_keys import Keys
from libs.events.repair import KEPT, Restored

Commands = list[list[Any]]


def order_again(keys: Keys, restored: Restored, now: datetime) -> Commands:
    order, key = restored.order, keys.order(restored.order.id)
    trail = " ".join(str(entry.at) for entry in restored.entries)
    fields = record(order, [entry.fields for entry in restored.entries], trail)
    if order.status not in TERMINAL:
        return [["DEL", key], ["HSET", key, *chain(*fields.items())], ["SADD", keys.open(order.user), order.id]]
    # Let go already: a whole day's orders as they were while they ran are more than Redis has room for.
    kept = {name: value for name, value in fields.items() if name in RETIRED_FIELDS}
    left = KEPT - (now - order.updated_at)
    return [
        ["DEL", key],
        ["HSET", key, *chain(*kept.items())],
        ["PEXPIRE", key, max(1, left // timedelta(milliseconds=1))],
        ["SREM", keys.open(order.user), order.id],
    ]


def work_again(keys: Keys, restored: Restored) -> Commands:
    order, last = restored.order, restored.entries[-1]
    event = last.decode().data
    if (delay := delay_ms(event)) is not None:
        # By the log's own clock, as when it was committed: its writer's may be another.
        return [["ZADD", keys.timers, last.at.ms + delay, order.id]]
    actor = next_actor(event)
    if actor is None:
        return []
    return [["XADD", keys.work(actor), "*", *chain(*item_fields(last.fields).items())]]


def key_again(keys: Keys, entry: Entry, now: datetime) -> Commands:
    event = entry.decode()
    recent = keys.recent(event.user)
    kept_ms = KEPT // timedelta(milliseconds=1)
    commands: Commands = [
        ["ZADD", recent, 0, event.subject],
        ["ZREMRANGEBYRANK", recent, 0, -RECENT_MAX - 1],
        ["PEXPIRE", recent, kept_ms],
    ]
    if isinstance(event.data, OrderRequested) and event.data.idempotency_key:
        name = keys.idempotency(event.user, event.data.idempotency_key)
        left_ms = kept_ms - (int(now.timestamp() * 1_000) - entry.at.ms)
        # Without a fingerprint (an older release) the key refuses every other request: better than a second order.
        commands.append(["HSET", name, "order", event.subject, "fingerprint", event.data.fingerprint or ""])
        commands.append(["PEXPIRE", name, max(1, left_ms)])
    return commands
