"""How often each user may ask, counted in Redis for all gateways together."""

import asyncio
import math
from dataclasses import dataclass, field

from aiohttp import web

from libs.service.shared import Rate, Shared, SharedUnavailable, Spent
from services.gateway import limits, observe
from services.gateway.problems import Problem

SPENT: web.RequestKey[tuple[str, Rate, Spent]] = web.RequestKey("rate_spent", tuple)


@dataclass(slots=True)
class _Lease:
    """Permits of one user taken from Redis ahead of their use, so that not every request has to ask there."""

    spent: Spent | None = None
    size: int = 0
    left: int = 0
    until: float = 0.0
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Rates:
    """`reads` and `writes`: of one user or API key."""

    def __init__(self, shared: Shared | None, *, reads: Rate, writes: Rate) -> None:
        """`shared` None: nothing is limited."""
        self._shared = shared
        self._rates = {"reads": reads, "writes": writes}
        self._leases: dict[tuple[str, str], _Lease] = {}

    async def spend(self, request: web.Request, what: str, who: str, cost: int = 1) -> None:
        """Count a request of `who`; raises Problem when it is one too many."""
        if self._shared is None or cost < 1:
            return
        rate = self._rates[what]
        try:
            spent = await self._leased(self._shared, what, who, cost, rate)
        except SharedUnavailable as error:
            observe.rates_unknown(str(error))
            return
        request[SPENT] = (what, rate, spent)
        if not spent.allowed:
            raise _too_many(f"{rate.count} {what} in {rate.seconds:g} s are allowed.", spent.wait_s)

    async def try_to_sign_in(self, email: str, address: str) -> None:
        """Count an attempt on this account from this address; raises Problem when it is one too many."""
        if self._shared is None:
            return
        try:
            for what, rate in ((f"login:{email}", limits.LOGINS_PER_ACCOUNT), (f"from:{address}", limits.LOGINS_FROM)):
                spent = await self._shared.spend(what, rate)
                if not spent.allowed:
                    raise _too_many("Too many attempts to sign in.", spent.wait_s)
        except SharedUnavailable as error:
            observe.rates_unknown(str(error))

    async def _leased(self, shared: Shared, what: str, who: str, cost: int, rate: Rate) -> Spent:
        lease = self._lease(what, who)
        # One asks Redis; those that came meanwhile find what it got.
        async with lease.asking:
            now = asyncio.get_running_loop().time()
            holds = lease.until > now
            if lease.spent and holds and lease.left >= cost:
                lease.left -= cost
                return lease.spent
            # Who asks often takes more at once; who does not is counted one by one.
            size = min(lease.size * 2, limits.RATE_LEASE_MAX, rate.count // 20) if holds else 1
            size = max(size, 1, cost)
            spent = await shared.spend(f"{what}:{who}", rate, size)
            if not spent.allowed and size > cost:
                size, spent = cost, await shared.spend(f"{what}:{who}", rate, cost)
            if spent.allowed:
                lease.spent, lease.size, lease.left = spent, size, size - cost
                lease.until = now + limits.RATE_LEASE_S
            return spent

    def _lease(self, what: str, who: str) -> _Lease:
        lease = self._leases.get((what, who))
        if lease is None:
            if len(self._leases) >= limits.RATE_LEASES_MAX:
                del self._leases[next(iter(self._leases))]
            lease = self._leases[what, who] = _Lease()
        return lease


def rate_headers(request: web.Request) -> dict[str, str]:
    """What the limit is and what is left of it (draft-ietf-httpapi-ratelimit-headers)."""
    if SPENT not in request:
        return {}
    what, rate, spent = request[SPENT]
    return {
        "RateLimit-Policy": f'"{what}";q={rate.count};w={math.ceil(rate.seconds)}',
        "RateLimit": f'"{what}";r={max(0, spent.remaining)};t={math.ceil(spent.reset_s)}',
    }


def _too_many(detail: str, wait_s: float) -> Problem:
    wait = max(1, math.ceil(wait_s))
    return Problem("rate_limited", f"{detail} Come back in {wait} s.", headers={"Retry-After": str(wait)})
