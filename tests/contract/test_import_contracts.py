"""Every import contract notices what it is there for: a copy of the tree gets one bad import per contract."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("services", "libs", "deploy", "tests")

# Contract, module that gets the import, and the import.
PLANTED = [
    ("direction", "libs/events/model.py", "import deploy.local.ports"),
    ("services-apart", "services/router/handlers.py", "import services.executor.domain"),
    ("libs-stack", "libs/service/health.py", "import libs.events.model"),
    ("client-stands-alone", "libs/client/types.py", "import libs.events.model"),
    ("orders-know-no-service-kit", "libs/orders/views.py", "import libs.service.settings"),
    ("log-stack", "libs/events/order.py", "import libs.events.log"),
    ("inside-a-service", "services/executor/domain.py", "import services.executor.handlers"),
    ("pure-decisions", "libs/quoting/choice.py", "import random"),
    ("one-door", "services/notifier/hub.py", "import asyncpg"),
    ("wiring", "services/router/handlers.py", "import libs.events.redis_log"),
    ("order-table", "services/router/handlers.py", "import libs.orders.store"),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of all code and its contracts; nothing in it is amiss."""
    tree = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    assert (sound := lint(tree)).returncode == 0, sound.stdout
    return tree


def lint(tree: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    chosen = [part for contract in contracts for part in ("--contract", contract)]
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache", *chosen],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_contract_has_a_violation_planted() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = [contract["id"] for contract in config["tool"]["importlinter"]["contracts"]]
    assert contracts == [contract for contract, _, _ in PLANTED]


@pytest.mark.parametrize(("contract", "module", "statement"), PLANTED)
def test_a_planted_violation_is_found(tree: Path, contract: str, module: str, statement: str) -> None:
    path = tree / module
    sound = path.read_text()
    path.write_text(f"{sound}\n{statement}\n")
    after = lint(tree, contract)
    path.write_text(sound)
    assert after.returncode == 1
    importer = module.removesuffix(".py").replace("/", ".")
    assert importer in after.stdout
    assert statement.removeprefix("import ").split(".", maxsplit=1)[0] in after.stdout
