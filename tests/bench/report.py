"""Figures as a page for people."""

from collections.abc import Mapping
from typing import Any

from tests.bench.figures import ratios

EVENTS_PER_ORDER = 5


def page(figures: Mapping[str, Any]) -> str:
    """Everything worth reading, in the order one asks for it."""
    closed, opened = figures["throughput"], figures["latency"]
    many = f"{closed['orders']} orders as fast as {closed['connections']} connections post them"
    timed = f"{opened['orders']} orders at fixed times, {opened['rate_per_s']:g}/s"
    lines = [
        "  ".join(f"{name}={value}" for name, value in figures["machine"].items()),
        "",
        f"{many} (medians of {figures['runs']} runs)",
        f"  accepted   {closed['accepted_per_s']:>8,.0f} /s",
        f"  completed  {closed['completed_per_s']:>8,.0f} /s",
        _times("POST to 202", closed["post_ms"]),
        *_outcome(closed),
        _cpu(closed),
        "",
        f"{timed}; latencies count from when each was due",
        _times("to 202", opened["post_ms"]),
        _times("to CONFIRMED", opened["confirmed_ms"]),
        _times("sent late", opened["sent_late_ms"]),
        *_outcome(opened),
        _cpu(opened),
        "",
        "what the parts can do by themselves, in the same run",
        *(f"  {name:<36} {value:>10,.0f} /s" for name, value in _rates(figures["limits"])),
        "",
        "shares of that",
        *(f"  {name:<58} {value:.2f}" for name, value in figures["ratios"].items()),
    ]
    return "\n".join(lines)


def shares(figures: Mapping[str, Any]) -> dict[str, float]:
    """The figures against the limits of the same run: these may be compared between machines."""
    closed, limits = figures["throughput"], figures["limits"]
    gateway = closed["cpu_ms_per_order"].get("gateway", 0.0)
    events = closed["completed_per_s"] * EVENTS_PER_ORDER
    return {
        "accepted / hello POSTs": _share(closed["accepted_per_s"], limits["hello"]["per_s"]),
        "gateway CPU per order / hello CPU per POST": _share(gateway, limits["hello"]["server_cpu_ms_per_post"]),
        "events written / appends in raw batches": _share(events, limits["appends"]["raw_batched_per_s"]),
        "events written / appends through the group commit": _share(events, limits["appends"]["group_commit_per_s"]),
        "events archived / COPY rows": _share(events, limits["rows"]["copy_per_s"]),
    }


def comparison(now: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """Every number both runs have, and how many times the older one the newer is."""
    found = ratios(now, before)
    width = max(map(len, found), default=0)
    lines = [
        f"{path:<{width}}  {new:>12} {old:>12}  {'' if ratio is None else f'{ratio:.2f} x'}"
        for path, (new, old, ratio) in found.items()
    ]
    return "\n".join([f"{'':<{width}}  {'now':>12} {'before':>12}", *lines])


def _share(part: float, whole: float) -> float:
    return round(part / whole, 3) if whole else 0.0


def _times(name: str, figures: Mapping[str, Any]) -> str:
    shown = "  ".join(f"{key} {figures[key]:,.1f}" for key in ("p50", "p95", "p99", "max") if key in figures)
    return f"  {name:<12} {shown} ms"


def _outcome(figures: Mapping[str, Any]) -> list[str]:
    ended = ", ".join(f"{count:g} {status}" for status, count in figures["ended"].items()) or "none"
    lines = [f"  ended        {ended}; not ended: {figures['not_ended']:g}"]
    if figures["refused"]:
        lines.append(f"  refused      {figures['refused']}")
    if figures["trouble"]:
        lines.append(f"  trouble      {figures['trouble']}")
    return lines


def _cpu(figures: Mapping[str, Any]) -> str:
    costs = "  ".join(f"{name} {cost:.2f}" for name, cost in figures["cpu_ms_per_order"].items())
    aside = f"generator {figures['generator_cpu_ms_per_order']:.2f}"
    return f"  CPU ms/order {costs}  ({aside}); others used {figures['cores_used_by_others']:.2f} cores"


def _rates(limits: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, float]]:
    return [
        (f"{part} {name.removesuffix('_per_s').replace('_', ' ')}".strip(), rate)
        for part, figures in limits.items()
        for name, rate in figures.items()
        if name.endswith("per_s")
    ]
