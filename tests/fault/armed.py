"""Starts a service that will crash at the next point of its list: `python -m tests.fault.armed FOLDER SERVICE`.

`FOLDER/SERVICE` holds one point a line. A point that did its work has left a marker, so every start takes the next
one, and after the last one the service runs as ever.
"""

import os
import runpy
import sys
from pathlib import Path


def marker(folder: Path, service: str, point: str) -> Path:
    """Made when the service has crashed at the point."""
    return folder / f"{service}.{point}.crashed"


def arm(folder: Path, service: str) -> None:
    """Set the environment for the next point, if one is left."""
    for point in (folder / service).read_text().split():
        once = marker(folder, service, point)
        if not once.exists():
            os.environ |= {"CRASH_POINT": point, "CRASH_ONCE": str(once)}
            return


def hurry() -> None:
    """What happens every ten seconds must happen while a test waits; and a crash of ours is no poisonous order."""
    from libs.events.worker_limits import WorkerLimits  # noqa: PLC0415 - after the environment is set
    from services.executor import settling  # noqa: PLC0415

    changed = {"deliveries_max": 1_000, "renew_every_s": 0.2, "claim_every_s": 0.2, "retry_base_s": 0.02}
    given = dict(zip(WorkerLimits.__slots__, WorkerLimits.__init__.__defaults__ or (), strict=True))
    WorkerLimits.__init__.__defaults__ = tuple({**given, **changed}.values())
    settling.RESEND_MS = 300


def main() -> None:
    folder, service = Path(sys.argv[1]), sys.argv[2]
    arm(folder, service)
    if service in {"router", "executor"}:
        hurry()
    runpy.run_module(f"services.{service}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
