# SPDX-License-Identifier: MIT
"""Panels: the bytes beside a formula of our own, and weights in them through what callers do."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from cpu_kernels import interleave, panels
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_weights import LAYOUTS, packed, plain

from aiter_moe.errors import LayoutError
from aiter_moe.layouts import Layout, PackedWeight
from aiter_moe.layouts.panels import panel_shape

PANELS = [Layout.PANEL, Layout.PANEL_GATE_UP]


def place(row: int, byte: int, blocks: int) -> int:
    """Return where a code byte of an expert lies, by the formula of the module."""
    tile = row // 64 * blocks + byte // 16
    group, line = row % 64 // 16, byte % 16 // 4
    return tile * 1088 + 64 + group * 256 + line * 64 + row % 16 * 4 + byte % 4


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 200), st.integers(1, 5), st.data())
def test_every_byte_lies_where_the_formula_says(experts, rows, blocks, data):
    codes, scales = plain(experts, rows, blocks * 32)
    laid = PackedWeight.pack(codes, scales, Layout.PANEL).codes
    assert laid.shape == (experts, *panel_shape(rows, blocks * 32))
    expert = data.draw(st.integers(0, experts - 1))
    flat = laid[expert].flatten()
    for _ in range(20):
        row, byte = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, 16 * blocks - 1))
        assert flat[place(row, byte, blocks)] == codes[expert, row, byte]
        block = byte // 16
        assert flat[(row // 64 * blocks + block) * 1088 + row % 64] == scales[expert, row, block]


@pytest.mark.parametrize("rows", [1, 16, 63, 64, 65, 96, 160])
@pytest.mark.parametrize("experts", [1, 3])
def test_panels_are_those_of_the_kernels_tests_and_padding_is_zero_times_one(rows, experts):
    codes, scales = plain(experts, rows, 96)
    missing = (0, 0, 0, -rows % 64)
    tall = torch.nn.functional.pad(codes, missing)
    tall_scales = torch.nn.functional.pad(scales, missing, value=0x7F)
    wanted = panels(tall.numpy(), tall_scales.numpy(), np.random.default_rng(0))
    weight = PackedWeight.pack(codes, scales, Layout.PANEL)
    assert np.array_equal(weight.codes.numpy(), wanted.reshape(weight.codes.shape))
    back_codes, back_scales = weight.unpack()
    assert torch.equal(back_codes, codes)
    assert torch.equal(back_scales, scales)


def test_gate_and_up_rows_alternate_by_16():
    codes, scales = plain(2, 192, 64)
    weight = PackedWeight.pack(codes, scales, Layout.PANEL_GATE_UP)
    wanted = [torch.from_numpy(interleave(part.numpy())) for part in (codes, scales)]
    assert torch.equal(weight.codes, PackedWeight.pack(*wanted, Layout.PANEL).codes)
    assert weight.scales.shape == (0, 0)


@pytest.mark.parametrize(("rows", "cols"), [(64, 32), (96, 96), (2880, 64)])
@pytest.mark.parametrize("layout", PANELS)
def test_sizes_are_what_kernels_read(layout, rows, cols):
    weight = packed(layout, rows=rows, cols=cols)
    tall = -(-rows // 64) * 64
    assert (weight.rows, weight.cols) == (rows, cols)
    assert (weight.physical_rows, weight.physical_cols) == (tall, cols)
    assert weight.scale_cols == 0
    assert weight.codes.numel() == 3 * tall * cols * 17 // 32
    assert weight.is_shuffled


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 3),
    st.integers(1, 5),
    st.integers(1, 9),
    st.sampled_from(LAYOUTS),
    st.sampled_from(PANELS),
)
def test_every_layout_becomes_panels_and_comes_back(experts, rows, groups, layout, panel):
    weight = packed(layout, experts=experts, rows=rows * 32, cols=groups * 32)
    there = weight.to_layout(panel)
    assert torch.equal(there.codes, PackedWeight.pack(*weight.unpack(), panel).codes)
    back = there.to_layout(layout)
    assert torch.equal(back.codes, weight.codes)
    assert torch.equal(back.scales, weight.scales)


def test_the_picture_in_the_manual_is_what_a_packed_weight_shows():
    docs = Path(__file__).resolve().parents[2] / "docs"
    drawn = runpy.run_path(str(docs / "panels.py"))["picture"]()
    assert (docs / "panels.svg").read_text(encoding="utf-8") == drawn


def test_panels_take_any_number_of_rows_and_gate_up_panels_whole_blocks_of_both():
    codes, scales = plain(rows=17)
    weight = PackedWeight.pack(codes, scales, Layout.PANEL)
    assert torch.equal(weight.unpack()[0], codes)
    assert torch.equal(weight[1:].to_layout(Layout.PLAIN).codes, codes[1:])
    with pytest.raises(LayoutError, match=r"PANEL_GATE_UP needs N % 32 == 0.*N = 48"):
        PackedWeight.pack(*plain(rows=48), Layout.PANEL_GATE_UP)


@pytest.mark.parametrize(
    ("codes", "scales", "rows", "text"),
    [
        ((2, 1, 1088), (0, 0), 65, r"65 x 32 elements has codes \[E, 2, 1088\]"),
        ((2, 1, 1024), (0, 0), 64, r"codes \[E, 1, 1088\]"),
        ((2, 1, 1088), (128, 1), 64, "among the codes"),
    ],
)
def test_bytes_that_cannot_be_panels_are_refused(codes, scales, rows, text):
    parts = torch.zeros(codes, dtype=torch.uint8), torch.zeros(scales, dtype=torch.uint8)
    with pytest.raises(LayoutError, match=text):
        PackedWeight(*parts, Layout.PANEL, rows, 32)
