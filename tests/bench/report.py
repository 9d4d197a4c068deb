"""Figures as a page for people."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.bench.figures import flat, ratios

Lines = Iterator[str]


def page(figures: Mapping[str, Any]) -> str:
    """Everything worth reading, in the order one asks for it."""
    lines = [_named(figures["machine"])]
    for group in (name for name, part in figures.items() if isinstance(part, Mapping) and name != "machine"):
        if not figures[group]:
            continue
        lines += ["", f"== {group if group == 'once' else f'appendfsync {group}'}"]
        for name, part in figures[group].items():
            lines += ["", *_SHAPES.get(name, _plain)(name, part)] if part else []
    return "\n".join(lines)


def comparison(now: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """Every number both runs have, and how many times the older one the newer is."""
    found = ratios(now, before)
    width = max(map(len, found), default=0)
    lines = [
        f"{path:<{width}}  {new:>12} {old:>12}  {'' if ratio is None else f'{ratio:.2f} x'}"
        for path, (new, old, ratio) in found.items()
    ]
    return "\n".join([f"{'':<{width}}  {'now':>12} {'before':>12}", *lines])


def _named(values: Mapping[str, Any]) -> str:
    return "  ".join(f"{name}={value}" for name, value in values.items())


def _plain(name: str, part: Mapping[str, Any]) -> Lines:
    numbers = flat(part)
    width = max(map(len, numbers), default=0)
    yield name
    yield from (f"  {path:<{width}}  {number:>14,.{_digits(number)}f}" for path, number in numbers.items())


def _digits(number: float) -> int:
    return 0 if number == int(number) or number >= 1_000 else 3 if number < 10 else 1


def _stores(_name: str, part: Mapping[str, Any]) -> Lines:
    yield _named(part)


def _closed(name: str, part: Mapping[str, Any]) -> Lines:
    each = f", {part['size']:g} in each request" if part.get("size", 1) != 1 else ""
    runs = f" (medians of {len(part['runs'])} runs)" if "runs" in part else ""
    yield f"{name}: {part['orders']:g} orders as fast as {part['connections']:g} connections post them{each}{runs}"
    if "accepted_per_s" in part:
        yield f"  accepted   {part['accepted_per_s']:>8,.0f} /s"
    yield f"  completed  {part['completed_per_s']:>8,.0f} /s"
    if "post_ms" in part:
        yield _times("answered", part["post_ms"])
    yield from _outcome(part)


def _batches(name: str, part: Mapping[str, Any]) -> Lines:
    for sized in part.values():
        yield from _closed(name, sized)


def _cluster(_name: str, part: Mapping[str, Any]) -> Lines:
    for name, figures in part.items():
        yield from _closed(name, figures)
        walls = ", ".join(f"{one} {count:,}" for one, count in figures["carries_per_s"].items())
        yield f"  a core of each carries {walls} orders/s"


def _growth(_name: str, part: Mapping[str, Any]) -> Lines:
    yield "growth"
    for level in filter(str.isdigit, part):
        figures = part[level]
        yield f"  {figures['held']:,} orders in the store: CPU ms/order {figures['cpu_ms_per_order']['total']:.2f}"
        yield _times("newest page", figures["lists"]["newest_ms"])
        yield _times("midst page", figures["lists"]["deep_ms"])
    yield f"  an order with the most costs {part['cost_at_most_of_at_least']:.2f} times what it costs with the least"


def _beside(_name: str, part: Mapping[str, Any]) -> Lines:
    for name, figures in part["throughput"].items():
        yield from _closed(name, figures)
    for name, figures in part["latency"].items():
        yield from _open(name, figures)
    yield from _plain("ours divided by theirs", part["ours_of_theirs"])


def _open(name: str, part: Mapping[str, Any]) -> Lines:
    yield f"{name}: {part['orders']:g} orders at fixed times, {part['rate_per_s']:g}/s, counted from when each was due"
    yield _times("to 202", part["post_ms"])
    yield _times("to CONFIRMED", part["confirmed_ms"])
    yield _times("sent late", part["sent_late_ms"])
    yield from _outcome(part)


def _times(name: str, figures: Mapping[str, Any]) -> str:
    shown = "  ".join(f"{key} {figures[key]:,.1f}" for key in ("p50", "p95", "p99", "max") if key in figures)
    return f"  {name:<12} {shown} ms"


def _outcome(figures: Mapping[str, Any]) -> Lines:
    ended = ", ".join(f"{count:g} {status}" for status, count in figures["ended"].items()) or "none"
    yield f"  ended        {ended}; not ended: {figures['not_ended']:g}"
    if figures["refused"]:
        yield f"  refused      {figures['refused']}"
    if figures["trouble"]:
        yield f"  trouble      {figures['trouble']}"
    costs = "  ".join(f"{name} {cost:.2f}" for name, cost in figures["cpu_ms_per_order"].items())
    aside = f"generator {figures['generator_cpu_ms_per_order']:.2f}"
    yield f"  CPU ms/order {costs}  ({aside}); others used {figures['cores_used_by_others']:.2f} cores"
    yield f"  at this cost all cores would carry {figures['per_s_of_all_cores']:,} orders/s"


_SHAPES: dict[str, Callable[[str, Mapping[str, Any]], Lines]] = {
    "stores": _stores,
    "throughput": _closed,
    "watched": _closed,
    "batches": _batches,
    "latency": _open,
    "beside": _beside,
    "cluster": _cluster,
    "growth": _growth,
}
