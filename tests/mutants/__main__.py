"""Plant each bug in a copy of the project and see the tests turn red: `make mutants`. Exit code 1: one passed."""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.planted import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
TESTS_FAILED = 1  # pytest's exit code; anything above says that the tests could not run
NOT_COPIED = shutil.ignore_patterns(".venv", "data", ".git", "__pycache__", ".*_cache", ".hypothesis")
SECONDS_MAX = 400


def run_tests(folder: Path, tests: Sequence[str]) -> tuple[int, str]:
    """pytest's exit code, and the first test that failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--tb=no", *tests]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    failed = [line.partition(" - ")[0] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode, failed[0].partition(" ")[2] if failed else ""


def planted(folder: Path, mutant: Mutant) -> str:
    """The test that found it, or ""."""
    path = folder / mutant.path
    sound = path.read_text()
    path.write_text(sound.replace(mutant.old, mutant.new))
    try:
        code, found_by = run_tests(folder, mutant.tests)
    finally:
        path.write_text(sound)
    return found_by if code == TESTS_FAILED else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("words", nargs="*", help="only those with one of these in their names")
    parser.add_argument("--json", type=Path, help="write the table there as well")
    given = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if not given.words or any(word in mutant.name for word in given.words)]
    table: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="swaplog-mutants-") as scratch:
        folder = Path(scratch) / "project"
        shutil.copytree(ROOT, folder, ignore=NOT_COPIED)
        for mutant in chosen:
            began = time.monotonic()
            found_by = table[mutant.name] = planted(folder, mutant)
            sys.stdout.write(f"{mutant.name}: {found_by or 'NOT FOUND'} ({time.monotonic() - began:.0f} s)\n")
            sys.stdout.flush()
    missed = [name for name, found_by in table.items() if not found_by]
    sys.stdout.write(f"{len(table) - len(missed)} of {len(table)} planted bugs found\n")
    if given.json:
        given.json.write_text(json.dumps(table, indent=2) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
