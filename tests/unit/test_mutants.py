"""Every planted bug can still be planted: its text stands where it is said to stand."""

import ast
from pathlib import Path

import pytest

from tests.mutants.planted import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_fits_the_code(mutant: Mutant) -> None:
    code = (ROOT / mutant.path).read_text()
    assert code.count(mutant.old) == 1
    if mutant.path.endswith(".py"):
        ast.parse(code.replace(mutant.old, mutant.new))
    for test in mutant.tests:
        assert (ROOT / test.partition("::")[0]).exists()
