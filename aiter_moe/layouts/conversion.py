# SPDX-License-Identifier: MIT
"""From one `Layout` to another, expert by expert, with the padding a layout needs.

Where the bytes of a layout lie is `aiter_moe.layouts.weights`, `aiter_moe.layouts.scales` and
`aiter_moe.layouts.panels`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from aiter_moe.formats import MX_BLOCK, UNIT_SCALE
from aiter_moe.huge_pages import empty_bytes
from aiter_moe.layouts.layout import Layout
from aiter_moe.layouts.marks import KERNEL_LAYOUTS
from aiter_moe.layouts.packing import Packing, check_rows, physical_shapes
from aiter_moe.layouts.panels import LINE_ROWS, PAIR_ROWS, Tiles, read_panels, write_panels
from aiter_moe.layouts.scales import S


class Parts(NamedTuple):
    """The bytes of a weight of E experts in some layout: codes uint8 [E, ...], scales a matrix."""

    codes: torch.Tensor
    scales: torch.Tensor


def converted(given: Parts, packing: Packing, layout: Layout) -> Parts:
    """Return a weight in another layout, padded with code 0 and scale 0x7F.

    Beside the result it takes extra memory of a few times one expert.

    Parameters
    ----------
    given : Parts
        As `packing` says; codes may have any strides over experts and, row-major, over rows.
    packing : Packing
        Layout and logical size of `given`.
    layout : Layout
        Layout of the result.

    Raises
    ------
    LayoutError
        N is not a multiple of 32, which all but PLAIN and PANEL need.
    """
    check_rows(layout, packing.rows)
    experts = given.codes.shape[0]
    wanted = Packing(layout, packing.rows, packing.cols)
    out = Parts(*(empty_bytes(s, given.codes.device) for s in physical_shapes(wanted, experts)))
    for expert in range(experts):
        _write(_expert(out, wanted, expert), wanted, _expert(given, packing, expert), packing)
    return out


def _expert(parts: Parts, packing: Packing, expert: int) -> Parts:
    height = physical_shapes(packing, 1)[1][0]
    scales = parts.scales[expert * height : (expert + 1) * height]
    return Parts(parts.codes[expert : expert + 1], scales)


def _write(out: Parts, wanted: Packing, given: Parts, packing: Packing) -> None:
    """Write one expert to `out`; layouts that have no direct way go by rows."""
    source, layout = packing.layout, wanted.layout
    if layout is Layout.PLAIN:
        _write_rows(out, given, packing)
    elif layout.is_panel and not source.is_panel and layout.is_gate_up >= source.is_gate_up:
        halves = layout.is_gate_up and not source.is_gate_up
        write_panels(out.codes, _tiles(_of_whole_pairs(given, packing), packing, halves=halves))
    elif source is Layout.PLAIN:
        code_map, scale_map = KERNEL_LAYOUTS[layout]
        missing = out.codes.shape[2] - given.codes.shape[2]
        out.codes.copy_(code_map.shuffle(torch.nn.functional.pad(given.codes, (0, missing))))
        out.scales.copy_(scale_map.shuffle(given.scales))
    else:
        plain = Packing(Layout.PLAIN, packing.rows, packing.cols)
        _write(out, wanted, converted(given, packing, Layout.PLAIN), plain)


def _write_rows(out: Parts, given: Parts, packing: Packing) -> None:
    """Write one expert to row-major `out`."""
    if packing.layout.is_panel:
        tall = _of_whole_pairs(out, packing)
        read_panels(given.codes, _tiles(tall, packing, halves=packing.layout.is_gate_up))
        if tall is not out:
            out.codes.copy_(tall.codes[:, : packing.rows])
            out.scales.copy_(tall.scales[: packing.rows])
        return
    code_map, scale_map = KERNEL_LAYOUTS[packing.layout]
    out.codes.copy_(code_map.unshuffle(given.codes)[..., : out.codes.shape[2]])
    out.scales.copy_(scale_map.unshuffle(given.scales, cols=out.scales.shape[1]))


def _of_whole_pairs(one: Parts, packing: Packing) -> Parts:
    """Return an expert whose rows fill pairs of tiles: itself, or a copy that is padded."""
    missing = (0, 0, 0, -packing.rows % PAIR_ROWS)
    if not missing[-1]:
        return one
    scales = torch.nn.functional.pad(one.scales, missing, value=UNIT_SCALE)
    return Parts(torch.nn.functional.pad(one.codes, missing), scales)


def _words(codes: torch.Tensor) -> torch.Tensor:
    """Return codes in words of eight; a copy where they do not lie in a row or on a word."""
    codes = codes.contiguous()
    return (codes.clone() if codes.storage_offset() % 4 else codes).view(torch.int32)


def _tiles(one: Parts, packing: Packing, *, halves: bool) -> Tiles:
    """Return an expert, row-major or shuffled, as tiles of rows.

    With `halves` a pair is a tile of gate rows and one of up rows, which lie apart.
    """
    blocks = packing.cols // MX_BLOCK
    words = _words(one.codes)
    rows = words.shape[1]
    if packing.layout in KERNEL_LAYOUTS:
        codes = words.view(rows // LINE_ROWS, -1, LINE_ROWS, 4)[:, :blocks]
        scales = S.unshuffle(one.scales, cols=blocks)
    else:
        codes = words.view(rows // LINE_ROWS, LINE_ROWS, blocks, 4).transpose(1, 2)
        scales = one.scales
    scales = scales.view(rows // LINE_ROWS, LINE_ROWS, blocks)
    return Tiles(_pairs(codes, halves=halves), _pairs(scales, halves=halves))


def _pairs(tiles: torch.Tensor, *, halves: bool) -> torch.Tensor:
    """Return tiles [rows/16, ...] of one expert as [1, pairs, 2, ...]."""
    if halves:
        return tiles.view(1, 2, -1, *tiles.shape[1:]).transpose(1, 2)
    return tiles.view(1, -1, 2, *tiles.shape[1:])
