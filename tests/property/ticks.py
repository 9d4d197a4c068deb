"""Pools of concentrated liquidity as their makers may have set them up: a few ranges, a price anywhere among them."""

from hypothesis import strategies as st

from libs.venues.adaptive_fee import TickFees, TickVolatility
from libs.venues.concentrated import ConcentratedPool
from libs.venues.tick_math import Ladder, sqrt_price_at

RANGES_MAX = 4
SPACINGS_EACH_SIDE = 60
LADDERS: tuple[Ladder, ...] = ("orca", "raydium")


@st.composite
def concentrated_pools(draw: st.DrawFn) -> ConcentratedPool:
    ladder, spacing = draw(st.sampled_from(LADDERS)), draw(st.sampled_from([1, 8, 64]))
    centre = draw(st.integers(-1_500, 1_500)) * spacing
    net: dict[int, int] = {}
    for _ in range(draw(st.integers(1, RANGES_MAX))):
        low, high = sorted(
            draw(st.lists(st.integers(-SPACINGS_EACH_SIDE, SPACINGS_EACH_SIDE), min_size=2, max_size=2, unique=True))
        )
        liquidity = draw(st.integers(1, 10**15))
        for tick, change in ((centre + low * spacing, liquidity), (centre + high * spacing, -liquidity)):
            net[tick] = net.get(tick, 0) + change
    ticks = tuple(sorted(net.items()))
    tick = draw(st.integers(ticks[0][0] - spacing, ticks[-1][0] + spacing))
    price = draw(st.integers(sqrt_price_at(tick, ladder), sqrt_price_at(tick + 1, ladder) - 1))
    fees = TickFees(
        fee_ppm=draw(st.integers(0, 65_535)),
        protocol_share_bps=draw(st.sampled_from([0, 1_300, 2_500])),
        control=draw(st.sampled_from([0, 5_000, 60_000])),
        group_ticks=draw(st.sampled_from([spacing, 1 if spacing == 1 else spacing // 2])),
    )
    volatility = TickVolatility(
        draw(st.integers(0, 350_000)), 0, tick // fees.group_ticks + draw(st.integers(-3, 3)), 1_000
    )
    return ConcentratedPool(
        "pool", "A", "B", spacing, price, tick, liquidity_at(ticks, tick), ticks, fees, volatility, ladder
    )


def liquidity_at(ticks: tuple[tuple[int, int], ...], tick: int) -> int:
    """What the ranges around a tick add up to."""
    return sum(net for at, net in ticks if at <= tick)
