# SPDX-License-Identifier: MIT
"""The times of a run as an SVG, written by hand: no library to install, small enough to keep."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10
from xml.sax.saxutils import escape

from peers.results import Run
from peers.table import OURS

WIDTH, HEIGHT = 420, 400
LEFT, TOP, BOTTOM = 48, 40, 40
LEGEND = 150
COLOURS = ("#d62728", "#1f77b4", "#7f7f7f", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#bcbd22",
           "#17becf", "#ff7f0e", "#5f9ea0", "#556b2f")  # fmt: skip


def _y(seconds: float, least: int, most: int) -> float:
    share = (log10(seconds * 1e3) - least) / max(1, most - least)
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)


def _text(x: float, y: float, text: str, anchor: str = "middle", colour: str = "#333") -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{colour}">'
        f"{escape(text)}</text>"
    )


def _line(points: Sequence[tuple[float, float]], colour: str, width: float) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in points
    )
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>{dots}'


def _panel(run: Run, layer: str, offset: float, colours: dict[str, str]) -> list[str]:
    """Return one layer: tokens to the right in equal steps, milliseconds upwards in powers."""
    rows = [row for row in run.rows if row.layer == layer]
    times = [cell.seconds * 1e3 for row in rows for cell in row.cells]
    least, most = floor(log10(min(times))), ceil(log10(max(times)))
    step = (WIDTH - LEFT - 20) / max(1, len(rows) - 1)
    xs = [offset + LEFT + i * step for i in range(len(rows))]
    parts = [_text(offset + WIDTH / 2, 20, f"{layer}: ms a call by tokens")]
    for power in range(least, most + 1):
        y = _y(10.0 ** (power - 3), least, most)
        parts.append(f'<path d="M{xs[0]:.0f} {y:.0f}H{xs[-1]:.0f}" stroke="#ddd"/>')
        parts.append(_text(offset + LEFT - 8, y + 4, f"{10.0**power:g}", "end"))
    for x, row in zip(xs, rows, strict=True):
        parts.append(_text(x, HEIGHT - BOTTOM + 18, str(row.tokens)))
    for name, colour in colours.items():
        points = [(x, _y(cell.seconds, least, most))
                  for x, row in zip(xs, rows, strict=True) if (cell := row.cell(name))]  # fmt: skip
        if points:
            parts.append(_line(points, colour, 3 if name in OURS else 1.3))
    return parts


def svg(run: Run) -> str:
    """Return the picture of a run with at least one row."""
    shown = [name for name in run.peers if any(row.cell(name) for row in run.rows)]
    colours = dict(zip(shown, COLOURS, strict=False))
    layers = [layer for layer in run.layers if any(row.layer == layer for row in run.rows)]
    width = WIDTH * len(layers) + LEGEND
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT}" '
        f'viewBox="0 0 {width} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{HEIGHT}" fill="white"/>',
    ]
    for i, layer in enumerate(layers):
        parts += _panel(run, layer, i * WIDTH, colours)
    for i, (name, colour) in enumerate(colours.items()):
        y = TOP + 20 * i
        parts.append(_line([(width - LEGEND + 10, y), (width - LEGEND + 34, y)], colour, 2))
        parts.append(_text(width - LEGEND + 42, y + 4, name, "start", colour))
    return "\n".join([*parts, "</svg>"]) + "\n"
