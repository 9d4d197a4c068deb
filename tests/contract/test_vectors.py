"""The venues' own numbers: what their tests and programs computed, we compute to the last unit."""

import json
from pathlib import Path
from typing import Any

import pytest

from libs.venues.bin_math import bin_price
from libs.venues.bins import BinFees, BinPool, Volatility, apply, walk_exact_in, walk_exact_out
from libs.venues.constant_product import deposit_for_shares, exact_in, exact_out
from libs.venues.errors import AmountTooSmall

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


def test_constant_product_deposits(vectors: dict[str, Any]) -> None:
    for case in vectors["constant_product"]["lp_to_tokens_ceiling"]["cases"]:
        for side in ("0", "1"):
            shares, supply = int(case["lp_amount"]), int(case["lp_supply"])
            owed = deposit_for_shares(shares, supply, int(case[f"reserve_{side}"]))
            assert owed == int(case[f"amount_{side}"]), case


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
