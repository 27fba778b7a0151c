# SPDX-License-Identifier: MIT
"""Quantising and dequantising whole tensors, bit-exact with golden data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import cases, floats, golden
from hypothesis import given, settings
from hypothesis import strategies as st

from aiter_moe import dtypes
from aiter_moe.enums import ScaleRounding
from aiter_moe.errors import ArgumentError, DtypeError
from aiter_moe.formats import dequantise, e8m0_to_f32, quantise_1x32
from aiter_moe.layouts import per_1x32_f4_quant

NAN_SCALE = 255


def assert_quantised(x, mode, codes, scales):
    """Compare with recorded codes (where the scale means something) and scales."""
    found_codes, found_scales = per_1x32_f4_quant(x, round_mode=mode)
    assert found_codes.dtype == dtypes.fp4x2
    assert found_scales.dtype == dtypes.fp8_e8m0
    assert np.array_equal(found_scales.view(torch.uint8).numpy(), scales)
    meaningful = np.repeat(scales != NAN_SCALE, 16, axis=-1)
    ours = found_codes.view(torch.uint8).numpy().reshape(meaningful.shape)
    assert found_codes.shape == codes.shape
    assert np.array_equal(ours[meaningful], codes.reshape(meaningful.shape)[meaningful])


@pytest.mark.parametrize("name", ["mxfp4_quant_random", "mxfp4_quant_edge"])
@pytest.mark.parametrize("mode", list(ScaleRounding))
def test_quantised_tensors_match_golden(name, mode):
    data = golden(name)
    for case in cases(data, "xdtype"):
        x = floats(data[f"{case}_x"], str(data[f"{case}_xdtype"]))
        codes, scales = data[f"{case}_q_m{int(mode)}"], data[f"{case}_s_m{int(mode)}"]
        assert_quantised(x, mode, codes, scales)
        assert_quantised(x, int(mode), codes, scales)


def test_blocks_with_an_infinity_or_nan_get_the_nan_scale():
    data = golden("mxfp4_quant_edge")
    x = floats(data["edge_x"], str(data["edge_xdtype"]))
    for mode in ScaleRounding:
        _, scales = quantise_1x32(x, mode)
        assert (scales[data["edge_nonfinite_rows"]] == NAN_SCALE).all()


def test_quantising_along_the_first_axis_matches_golden():
    data = golden("mxfp4_quant_random")
    x = floats(data["rhs_x"], "torch.bfloat16")
    codes, scales = per_1x32_f4_quant(x, pack_dim=0)
    assert np.array_equal(codes.view(torch.uint8).numpy(), data["rhs_q_m1"])
    assert np.array_equal(scales.view(torch.uint8).numpy(), data["rhs_s_m1"])
    assert codes.is_contiguous()


def test_shuffled_scales_match_golden_and_padding_is_defined():
    data = golden("mxfp4_quant_random")
    shuffled = cases(data, "sshuf_m1")
    assert shuffled
    for case in shuffled:
        x = floats(data[f"{case}_x"], str(data[f"{case}_xdtype"]))
        _, scales = per_1x32_f4_quant(x, shuffle=True)
        found, mask = scales.view(torch.uint8).numpy(), data[f"{case}_sshuf_m1_mask"] == 1
        assert np.array_equal(found[mask], data[f"{case}_sshuf_m1"][mask])
        assert (found[~mask] == 0x7F).all()
        assert scales.is_shuffled


def test_dequantised_weight_matches_golden():
    data = golden("mxfp4_dequant_weight")
    weight = floats(data["w_bf16"], "torch.bfloat16")
    codes, scales = quantise_1x32(weight)
    assert np.array_equal(codes.numpy(), data["q"])
    assert np.array_equal(scales.numpy(), data["s"])
    exact = torch.from_numpy(data["deq_f32"].view(np.float32).copy())
    for given_scales in (scales, scales.flatten(0, 1), scales.view(dtypes.fp8_e8m0)):
        assert torch.equal(dequantise(codes, given_scales, torch.float32), exact)
    assert torch.equal(dequantise(codes, scales), exact.double())
    assert torch.equal(dequantise(codes, scales, torch.bfloat16), exact.bfloat16())


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=32, max_size=32)
)
def test_round_up_errs_by_at_most_one_scale_and_never_clips(values):
    x = torch.tensor(values).view(1, 32)
    codes, scales = quantise_1x32(x)
    error = (dequantise(codes, scales) - x.double()).abs()
    assert (error <= e8m0_to_f32(scales).double()).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 254), st.binary(min_size=16, max_size=16), st.sampled_from(ScaleRounding))
def test_values_that_are_mxfp4_survive_a_second_quantisation(scale, raw, mode):
    codes = torch.tensor(list(raw), dtype=torch.uint8).view(1, 16)
    exact = dequantise(codes, torch.tensor([[scale]], dtype=torch.uint8))
    x = exact.float()
    again = quantise_1x32(x, mode)
    # A larger scale (Ceil takes 6 up) loses small codes; 6 * 2^127 is no float32.
    if again[1].item() <= scale and torch.equal(x.double(), exact):
        assert torch.equal(dequantise(*again), exact)


def test_denormal_inputs_are_not_flushed():
    tiny = torch.full((1, 32), 2.0**-127)
    codes, scales = quantise_1x32(tiny, ScaleRounding.RoundDown)
    assert scales.item() == 0
    assert torch.equal(dequantise(codes, scales), tiny.double())


def test_no_rows_and_odd_leading_axes_are_fine():
    codes, scales = quantise_1x32(torch.zeros(3, 0, 2, 96))
    assert codes.shape == (3, 0, 2, 48)
    assert scales.shape == (3, 0, 2, 3)
    codes, scales = per_1x32_f4_quant(torch.ones(2, 3, 64, dtype=torch.float16))
    assert (codes.shape, scales.shape) == ((2, 3, 32), (6, 2))


def test_a_strided_input_gives_the_bytes_of_its_copy():
    x = torch.randn(8, 128, generator=torch.Generator().manual_seed(1))[::2, :64]
    for ours, theirs in zip(quantise_1x32(x), quantise_1x32(x.contiguous()), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: quantise_1x32(x[:, :33]), ArgumentError, "multiple of 32"),
        (lambda x: quantise_1x32(x.double()), DtypeError, "float64"),
        (lambda x: quantise_1x32(x.to(torch.int32)), DtypeError, "int32"),
        (lambda x: quantise_1x32(x, 7), ArgumentError, "RoundUp"),
        (lambda x: per_1x32_f4_quant(x, scale=x), ArgumentError, "without scale"),
        (lambda x: per_1x32_f4_quant(x, quant_dtype=torch.int8), DtypeError, "int8"),
        (lambda x: per_1x32_f4_quant(x, pack_dim=1), ArgumentError, "-1 or 0"),
        (lambda x: per_1x32_f4_quant(x, pack_dim=0, shuffle=True), ArgumentError, "shuffle"),
        (lambda x: dequantise(*quantise_1x32(x)[:1] * 2), ArgumentError, "one per 32"),
    ],
)
def test_what_cannot_be_quantised_is_refused(call, error, text):
    with pytest.raises(error, match=text):
        call(torch.ones(64, 64))
