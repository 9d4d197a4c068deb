"""Whatever is traded, in whatever order: the pool never loses by rounding."""

from hypothesis import given, strategies as st

from libs.venues.bin_math import bin_price
from libs.venues.bins import BinFees, BinPool, Volatility
from libs.venues.book import Pool, quote_exact_in, quote_exact_out, swap
from libs.venues.constant_product import ConstantProductPool
from libs.venues.errors import VenueError
from tests.property.ticks import concentrated_pools

BINS_EACH_SIDE = 6

amounts = st.integers(1, 10**12)
directions = st.booleans()


@st.composite
def constant_product_pools(draw: st.DrawFn) -> ConstantProductPool:
    reserves = st.integers(1, 10**15)
    fees, shares = st.integers(0, 100_000), st.sampled_from([0, 120_000, 1_000_000])
    return ConstantProductPool("pool", "A", "B", draw(reserves), draw(reserves), draw(fees), draw(shares))


@st.composite
def bin_pools(draw: st.DrawFn) -> BinPool:
    active = draw(st.integers(-3_000, 3_000))
    held = st.one_of(st.just(0), st.integers(1, 10**12))
    bins = {
        active + offset: (draw(held) if offset >= 0 else 0, draw(held) if offset <= 0 else 0)
        for offset in range(-BINS_EACH_SIDE, BINS_EACH_SIDE + 1)
    }
    fees = BinFees(
        base_factor=draw(st.integers(0, 10_000)),
        variable_fee_control=draw(st.integers(0, 100_000)),
        protocol_share_bps=draw(st.sampled_from([0, 500, 2_000])),
        fee_on_y=draw(st.booleans()),
    )
    step = draw(st.sampled_from([1, 10, 100]))
    volatility = Volatility(draw(st.integers(0, 150_000)), 0, active + draw(st.integers(-3, 3)), 1_000)
    low, high = active - BINS_EACH_SIDE, active + BINS_EACH_SIDE
    return BinPool("pool", "A", "B", step, active, bins, fees, volatility, low, high)


pools = st.one_of(constant_product_pools(), bin_pools(), concentrated_pools())


def mint(first: bool) -> str:
    return "A" if first else "B"


@given(constant_product_pools(), st.lists(st.tuples(directions, amounts), max_size=8))
def test_the_product_never_falls(pool: ConstantProductPool, trades: list[tuple[bool, int]]) -> None:
    for first, amount in trades:
        try:
            after, _ = swap(pool, mint(first), amount)
        except VenueError:
            continue
        assert isinstance(after, ConstantProductPool)
        assert after.reserve_a * after.reserve_b >= pool.reserve_a * pool.reserve_b
        pool = after


@given(bin_pools(), directions, amounts)
def test_no_bin_loses_value_at_its_own_price(pool: BinPool, first: bool, amount: int) -> None:
    try:
        after, _ = swap(pool, mint(first), amount, 1_010)
    except VenueError:
        return
    assert isinstance(after, BinPool)
    for bin_id, (x, y) in after.bins.items():
        price = bin_price(bin_id, pool.bin_step)
        x_before, y_before = pool.bins[bin_id]
        assert x * price + (y << 64) >= x_before * price + (y_before << 64)
        assert x >= 0
        assert y >= 0


@given(pools, directions, amounts)
def test_a_round_trip_never_gains(pool: Pool, first: bool, amount: int) -> None:
    try:
        after, there = swap(pool, mint(first), amount, 1_010)
        _, back = swap(after, mint(not first), there.amount_out, 1_010)
    except VenueError:
        return
    assert back.amount_out <= amount


@given(pools, directions, amounts, amounts)
def test_more_in_never_buys_less(pool: Pool, first: bool, amount: int, more: int) -> None:
    try:
        small = quote_exact_in(pool, mint(first), amount, 1_010)
        large = quote_exact_in(pool, mint(first), amount + more, 1_010)
    except VenueError:
        return
    assert large.amount_out >= small.amount_out


@given(pools, directions, amounts)
def test_paying_what_an_exact_output_costs_buys_at_least_it(pool: Pool, first: bool, amount: int) -> None:
    try:
        asked = quote_exact_out(pool, mint(first), amount, 1_010)
    except VenueError:
        return
    got = quote_exact_in(pool, mint(first), asked.amount_in, 1_010)
    assert got.amount_out >= asked.amount_out


@given(pools, directions, amounts)
def test_a_quote_is_what_the_swap_gives(pool: Pool, first: bool, amount: int) -> None:
    try:
        quote = quote_exact_in(pool, mint(first), amount, 1_010)
    except VenueError:
        return
    _, traded = swap(pool, mint(first), amount, 1_010)
    assert traded == quote
    assert quote.amount_in <= amount
    assert 0 <= quote.price_impact_ppm <= 1_000_000
