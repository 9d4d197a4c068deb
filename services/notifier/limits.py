"""Every limit of the notifier, with what happens when it is reached, and every way a socket is closed."""

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process allows; tests make them small."""

    sockets_max: int = 10_000  # beyond: 503 before the upgrade, the balancer tries another process
    sockets_per_user_max: int = 50  # beyond: 429 before the upgrade, 4429 after it
    strangers_max: int = 200  # sockets that have not said whose they are; beyond: the oldest of them is cut off
    unsent_bytes_max: int = 1 << 20  # per socket; beyond: closed as slow
    held_events_max: int = 1_000  # per socket, while its snapshot is read; beyond: closed as slow
    message_bytes_max: int = 4 * 1024  # inbound; beyond: closed with 1009
    unheard_messages_max: int = 16  # inbound, while one is answered; beyond: not read from the socket meanwhile
    snapshot_orders: int = 100  # the newest ones of a socket that carries all orders
    snapshots_at_once: int = 16  # or histories; after a reset everybody wants one, and the rest wait
    snapshots_of_user_at_once: int = 2  # or all of one user's connections would be before everybody else's
    ended_orders_kept: int = 10_000  # as JSON, for snapshots; beyond: the archive is asked again
    orders_kept: int = 10_000  # tokens of orders lately seen; beyond: the log is asked again
    orders_per_socket_max: int = 100  # subscribed to by name; beyond: an error message, nothing changes
    resume_entries_max: int = 50_000  # of everybody in the partition, since a cursor; beyond: reset and snapshot
    writes_at_once: int = 500  # some ms; then sockets that come, say something or go have their turn
    frames_at_once: int = 50_000  # delivered before they are written
    read_count: int = 256  # entries of a partition per read
    gather_ms_max: float = 10  # the longest a busy log gathers between two reads, where cores are short
    gather_ms_at_1_000_per_s: float = 10  # so long with 1,000 entries a second, and less with fewer
    read_block_ms: int = 1_000  # how long a read waits; bounds the time to notice a stop
    auth_wait_s: float = 10  # for the first message; beyond: closed with 4401
    heartbeat_s: float = 25  # between pings; half of it for the pong
    close_grace_s: float = 5  # for the peer to take what is unsent and the close; beyond: aborted
    reconnect_spread_ms: int = 5_000  # a restart must not bring everybody back in the same instant


class Close(Enum):
    """Code and reason. 4000-4099: come back; 4400-4499: coming back the same way will not help."""

    RESTARTING = (4001, "restarting, reconnect")
    SLOW = (4008, "slow consumer, reconnect")
    TRY_LATER = (1013, "orders cannot be read now, reconnect")
    UNAUTHORIZED = (4401, "no valid token")
    EXPIRED = (4401, "token expired, reconnect with a new one")
    NOT_FOUND = (4404, "no such order")
    TOO_MANY = (4429, "too many connections of this user")

    @property
    def code(self) -> int:
        return self.value[0]

    @property
    def reason(self) -> str:
        return self.value[1]
