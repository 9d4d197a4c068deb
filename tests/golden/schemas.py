"""Whether readers made for one schema can read what is written by another of the same version."""

from collections.abc import Iterator, Mapping
from typing import Any

_SAID_ONLY = frozenset({"description", "title", "$schema", "examples", "default"})


def incompatibilities(old: Mapping[str, Any], new: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """Where a reader of `old` might stumble over what `new` describes. Only new optional fields are none."""
    for key in sorted((old.keys() | new.keys()) - _SAID_ONLY):
        before, after, where = old.get(key), new.get(key), f"{at}/{key}"
        if key in {"properties", "$defs"}:
            yield from _members(before or {}, after or {}, where)
        elif key == "required":
            if set(before or ()) != set(after or ()):
                yield f"{where}: {before} is now {after}"
        elif isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from incompatibilities(before, after, where)
        elif before != after:
            yield f"{where}: {before} is now {after}"


def _members(before: Mapping[str, Any], after: Mapping[str, Any], at: str) -> Iterator[str]:
    for name, schema in before.items():
        if name not in after:
            yield f"{at}/{name} is gone"
        else:
            yield from incompatibilities(schema, after[name], f"{at}/{name}")
