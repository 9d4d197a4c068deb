"""Prices repeat with their seed and move little; arbitrage holds pools to them; every venue gets its share."""

from itertools import pairwise, permutations

import pytest

from libs.venues.bins import BinPool
from libs.venues.book import Quote, quote_exact_in, swap
from libs.venues.concentrated import ConcentratedPool
from libs.venues.constant_product import ConstantProductPool
from libs.venues.tokens import TOKENS
from services.localnet.chain import FAUCET, Chain
from services.localnet.pools import ARBITRAGE_PPM, LISTINGS, RANGES, Listing, align, initial_pool
from services.localnet.prices import USD_E12, ratio, usd_e12
from services.localnet.quotes import Refused, Venue, price_impact_ppm
from services.localnet.trouble import VENUES, Trouble

SOL, USDC, RAY, BONK = (TOKENS[symbol].mint for symbol in ("SOL", "USDC", "RAY", "BONK"))
PPM = 1_000_000


def units(symbol: str, usd: int) -> int:
    scale: int = 10 ** TOKENS[symbol].decimals
    return usd * 10**12 * scale // USD_E12[symbol]


def test_prices_are_a_function_of_seed_and_step() -> None:
    first = [usd_e12(1, "SOL", step) for step in range(0, 3_000, 7)]
    assert first == [usd_e12(1, "SOL", step) for step in range(0, 3_000, 7)]
    assert first != [usd_e12(2, "SOL", step) for step in range(0, 3_000, 7)]
    assert len(set(first)) > len(first) // 2


def test_prices_move_a_few_basis_points_a_step_and_stay_near() -> None:
    for symbol, start in USD_E12.items():
        prices = [usd_e12(3, symbol, step) for step in range(5_000)]
        assert all(abs(after - before) * PPM <= 250 * before for before, after in pairwise(prices))
        assert all(abs(price - start) * 100 <= 2 * start for price in prices)


@pytest.mark.parametrize("listing", LISTINGS, ids=lambda item: f"{item.venue}-{item.base}-{item.quote}")
def test_every_pool_opens_at_the_reference_price_and_is_deep(listing: Listing) -> None:
    pool = initial_pool(listing, 1, 0)
    numerator, denominator = ratio(1, listing.base, listing.quote, 0)
    amount = units(listing.base, 1_500)
    quote = quote_exact_in(pool, TOKENS[listing.base].mint, amount)
    fair = amount * numerator // denominator
    assert abs(quote.amount_out - fair) * 10_000 < 60 * fair
    assert quote.price_impact_ppm < 100


def test_ten_sol_barely_move_the_sol_usdc_pool() -> None:
    pool = initial_pool(LISTINGS[0], 1, 0)
    after, _ = swap(pool, SOL, 10 * 10**9)
    assert isinstance(pool, ConstantProductPool)
    assert isinstance(after, ConstantProductPool)
    assert pool.reserve_a == 10**15
    moved = PPM - after.reserve_b * pool.reserve_a * PPM // (after.reserve_a * pool.reserve_b)
    assert 15 <= moved <= 25


@pytest.mark.parametrize("listing", LISTINGS, ids=lambda item: f"{item.venue}-{item.base}-{item.quote}")
def test_arbitrage_brings_a_pool_back_and_never_at_its_cost(listing: Listing) -> None:
    pool = initial_pool(listing, 1, 0)
    price = ratio(1, listing.base, listing.quote, 0)
    assert align(pool, listing, price, ARBITRAGE_PPM) is pool
    out_of_band = (
        12 * listing.depth_usd if listing.bin_step else listing.depth_usd // (2 if listing.tick_spacing else 100)
    )
    pushed, _ = swap(pool, TOKENS[listing.base].mint, units(listing.base, out_of_band))
    back = align(pushed, listing, price, ARBITRAGE_PPM)
    assert back is not pushed
    if isinstance(back, ConstantProductPool):
        assert isinstance(pushed, ConstantProductPool)
        assert back.reserve_a * back.reserve_b >= pushed.reserve_a * pushed.reserve_b
    quote = quote_exact_in(back, TOKENS[listing.base].mint, units(listing.base, 1_500))
    again = quote_exact_in(pool, TOKENS[listing.base].mint, units(listing.base, 1_500))
    assert abs(quote.amount_out - again.amount_out) * 1_000 < 3 * again.amount_out


def test_bin_pools_follow_the_reference_price() -> None:
    listing = next(item for item in LISTINGS if item.bin_step)
    pool = initial_pool(listing, 1, 0)
    seen = set()
    for step in range(0, 4_000, 50):
        pool = align(pool, listing, ratio(1, listing.base, listing.quote, step))
        assert isinstance(pool, BinPool)
        seen.add(pool.active_id)
    assert len(seen) > 5


def test_concentrated_pools_follow_the_reference_price_and_keep_their_depth() -> None:
    listing = next(item for item in LISTINGS if item.tick_spacing)
    opened = initial_pool(listing, 1, 0)
    assert isinstance(opened, ConcentratedPool)
    pool, seen = opened, set()
    for step in range(0, 4_000, 50):
        numerator, denominator = ratio(1, listing.base, listing.quote, step)
        aligned = align(pool, listing, (numerator, denominator))
        assert isinstance(aligned, ConcentratedPool)
        pool = aligned
        off = pool.sqrt_price**2 * denominator * PPM // (numerator << 128) - PPM
        assert abs(off) <= listing.fee + 1
        assert len(pool.ticks) == 2 * len(RANGES)
        assert abs(pool.liquidity - opened.liquidity) * 10 < opened.liquidity
        seen.add(pool.tick)
    assert len(seen) > 5


def test_no_venue_always_wins() -> None:
    chain = Chain(1, bytes(32), Trouble(1))
    venues = [Venue(name, chain) for name in VENUES]
    request = {"inputMint": SOL, "outputMint": USDC, "amount": 10 * 10**9}
    winners = set()
    for _ in range(100):
        chain.publish(chain.produce_block(heights=50))
        outs = [int(venue.quote(request)["outAmount"]) for venue in venues]
        winners.add(outs.index(max(outs)))
    assert winners == {0, 1, 2}


def test_a_pair_without_a_pool_goes_through_the_token_in_between_that_gives_most() -> None:
    chain = Chain(1, bytes(32), Trouble(1))
    raydium = Venue("raydium", chain)
    request = {"inputMint": RAY, "outputMint": BONK, "amount": 10**6}
    quote = raydium.quote(request)

    def through(between: str) -> int:
        into = int(raydium.quote(request | {"outputMint": between})["outAmount"])
        return int(raydium.quote({"inputMint": between, "outputMint": BONK, "amount": into})["outAmount"])

    assert int(quote["outAmount"]) == max(through(SOL), through(USDC))
    first, last = (step["swapInfo"] for step in quote["routePlan"])
    assert (first["inputMint"], last["outputMint"], first["inAmount"]) == (RAY, BONK, "1000000")
    assert (first["outputMint"], first["outAmount"]) == (last["inputMint"], last["inAmount"])
    assert last["outAmount"] == quote["outAmount"]
    assert len(raydium.quote(request | {"outputMint": SOL})["routePlan"]) == 1


def test_every_pair_is_traded_by_somebody_and_not_by_everybody() -> None:
    chain = Chain(1, bytes(32), Trouble(1))
    raydium, meteora = Venue("raydium", chain), Venue("meteora", chain)
    for mint_in, mint_out in permutations([token.mint for token in TOKENS.values()], 2):
        request = {"inputMint": mint_in, "outputMint": mint_out, "amount": 10**8}
        assert raydium.quote(request)["outAmount"]
    with pytest.raises(Refused) as refused:
        meteora.quote({"inputMint": RAY, "outputMint": BONK, "amount": 10**6})
    assert refused.value.code == "COULD_NOT_FIND_ANY_ROUTE"


def test_two_trades_one_after_another_are_as_much_worse_as_both() -> None:
    half, tenth = (Quote(1, 1, 0, SOL, ppm) for ppm in (500_000, 100_000))
    assert price_impact_ppm([half]) == 500_000
    assert price_impact_ppm([half, tenth]) == 550_000


def test_the_faucet_pays_for_a_million_orders_of_ten_sol_without_leaving_64_bits() -> None:
    for symbol, token in TOKENS.items():
        order = units(symbol, 1_500)
        assert FAUCET[token.mint] > 1_000_000 * order
        assert FAUCET[token.mint] + 1_000_000 * order < 2**64
