# SPDX-License-Identifier: MIT
"""The byte maps W, R16 and S, against golden data and against their index formulas, slowly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import cases, golden
from hypothesis import given, settings
from hypothesis import strategies as st

from aiter_moe.errors import LayoutError
from aiter_moe.layouts import (
    R16_S,
    R16_W,
    GateUpRows,
    S,
    ScaleLayout,
    W,
    WeightLayout,
    e8m0_shuffle,
    e8m0_unshuffle,
    interleave_gate_up_rows,
    shuffle_scale_a16w4,
    shuffle_weight,
    shuffle_weight_a16w4,
)


def numbered(*shape):
    """Bytes that repeat with a prime period, so that a wrong map shows."""
    count = int(np.prod(shape))
    return (torch.arange(count) % 251).to(torch.uint8).view(*shape)


def w_offset(n, k, cols, tile_rows=16):
    return (
        ((n // tile_rows) * (cols // 16) + k // 16) * 16 * tile_rows + (n % tile_rows) * 16 + k % 16
    )


def r16_row(n, rows):
    half, q = n // (rows // 2), n % (rows // 2)
    return 32 * (q // 16) + 16 * half + q % 16


def s_offset(r, g, cols):
    tile = (r // 32) * 32 * cols + (g // 8) * 256
    return tile + (g % 4) * 64 + (r % 16) * 4 + ((g % 8) // 4) * 2 + (r % 32) // 16


@pytest.mark.parametrize("tile_rows", [16, 32])
def test_w_is_its_index_formula(tile_rows):
    source = numbered(2, 64, 48)
    out = WeightLayout(tile_rows).shuffle(source)
    for e in range(2):
        flat = out[e].flatten()
        for n in range(64):
            for k in range(48):
                assert flat[w_offset(n, k, 48, tile_rows)] == source[e, n, k]


def test_r16_w_is_its_index_formula():
    source = numbered(2, 96, 32)
    out = R16_W.shuffle(source)
    for e in range(2):
        flat = out[e].flatten()
        for n in range(96):
            for k in range(32):
                assert flat[w_offset(r16_row(n, 96), k, 32)] == source[e, n, k]


@pytest.mark.parametrize(("rows", "cols"), [(32, 8), (70, 12), (256, 6), (33, 90), (1, 1)])
def test_s_is_its_index_formula_and_pads_with_one(rows, cols):
    source = numbered(rows, cols)
    out = S.shuffle(source, row_multiple=32)
    height, width = out.shape
    assert (height % 32, width % 8) == (0, 0)
    flat = out.flatten()
    for r in range(height):
        for g in range(width):
            inside = r < rows and g < cols
            expected = int(source[r, g]) if inside else 0x7F
            assert flat[s_offset(r, g, width)] == expected


def test_r16_s_permutes_the_rows_of_each_expert():
    source = numbered(3 * 64, 5)
    flat = R16_S.shuffle(source, experts=3).flatten()
    for r in range(192):
        row = (r // 64) * 64 + r16_row(r % 64, 64)
        for g in range(5):
            assert flat[s_offset(row, g, 8)] == source[r, g]


def test_bytes_by_hand():
    source = numbered(1, 32, 32)  # row n holds 32 * n ... 32 * n + 31, modulo 251
    w = shuffle_weight(source).flatten().tolist()
    assert w[:17] == [*range(16), 32]  # row 0 bytes 0 to 15, then row 1
    assert w[256:258] == [16, 17]  # the second tile holds bytes 16 to 31
    assert w[512] == (16 * 32) % 251  # the third starts at row 16
    scales = numbered(32, 8)  # row r holds 8 * r + g, modulo 251
    s = S.shuffle(scales).flatten().tolist()
    assert s[:4] == [0, 128, 4, 132]  # (0, 0) (16, 0) (0, 4) (16, 4)
    assert s[4:8] == [8, 136, 12, 140]  # the same for row 1
    assert s[64:66] == [1, 129]  # column 1
    rows = torch.arange(64).view(64, 1)
    order = GateUpRows().interleave(rows).flatten().tolist()
    assert order == [*range(16), *range(32, 48), *range(16, 32), *range(48, 64)]
    assert GateUpRows(1).interleave(rows).flatten().tolist()[:4] == [0, 32, 1, 33]


WEIGHT_VARIANTS = {
    "std16": lambda x: shuffle_weight(x, (16, 16)),
    "std32": lambda x: shuffle_weight(x, (32, 16)),
    "a16w4_gu0": lambda x: shuffle_weight_a16w4(x, 16, False),
    "a16w4_gu1": lambda x: shuffle_weight(x, is_guinterleave=True, gate_up=True),
    "rows_gugu": interleave_gate_up_rows,
}


@pytest.mark.parametrize("variant", sorted(WEIGHT_VARIANTS))
def test_weights_match_golden_and_what_aiter_rejects_is_refused(variant):
    data = golden("shuffle_weight")
    matched = 0
    for case in cases(data, "src"):
        source = torch.from_numpy(data[f"{case}_src"].copy())
        key = f"{case}_{variant}"
        if key in data.files:
            assert np.array_equal(WEIGHT_VARIANTS[variant](source).numpy(), data[key])
            matched += 1
        else:
            with pytest.raises(LayoutError):
                WEIGHT_VARIANTS[variant](source)
    assert matched >= 4


def test_padding_columns_of_weights_matches_golden():
    data = golden("shuffle_weight_padk")
    out = shuffle_weight(torch.from_numpy(data["src"].copy()), pad_k_to=int(data["pad_k_to"]))
    assert np.array_equal(out.numpy(), data["out"])
    assert out.aiter_original_k == int(data["aiter_original_k"])
    assert out.aiter_padded_k == int(data["aiter_padded_k"])


def test_scales_match_golden_and_padding_is_one():
    data = golden("e8m0_shuffle")
    for case in cases(data, "src"):
        out = e8m0_shuffle(torch.from_numpy(data[f"{case}_src"].copy())).numpy()
        defined = data[f"{case}_mask"] == 1
        assert out.shape == data[f"{case}_out"].shape
        assert np.array_equal(out[defined], data[f"{case}_out"][defined])
        assert (out[~defined] == 0x7F).all()
        back = e8m0_unshuffle(torch.from_numpy(data[f"{case}_out"].copy()))
        assert np.array_equal(back.numpy(), data[f"{case}_unshuffled"])


def test_a16w4_scales_match_golden_with_their_padding():
    data = golden("shuffle_scale_a16w4")
    for case in cases(data, "src"):
        experts, _, _, gate_up = (int(v) for v in data[f"{case}_cfg"])
        source = torch.from_numpy(data[f"{case}_src"].copy())
        out = shuffle_scale_a16w4(source, experts, bool(gate_up))
        assert np.array_equal(out.numpy(), data[f"{case}_out"])


sizes = st.integers(1, 5)


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, sizes, st.sampled_from([16, 32, 8]), st.sampled_from([0, 1, 16]))
def test_weight_layouts_undo_themselves(experts, blocks, runs, tile_rows, interleave):
    layout = WeightLayout(tile_rows, 16, interleave)
    source = numbered(experts, blocks * max(tile_rows, 2 * interleave) * 2, runs * 16)
    out = layout.shuffle(source)
    assert torch.equal(layout.unshuffle(out), source)
    assert torch.equal(layout.shuffle(layout.unshuffle(source)), source)
    assert torch.equal(out.flatten().sort().values, source.flatten().sort().values)


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(1, 70), st.integers(1, 100), st.sampled_from([32, 256]), st.booleans())
def test_scale_layouts_undo_themselves(experts, rows, cols, row_multiple, interleaved):
    rows = rows * 32 if interleaved else rows
    layout = R16_S if interleaved else S
    source = numbered(experts * rows, cols)
    out = layout.shuffle(source, experts, row_multiple)
    assert out.shape == layout.physical_shape(experts * rows, cols, row_multiple)
    assert torch.equal(layout.unshuffle(out, experts, experts * rows, cols), source)


@pytest.mark.parametrize("rows", [32, 64, 96])
def test_scales_of_an_expert_are_contiguous_when_its_rows_fill_tiles(rows):
    source = numbered(4 * rows, 12)
    together = S.shuffle(source)
    for e in range(4):
        part = slice(e * rows, (e + 1) * rows)
        assert torch.equal(S.shuffle(source[part]), together[part])


def test_results_never_share_memory_with_their_input():
    one_tile = numbered(1, 16, 16)
    for out in (W.shuffle(one_tile), W.unshuffle(one_tile)):
        out.zero_()
        assert torch.equal(one_tile, numbered(1, 16, 16))
    plain = S.unshuffle(numbered(32, 8))
    assert plain.is_contiguous()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: W.shuffle(numbered(1, 24, 32)), r"N % 16 == 0, found N = 24"),
        (lambda: W.unshuffle(numbered(1, 24, 32)), r"N % 16 == 0, found N = 24"),
        (lambda: W.shuffle(numbered(1, 16, 24)), "multiple of 16, found 24"),
        (lambda: W.shuffle(numbered(32)), "needs a matrix"),
        (lambda: R16_W.shuffle(numbered(1, 48, 32)), r"N % 32 == 0"),
        (lambda: GateUpRows().interleave(numbered(48, 4)), "multiple of 32"),
        (lambda: GateUpRows(1).separate(numbered(3, 4)), "multiple of 2"),
        (lambda: S.shuffle(numbered(2, 32, 8)), "matrix"),
        (lambda: S.unshuffle(numbered(32, 12)), "32 x 8"),
        (lambda: S.unshuffle(numbered(40, 8)), "32 x 8"),
        (lambda: S.unshuffle(numbered(32, 8), rows=33), r"\[33, 8\]"),
        (lambda: R16_S.shuffle(numbered(64, 8), experts=3), "3 experts"),
        (lambda: R16_S.shuffle(numbered(48, 8), experts=1), "multiple of 32"),
    ],
)
def test_shapes_that_do_not_divide_are_refused(call, text):
    with pytest.raises(LayoutError, match=text):
        call()


def test_layouts_name_themselves():
    assert [str(x) for x in (W, R16_W, WeightLayout(32), S, R16_S, ScaleLayout())] == [
        "W",
        "R16+W",
        "W32x16",
        "S",
        "R16+S",
        "S",
    ]
