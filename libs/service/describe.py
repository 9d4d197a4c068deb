"""The README's configuration table, made from the settings: `python -m libs.service.describe`."""

import re
from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from libs.service.settings import Settings

BEGIN, END = "<!-- settings: make docs -->", "<!-- end of settings -->"
README = Path("README.md")


def settings_table() -> str:
    """Every variable, its default and its meaning, as Markdown."""
    rows = [f"| `{name.upper()}` | {_default(field)} | {field.description} |" for name, field in _fields()]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows])


def with_table(readme: str) -> str:
    """The README with the table as it should be.

    Raises:
        ValueError: the marks between which the table stands are missing.
    """
    made, count = re.subn(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}",
        lambda _: f"{BEGIN}\n{settings_table()}\n{END}",
        readme,
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"the README must hold {BEGIN} … {END} once")
    return made


def _fields() -> list[tuple[str, FieldInfo]]:
    return list(Settings.model_fields.items())


def _default(field: FieldInfo) -> str:
    value = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    return f"`{value}`" if value not in ("", None) else ""


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
