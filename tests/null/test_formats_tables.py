# SPDX-License-Identifier: MIT
"""fp4 and e8m0 as tables and rules, against golden data and against arithmetic done another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from golden import golden
from hypothesis import given
from hypothesis import strategies as st

from aiter_moe import dtypes
from aiter_moe.enums import ScaleRounding
from aiter_moe.errors import AiterMoeError, ArgumentError, DtypeError
from aiter_moe.formats import (
    as_rounding,
    e8m0_to_f32,
    f32_to_e8m0_scale,
    f32_to_fp4_codes,
    f32_to_mxfp4,
    mxfp4_to_f32,
    pack_fp4_codes,
)

VALUES = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
ALL_BYTES = torch.arange(256, dtype=torch.int32).to(torch.uint8)


def bits(x: torch.Tensor) -> np.ndarray:
    return x.contiguous().numpy().view(np.uint32)


def f32(pattern: int) -> float:
    return float(np.uint32(pattern).view(np.float32))


def test_every_byte_decodes_as_golden():
    data = golden("mxfp4_dequant_tables")
    decoded = mxfp4_to_f32(torch.from_numpy(data["byte"]).view(-1, 1))
    assert np.array_equal(bits(decoded), data["fp4_lo_hi_f32"])
    assert np.array_equal(bits(e8m0_to_f32(torch.from_numpy(data["byte"]))), data["e8m0_f32"])


def test_the_low_nibble_is_the_even_element():
    assert mxfp4_to_f32(torch.tensor([0x72, 0x9F], dtype=torch.uint8)).tolist() == [
        1.0,
        6.0,
        -6.0,
        -0.5,
    ]


def test_code_eight_is_minus_zero():
    decoded = mxfp4_to_f32(torch.tensor([0x08], dtype=torch.uint8))
    assert bits(decoded).tolist() == [0x80000000, 0]


def test_decoding_doubles_the_last_axis_only():
    assert mxfp4_to_f32(torch.zeros(3, 0, 7, dtype=torch.uint8)).shape == (3, 0, 14)
    assert mxfp4_to_f32(torch.zeros(2, 5, 3, dtype=torch.uint8)[:, ::2]).shape == (2, 3, 6)


@pytest.mark.parametrize("dtype", [torch.uint8, dtypes.fp4x2])
def test_codes_are_taken_as_bytes_or_as_fp4x2(dtype):
    assert torch.equal(mxfp4_to_f32(ALL_BYTES.view(dtype)), mxfp4_to_f32(ALL_BYTES))


def test_scales_are_powers_of_two_with_two_exceptions():
    decoded = e8m0_to_f32(ALL_BYTES).double()
    assert decoded[1:255].tolist() == [2.0 ** (b - 127) for b in range(1, 255)]
    assert decoded[0] == 2.0**-127
    assert math.isnan(decoded[255])
    viewed = e8m0_to_f32(ALL_BYTES.view(dtypes.fp8_e8m0))
    assert np.array_equal(bits(viewed), bits(e8m0_to_f32(ALL_BYTES)))


@pytest.mark.parametrize("mode", list(ScaleRounding))
def test_scale_rule_matches_golden(mode):
    data = golden("mxfp4_scale_rule")
    amax = torch.from_numpy(data["amax_f32"].view(np.float32).copy())
    for rounding in (mode, int(mode)):
        found = f32_to_e8m0_scale(amax, rounding).numpy()
        assert np.array_equal(found, data[f"e8m0_m{int(mode)}"])


def test_elements_round_as_golden():
    data = golden("mxfp4_scale_rule")
    packed = f32_to_mxfp4(torch.from_numpy(data["elem_f32"].view(np.float32).copy()))
    assert packed.dtype == dtypes.fp4x2
    assert np.array_equal(packed.view(torch.uint8).numpy(), data["elem_fp4_packed"])


# amax bits -> bytes of RoundDown, RoundUp, Even, Ceil, worked out by hand.
HAND = [
    (0.0, (0, 0, 0, 0)),
    (6.0, (127, 127, 127, 128)),
    (4.0, (127, 127, 127, 127)),
    (6.5, (127, 128, 127, 128)),
    (7.0, (127, 128, 128, 128)),
    (3.5, (126, 127, 127, 127)),
    (3.0, (126, 126, 126, 127)),
    (1.0, (125, 125, 125, 125)),
    (f32(0x00000001), (0, 0, 0, 0)),  # over 4 or 6 it rounds to zero
    (f32(0x00400000), (0, 1, 0, 1)),  # 2^-127
    (f32(0x00800000), (0, 1, 0, 1)),  # 2^-126
    (f32(0x01FFFFFF), (1, 2, 2, 2)),  # just below 2^-123
    (f32(0x7F5FFFFF), (252, 253, 252, 253)),  # just below 1.75 * 2^127
    (f32(0x7F600000), (252, 253, 255, 253)),
    (f32(0x7F7FFFFF), (252, 253, 255, 253)),
    (math.inf, (255, 255, 255, 255)),
    (math.nan, (255, 255, 255, 255)),
]


@pytest.mark.parametrize(("amax", "expected"), HAND)
def test_scale_bytes_by_hand(amax, expected):
    found = [int(f32_to_e8m0_scale(torch.tensor(amax), mode)) for mode in range(4)]
    assert tuple(found) == expected


@pytest.mark.parametrize("pattern", [0x7FFFFFFF, 0x7F800001, 0x7FC00000, 0x7FE00000])
@pytest.mark.parametrize("mode", list(ScaleRounding))
def test_any_nan_gives_the_nan_scale(pattern, mode):
    amax = torch.tensor([pattern], dtype=torch.int32).view(torch.float32)
    assert f32_to_e8m0_scale(amax, mode).item() == 255


@given(st.floats(width=32, min_value=2.0**-120, max_value=2.0**126))
def test_round_up_is_the_smallest_power_of_two_that_clips_nothing(amax):
    target = np.float32(amax) / np.float32(6.0)
    exponent = int(f32_to_e8m0_scale(torch.tensor(amax), ScaleRounding.RoundUp)) - 127
    assert 2.0**exponent >= target > 2.0 ** (exponent - 1)


@given(st.floats(width=32, allow_nan=False))
def test_every_float_goes_to_the_nearest_code_and_ties_go_to_the_even_one(value):
    code = int(f32_to_fp4_codes(torch.tensor(value)))
    assert (code >= 8) == (math.copysign(1.0, value) < 0)
    clipped = min(abs(value), 6.0)
    distances = [abs(clipped - v) for v in VALUES]
    nearest = [c for c, d in enumerate(distances) if d == min(distances)]
    even = [c for c in nearest if c % 2 == 0]
    assert code % 8 == (even[0] if len(nearest) > 1 else nearest[0])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_ties_by_hand(sign):
    ties = sign * torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, math.inf])
    found = [VALUES[c] for c in (f32_to_fp4_codes(ties) & 7).tolist()]
    assert found == [0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, 6.0]


def test_minus_zero_and_tiny_negatives_keep_their_sign():
    values = torch.tensor([-0.0, -1e-45, -0.25, 0.0])
    assert f32_to_fp4_codes(values).tolist() == [8, 8, 8, 0]


def test_packing_and_decoding_are_inverse_for_every_pair_of_codes():
    assert torch.equal(pack_fp4_codes(f32_to_fp4_codes(mxfp4_to_f32(ALL_BYTES))), ALL_BYTES)


@pytest.mark.parametrize("rounding", [4, -1, "RoundUp", None, 1.5j])
def test_an_unknown_rounding_is_refused_with_the_four_rules(rounding):
    with pytest.raises(ArgumentError, match=r"0 \(RoundDown\).*3 \(Ceil\)"):
        as_rounding(rounding)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: mxfp4_to_f32(torch.zeros(4)), DtypeError),
        (lambda: e8m0_to_f32(torch.zeros(4)), DtypeError),
        (lambda: f32_to_e8m0_scale(torch.zeros(4, dtype=torch.bfloat16)), DtypeError),
        (lambda: f32_to_mxfp4(torch.zeros(3)), ArgumentError),
    ],
)
def test_wrong_operands_are_refused(call, error):
    with pytest.raises(error) as caught:
        call()
    assert isinstance(caught.value, AiterMoeError)
