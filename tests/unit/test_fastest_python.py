"""Which interpreter `make` takes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.fastest_python import candidates, fastest, probe


def stand_in(folder: Path, name: str, *said: str) -> Path:
    """An interpreter that says the next of `said` each time it is asked, and the last one from then on."""
    folder.mkdir(exist_ok=True)
    found, asked = folder / name, folder / f"{name}.asked"
    asked.write_text("\n".join(said) + "\n")
    found.write_text(
        f"#!/bin/sh\nhead -n1 {asked}; [ $(wc -l < {asked}) -gt 1 ] && sed -i 1d {asked}\n"
        f'[ -n "$(head -n1 {asked})" ]\n'
    )
    found.chmod(0o755)
    return found


def test_a_clearly_faster_build_is_taken(tmp_path: Path) -> None:
    slow, fast = stand_in(tmp_path, "slow", "/slow 0.003"), stand_in(tmp_path, "fast", "/fast 0.002")
    assert fastest([slow, fast]) == "/fast"
    assert fastest([fast, slow]) == "/fast"


def test_the_first_stays_when_others_are_hardly_faster(tmp_path: Path) -> None:
    first, other = stand_in(tmp_path, "first", "/first 0.00300"), stand_in(tmp_path, "other", "/other 0.00295")
    assert fastest([first, other]) == "/first"


def test_a_moments_load_does_not_decide(tmp_path: Path) -> None:
    fast = stand_in(tmp_path, "fast", "/fast 0.009", "/fast 0.002", "/fast 0.009", "/fast 0.002")
    slow = stand_in(tmp_path, "slow", "/slow 0.001", "/slow 0.003")
    assert fastest([slow, fast]) == "/fast"


def test_a_machine_that_is_half_as_fast_from_some_moment_on_does_not_decide(tmp_path: Path) -> None:
    slow = stand_in(tmp_path, "slow", *["/slow 0.003"] * 5, "/slow 0.006")
    fast = stand_in(tmp_path, "fast", *["/fast 0.002"] * 3, "/fast 0.004")
    assert fastest([slow, fast]) == "/fast"


def test_what_cannot_make_environments_is_not_taken(tmp_path: Path) -> None:
    good = stand_in(tmp_path, "good", "/good 0.003")
    assert fastest([tmp_path / "missing", stand_in(tmp_path, "broken", ""), good]) == "/good"
    assert fastest([tmp_path / "missing"]) == ""


def test_another_version_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.fastest_python.PROBE", "import sys; sys.exit(1)")
    assert probe(Path(sys.executable)) is None


def test_each_on_the_path_is_a_candidate_once(tmp_path: Path) -> None:
    one = stand_in(tmp_path / "one", "python3", "/one 1")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "python3").symlink_to(one)
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    three = stand_in(tmp_path / "three", name, "/three 1")
    (tmp_path / "three" / "python3").write_text("not executable")
    path = os.pathsep.join(str(tmp_path / each) for each in ("one", "two", "three", "missing"))
    assert candidates(path) == [Path(sys.executable), one, three]


def test_this_one_is_first_however_often_the_path_leads_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On many systems /bin is /usr/bin."""
    this, other = stand_in(tmp_path / "one", "python3", "/one 1"), stand_in(tmp_path / "two", "python3", "/two 1")
    (tmp_path / "again").symlink_to(tmp_path / "one")
    monkeypatch.setattr(sys, "executable", str(this))
    path = os.pathsep.join(str(tmp_path / each) for each in ("one", "two", "again"))
    assert candidates(path) == [this, other]


def test_what_it_prints_can_be_run() -> None:
    told = subprocess.run([sys.executable, "deploy/fastest_python.py"], capture_output=True, text=True, check=True)
    version = "import sys; print(*sys.version_info[:2])"
    said = subprocess.run([told.stdout, "-c", version], capture_output=True, text=True, check=True)
    assert said.stdout.split() == [str(part) for part in sys.version_info[:2]]
