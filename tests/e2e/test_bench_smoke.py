"""The bench measures what it says it does; how fast that was is no test's business."""

import asyncio
import json
import os
import sys
from pathlib import Path

from tests.bench.report import comparison

ROOT = Path(__file__).parents[2]
TINY = {"orders": 60, "connections": 8, "users": 2, "runs": 1, "rate": 20, "seconds": 1, "limit-count": 200}
PARTS = "throughput,watched,batches,latency,hello,appends"


async def test_a_tiny_bench_gives_every_figure_and_loses_no_order(tmp_path: Path) -> None:
    made = tmp_path / "figures.json"
    options = [f"--{name}={value}" for name, value in TINY.items()]
    bench = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.bench", "--aof=everysec", "--batches=25", f"--only={PARTS}", *options, f"--json={made}"),
        cwd=ROOT,
        env=dict(os.environ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await bench.communicate()
    assert bench.returncode == 0, complained.decode()
    figures = json.loads(made.read_text())

    of_stack = figures["everysec"]
    closed, batch, opened = of_stack["throughput"], of_stack["batches"]["25"], of_stack["latency"]
    assert of_stack["stores"]["appendfsync"] == "everysec"
    assert closed["orders"] == closed["accepted"] == closed["ended"]["CONFIRMED"] == 60
    assert batch["orders"] == batch["accepted"] == batch["ended"]["CONFIRMED"] == 60
    assert batch["post_ms"]["count"] == 3
    assert of_stack["watched"]["messages"] >= 60 * 5
    assert opened["orders"] == opened["confirmed_ms"]["count"] == opened["post_ms"]["count"] == 20
    assert closed["refused"] == opened["refused"] == {}
    assert {"gateway", "router", "executor", "projector", "notifier", "localnet", "redis", "postgres", "total"} == set(
        closed["cpu_ms_per_order"]
    )
    limits = {**of_stack["appends"], **figures["once"]["hello"]}
    assert all(rate > 0 for name, rate in limits.items() if "per_s" in name)
    assert "60 orders as fast as 8 connections post them" in said.decode()
    assert "everysec.throughput.completed_per_s" in comparison(figures, figures)
