"""`make` makes the environment it runs in, whatever an earlier attempt left."""

import os
import shutil
import subprocess
from pathlib import Path

MAKEFILE = Path(__file__).parents[2] / "Makefile"


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_one_whose_making_was_interrupted_is_made_to_its_end(tmp_path: Path) -> None:
    shutil.copy(MAKEFILE, tmp_path)
    for name in ("constraints.txt", "pyproject.toml"):
        (tmp_path / name).touch()
    half = script(tmp_path / ".venv/bin/python", "echo No module named pip >&2; exit 1")
    whole = script(tmp_path / "whole", "exit 0")
    python = script(tmp_path / "python", f'[ "$2" != venv ] || {{ mkdir -p {half.parent} && cp {whole} {half}; }}')
    make = ["make", "-C", str(tmp_path), ".venv/.ready", f"PYTHON={python}"]
    environ = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL"}}
    done = subprocess.run(make, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / ".venv/.ready").exists()
