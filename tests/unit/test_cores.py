"""How short cores are, told by how long some process waited for one."""

from pathlib import Path

import pytest

from libs.events.cores import BEARABLE, LOOK_EVERY_S, PRESSURE_FILES, Cores


class Machine:
    """The files of its kernel, and its clock."""

    def __init__(self, folder: Path) -> None:
        self.machine, self.container = folder / "machine", folder / "container"
        self.now_s, self._waited_us = 50.0, dict.fromkeys((self.machine, self.container), 7_000_000.0)
        self.cores = Cores(map(str, self._write()))

    def _write(self) -> list[Path]:
        for path, waited_us in self._waited_us.items():
            path.write_text(f"some avg10=0.13 avg60=8.79 avg300=18.79 total={waited_us:.0f}\nfull avg10=0.00 total=0\n")
        return list(self._waited_us)

    def passes(self, seconds: float, waiting: float, in_container: float = 0.0) -> float:
        """How short cores are after so many seconds, looked at often, of which these shares were waited."""
        for _ in range(round(seconds * 20)):
            self.now_s += 0.05
            self._waited_us[self.machine] += 50_000 * waiting
            self._waited_us[self.container] += 50_000 * in_container
            self._write()
            short = self.cores.short(self.now_s)
        return short


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_they_are_free_at_first_and_stay_so_while_few_wait(machine: Machine) -> None:
    assert machine.passes(10, waiting=BEARABLE - 0.1) == 0


def test_they_are_short_within_a_second_once_somebody_always_waits(machine: Machine) -> None:
    assert machine.passes(1.5, waiting=1) == 1


def test_they_stay_as_short_as_they_are_where_the_waiting_is_bearable(machine: Machine) -> None:
    machine.passes(0.5, waiting=1)
    half = machine.passes(0.5, waiting=BEARABLE)
    assert 0 < half < 1
    assert machine.passes(5, waiting=BEARABLE) == pytest.approx(half)


def test_they_are_free_again_when_nobody_waits(machine: Machine) -> None:
    machine.passes(5, waiting=1)
    assert machine.passes(2, waiting=0) == 0


def test_a_container_may_be_short_of_cores_on_an_idle_machine(machine: Machine) -> None:
    assert machine.passes(2, waiting=0, in_container=0.9) == 1


def test_what_was_long_ago_counts_no_more_than_a_look(machine: Machine) -> None:
    machine.passes(1, waiting=0)
    machine.now_s += 3_600
    assert machine.passes(LOOK_EVERY_S, waiting=1) < 0.6


@pytest.mark.parametrize("text", [None, "", "some avg10=0.00\n", "some avg10=0.00 total=many\n"])
def test_where_the_kernel_does_not_tell_cores_are_short(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "cpu"
    if text is not None:
        file.write_text(text)
    cores = Cores([str(file)])
    assert cores.short(1.0) == 1
    assert cores.short(9.0) == 1


def test_a_file_that_ends_being_told_leaves_it_as_it_was(machine: Machine) -> None:
    machine.passes(5, waiting=1)
    machine.machine.write_text("")
    machine.container.write_text("")
    assert machine.cores.short(machine.now_s + 60) == 1


@pytest.mark.skipif(not Path(PRESSURE_FILES[0]).exists(), reason="this kernel tells no pressure (PSI)")
def test_this_kernel_is_understood() -> None:
    assert Cores(PRESSURE_FILES[:1]).short(0.0) == 0
