"""The reliability page says what was measured, and every test it names is there."""

import re
from pathlib import Path

import pytest

from tests.reliability.matrix import MATRIX
from tests.reliability.render import PAGE, page

ROOT = Path(__file__).parents[2]
TESTS = sorted({test for row in MATRIX for test in row.tests})


def test_the_page_is_made_from_the_figures() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.reliability"


@pytest.mark.parametrize("test", TESTS)
def test_a_test_of_the_matrix_exists(test: str) -> None:
    path, _, name = test.partition("::")
    assert re.search(rf"def {name}\(", (ROOT / path).read_text())


def test_every_fault_test_stands_in_the_matrix() -> None:
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests" / "fault").glob("test_*.py")}
    # Of the machine, and of the world.
    ours = {f"tests/fault/test_{name}.py" for name in ("supervisor", "starting", "fork_server", "localnet_kill")}
    assert files - ours <= {test.partition("::")[0] for test in TESTS}
