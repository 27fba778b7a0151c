# SPDX-License-Identifier: MIT
"""Raw tensors at the border: marks, expectation and shapes decide the layout or are refused."""

from __future__ import annotations

import re

import pytest
import torch
from golden import golden

from aiter_moe import dtypes
from aiter_moe.errors import ArgumentError, DtypeError, LayoutError
from aiter_moe.layouts import (
    Layout,
    PackedWeight,
    e8m0_shuffle,
    interleave_gate_up_rows,
    shuffle_scale_a16w4,
    shuffle_weight,
    shuffle_weight_a16w4,
)

E, N, K = 3, 64, 384  # 12 scale columns, padded to 16; 192 stacked rows, padded to 256


def plain(experts=E, rows=N, cols=K):
    generator = torch.Generator().manual_seed(7)
    codes = torch.randint(0, 256, (experts, rows, cols // 2), generator=generator)
    scales = torch.randint(0, 255, (experts * rows, cols // 32), generator=generator)
    return codes.to(torch.uint8), scales.to(torch.uint8)


def adopt(weight, scale, gate_up=None):
    return PackedWeight.from_aiter(weight, scale, gate_up=gate_up, name="w1")


def foreign(x, **attributes):
    """Return another tensor object of the same memory, marked as another library would."""
    out = x.view(x.shape)
    for name, value in attributes.items():
        setattr(out, name, value)
    return out


def separated():
    codes, scales = plain()
    return shuffle_weight(codes), e8m0_shuffle(scales)


def interleaved():
    codes, scales = plain()
    return shuffle_weight_a16w4(codes, 16, True), shuffle_scale_a16w4(scales, E, True)


def assert_adopts(weight, scale, gate_up, layout):
    found = adopt(weight, scale, gate_up)
    codes, scales = plain()
    assert found.layout is layout
    assert (found.rows, found.cols) == (found.physical_rows, found.physical_cols) == (N, K)
    assert torch.equal(found.unpack()[0], codes)
    assert torch.equal(found.unpack()[1].flatten(0, 1), scales)
    assert found.codes.data_ptr() == weight.data_ptr()
    assert found.scales.data_ptr() == scale.data_ptr()


@pytest.mark.parametrize("gate_up", [None, False])
def test_our_separated_weights_are_adopted_without_a_copy(gate_up):
    assert_adopts(*separated(), gate_up, Layout.SHUFFLED)


@pytest.mark.parametrize("gate_up", [None, True])
def test_our_interleaved_weights_are_adopted_without_a_copy(gate_up):
    assert_adopts(*interleaved(), gate_up, Layout.SHUFFLED_GATE_UP)


@pytest.mark.parametrize("gate_up", [None, False])
def test_unmarked_weights_are_row_major(gate_up):
    codes, scales = plain()
    assert_adopts(codes, scales, gate_up, Layout.PLAIN)
    assert_adopts(codes, scales.view(E, N, 12), gate_up, Layout.PLAIN)


def test_typed_tensors_are_adopted_as_bytes():
    weight, scale = separated()
    assert_adopts(
        foreign(weight.view(dtypes.fp4x2), is_shuffled=True),
        scale.view(dtypes.fp8_e8m0),
        False,
        Layout.SHUFFLED,
    )


def test_a_foreign_mark_follows_the_callers_expectation():
    weight, scale = separated()
    weight, scale = foreign(weight, is_shuffled=True), foreign(scale)
    assert_adopts(weight, scale, False, Layout.SHUFFLED)
    assert_adopts(weight, scale, None, Layout.SHUFFLED)
    weight, scale = interleaved()
    weight, scale = foreign(weight, is_shuffled=True), foreign(scale)
    assert_adopts(weight, scale, True, Layout.SHUFFLED_GATE_UP)
    both = foreign(weight, is_shuffled=True, is_guinterleave=True)
    assert_adopts(both, scale, None, Layout.SHUFFLED_GATE_UP)
    kind = foreign(weight, is_shuffled=True, shuffle_kind="mxfp4_moe")
    assert_adopts(kind, scale, True, Layout.SHUFFLED_GATE_UP)


def test_an_exact_scale_mark_tells_what_a_foreign_weight_mark_does_not():
    weight, scale = interleaved()
    assert_adopts(foreign(weight, is_shuffled=True), scale, None, Layout.SHUFFLED_GATE_UP)


@pytest.mark.parametrize("make", [separated, interleaved])
def test_scales_may_be_padded_to_256_rows_or_not_and_have_an_expert_axis(make):
    weight, scale = make()
    gate_up = make is interleaved
    layout = Layout.SHUFFLED_GATE_UP if gate_up else Layout.SHUFFLED
    exact = foreign(scale[: E * N])
    for shape in (exact, exact.view(E, N, 16)):
        assert_adopts(weight, shape, gate_up, layout)


MARK_LOST = "is_shuffled = True"


@pytest.mark.parametrize(
    ("make", "gate_up", "text"),
    [
        (separated, True, "SHUFFLED_GATE_UP was asked for, but the tensor is marked SHUFFLED"),
        (interleaved, False, "SHUFFLED was asked for, but the tensor is marked SHUFFLED_GATE_UP"),
        (plain, True, MARK_LOST),
        (lambda: (foreign(separated()[0]), separated()[1]), None, "w1_scale is marked SHUFFLED"),
        (lambda: (separated()[0], interleaved()[1]), None, "SHUFFLED_GATE_UP, but w1 is SHUFFLED"),
        (lambda: (interleaved()[0], separated()[1]), None, "SHUFFLED, but w1 is SHUFFLED_GATE_UP"),
        (lambda: (plain()[0], foreign(separated()[1])), None, MARK_LOST),
        (lambda: (plain()[0], foreign(separated()[1][: E * N])), None, MARK_LOST),
        (lambda: (plain()[0], foreign(separated()[1][: E * N]).view(E, N, 16)), None, MARK_LOST),
        (
            lambda: (plain()[0], foreign(plain()[1], is_shuffled=True)),
            None,
            "w1_scale is marked is_shuffled but w1 is not",
        ),
        (lambda: (separated()[0], plain()[1]), False, r"must be [192, 16], [256, 16] or [3, 64,"),
        (lambda: (separated()[0], foreign(separated()[1][:, :8])), False, "must be [192, 16]"),
        (lambda: (shuffle_weight(plain()[0], (32, 16)), separated()[1]), None, "W32x16"),
        (lambda: (interleave_gate_up_rows(plain()[0]), plain()[1]), None, "no kernel reads"),
        (
            lambda: (foreign(plain()[0], is_shuffled=True, shuffle_kind="other"), plain()[1]),
            None,
            "shuffle_kind='other'",
        ),
        (
            lambda: (
                foreign(interleaved()[0], is_shuffled=True, is_guinterleave=True),
                foreign(interleaved()[1]),
            ),
            False,
            "marked SHUFFLED_GATE_UP",
        ),
        (lambda: (plain()[0].mT.contiguous().mT, plain()[1]), None, "contiguous"),
        (
            lambda: (plain()[0], plain()[1].view(E, N, 12).mT.contiguous().mT),
            None,
            "w1_scale: kernels read contiguous",
        ),
    ],
)
def test_contradictions_are_refused_by_name(make, gate_up, text):
    with pytest.raises(LayoutError, match=re.escape(text)) as caught:
        adopt(*make(), gate_up)
    assert "w1" in str(caught.value)


@pytest.mark.parametrize("lose", [lambda x: x.view(x.shape), lambda x: x[:], torch.nn.Parameter])
def test_a_lost_mark_is_noticed_when_the_scales_show_it(lose):
    weight, scale = (
        torch.nn.Parameter(x, requires_grad=False) if lose is torch.nn.Parameter else lose(x)
        for x in separated()
    )
    with pytest.raises(LayoutError, match="lost by"):
        adopt(weight, scale, False)
    weight.is_shuffled = True
    assert_adopts(weight, scale, False, Layout.SHUFFLED)


@pytest.mark.parametrize(
    ("weight", "scale", "error", "text"),
    [
        (plain()[0].float(), plain()[1], DtypeError, "w1: wanted"),
        (plain()[0], plain()[1].float(), DtypeError, "w1_scale: wanted"),
        (plain()[0][0], plain()[1], ArgumentError, "w1: wanted codes"),
        (plain()[0][..., :40], plain()[1], ArgumentError, "K % 32 == 0"),
        (plain()[0], plain()[1][:-1], ArgumentError, r"need scales \[192, 12\]"),
        (plain()[0], plain()[1][:, :5], ArgumentError, r"need scales \[192, 12\]"),
    ],
)
def test_tensors_no_layout_explains_are_refused(weight, scale, error, text):
    with pytest.raises(error, match=text):
        adopt(weight, scale)


def test_rows_of_an_expert_must_fill_scale_tiles():
    codes, scales = plain(rows=48)
    with pytest.raises(LayoutError, match="w1: SHUFFLED needs N % 32 == 0, found N = 48"):
        adopt(shuffle_weight(codes), e8m0_shuffle(scales), False)


@pytest.mark.parametrize(
    ("name", "interleaves"),
    [
        ("atom_main_sep_e1", False),
        ("atom_main_itlv_e1", True),
        ("atom_main_itlv_pad128_i384", True),
        ("atom_hip_mxfp4_moe_e2", True),
        ("atom_quark_e2_h256_i192", False),
    ],
)
def test_what_loaders_make_is_adopted_and_unpacks_to_what_they_loaded(name, interleaves):
    data = golden(name)
    for part, gate_up in (("w13", interleaves), ("w2", False)):
        weight, scale = (
            torch.from_numpy(data[f"out_{part}{suffix}"].copy()) for suffix in ("", "_scale")
        )
        weight.is_shuffled = True
        codes, scales = adopt(weight, scale, gate_up).unpack()
        assert torch.equal(codes, torch.from_numpy(data[f"in_{part}"]))
        assert torch.equal(scales, torch.from_numpy(data[f"in_{part}_scale"]))
