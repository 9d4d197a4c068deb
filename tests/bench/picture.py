"""Figures as SVG: lines over a scale, and stacked bars. Plain text out, nothing but the standard library in."""

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 40, 44
COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#4b5563", "#84cc16")
STYLE = "text{font:12px sans-serif;fill:#374151}.t{font-size:14px;font-weight:bold}.g{stroke:#e5e7eb}.a{stroke:#9ca3af}"

Points = Sequence[tuple[float, float]]


def draw(figures: Mapping[str, Any], folder: Path) -> list[Path]:
    """Every picture there are figures for."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[Path] = []
    for aof, part in figures.items():
        if not isinstance(part, Mapping):
            continue
        for name, picture in _pictures(f"appendfsync {aof}", part):
            path = folder / f"{name}-{aof.replace(' ', '-')}.svg"
            path.write_text(picture)
            drawn.append(path)
    return drawn


def _pictures(said: str, part: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "latency" in part:
        opened = part["latency"]
        series = {name: points for name, points in opened["curves"].items() if points}
        title = f"Latency at {opened['rate_per_s']:g} orders/s, {said}"
        if series:
            yield "latency", lines(title, series, "share of orders, %", "ms", across=percent, log=True)
    sizes = {1: part["throughput"]} if "throughput" in part else {}
    sizes |= {int(size): figures for size, figures in part.get("batches", {}).items()}
    if len(sizes) > 1:
        series = {
            name: [(float(size), sizes[size][f"{name}_per_s"]) for size in sorted(sizes)]
            for name in ("accepted", "completed")
        }
        yield (
            "batches",
            lines(f"Orders per second, {said}", series, "orders in each request", "orders/s", across=by_log),
        )
        costs = {f"{size} a request": sizes[size]["cpu_ms_per_order"] for size in sorted(sizes)}
        yield "cpu", bars(f"CPU per order, {said}", costs, "ms")


def percent(value: float) -> float:
    """A scale that spreads the slowest: 0, 90, 99, 99.9 are as far from each other."""
    return -math.log10(1 - min(value, 99.99) / 100)


def by_log(value: float) -> float:
    return math.log10(value)


def same(value: float) -> float:
    return value


def lines(
    title: str, series: Mapping[str, Points], x_name: str, y_name: str, *, across: Any = same, log: bool = False
) -> str:
    """One line for each of the series; `across` is the scale of x, `log` that of y."""
    xs = sorted({x for points in series.values() for x, _ in points})
    highest = max((y for points in series.values() for _, y in points), default=1)
    ticks = log_ticks(series, highest) if log else even_ticks(highest)
    up = by_log if log else same
    place_x = _scale(across(xs[0]), across(xs[-1]), LEFT, WIDTH - RIGHT)
    place_y = _scale(up(ticks[0]), up(ticks[-1]), HEIGHT - BOTTOM, TOP)
    parts = [*_frame(title, x_name, y_name), *_ticks(ticks, lambda y: place_y(up(y)))]
    named = xs if len(xs) <= 8 else [x for x in xs if x in {0, 50, 90, 99, 99.9}]
    parts += [_text(place_x(across(x)), HEIGHT - BOTTOM + 16, f"{x:g}", "middle") for x in named]
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{place_x(across(x)):.1f},{place_y(up(max(y, ticks[0]))):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += _legend(number, name, colour)
    return _svg(parts)


def bars(title: str, stacks: Mapping[str, Mapping[str, float]], y_name: str) -> str:
    """One bar for each of the stacks, in layers; their "total" is told above them."""
    names = sorted({name for stack in stacks.values() for name in stack if name != "total"})
    ticks = even_ticks(max(stack["total"] for stack in stacks.values()))
    place_y = _scale(0, ticks[-1], HEIGHT - BOTTOM, TOP)
    parts = [*_frame(title, "", y_name), *_ticks(ticks, place_y)]
    room = (WIDTH - LEFT - RIGHT) / len(stacks)
    for column, (label, stack) in enumerate(stacks.items()):
        x, top = LEFT + room * (column + 0.2), 0.0
        for number, name in enumerate(names):
            value = stack.get(name, 0)
            y, height = place_y(top + value), place_y(top) - place_y(top + value)
            colour = COLOURS[number % len(COLOURS)]
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{room * 0.6:.1f}" height="{height:.1f}" fill="{colour}"/>'
            )
            top += value
        parts.append(_text(x + room * 0.3, place_y(top) - 4, f"{stack['total']:.2f}", "middle"))
        parts.append(_text(x + room * 0.3, HEIGHT - BOTTOM + 16, label, "middle"))
    for number, name in enumerate(names):
        parts += _legend(number, name, COLOURS[number % len(COLOURS)])
    return _svg(parts)


def even_ticks(highest: float) -> list[float]:
    """From 0 in steps of 1, 2 or 5 times a power of ten; the last is at least `highest`."""
    rough = max(highest, 1e-9) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [step * number for number in range(math.ceil(highest / step) + 1)]


def log_ticks(series: Mapping[str, Points], highest: float) -> list[float]:
    """Powers of ten around what there is."""
    least = min((y for points in series.values() for _, y in points if y > 0), default=1)
    low, high = math.floor(math.log10(least)), max(math.ceil(math.log10(highest)), math.floor(math.log10(least)) + 1)
    return [10.0**power for power in range(low, high + 1)]


def _scale(first: float, last: float, start: float, end: float) -> Any:
    span = (last - first) or 1
    return lambda value: start + (value - first) / span * (end - start)


def _frame(title: str, x_name: str, y_name: str) -> list[str]:
    return [
        f'<text x="{LEFT}" y="20" class="t">{escape(title)}</text>',
        _text(WIDTH - RIGHT, HEIGHT - 10, x_name, "end"),
        _text(LEFT - 8, TOP - 10, y_name, "end"),
        f'<line x1="{LEFT}" y1="{HEIGHT - BOTTOM}" x2="{WIDTH - RIGHT}" y2="{HEIGHT - BOTTOM}" class="a"/>',
    ]


def _ticks(ticks: Sequence[float], place_y: Any) -> Iterator[str]:
    for tick in ticks:
        y = place_y(tick)
        yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" class="g"/>'
        yield _text(LEFT - 8, y + 4, f"{tick:,g}", "end")


def _legend(number: int, name: str, colour: str) -> list[str]:
    y = TOP + 8 + number * 18
    return [_box(WIDTH - RIGHT + 12, y - 9, 10, 10, colour), _text(WIDTH - RIGHT + 28, y, name, "start")]


def _box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(parts: Sequence[str]) -> str:
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    white = '<rect width="100%" height="100%" fill="#fff"/>'
    return "\n".join(
        [f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', f"<style>{STYLE}</style>", white, *parts, "</svg>", ""]
    )
