"""Plots as SVG that stands in a page: no script, no file beside it. Sizes are in the plot's own units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["bars", "curve", "distribution", "key", "scatter", "ticks"]

_WIDTH, _HEIGHT = 480, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 26, 38
_COLOURS = 7


def _colour(number: int) -> str:
    return f"var(--c{number % _COLOURS})"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers, about ``count`` of them, from ``low`` to ``high``."""
    span = high - low
    if not span > 0:
        return [low]
    raw = span / count
    power = 10.0 ** len(str(int(raw))) / 10 if raw >= 1 else 1.0
    while power > raw:
        power /= 10
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= raw * 0.999)
    first = -(-low // step)
    found = []
    for number in range(2 * count + 2):
        value = (first + number) * step
        if low <= value <= high:
            found.append(value)
    return found or [low]


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def key(names: Sequence[str]) -> str:
    """Which colour is which."""
    items = (
        f'<span><i style="background:{_colour(number)}"></i>{escape(name)}</span>'
        for number, name in enumerate(names)
    )
    return f'<div class="key">{"".join(items)}</div>'


def _label(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text class="soft" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


class _Frame:
    """Axes from data to the plot's units."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], labels: tuple[str, str]) -> None:
        self._x, self._y = x, y
        self._labels = labels

    def x(self, value: float) -> float:
        low, high = self._x
        return _LEFT + (value - low) / ((high - low) or 1) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self._y
        return _HEIGHT - _BOTTOM - (value - low) / ((high - low) or 1) * (_HEIGHT - _TOP - _BOTTOM)

    def draw(self, inside: str, title: str) -> str:
        bottom = _HEIGHT - _BOTTOM
        parts = []
        for value in ticks(*self._y, count=4):
            at = self.y(value)
            parts.append(
                f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
            )
            parts.append(_label(_LEFT - 6, at + 4, "end", _number(value)))
        for value in ticks(*self._x):
            at = self.x(value)
            parts.append(_label(at, bottom + 16, "middle", _number(value)))
        parts.append(_label(_WIDTH - _RIGHT, _HEIGHT - 4, "end", self._labels[0]))
        parts.append(_label(4, 11, "start", self._labels[1]))
        return (
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
            f"{''.join(parts)}{inside}</svg>"
        )


def distribution(histograms: Sequence[Mapping[str, object]], title: str) -> str:
    """Histograms as outlines over each other: share of frames by milliseconds. None of them may be empty."""
    series = []
    for drawn in histograms:
        counts = [int(count) for count in drawn["counts"]]  # type: ignore[attr-defined]
        low, step, above = (float(drawn[name]) for name in ("low", "step", "above"))  # type: ignore[arg-type]
        total = sum(counts) + above
        series.append((low, step, [count / total for count in counts]))
    left = min(low for low, _, _ in series)
    right = max(low + step * len(shares) for low, step, shares in series)
    top = max(max(shares) for _, _, shares in series)
    frame = _Frame((left, right), (0.0, top * 100 * 1.05), ("milliseconds", "% of frames"))
    paths = []
    for number, (low, step, shares) in enumerate(series):
        points = [f"M{frame.x(low):.1f} {frame.y(0):.1f}"]
        for place, share in enumerate(shares):
            height = frame.y(100 * share)
            start, end = frame.x(low + place * step), frame.x(low + (place + 1) * step)
            points.append(f"L{start:.1f} {height:.1f}L{end:.1f} {height:.1f}")
        points.append(f"L{frame.x(low + step * len(shares)):.1f} {frame.y(0):.1f}Z")
        paths.append(
            f'<path d="{"".join(points)}" fill="{_colour(number)}" fill-opacity=".25" '
            f'stroke="{_colour(number)}" stroke-width="1.5"/>'
        )
    return frame.draw("".join(paths), title)


def bars(rows: Mapping[str, Mapping[str, float]], stages: Sequence[str], unit: str, title: str) -> str:
    """Stacked bars, one a row, with the sum at the end."""
    longest = max((sum(row.values()) for row in rows.values()), default=0.0) or 1.0
    height = 44 * len(rows) + 8
    parts = []
    for place, (name, row) in enumerate(rows.items()):
        top = 44 * place
        parts.append(f'<text x="2" y="{top + 13}">{escape(name)}</text>')
        left = 2.0
        for number, stage in enumerate(stages):
            width = row.get(stage, 0.0) / longest * (_WIDTH - 90)
            if width > 0:
                parts.append(
                    f'<rect x="{left:.1f}" y="{top + 18}" width="{width:.2f}" height="16" '
                    f'fill="{_colour(number)}">'
                    f"<title>{escape(stage)} {_number(row[stage])} {unit}</title></rect>"
                )
            left += width
        total = sum(row.values())
        parts.append(f'<text x="{left + 6:.1f}" y="{top + 31}">{_number(total)} {unit}</text>')
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def scatter(
    points: Sequence[tuple[float, float]], labels: tuple[str, str], title: str, most: float = float("inf")
) -> str:
    """One dot for each point, in the order of a :func:`key`; no y is beyond ``most``."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    margin = (max(ys) - min(ys)) * 0.15 or max(abs(max(ys)) * 0.02, 1e-3)
    frame = _Frame(
        (0.0, max(xs) * 1.1 or 1.0), (min(ys) - margin, min(max(ys) + margin, max(most, max(ys)))), labels
    )
    dots = "".join(
        f'<circle cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="6" fill="{_colour(number)}"/>'
        for number, (x, y) in enumerate(points)
    )
    return frame.draw(dots, title)


def curve(points: Sequence[tuple[float, float]], labels: tuple[str, str], title: str, colour: int = 0) -> str:
    """A line from zero up."""
    top = max(y for _, y in points) * 1.1 or 1.0
    frame = _Frame((0.0, max(x for x, _ in points)), (0.0, top), labels)
    path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points)
    return frame.draw(
        f'<polyline points="{path}" fill="none" stroke="{_colour(colour)}" stroke-width="2"/>', title
    )
