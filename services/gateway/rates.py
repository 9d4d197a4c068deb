"""How often each user may ask, counted in Redis for all gateways together."""

import asyncio
import math
import time
from dataclasses import dataclass, field

from aiohttp import web

from libs.service.shared import Rate, Shared, SharedUnavailable, Spent
from services.gateway import limits, observe
from services.gateway.bodies import FieldError, Invalid
from services.gateway.problems import Problem

SPENT: web.RequestKey[tuple[str, Rate, Spent]] = web.RequestKey("rate_spent", tuple)


@dataclass(slots=True)
class _Lease:
    """Permits of one user taken from Redis ahead of their use, so that not every request has to ask there."""

    spent: Spent | None = None
    left: int = 0
    until: float = 0.0
    failed_at: float = 0.0
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def held(self) -> int:
        """Permits that are still good."""
        return self.left if time.monotonic() < self.until else 0

    def take(self, cost: int) -> Spent | None:
        """What Redis said when these permits were taken; None: there are not as many."""
        if self.held() < cost:
            return None
        self.left -= cost
        return self.spent


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
        rate, lease = self._rates[what], self._lease(what, who)
        try:
            spent = lease.take(cost) or await self._leased(self._shared, lease, f"{what}:{who}", cost, rate)
        except SharedUnavailable as error:
            observe.rates_unknown(str(error))
            return
        request[SPENT] = (what, rate, spent)
        if not spent.allowed:
            raise _too_many(f"{rate.count} {what} in {rate.seconds:g} s are allowed.", spent.wait_s)

    def check_size(self, what: str, size: int, pointer: str) -> None:
        """Raises Invalid for a list that is longer than all that may come at once: waiting would never help."""
        most = self._rates[what].count
        if self._shared is not None and size > most:
            raise Invalid(FieldError(pointer, "list_length", f"Your rate of {what} permits at most {most} at once."))

    async def try_to_sign_up(self, address: str) -> None:
        """Count an attempt to make an account from this address; raises Problem when it is one too many."""
        await self._try("Too many accounts from your address.", (f"signup:{address}", limits.SIGNUPS_FROM))

    async def try_to_sign_in(self, email: str, address: str) -> None:
        """Count an attempt on this account from this address; raises Problem when it is one too many."""
        await self._try(
            "Too many attempts to sign in.",
            (f"from:{address}", limits.LOGINS_FROM),
            (f"login:{email}:{address}", limits.LOGINS_PER_ACCOUNT),
            (f"login:{email}", limits.LOGINS_PER_ACCOUNT_FROM_ALL),
        )

    async def _try(self, refusal: str, *attempts: tuple[str, Rate]) -> None:
        if self._shared is None:
            return
        try:
            for what, rate in attempts:
                spent = await self._shared.spend(what, rate)
                if not spent.allowed:
                    raise _too_many(refusal, spent.wait_s)
        except SharedUnavailable as error:
            observe.rates_unknown(str(error))

    async def _leased(self, shared: Shared, lease: _Lease, name: str, cost: int, rate: Rate) -> Spent:
        # One asks Redis; those that came meanwhile find what it got, or that it got nothing.
        came_at = time.monotonic()
        async with lease.asking:
            if spent := lease.take(cost):
                return spent
            if lease.failed_at >= came_at:
                raise SharedUnavailable("it has just not answered")
            held, lease.left = lease.held(), 0  # nobody else may take them meanwhile
            missing = cost - held
            size = max(missing, _ahead(rate))
            try:
                spent = await shared.spend(name, rate, size)
                if not spent.allowed and size > missing:
                    size, spent = missing, await shared.spend(name, rate, missing)
            except SharedUnavailable:
                lease.failed_at = time.monotonic()
                raise
            if spent.allowed:
                lease.spent, lease.left = spent, held + size - cost
                lease.until = time.monotonic() + limits.RATE_LEASE_S
            else:
                lease.left = held
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
    found = request.get(SPENT)
    if found is None:
        return {}
    what, rate, spent = found
    return {
        "RateLimit-Policy": f'"{what}";q={rate.count};w={math.ceil(rate.seconds)}',
        "RateLimit": f'"{what}";r={max(0, spent.remaining)};t={math.ceil(spent.reset_s)}',
    }


def _ahead(rate: Rate) -> int:
    """How many permits are taken at once: no more than come back while they hold, so that unused ones cost nothing."""
    return max(1, min(limits.RATE_LEASE_MAX, int(rate.count * limits.RATE_LEASE_S / rate.seconds)))


def _too_many(detail: str, wait_s: float) -> Problem:
    wait = max(1, math.ceil(wait_s))
    return Problem("rate_limited", f"{detail} Come back in {wait} s.", headers={"Retry-After": str(wait)})
