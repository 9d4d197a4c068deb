"""What the handlers work with, put together in `__main__`."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from libs.events.log import EventLog
from libs.orders.resume import Log
from libs.orders.views import OrderViews
from libs.service.shared import Shared
from services.gateway.accounts import Accounts
from services.gateway.auth import Passwords
from services.gateway.callers import Callers
from services.gateway.credentials import Credentials
from services.gateway.overload import Overload
from services.gateway.quotes import Quotes
from services.gateway.rates import Rates
from services.gateway.tunnel import Tunnels


@dataclass(frozen=True)
class Parts:
    """`log_open`: set while the log is the one this process has checked. `reads`: the log and its archive as one."""

    log: EventLog
    reads: Log
    log_open: asyncio.Event
    overload: Overload
    views: OrderViews
    accounts: Accounts
    credentials: Credentials
    callers: Callers
    rates: Rates
    passwords: Passwords
    shared: Shared
    tunnels: Tunnels
    quotes: Quotes
    secret: str
    token_lifetime: timedelta
    slippage_bps: int
    order_lifetime: timedelta
    open_orders_max: int
    cors_origins: frozenset[str] = frozenset()
    proxies: int = 0
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
