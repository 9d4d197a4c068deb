"""The tables of `docs/api.md`, from the code that answers: `python -m services.gateway.describe docs/api.md`."""

import sys
from collections.abc import Iterable
from pathlib import Path

from services.gateway import meanings
from services.gateway.asyncapi import OPS, messages
from services.gateway.operations import OPERATIONS
from services.gateway.problems import KINDS


def with_tables(page: str) -> str:
    """`page` with what stands between each pair of markers made anew."""
    for name, rows in _tables().items():
        block = f"<!-- {name} -->\n" + "\n".join(rows) + f"\n<!-- end of {name} -->"
        before, _, rest = page.partition(f"<!-- {name} -->")
        page = before + block + rest.partition(f"<!-- end of {name} -->")[2]
    return page


def _tables() -> dict[str, list[str]]:
    return {
        "operations": _table(
            ("", "", "needs"),
            ((f"`{one.method.upper()} {one.path}`", one.summary, _needs(one.scope)) for one in OPERATIONS),
        ),
        "members": _table(("", ""), _coded(meanings.MEMBERS.items())),
        "ops": _table(("op", "members", ""), ((f"`{op}`", _named(given), about) for op, (given, about) in OPS.items())),
        "entry ops": _table(
            ("op", "members", "answered by"),
            ((f"`{op}`", f"`{given}`" if given else "", about) for op, (given, about) in meanings.ENTRY_OPS.items()),
        ),
        "messages": _table(("type", "means"), _coded(messages().items())),
        "closes": _table(("closed with", "means"), meanings.CLOSES.items()),
        "live errors": _table(("code", "means"), _coded(meanings.LIVE_ERRORS.items())),
        "codes": _table(
            ("code", "status", "", "the same again may succeed"),
            ((f"`{code}`", kind.status, kind.title, _yes(kind.retryable)) for code, kind in KINDS.items()),
        ),
        "field codes": _table(("errors[].code", "means"), _coded(meanings.FIELD_CODES.items())),
        "reasons": _table(
            ("failure.code", "stage", "means", "tried again"),
            (
                (f"`{reason.value}`", failure.stage, failure.means, _yes(failure.again))
                for reason, failure in meanings.FAILURES.items()
            ),
        ),
    }


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    head = list(head)
    return [_row(head), "|" + "---|" * len(head), *map(_row, rows)]


def _row(cells: Iterable[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _coded(pairs: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    return ((f"`{name}`", about) for name, about in pairs)


def _named(members: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in members)


def _yes(value: bool) -> str:
    return "yes" if value else ""


def _needs(scope: str | None) -> str:
    return {None: "", "": "a login"}.get(scope, f"`{scope}`")


def main() -> None:
    path = Path(sys.argv[1])
    path.write_text(with_tables(path.read_text()))


if __name__ == "__main__":
    main()
