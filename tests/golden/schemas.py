"""Whether readers made for one schema can read what is written by another of the same version."""

from collections.abc import Iterator, Mapping
from typing import Any

_SAID_ONLY = frozenset({"description", "title", "$schema", "examples", "default"})


def incompatibilities(old: Mapping[str, Any], new: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """Where a reader of `old` might stumble over what `new` describes.

    Only new optional fields are none, and new codes where `old` takes any text beside those it knows.
    """
    open_enums = set(_open_enums(old))
    yield from (each for each in _differences(old, new, at) if not open_enums or not each.startswith(tuple(open_enums)))


def _open_enums(schema: Any) -> Iterator[str]:
    """Where enums stand that are only ever one choice beside any text."""
    if isinstance(schema, Mapping):
        choices = schema.get("anyOf", ())
        if {"type": "string"} in choices:
            yield from (f"/{choice['$ref'].removeprefix('#/')}/enum" for choice in choices if "$ref" in choice)
        for value in schema.values():
            yield from _open_enums(value)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], at: str) -> Iterator[str]:
    for key in sorted((old.keys() | new.keys()) - _SAID_ONLY):
        before, after, where = old.get(key), new.get(key), f"{at}/{key}"
        if key in {"properties", "$defs"}:
            yield from _members(before or {}, after or {}, where)
        elif key == "required":
            if set(before or ()) != set(after or ()):
                yield f"{where}: {before} is now {after}"
        elif isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _differences(before, after, where)
        elif before != after:
            yield f"{where}: {before} is now {after}"


def _members(before: Mapping[str, Any], after: Mapping[str, Any], at: str) -> Iterator[str]:
    for name, schema in before.items():
        if name not in after:
            yield f"{at}/{name} is gone"
        else:
            yield from _differences(schema, after[name], f"{at}/{name}")
