"""Everything that could grow, with the number that bounds it and what happens beyond."""

from dataclasses import dataclass
from typing import Any

from libs.events import log, parked, redis_taking, upkeep, worker_limits
from libs.orders import connection as postgres, folding
from libs.service import http, lifecycle, settings, tokens
from services.executor import rpc, wallet
from services.gateway import limits as gateway
from services.notifier import limits as notifier
from services.projector import handlers as projector, janitor
from services.router import prices

_WORKER, _NOTIFIER, _SETTINGS = worker_limits.WorkerLimits(), notifier.Limits(), settings.Settings.model_fields


@dataclass(frozen=True)
class Bound:
    """`where`: the one place of the number."""

    what: str
    number: Any
    where: str
    beyond: str


def bounds() -> tuple[Bound, ...]:
    """The present numbers."""
    w, n = _WORKER, _NOTIFIER
    return (
        Bound("work in hand of one worker process", w.in_flight_max, "WorkerLimits.in_flight_max", "it takes no more"),
        Bound("deliveries of one item", w.deliveries_max, "WorkerLimits.deliveries_max", "parked"),
        Bound("one call of a handler, s", w.handle_seconds_max, "WorkerLimits.handle_seconds_max", "counts as failed"),
        Bound("suspected items at once", w.suspects_at_once, "WorkerLimits.suspects_at_once", "the others wait"),
        Bound(
            "steps waiting for Redis, of a process and partition",
            log.STEPS_WAITING_MAX,
            "libs/events/log.py",
            "503; workers try again",
        ),
        Bound("steps in one script call", log.STEPS_PER_COMMIT_MAX, "libs/events/log.py", "the next call"),
        Bound(
            "audit of discarded items, of a partition", parked.DISCARDED_MAX, "libs/events/parked.py", "the oldest go"
        ),
        Bound("age of waiting work, s", _SETTINGS["overload_wait_s"].default, "`OVERLOAD_WAIT_S`", "new orders: 503"),
        Bound(
            "lamports a transaction pays for a place in a block",
            wallet.PRIORITY_LAMPORTS_MAX,
            "services/executor/wallet.py",
            "not signed: `venue_refused`",
        ),
        Bound("memory of Redis, MiB", _SETTINGS["redis_memory_mb"].default, "`REDIS_MEMORY_MB`", "new orders: 503"),
        Bound("age of archived entries in Redis, s", _SETTINGS["log_keep_s"].default, "`LOG_KEEP_S`", "trimmed"),
        Bound("state of ended orders in Redis, s", janitor.ENDED_KEPT_S, "services/projector/janitor.py", "let go"),
        Bound("silence of a registered reader, s", upkeep.READER_EXPIRES_S, "libs/events/upkeep.py", "forgotten"),
        Bound(
            "absence of a worker without items, s",
            redis_taking.GONE_AFTER_MS // 1_000,
            "libs/events/redis_taking.py",
            "forgotten",
        ),
        Bound("entries per projection", projector.ENTRIES_PER_PARTITION_MAX, "services/projector/handlers.py", "next"),
        Bound("orders the projector remembers", folding.ORDERS_CACHED_MAX, "libs/orders/folding.py", "read again"),
        Bound(
            "connections to Postgres, of a process",
            postgres.POOL_MAX,
            "libs/orders/connection.py",
            "reads wait, then 503",
        ),
        Bound("body of a request, bytes", gateway.BODY_BYTES_MAX, "services/gateway/limits.py", "413"),
        Bound("passwords waiting", gateway.PASSWORDS_WAITING_MAX, "services/gateway/limits.py", "503"),
        Bound("files a process opens", lifecycle.OPEN_FILES_WANTED, "libs/service/lifecycle.py", "the system refuses"),
        Bound("orders of a user lists have before Postgres", log.RECENT_MAX, "libs/events/log.py", "older pages: 503"),
        Bound("sockets through one gateway", gateway.TUNNELS_MAX, "services/gateway/limits.py", "503"),
        Bound("tokens remembered as verified", tokens.VERIFIED_MAX, "libs/service/tokens.py", "verified again"),
        Bound("sockets of one notifier", n.sockets_max, "notifier Limits.sockets_max", "503"),
        Bound("of them, that say not yet whose", n.strangers_max, "notifier Limits.strangers_max", "the oldest goes"),
        Bound("sockets of one user", n.sockets_per_user_max, "notifier Limits.sockets_per_user_max", "429 or 4429"),
        Bound("unsent bytes of a socket", n.unsent_bytes_max, "notifier Limits.unsent_bytes_max", "closed, 4008"),
        Bound("events held for a snapshot", n.held_events_max, "notifier Limits.held_events_max", "closed, 4008"),
        Bound("orders a socket names", n.orders_per_socket_max, "notifier Limits.orders_per_socket_max", "an error"),
        Bound("entries read for a cursor", n.resume_entries_max, "notifier Limits.resume_entries_max", "reset"),
        Bound("writes of a user, in a minute", _SETTINGS["writes_per_min"].default, "`WRITES_PER_MIN`", "429"),
        Bound("other requests of a user, in a minute", _SETTINGS["reads_per_min"].default, "`READS_PER_MIN`", "429"),
        Bound("tries to log in, of an account in 10 min", gateway.LOGINS_PER_ACCOUNT.count, "gateway limits", "429"),
        Bound("accounts made from an address, in an hour", gateway.SIGNUPS_FROM.count, "gateway limits", "429"),
        Bound(
            "open orders of a user",
            _SETTINGS["open_orders_per_user"].default,
            "`OPEN_ORDERS_PER_USER`",
            "new ones: 409",
        ),
        Bound("API keys of a user", gateway.API_KEYS_MAX, "services/gateway/limits.py", "409"),
        Bound("orders of a batch", gateway.ORDERS_PER_BATCH_MAX, "services/gateway/limits.py", "422"),
        Bound("orders seen for a page", gateway.SCANNED_ORDERS_MAX, "services/gateway/limits.py", "short page"),
        Bound("ended orders kept as JSON, for lists", gateway.SHOWN_ORDERS_KEPT, "gateway limits", "read again"),
        Bound("the same, for snapshots", n.ended_orders_kept, "notifier Limits.ended_orders_kept", "read again"),
        Bound("sessions of a user", gateway.SESSIONS_MAX, "services/gateway/limits.py", "the oldest ends"),
        Bound("sockets for orders", gateway.ENTRY_SOCKETS_MAX, "services/gateway/limits.py", "503"),
        Bound(
            "of them, that say not yet whose",
            gateway.ENTRY_STRANGERS_MAX,
            "services/gateway/limits.py",
            "the oldest goes",
        ),
        Bound("of them, of a user", gateway.ENTRY_SOCKETS_PER_USER_MAX, "services/gateway/limits.py", "429"),
        Bound("orders in hand of one", gateway.ENTRY_MESSAGES_IN_HAND_MAX, "gateway limits", "it is not read"),
        Bound("streams of quotes", gateway.QUOTE_STREAMS_MAX, "services/gateway/limits.py", "503"),
        Bound("of them, of a user", gateway.QUOTE_STREAMS_PER_USER_MAX, "services/gateway/limits.py", "429"),
        Bound("open orders watched", prices.WAITING_MAX, "services/router/prices.py", "turns of a minute"),
        Bound("orders of a pair, in a look", prices.PROBES_PER_PAIR, "services/router/prices.py", "next look"),
        Bound("inbound message, bytes", n.message_bytes_max, "notifier Limits.message_bytes_max", "closed, 1009"),
        Bound("requests to the chain at once", rpc.REQUESTS_IN_FLIGHT_MAX, "services/executor/rpc.py", "calls share"),
        Bound("connections to a peer, of a process", http.PEER_CONNECTIONS_MAX, "libs/service/http.py", "calls wait"),
        Bound("answer of a peer, bytes", http.ANSWER_BYTES_MAX, "libs/service/http.py", "nonsense; tried again"),
    )
