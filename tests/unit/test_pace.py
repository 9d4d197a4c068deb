"""How long a reader lets the log gather: not at all while little happens, and never longer than its limit."""

from pathlib import Path

from libs.events.cores import Cores
from libs.events.pace import MEASURED_OVER_S, Pace

ALWAYS_SHORT = Cores(files=[])


def paced(per_s: float, cores: Cores = ALWAYS_SHORT) -> float:
    pace, now_s = Pace(5, 0.5, cores), 100.0
    pace.pause_s(now_s, 0)
    for _ in range(200):
        now_s += 0.001
        pause_s = pace.pause_s(now_s, round(per_s / 1_000))
    return pause_s


def test_a_quiet_log_is_read_at_once() -> None:
    assert paced(0) == 0


def test_the_busier_the_log_the_longer_it_gathers() -> None:
    assert 0.0015 < paced(4_000) < 0.0025
    assert paced(1_000) < paced(2_000) < paced(8_000)


def test_nobody_waits_longer_than_the_limit() -> None:
    assert paced(1_000_000) == 0.005


def test_nobody_waits_while_cores_are_free(tmp_path: Path) -> None:
    file = tmp_path / "cpu"
    file.write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n")
    assert paced(1_000_000, Cores([str(file)])) == 0


def test_a_burst_after_silence_is_not_held_up() -> None:
    pace = Pace(5, 0.5, ALWAYS_SHORT)
    pace.pause_s(0, 0)
    assert pace.pause_s(60, 20) < 0.0001
    assert pace.pause_s(60 + MEASURED_OVER_S / 2, 500) < 0.0001
