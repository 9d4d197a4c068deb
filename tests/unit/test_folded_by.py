"""By what a rebuild knows that other code folded what is there."""

from pathlib import Path
from types import ModuleType

import pytest

from libs.events import envelope, model, reactions, upcast
from libs.orders import copy_text, folding, heads, named, projection, refolding, rows, sql

FOLDING = (
    *(envelope, model, reactions, upcast),
    *(copy_text, folding, heads, named, projection, refolding, rows, sql),
)


@pytest.mark.parametrize("module", FOLDING, ids=lambda module: module.__name__)
def test_whatever_is_mended_of_what_makes_a_row_it_is_other_code(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = refolding.folded_by()
    mended = tmp_path / "mended.py"
    mended.write_bytes(Path(str(module.__file__)).read_bytes() + b"# mended\n")
    monkeypatch.setattr(module, "__file__", str(mended))
    assert refolding.folded_by() != before
