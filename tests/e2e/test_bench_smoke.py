"""The bench measures what it says it does; how fast that was is no test's business."""

import asyncio
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TINY = ["--own", *"--orders 60 --connections 8 --users 2 --runs 1 --rate 20 --seconds 1 --limit-count 200".split()]  # noqa: SIM905 - reads as it is typed


async def test_a_tiny_bench_gives_every_figure_and_loses_no_order(tmp_path: Path) -> None:
    made, again = tmp_path / "one.json", tmp_path / "two.json"
    for options in (["--json", str(made)], ["--json", str(again), "--compare", str(made)]):
        bench = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.bench", *TINY, *options),
            cwd=ROOT,
            env=dict(os.environ),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, complained = await bench.communicate()
        assert bench.returncode == 0, complained.decode()
    figures = json.loads(again.read_text())

    assert figures["throughput"]["orders"] == figures["throughput"]["ended"]["CONFIRMED"] == 60
    assert figures["latency"]["orders"] == figures["latency"]["confirmed_ms"]["count"] == 20
    assert figures["throughput"]["refused"] == figures["latency"]["refused"] == {}
    assert {"gateway", "router", "executor", "redis", "total"} <= set(figures["throughput"]["cpu_ms_per_order"])
    assert all(figures["limits"][name] for name in ("hello", "appends", "rows"))
    assert "now" in said.decode()
