"""The tables of `docs/api.md`, from the code that answers: `python -m services.gateway.describe docs/api.md`."""

import sys
from pathlib import Path

from libs.events.model import Reason
from libs.events.reactions import PERMANENT
from services.gateway.openapi import CLOSES
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
        "operations": [
            "| | | needs |",
            "|---|---|---|",
            *(f"| `{one.method.upper()} {one.path}` | {one.summary} | {_needs(one.scope)} |" for one in OPERATIONS),
        ],
        "codes": [
            "| code | status | | the same again may succeed |",
            "|---|---|---|---|",
            *(
                f"| `{code}` | {kind.status} | {kind.title} | {'yes' if kind.retryable else ''} |"
                for code, kind in KINDS.items()
            ),
        ],
        "reasons": [
            "| failure.code | tried again |",
            "|---|---|",
            *(f"| `{reason.value}` | {'no' if reason in PERMANENT else 'yes'} |" for reason in Reason),
        ],
        "closes": [
            "| closed with | means |",
            "|---|---|",
            *(f"| {code} | {why} |" for code, why in CLOSES.items()),
        ],
    }


def _needs(scope: str | None) -> str:
    return {None: "", "": "a login"}.get(scope, f"`{scope}`")


def main() -> None:
    path = Path(sys.argv[1])
    path.write_text(with_tables(path.read_text()))


if __name__ == "__main__":
    main()
