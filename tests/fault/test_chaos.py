"""A short run of `make chaos`: everything killed, paused and cut off while orders come in; every promise is kept."""

from pathlib import Path

import pytest

from tests.fault.chaos import ChaosPlan, run_chaos
from tests.fault.chaos_report import table

PLAN = ChaosPlan(orders=450, seed=7, rate=12, seconds_max=240, long_pauses=False)


@pytest.mark.timeout(600)
async def test_orders_survive_chaos(tmp_path: Path) -> None:
    report = await run_chaos(PLAN, tmp_path / "data")

    assert report.kept, table(report)
    assert report.statuses == {"CONFIRMED": PLAN.orders}, table(report)
    assert len({fault.kind for fault in report.faults}) > 4, table(report)
