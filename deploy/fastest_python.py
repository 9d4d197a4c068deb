"""Prints the interpreter to make the environment with: `python3 deploy/fastest_python.py`. Needs no libraries.

Builds of one version differ by half in speed: those made without `--enable-optimizations`, as version managers make
them, are the slow ones. So of the interpreters on the PATH that have this one's version and can make environments, the
fastest is taken; this one, unless another is clearly faster.
"""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import median

CLEARLY = 0.9  # of the first one's time
ROUNDS = 9
WITHIN_S = 20
VERSION = sys.version_info[:2]

# Exits with an error where environments cannot be made; prints its real path and the CPU seconds the work took.
PROBE = f"""
import ensurepip, os, sys, time, venv
if sys.version_info[:2] != {VERSION} or sys.implementation.name != {sys.implementation.name!r}: sys.exit(1)
class Order:
    def __init__(self, number, name): self.number, self.name = number, name
    def label(self): return f"{{self.number}}:{{self.name}}"
def work():
    orders = {{}}
    for number in range(2000):
        order = Order(number, str(number))
        orders[order.name] = [len(part) for part in order.label().split(":")]
    return sorted(orders, key=lambda name: orders[name])
times = []
for _ in range(15):
    began = time.process_time(); work(); times.append(time.process_time() - began)
print(os.path.realpath(sys.executable), sorted(times)[7])
"""


def candidates(path: str) -> list[Path]:
    """This interpreter, then every other on the PATH that may have its version, each once."""
    names = ("python3", f"python{VERSION[0]}.{VERSION[1]}")
    found = [Path(sys.executable), *(Path(folder) / name for folder in path.split(os.pathsep) for name in names)]
    return _first_of_each((os.path.realpath(each), each) for each in found if os.access(each, os.X_OK))


def probe(interpreter: Path) -> tuple[str, float] | None:
    """Its real path and how many CPU seconds it takes for some work; None: it will not do."""
    try:
        told = subprocess.run(  # noqa: S603 - interpreters on the caller's own PATH
            [interpreter, "-I", "-c", PROBE], capture_output=True, text=True, timeout=WITHIN_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    where, seconds = told.stdout.rsplit(maxsplit=1)
    return where, float(seconds)


def fastest(interpreters: Iterable[Path]) -> str:
    """In rounds, each against the first in its own round, and by the middle one of them: neither a moment's load nor a
    machine that is twice as fast a moment later must decide.

    The first stays unless another is clearly faster; empty: none will do.
    """
    shares: dict[str, list[float]] = {}
    left = list(interpreters)
    for _ in range(ROUNDS):
        measured = [(each, told) for each in left if (told := probe(each))]
        # Of those that lead to the same one, as version managers' stand-ins do, one is enough.
        left = _first_of_each((where, each) for each, (where, _) in measured)
        for _, (where, seconds) in measured:
            shares.setdefault(where, []).append(seconds / measured[0][1][1])
        if len(left) < 2:
            break
    if not shares:
        return ""
    first, best = next(iter(shares)), min(shares, key=lambda where: median(shares[where]))
    return best if median(shares[best]) < CLEARLY else first


def _first_of_each(found: Iterable[tuple[str, Path]]) -> list[Path]:
    kept: dict[str, Path] = {}
    for where, each in found:
        kept.setdefault(where, each)
    return list(kept.values())


if __name__ == "__main__":
    sys.stdout.write(fastest(candidates(os.environ.get("PATH", ""))) or sys.executable)
