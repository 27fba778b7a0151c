# SPDX-License-Identifier: MIT
"""aiter's shuffling functions: arguments, dtypes, attributes, inverses and refusals."""

from __future__ import annotations

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aiter_moe import dtypes
from aiter_moe.errors import ArgumentError, DtypeError, LayoutError
from aiter_moe.layouts import (
    e8m0_shuffle,
    e8m0_unshuffle,
    interleave_gate_up_rows,
    separate_gate_up_rows,
    shuffle_scale,
    shuffle_scale_a16w4,
    shuffle_weight,
    shuffle_weight_a16w4,
    unshuffle_scale,
    unshuffle_scale_a16w4,
    unshuffle_weight,
    unshuffle_weight_a16w4,
)

MARK = "_aiter_moe_layout"


def random_bytes(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (
            shuffle_weight,
            {
                "x": inspect.Parameter.empty,
                "layout": (16, 16),
                "use_int4": False,
                "is_guinterleave": False,
                "gate_up": False,
                "pad_k_to": 0,
            },
        ),
        (
            shuffle_scale,
            {
                "scale": inspect.Parameter.empty,
                "experts_cnt": None,
                "is_guinterleave": False,
                "gate_up": False,
            },
        ),
    ],
)
def test_signatures_are_aiters(function, parameters):
    found = {p.name: p.default for p in inspect.signature(function).parameters.values()}
    assert found == parameters
    assert list(found) == list(parameters)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from([torch.uint8, dtypes.fp4x2]),
    st.sampled_from([{}, {"layout": (32, 16)}, {"use_int4": True}]),
)
def test_shuffle_weight_undoes_itself(experts, blocks, runs, dtype, options):
    source = random_bytes(experts, blocks * 32, runs * 32).view(dtype)
    out = shuffle_weight(source, **options)
    assert (out.shape, out.dtype, out.is_shuffled) == (source.shape, dtype, True)
    back = unshuffle_weight(out, **options)
    assert back.dtype == dtype
    assert torch.equal(back.view(torch.uint8), source.view(torch.uint8))
    assert not hasattr(back, "is_shuffled")


@pytest.mark.parametrize("gate_up", [False, True])
@pytest.mark.parametrize("lane", [16, 32])
def test_a16w4_weights_undo_themselves(gate_up, lane):
    source = random_bytes(3, 128, 192)
    out = shuffle_weight_a16w4(source, lane, gate_up)
    assert torch.equal(unshuffle_weight_a16w4(out, lane, gate_up), source)
    assert torch.equal(
        out, shuffle_weight(source, (lane, 16), is_guinterleave=True, gate_up=gate_up)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.int8, torch.float8_e4m3fn])
def test_other_dtypes_move_in_runs_of_sixteen_bytes(dtype):
    source = random_bytes(2, 32, 64 * dtype.itemsize).view(dtype)
    out = shuffle_weight(source)
    run = 16 // dtype.itemsize
    assert torch.equal(out.view(torch.uint8).flatten()[:16], source[0, 0, :run].view(torch.uint8))
    assert torch.equal(out.view(torch.uint8).flatten()[16:32], source[0, 1, :run].view(torch.uint8))
    assert torch.equal(unshuffle_weight(out).view(torch.uint8), source.view(torch.uint8))


def test_matrices_without_an_expert_axis_are_shuffled_too():
    source = random_bytes(2, 3, 32, 64)
    out = shuffle_weight(source)
    assert torch.equal(out[1, 2], shuffle_weight(source[1, 2]))
    assert out.is_contiguous()
    assert torch.equal(shuffle_weight(source[:, ::2]), shuffle_weight(source[:, ::2].contiguous()))


@pytest.mark.parametrize("k", [96, 128, 160])
def test_padded_columns_are_zero_and_cut_off_again(k):
    source = random_bytes(2, 32, k)
    out = shuffle_weight(source, pad_k_to=128)
    assert (out.aiter_original_k, out.aiter_padded_k) == (k, out.shape[-1])
    assert out.shape[-1] == -(-k // 128) * 128
    assert torch.equal(unshuffle_weight(out), source)
    bare = out.clone()
    assert torch.equal(unshuffle_weight(bare, original_k=k), source)
    assert (unshuffle_weight(bare)[..., k:] == 0).all()


def test_gate_up_without_guinterleave_is_ignored_as_in_aiter():
    source, scale = random_bytes(1, 32, 64), random_bytes(32, 4)
    assert torch.equal(shuffle_weight(source, gate_up=True), shuffle_weight(source))
    assert torch.equal(shuffle_scale(scale, gate_up=True), shuffle_scale(scale))


def test_gate_up_rows_undo_themselves():
    source = random_bytes(2, 6, 5).view(dtypes.fp4x2)
    out = interleave_gate_up_rows(source)
    assert torch.equal(out.view(torch.uint8)[:, 1], source.view(torch.uint8)[:, 3])
    assert torch.equal(separate_gate_up_rows(out).view(torch.uint8), source.view(torch.uint8))
    with pytest.raises(LayoutError, match="already shuffled"):
        shuffle_weight(interleave_gate_up_rows(random_bytes(1, 32, 64)))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 4),
    st.sampled_from([32, 64, 96]),
    st.sampled_from([1, 4, 6, 8, 12, 90]),
    st.sampled_from([torch.uint8, dtypes.fp8_e8m0]),
    st.booleans(),
)
def test_scales_undo_themselves(experts, rows, cols, dtype, gate_up):
    source = random_bytes(experts * rows, cols).view(dtype)
    out = e8m0_shuffle(source)
    assert (out.dtype, out.is_shuffled) == (dtype, True)
    assert out.shape == (-(-experts * rows // 256) * 256, -(-cols // 8) * 8)
    back = e8m0_unshuffle(out, experts * rows, cols)
    assert torch.equal(back.view(torch.uint8), source.view(torch.uint8))
    assert torch.equal(
        unshuffle_scale(out.clone()).view(torch.uint8)[: experts * rows, :cols],
        source.view(torch.uint8),
    )
    out = shuffle_scale_a16w4(source, experts, gate_up)
    assert out.shape == (experts * rows, -(-cols // 8) * 8)
    back = unshuffle_scale_a16w4(out, experts, gate_up, cols)
    assert back.dtype == dtype
    assert torch.equal(back.view(torch.uint8), source.view(torch.uint8))


def test_missing_and_float_scales_pass_through():
    scale = torch.ones(3, 5)
    for function in (shuffle_scale, e8m0_shuffle):
        assert function(None) is None
        assert function(scale) is scale
    assert not hasattr(scale, "is_shuffled")


def test_every_shuffled_tensor_names_its_layout():
    weight, scale = random_bytes(1, 64, 64), random_bytes(64, 8)
    assert [
        str(getattr(x, MARK))
        for x in (
            shuffle_weight(weight),
            shuffle_weight(weight, (32, 16)),
            shuffle_weight_a16w4(weight, 16, True),
            shuffle_scale(scale),
            shuffle_scale_a16w4(scale, 1, True),
        )
    ] == ["W", "W32x16", "R16+W", "S", "R16+S"]


def test_shuffling_twice_is_refused():
    weight, scale = shuffle_weight(random_bytes(1, 32, 64)), e8m0_shuffle(random_bytes(32, 8))
    foreign = random_bytes(1, 32, 64)
    foreign.is_shuffled = True
    for call in (
        lambda: shuffle_weight(weight),
        lambda: shuffle_weight_a16w4(foreign, 16, False),
        lambda: interleave_gate_up_rows(weight),
        lambda: shuffle_scale(scale),
    ):
        with pytest.raises(LayoutError, match="already shuffled"):
            call()


def test_the_wrong_inverse_is_refused_by_name():
    weight = shuffle_weight_a16w4(random_bytes(1, 32, 64), 16, True)
    with pytest.raises(LayoutError, match=r"undoes W, but the tensor is in R16\+W"):
        unshuffle_weight(weight)
    scale = shuffle_scale_a16w4(random_bytes(32, 8), 1, True)
    with pytest.raises(LayoutError, match=r"undoes S, but the tensor is in R16\+S"):
        e8m0_unshuffle(scale)


B = random_bytes


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: shuffle_weight(B(1, 24, 64)), LayoutError, r"N % 16 == 0, found N = 24"),
        (lambda: shuffle_weight(B(1, 16, 48)), LayoutError, r"fp4 K % 64 == 0"),
        (lambda: shuffle_weight(B(64)), LayoutError, "found shape"),
        (lambda: shuffle_weight_a16w4(B(1, 32, 96), 16, False), LayoutError, r"K % 128 == 0"),
        (lambda: shuffle_weight_a16w4(B(32, 64), 16, False), LayoutError, r"\[E, N, C\]"),
        (lambda: shuffle_weight_a16w4(B(1, 48, 64), 16, True), LayoutError, r"N % 32 == 0"),
        (lambda: shuffle_weight_a16w4(B(1, 48, 64), 24, True), ArgumentError, "16, 32 or 64"),
        (lambda: shuffle_weight(B(1, 32, 64), layout=(0, 16)), ArgumentError, "positive"),
        (lambda: shuffle_weight(B(1, 32, 64), layout=(16, 4)), ArgumentError, "whole runs"),
        (lambda: shuffle_weight(B(1, 32, 64), use_int4=True, pad_k_to=64), ArgumentError, "int4"),
        (lambda: shuffle_weight(B(1, 32, 64), pad_k_to=-1), ArgumentError, "positive"),
        (lambda: unshuffle_weight(B(1, 32, 64), original_k=65), ArgumentError, "65 of 64"),
        (lambda: unshuffle_weight(B(1, 32, 48)), LayoutError, "multiple of 32"),
        (lambda: shuffle_scale(B(2, 32, 8)), LayoutError, r"found shape \(2, 32, 8\)"),
        (lambda: shuffle_scale(B(32, 8), is_guinterleave=True), ArgumentError, "experts_cnt"),
        (lambda: shuffle_scale_a16w4(B(48, 8), 1, False), LayoutError, r"N % 32 == 0"),
        (lambda: shuffle_scale_a16w4(B(64, 8), 3, False), LayoutError, "3 experts"),
        (lambda: e8m0_shuffle(B(32, 8).to(torch.int16)), DtypeError, "int16"),
        (lambda: e8m0_unshuffle(B(32, 8).float()), DtypeError, "float32"),
        (lambda: e8m0_unshuffle(B(32, 12)), LayoutError, "32 x 8"),
        (lambda: e8m0_unshuffle(B(32, 8), cols=9), LayoutError, r"\[32, 9\]"),
    ],
)
def test_what_aiter_asserts_or_leaves_undefined_is_refused_with_the_requirement(call, error, text):
    with pytest.raises(error, match=text):
        call()
