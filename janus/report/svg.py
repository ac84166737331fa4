"""Charts as inline SVG. Colours are CSS variables of the page, so that they follow its light and dark theme."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 400, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 26, 34
COLORS = ("var(--c0)", "var(--c1)", "var(--c2)", "var(--c3)")


@dataclass(frozen=True)
class Scale:
    """A linear map from data to pixels along one axis."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Pixel position of `value`."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """About `wanted` round numbers (1, 2 or 5 times a power of ten apart) from `low` to `high`, both ends inside."""
    if high <= low:
        return [low]
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def number(value: float) -> str:
    """A tick's label: no trailing zeros, thousands as k."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:g}"


def smooth(values: Sequence[float], weight: float = 0.7) -> list[float]:
    """Exponential moving average with bias correction, so that it starts at the first value."""
    result, average, mass = [], 0.0, 0.0
    for value in values:
        average = weight * average + (1 - weight) * value
        mass = weight * mass + (1 - weight)
        result.append(average / mass)
    return result


def line_chart(title: str, series: Mapping[str, Sequence[tuple[float, float]]], *, x_label: str) -> str:
    """Lines over a common x axis: the values faintly, their moving average clearly.

    Args:
        title: stands above the chart.
        series: name to (x, y) points in order; the name goes to the legend.
        x_label: stands below the axis.
    """
    points = [point for line in series.values() for point in line if math.isfinite(point[1])]
    if not points:
        return _frame(title, '<text class="note" x="50%" y="50%" text-anchor="middle">no data</text>')
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x = Scale(min(xs), max(max(xs), min(xs) + 1), LEFT, WIDTH - RIGHT)
    y = Scale(0.0, (max(ys) or 1.0) * 1.05, HEIGHT - BOTTOM, TOP)
    parts = [_axes(x, y, x_label)]
    for index, (name, line) in enumerate(series.items()):
        color = COLORS[index % len(COLORS)]
        finite = [point for point in line if math.isfinite(point[1])]
        mean = list(zip([at for at, _ in finite], smooth([value for _, value in finite]), strict=True))
        parts.append(_path(finite, x, y, f'stroke="{color}" stroke-width="1" opacity="0.28"'))
        parts.append(_path(mean, x, y, f'stroke="{color}" stroke-width="2"', name))
    parts.append(_legend(list(series)))
    return _frame(title, "".join(parts))


def histogram(
    title: str,
    series: Mapping[str, Sequence[float]],
    *,
    x_label: str,
    bins: int = 40,
    marks: Sequence[tuple[float, str]] = (),
) -> str:
    """Overlaid histograms of several sets of values over the same bins.

    Args:
        title: stands above the chart.
        series: name to values.
        x_label: stands below the axis.
        bins: number of bars over the whole range.
        marks: values to draw a vertical line at, and their labels (thresholds). The axis reaches to them.
    """
    values = [value for group in series.values() for value in group if math.isfinite(value)]
    if not values:
        return _frame(title, '<text class="note" x="50%" y="50%" text-anchor="middle">no data</text>')
    low, high = min(values), max(values)
    for value, _ in marks:
        low, high = min(low, value), max(high, value)
    high = high if high > low else low + max(1, abs(low) * 1e-6)
    counts = {}
    for name, group in series.items():
        counts[name] = [0] * bins
        for value in group:
            counts[name][min(int((value - low) / (high - low) * bins), bins - 1)] += 1
    x = Scale(low, high, LEFT, WIDTH - RIGHT)
    y = Scale(0, max(max(row) for row in counts.values()) * 1.05, HEIGHT - BOTTOM, TOP)
    parts = [_axes(x, y, x_label)]
    width = (x.end - x.start) / bins
    for index, (name, row) in enumerate(counts.items()):
        for place, count in enumerate(row):
            if count:
                parts.append(
                    f'<rect x="{x.start + place * width:.1f}" y="{y(count):.1f}" width="{width - 1:.1f}" '
                    f'height="{y.start - y(count):.1f}" fill="{COLORS[index]}" opacity="0.75">'
                    f"<title>{escape(name)}: {count}</title></rect>"
                )
    for place, (value, label) in enumerate(marks):
        at = x(value)
        side = f'x="{at + 4:.1f}"' if at < WIDTH * 0.6 else f'x="{at - 4:.1f}" text-anchor="end"'
        parts.append(f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text class="note" {side} y="{TOP + 22 + 14 * place}">{escape(label)}</text>')
    parts.append(_legend(list(series)))
    return _frame(title, "".join(parts))


LIGHT = (
    "text{font:11px system-ui,sans-serif;fill:#59636e} .title{font-size:13px;font-weight:600;fill:#1f2328} "
    ".grid{stroke:#dfe3e8} .axis{stroke:#59636e} .mark{stroke:#1f2328}"
)
LIGHT_COLORS = ("#2f6fdb", "#d9730d", "#1a8a6d", "#8250df")


def standalone(chart: str) -> str:
    """A chart as a document of its own on white, for places without the page's style."""
    for variable, color in zip(COLORS, LIGHT_COLORS, strict=True):
        chart = chart.replace(variable, color)
    opening, rest = chart.split(">", 1)
    background = f'<style>{LIGHT}</style><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    return f'{opening} xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}">{background}{rest}'


def _frame(title: str, body: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f'<text class="title" x="{LEFT}" y="13">{escape(title)}</text>{body}</svg>'
    )


def _axes(x: Scale, y: Scale, x_label: str) -> str:
    parts = []
    for value in ticks(y.low, y.high, 4):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(
            f'<text class="tick" x="{LEFT - 6}" y="{y(value) + 3:.1f}" text-anchor="end">{number(value)}</text>'
        )
    for value in ticks(x.low, x.high, 6):
        at = f'x="{x(value):.1f}" y="{HEIGHT - BOTTOM + 14}"'
        parts.append(f'<text class="tick" {at} text-anchor="middle">{number(value)}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(y.low):.1f}" y2="{y(y.low):.1f}"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="tick" x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>')
    return "".join(parts)


def _path(points: Sequence[tuple[float, float]], x: Scale, y: Scale, style: str, name: str = "") -> str:
    steps = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in points)
    title = f"<title>{escape(name)}</title>"
    return f'<polyline fill="none" stroke-linejoin="round" {style} points="{steps}">{title}</polyline>'


def _legend(names: Sequence[str]) -> str:
    parts, right = [], float(WIDTH - RIGHT)
    for index, name in reversed(list(enumerate(names))):
        right -= 6.2 * len(name) + 22
        parts.append(
            f'<rect x="{right:.0f}" y="5" width="10" height="10" rx="2" fill="{COLORS[index % len(COLORS)]}"/>'
        )
        parts.append(f'<text class="tick" x="{right + 14:.0f}" y="14">{escape(name)}</text>')
    return "".join(parts)
