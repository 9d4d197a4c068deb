"""What `make env` and the compose file give to each container."""

import re
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

from deploy.local.keys import MAKERS, PASSWORDS, make_env_file
from deploy.local.roster import services, told_to
from libs.service.settings import load_settings

FILE = Path(__file__).parents[2] / "deploy" / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
CONTAINERS: dict[str, dict[str, Any]] = COMPOSE["services"]
SECRETS = {"JWT_SECRET": "a", "JWT_SECRETS_OLD": "b", "WALLET_SECRET": "c", "DATABASE_URL": "d", "REDIS_URL": "e"}


def test_a_container_is_told_the_secrets_its_service_is_told_by_make_run() -> None:
    for service in services(load_settings(environ={})):
        told = CONTAINERS[service.name]["environment"].keys() & SECRETS.keys()
        assert told == told_to(service.name, SECRETS).keys(), service.name


def test_only_containers_that_speak_with_the_world_outside_reach_it() -> None:
    outside = {name for name, container in CONTAINERS.items() if "outside" in container["networks"]}
    assert outside == {"gateway", "router", "executor", "localnet"}
    assert COMPOSE["networks"]["stores"]["internal"]
    published = [name for name, container in CONTAINERS.items() if "ports" in container]
    assert published == ["gateway"]
    assert all(port.startswith("127.0.0.1:") for port in CONTAINERS["gateway"]["ports"])


def test_no_container_fills_the_disk_with_its_logs() -> None:
    """Docker's own way keeps every line for ever."""
    assert len(CONTAINERS) == 9
    for name, container in CONTAINERS.items():
        assert "max-size" in container["logging"]["options"], name


def test_every_secret_the_file_asks_for_is_made_once_and_what_is_there_stays(tmp_path: Path) -> None:
    asked = set(re.findall(r"\$\{([A-Z_]+):\?", FILE.read_text()))
    path = tmp_path / "env"
    path.write_text("PORT=18080\nJWT_SECRET=mine, of an earlier release")
    assert set(make_env_file(path)) == asked - {"JWT_SECRET"}
    assert asked == MAKERS.keys() | PASSWORDS.keys()
    values = dict(line.split("=", 1) for line in path.read_text().splitlines())
    assert values.keys() == asked | {"PORT"}
    assert values["JWT_SECRET"] == "mine, of an earlier release"
    assert len(set(values.values())) == len(values)
    assert path.stat().st_mode & 0o077 == 0
    before = path.read_text()
    assert make_env_file(path) == []
    assert path.read_text() == before
