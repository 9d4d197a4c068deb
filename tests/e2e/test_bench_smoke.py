"""The bench measures what it says it does; how fast that was is no test's business."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.bench.fanout import SINGLE
from tests.bench.report import comparison

ROOT = Path(__file__).parents[2]
TINY = {"orders": 60, "connections": 8, "users": 2, "runs": 1, "rate": 20, "seconds": 1, "limit-count": 200}
LOAD = "throughput,watched,batches,latency,rest,hello,appends"


async def benched(tmp_path: Path, *options: str) -> tuple[dict[str, Any], str]:
    """What a bench measured, and the page it printed."""
    made = tmp_path / "figures.json"
    bench = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench", "--aof=everysec", *options, f"--json={made}"),
        cwd=ROOT,
        env=dict(os.environ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        said, complained = await bench.communicate()
    finally:
        if bench.returncode is None:
            bench.terminate()
            await bench.wait()
    assert bench.returncode == 0, complained.decode()
    return json.loads(made.read_text()), said.decode()


async def test_a_tiny_bench_gives_every_figure_and_loses_no_order(tmp_path: Path) -> None:
    options = [f"--{name}={value}" for name, value in TINY.items()]
    figures, said = await benched(tmp_path, f"--only={LOAD}", "--batches=25", *options)

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
    assert of_stack["rest"]["percent_of_a_core"]["total"] >= 0
    limits = {**of_stack["appends"], **figures["once"]["hello"]}
    assert all(rate > 0 for name, rate in limits.items() if "per_s" in name)
    assert "60 orders as fast as 8 connections post them" in said
    assert "everysec.throughput.completed_per_s" in comparison(figures, figures)


async def test_workers_and_projector_are_measured_to_the_last_event(tmp_path: Path) -> None:
    figures, _ = await benched(tmp_path, "--only=router,executor,projector", "--limit-count=200")

    router, executor, projector = (
        figures["everysec"]["router"], figures["everysec"]["executor"], figures["once"]["projector"]
    )  # fmt: skip
    assert router["orders"] == router["accepted"] == executor["accepted"] == 200
    assert (router["events"], executor["events"], executor["steps"]) == (400, 400, 400)
    assert projector["rebuild"]["events"] == 1_000
    assert all(figure > 0 for name, figure in projector["batches_of"]["500"].items() if "_per_s" in name)


async def test_a_fan_out_reaches_every_socket_also_after_a_kill(tmp_path: Path) -> None:
    figures, _ = await benched(tmp_path, "--only=fanout", "--sockets=40")

    fanout = figures["once"]["fanout"]
    assert fanout["single"]["delivery_ms"]["count"] == 40 * SINGLE
    assert fanout["burst"]["messages_per_s"] > 0
    assert fanout["trouble"] == ""


async def test_history_is_printed_and_folded_to_the_last_event(tmp_path: Path) -> None:
    figures, _ = await benched(tmp_path, "--only=history", "--history=10000")

    history = figures["once"]["history"]
    assert history["printed"]["events"] == history["rebuild"]["events"] == 10_000
    assert history["printed"]["trouble"] == history["rebuild"]["trouble"] == ""


async def test_a_store_grows_and_is_listed_at_every_size(tmp_path: Path) -> None:
    options = [f"--{name}={value}" for name, value in TINY.items()]
    figures, said = await benched(tmp_path, "--only=growth", "--levels=80,800", *options)

    growth = figures["once"]["growth"]
    assert growth["80"]["held"] < growth["800"]["held"]
    assert growth["800"]["held"] >= 800
    assert all(len(growth[level]["lists"]) == 2 for level in ("80", "800"))
    assert "orders in the store" in said
