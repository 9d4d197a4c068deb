"""Run everything `docs/reliability.md` tells of, and write it: `make reliability`. About half an hour.

`python -m tests.reliability tests chaos` runs only these parts; without any it writes the page from what is there.
"""

import argparse
import asyncio
import json
import platform
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.reliability.durability import EVENTS, UNSYNCED_S, measure
from tests.reliability.matrix import MATRIX
from tests.reliability.render import DATA, PAGE, PARTS, ROOT, page

PYTHON = sys.executable
PARALLEL = ("-n", "auto", "--dist", "loadscope", "--no-loadscope-reorder")  # as `make test` has it


def run_tests(folder: Path) -> dict[str, Any]:
    """The tests of the matrix."""
    report = folder / "junit.xml"
    wanted = sorted({test for row in MATRIX for test in row.tests})
    files = sorted({test.partition("::")[0] for test in wanted})
    subprocess.run([PYTHON, "-m", "pytest", "-q", *PARALLEL, f"--junitxml={report}", *files], cwd=ROOT, check=False)
    results = dict(sorted(_result(case) for case in ET.parse(report).iter("testcase")))
    mine = {name: result for name, result in results.items() if name.partition("[")[0] in wanted}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "run": len(mine),
        "passed": sum(result == "passed" for result in mine.values()),
        "results": mine,
    }


def _result(case: ET.Element) -> tuple[str, str]:
    path = case.get("classname", "").replace(".", "/") + ".py"
    bad = next((child.tag for child in case if child.tag in {"failure", "error", "skipped"}), "passed")
    return f"{path}::{case.get('name')}", bad


def run_durability(folder: Path) -> list[dict[str, Any]]:
    """Every setting with every event."""
    cases = [(setting, event) for setting in UNSYNCED_S for event in EVENTS]
    return [asdict(asyncio.run(measure(*case, folder / f"durability-{number}"))) for number, case in enumerate(cases)]


def run_module(module: str, folder: Path) -> Any:
    """A command that writes its figures as JSON."""
    target = folder / f"{module}.json"
    subprocess.run([PYTHON, "-m", module, "--json", str(target)], cwd=ROOT, check=False)
    return json.loads(target.read_text())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="what to run")
    given = parser.parse_args()
    DATA.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="swaplog-reliability-") as scratch:
        folder = Path(scratch)
        runs: dict[str, Callable[[], Any]] = {
            "tests": lambda: run_tests(folder),
            "durability": lambda: run_durability(folder),
            "chaos": lambda: run_module("tests.fault.chaos", folder),
            "mutants": lambda: run_module("tests.mutants", folder),
        }
        for part in given.parts:
            figures = json.dumps(runs[part](), indent=1, ensure_ascii=False)
            (DATA / f"{part}.json").write_text(figures + "\n")
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
