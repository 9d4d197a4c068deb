"""The venues' own numbers: what their tests and programs computed, we compute to the last unit."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from libs.venues.adaptive_fee import TickFees, TickVolatility, fee_rate
from libs.venues.bin_math import bin_price
from libs.venues.bins import BinFees, BinPool, Volatility, apply, walk_exact_in, walk_exact_out
from libs.venues.concentrated import ConcentratedPool, Crossing, cross_exact_in, cross_exact_out
from libs.venues.constant_product import exact_in, exact_out
from libs.venues.errors import AmountTooSmall, InsufficientLiquidity
from libs.venues.tick_math import Ladder, sqrt_price_at, tick_at

VECTORS = Path(__file__).parents[3] / "shared" / "vectors" / "amm.json"

pytestmark = pytest.mark.skipif(not VECTORS.is_file(), reason=f"no vectors at {VECTORS}")


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(VECTORS.read_text())
    return loaded


def test_constant_product_swaps(vectors: dict[str, Any]) -> None:
    sections = vectors["constant_product"]
    for name in ("no_fee_rounding", "fee_on_input_spl", "fee_on_input_univ2"):
        for case in sections[name]["cases"]:
            x, y, dx = int(case["reserve_in"]), int(case["reserve_out"]), int(case["amount_in"])
            trade = exact_in(x, y, dx, int(case.get("fee_ppm", 0)))
            assert trade.amount_out == int(case["amount_out"]), (name, case)
            assert trade.fee == int(case.get("fee", trade.fee)), (name, case)
            assert exact_out(x, y, trade.amount_out, int(case.get("fee_ppm", 0))).amount_in <= dx, (name, case)


def test_bin_prices(vectors: dict[str, Any]) -> None:
    for case in vectors["dlmm"]["bin_price"]["cases"]:
        assert bin_price(case["bin_id"], case["bin_step"]) == int(case["price_x64"]), case


@pytest.mark.parametrize("section", ["pool_A_step250_variable_fee", "pool_B_step10_fee_on_y"])
def test_bin_swaps(vectors: dict[str, Any], section: str) -> None:
    pool = _pool(vectors["dlmm"][section])
    for case in vectors["dlmm"][section]["cases"]:
        walk_exact = walk_exact_in if case["mode"] == "exact_in" else walk_exact_out
        mint_in = "X" if case["swap_for_y"] else "Y"
        walk = walk_exact(pool, mint_in, int(case["amount"]), case["now"])
        after = apply(pool, mint_in, walk)
        got = {
            "amount_in": str(walk.amount_in),
            "amount_out": str(walk.amount_out),
            "fee": str(walk.fee),
            "protocol_fee": str(walk.protocol_fee),
            "last_fee_rate_1e9": str(walk.fee_rate),
            "active_id_after": after.active_id,
            "volatility_accumulator_after": after.volatility.accumulator,
            "volatility_reference_after": after.volatility.reference,
            "index_reference_after": after.volatility.index_reference,
            "bins_touched": len(walk.fills),
        }
        assert got == {key: case[key] for key in got}, case


def test_a_fee_that_eats_the_whole_input_is_refused(vectors: dict[str, Any]) -> None:
    sections = {"A": "pool_A_step250_variable_fee", "B": "pool_B_step10_fee_on_y"}
    for case in vectors["dlmm"]["dlmm_errors"]["cases"]:
        pool = _pool(vectors["dlmm"][sections[case["pool"]]])
        with pytest.raises(AmountTooSmall):
            walk_exact_in(pool, "X" if case["swap_for_y"] else "Y", int(case["amount"]), case["now"])


def test_tick_prices(vectors: dict[str, Any]) -> None:
    ladders: dict[str, Ladder] = {"orca_whirlpool": "orca", "raydium_clmm": "raydium"}
    for case in vectors["concentrated_liquidity"]["tick_to_sqrt_price"]["cases"]:
        ladder = ladders[case["venue"]]
        assert sqrt_price_at(case["tick"], ladder) == int(case["sqrt_price_x64"]), case
        assert tick_at(int(case["sqrt_price_x64"]), ladder) == case["tick"], case


def test_a_swap_ends_exactly_on_a_tick_of_raydium(vectors: dict[str, Any]) -> None:
    section = vectors["concentrated_liquidity"]["raydium_range_cross"]
    for case in section["cases"]:
        sell_a, end = case["direction"] == "0for1", case["to_tick"]
        pool = ConcentratedPool(
            "pool", "A", "B", 1, sqrt_price_at(case["from_tick"], "raydium"), case["from_tick"],
            int(section["liquidity"]), ((end, 0),), TickFees(int(section["fee_ppm"])), TickVolatility(), "raydium",
        )  # fmt: skip
        crossing = cross_exact_in(pool, "A" if sell_a else "B", int(case["gross_in"]), 0)
        assert (crossing.amount_in, crossing.amount_out) == (int(case["gross_in"]), int(case["amount_out"])), case
        assert (crossing.sqrt_price, crossing.tick) == (sqrt_price_at(end, "raydium"), end - sell_a), case


def test_a_dynamic_fee_of_raydium(vectors: dict[str, Any]) -> None:
    case = vectors["concentrated_liquidity"]["raydium_dynamic_fee"]
    fees = TickFees(0, control=int(case["dynamic_fee_control"]), group_ticks=int(case["tick_spacing"]))
    assert fee_rate(fees, int(case["volatility_accumulator"])) == int(case["dynamic_fee_ppm"])


def test_swaps_over_many_ticks_of_orca(vectors: dict[str, Any]) -> None:
    section = vectors["concentrated_liquidity"]["orca_quote_multi_tick"]
    for case in section["cases"]:
        pool = _pool_of_many_ticks(section, int(case["liquidity"]))
        crossing = _crossed(pool, case["a_to_b"], case["mode"] == "exact_in", case["amount_in"], case["amount_out"])
        got = (crossing.amount_in, crossing.amount_out, crossing.fee)
        assert got == (int(case["amount_in"]), int(case["amount_out"]), int(case["fee"])), case


def test_no_swap_of_orca_reaches_further_than_three_arrays_of_ticks(vectors: dict[str, Any]) -> None:
    section = vectors["concentrated_liquidity"]["orca_quote_multi_tick"]
    liquidity, most, too_much = map(int, re.findall(r"\d+", section["extra"]))
    pool = _pool_of_many_ticks(section, liquidity)
    assert cross_exact_in(pool, "A", most, 0).amount_in == most
    with pytest.raises(InsufficientLiquidity):
        cross_exact_in(pool, "A", too_much, 0)


def test_an_adaptive_fee_of_orca(vectors: dict[str, Any]) -> None:
    section = vectors["concentrated_liquidity"]["orca_adaptive_fee"]
    params, constants = section["pool"], section["pool"]["constants"]
    fees = TickFees(
        fee_ppm=int(params["fee_ppm"]),
        control=constants["adaptive_fee_control_factor"],
        group_ticks=constants["tick_group_size"],
        filter_period_s=constants["filter_period"],
        decay_period_s=constants["decay_period"],
        reduction_bps=constants["reduction_factor"],
        accumulator_max=constants["max_volatility_accumulator"],
        major_swap_ticks=constants["major_swap_threshold_ticks"],
    )
    for case in section["cases"]:
        told = re.findall(r"tick at (-?\d+) with liquidity_net (-?\d+)", case["volatility"])
        pool = ConcentratedPool(
            "pool", "A", "B", params["tick_spacing"], int(params["sqrt_price_x64"]), 0, int(case["liquidity"]),
            tuple((int(tick), int(net)) for tick, net in told), fees, TickVolatility(),
        )  # fmt: skip
        crossing = _crossed(pool, case["a_to_b"], case["mode"] == "exact_in", case["amount_in"], case["amount_out"])
        got = (crossing.amount_in, crossing.amount_out, crossing.fee)
        assert got == (int(case["amount_in"]), int(case["amount_out"]), int(case["fee"])), case


def test_swaps_within_one_range_of_orca(vectors: dict[str, Any]) -> None:
    for case in vectors["concentrated_liquidity"]["orca_single_range"]["cases"]:
        tick, price = case["curr_tick"], sqrt_price_at(case["curr_tick"], "orca")
        fees = TickFees(int(case["fee_ppm"]), case["protocol_fee_rate_bps"])
        pool = ConcentratedPool(
            "pool", "A", "B", case["tick_spacing"], price, tick, int(case["liquidity"]), (), fees, TickVolatility()
        )  # fmt: skip
        crossing = _crossed(pool, case["a_to_b"], case["amount_is_input"], case["amount"], case["amount"])
        amounts = (crossing.amount_in, crossing.amount_out)[:: 1 if case["a_to_b"] else -1]
        assert price == int(case["sqrt_price_x64"]), case
        assert amounts == (int(case["amount_a"]), int(case["amount_b"])), case
        assert (crossing.sqrt_price, crossing.tick) == (int(case["next_sqrt_price_x64"]), case["next_tick"]), case
        assert crossing.protocol_fee == int(case["protocol_fee"]), case


def _crossed(pool: ConcentratedPool, sell_a: bool, exact_in: bool, amount_in: str, amount_out: str) -> Crossing:
    cross, amount = (cross_exact_in, amount_in) if exact_in else (cross_exact_out, amount_out)
    return cross(pool, "A" if sell_a else "B", int(amount), 0)


def _pool_of_many_ticks(section: dict[str, Any], liquidity: int) -> ConcentratedPool:
    params = section["pool"]
    low, high, net, *_ = map(int, re.findall(r"-?\d+", params["initialized_ticks"]))
    spacing = params["tick_spacing"]
    ticks = tuple((tick, net if tick < 0 else -net) for tick in range(low, high + 1, spacing))
    return ConcentratedPool(
        "pool", "A", "B", spacing, int(params["sqrt_price_x64"]), params["tick_current"], liquidity, ticks,
        TickFees(int(params["fee_ppm"])), TickVolatility(),
    )  # fmt: skip


def _pool(section: dict[str, Any]) -> BinPool:
    params = section["params"]
    fees = BinFees(
        base_factor=params["base_factor"],
        base_fee_power=params["base_fee_power_factor"],
        variable_fee_control=params["variable_fee_control"],
        filter_period_s=params["filter_period"],
        decay_period_s=params["decay_period"],
        reduction_bps=params["reduction_factor"],
        accumulator_max=params["max_volatility_accumulator"],
        protocol_share_bps=params["protocol_share"],
        fee_on_y=params["collect_fee_mode"] == 1,
    )
    volatility = Volatility(
        params["volatility_accumulator"],
        params["volatility_reference"],
        params["index_reference"],
        params["last_update_timestamp"],
    )
    held = {bin_id: (int(x), int(y)) for bin_id, x, y in section["bins"]}
    return BinPool(
        "pool", "X", "Y", params["bin_step"], params["active_id"], held, fees, volatility,
        params["min_bin_id"], params["max_bin_id"],
    )  # fmt: skip
