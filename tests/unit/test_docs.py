"""What the documents say of the code is so."""

import re
import subprocess
from pathlib import Path

import pytest

from libs.service.describe import with_table
from services.gateway.describe import with_tables
from services.ops.__main__ import make_app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOT_IN_THE_CHECKOUT = ("data", ".venv", "../shared", "deploy/.env")  # made by the verbs, or beside the project


def test_the_configuration_table_is_that_of_the_settings() -> None:
    assert with_table(README) == README, "run: make docs"


def test_the_tables_of_the_api_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    assert with_tables(page) == page, "run: make docs"
    assert page.count("| `POST /api/orders` |") == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_named_is_there(page: Path) -> None:
    named = re.findall(r"`((?:services|libs|tests|deploy|docs|examples)/[\w./*-]+)`", page.read_text())
    for path in named:
        assert list(ROOT.glob(path.rstrip("/"))) or path.startswith(NOT_IN_THE_CHECKOUT), path


def test_every_function_of_the_journey_is_where_the_table_says() -> None:
    rows = [line.split("|")[2] for line in README.splitlines() if re.match(r"\| \w+ \| `(libs|services)/", line)]
    assert len(rows) >= 9
    for row in rows:
        for path, names in re.findall(r"`((?:libs|services)/[\w/]+\.\w+)`((?: `[\w.]+`)*)", row):
            text = (ROOT / path).read_text()
            for name in re.findall(r"`([\w.]+)`", names):
                for part in name.split("."):
                    assert re.search(rf"(def|class) {part}\b", text), f"{path} has no {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_verb_named_is_in_the_makefile(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for verb in re.findall(r"`make ([a-z-]+)", page.read_text()):
        assert re.search(rf"^{verb}:", makefile, re.MULTILINE), verb


def test_what_the_file_of_secrets_may_hold_is_passed_on_to_the_containers() -> None:
    compose = (ROOT / "deploy" / "compose.yaml").read_text()
    named = re.findall(r"`([A-Z_]+)`", README.partition("`deploy/.env` may also hold")[2].partition(";")[0])
    assert len(named) == 3
    for name in named:
        assert f"${{{name}:-" in compose, name


def test_every_swaplog_command_named_exists() -> None:
    commands = {name for name in make_app() if not name.startswith("-")}
    for command in re.findall(r"bin/swaplog (\w+)", README):
        assert command in commands


def test_every_example_is_run_by_a_test() -> None:
    commands = "".join(re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE))  # they are run, too
    tests = commands + "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for example in (ROOT / "examples").glob("*.py"):
        assert example.name in tests, example.name


def test_tracked_files_name_no_machine_and_no_registry() -> None:
    patterns = rf'{re.escape(str(ROOT))}|index-url|https?://[^ "]+\.(whl|tar\.gz|deb)'
    found = subprocess.run(
        ["git", "grep", "-nIE", patterns, "--", ".", ":!tests/unit/test_docs.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == ""
