# SPDX-License-Identifier: MIT
"""Draws docs/panels.svg: where the bytes of w1 lie in panels, as found in a packed weight.

python docs/panels.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from aiter_moe import Layout, PackedWeight
from aiter_moe.layouts.panels import LINE_ROWS, PANEL_ROWS, TILE_BYTES

INTER, COLS = 64, 96
WIDTH, LEFT, CELL, LINE, GAP = 1000, 120, 54, 20, 8
GATE, UP, SCALES, TEXT = "#cfe3f7", "#fbe0c4", "#d9ead3", "#222222"


def first_tile() -> tuple[list[int], list[tuple[int, int]]]:
    """Return the rows of a tile's scales, and (row, first byte) of each word of its codes."""
    rows = torch.arange(2 * INTER, dtype=torch.uint8).view(1, -1, 1)
    columns = torch.arange(COLS // 2, dtype=torch.uint8)
    scales = rows.expand(-1, -1, COLS // 32).contiguous()
    by_row = _tile(rows.expand(-1, -1, COLS // 2).contiguous(), scales)
    by_byte = _tile(columns.expand(1, 2 * INTER, -1).contiguous(), scales)
    words = zip(by_row[PANEL_ROWS::4], by_byte[PANEL_ROWS::4], strict=True)
    return by_row[:PANEL_ROWS], list(words)


def _tile(codes: torch.Tensor, scales: torch.Tensor) -> list[int]:
    packed = PackedWeight.pack(codes, scales, Layout.PANEL_GATE_UP)
    found: list[int] = packed.codes.flatten()[:TILE_BYTES].tolist()
    return found


def _box(at: tuple[int, int], size: tuple[int, int], fill: str, text: str) -> str:
    (x, y), (width, height) = at, size
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}" stroke="#888"/>'
        f'<text x="{x + width / 2:g}" y="{y + height / 2 + 4:g}" text-anchor="middle">{text}</text>'
    )


def _note(at: tuple[int, int], text: str) -> str:
    return f'<text x="{at[0]}" y="{at[1]}" text-anchor="end">{text}</text>'


def _strip(y: int, note: str, parts: list[str]) -> Iterator[str]:
    """Yield a row of boxes that share the width."""
    yield _note((LEFT - GAP, y + 15), note)
    width = (WIDTH - LEFT - GAP) // len(parts)
    for i, part in enumerate(parts):
        yield _box((LEFT + i * width, y), (width, LINE + 4), "#eeeeee", part)


def _name(row: int) -> str:
    return f"{'gate' if row < INTER else 'up'} {row % INTER}"


def _colour(row: int) -> str:
    return GATE if row < INTER else UP


def _shapes() -> Iterator[str]:
    scales, words = first_tile()
    yield from _strip(10, "weight", ["expert 0", "expert 1", "expert 2", "..."])
    panels = ["panel 0: 32 gate, 32 up rows", "panel 1: the next", "..."]
    yield from _strip(50, "expert", panels)
    tiles = [f"k {k} to {k + 31}: {TILE_BYTES} bytes" for k in range(0, COLS, 32)]
    yield from _strip(90, "panel", [*tiles, "..."])
    y, per_line = 140, LINE_ROWS
    yield _note((LEFT - GAP, y + 14), "bytes 0 to 63")
    runs = [scales[i : i + per_line] for i in range(0, PANEL_ROWS, per_line)]
    for i, run in enumerate(runs):
        text = f"scales of {_name(run[0])} to {run[-1] % INTER}"
        width = per_line * CELL // len(runs)
        yield _box((LEFT + i * width, y), (width, LINE), SCALES, text)
    for line in range(len(words) // per_line):
        y += LINE + (GAP if line % 4 == 0 else 0)
        begin = PANEL_ROWS + 64 * line
        yield _note((LEFT - GAP, y + 14), f"{begin} to {begin + 63}")
        run = words[line * per_line : (line + 1) * per_line]
        for i, (row, _) in enumerate(run):
            text = _name(row) if i in (0, 1, 2, per_line - 1) else "..."
            yield _box((LEFT + i * CELL, y), (CELL, LINE), _colour(row), text)
        k = 2 * run[0][1]
        yield f'<text x="{WIDTH + GAP}" y="{y + 14}">k {k} to {k + 7}</text>'


def picture() -> str:
    """Return the picture as SVG."""
    body = "\n".join(_shapes())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + LEFT} 530" '
        f'font-family="sans-serif" font-size="11" fill="{TEXT}">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
