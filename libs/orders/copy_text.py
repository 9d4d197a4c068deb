"""Rows as the text that COPY reads: joined and looked at a hundred at a time, because that costs next to nothing."""

from collections.abc import Iterable, Sequence

# Between columns, and in place of a null. JSON holds neither, nor does anything people type.
DELIMITER, NULL = "\x01", "\x02"


def text_of(lines: Sequence[str], columns: int, nulls: int = 0) -> bytes | None:
    """The lines as text; None where a value holds what stands between them, or for a null."""
    text = "\n".join(lines)
    between = (text.count("\n"), text.count(DELIMITER))
    if between != (len(lines) - 1, len(lines) * (columns - 1)) or "\r" in text:
        return None
    if nulls != (text.count(NULL) if nulls or NULL in text else 0):
        return None
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    return f"{text}\n".encode()


def line_of(row: Sequence[object]) -> str:
    """A row as a line."""
    return DELIMITER.join(map(_text, row))


def text_of_array(numbers: Iterable[int]) -> str:
    """An array as text."""
    return f"{{{','.join(map(str, numbers))}}}"


def _text(value: object) -> str:
    if value is None:
        return NULL
    return text_of_array(value) if isinstance(value, list) else str(value)
