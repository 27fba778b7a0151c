# SPDX-License-Identifier: MIT
"""The weight preparations of ATOM's loaders, step by step with our functions, byte for byte."""

from __future__ import annotations

import pytest
import torch
from golden import golden

from aiter_moe.layouts import e8m0_shuffle, shuffle_scale, shuffle_weight


def tensors(name):
    data = golden(name)
    return {
        key: torch.from_numpy(data[key].copy()) for key in data.files if key[:3] in ("in_", "out")
    }


def assert_same(got, want):
    assert torch.equal(got.reshape(want.shape), want)


@pytest.mark.parametrize(
    ("name", "interleave"),
    [
        ("atom_main_sep_e1", False),
        ("atom_main_itlv_e1", True),
        ("atom_main_itlv_pad128_i384", True),
        ("atom_hip_mxfp4_moe_e2", True),
    ],
)
def test_weights_and_scales_shuffled_together_match_the_loader(name, interleave):
    data = tensors(name)
    experts = data["in_w13"].shape[0]
    for weight, gate_up in (("w13", True), ("w2", False)):
        got = shuffle_weight(data[f"in_{weight}"], is_guinterleave=interleave, gate_up=gate_up)
        assert_same(got, data[f"out_{weight}"])
        scale = data[f"in_{weight}_scale"]
        stacked = scale.reshape(-1, scale.shape[-1])
        if interleave:
            got = shuffle_scale(stacked, experts, is_guinterleave=True, gate_up=gate_up)
        else:
            got = e8m0_shuffle(stacked)
        assert_same(got, data[f"out_{weight}_scale"])


def test_the_quark_loader_shuffles_both_weights_alike():
    data = tensors("atom_quark_e2_h256_i192")
    for weight in ("w13", "w2"):
        assert_same(shuffle_weight(data[f"in_{weight}"]), data[f"out_{weight}"])
        scale = data[f"in_{weight}_scale"]
        assert_same(e8m0_shuffle(scale.reshape(-1, scale.shape[-1])), data[f"out_{weight}_scale"])


def deinterleaved(rows):
    """[g0, u0, g1, u1, ...] -> [g..., u...] along axis 1, as gpt-oss checkpoints need."""
    return torch.cat((rows[:, 0::2], rows[:, 1::2]), dim=1).contiguous()


@pytest.mark.parametrize(
    ("name", "interleave"), [("atom_gptoss_legacy_e1", True), ("atom_gptoss_generic_e1", False)]
)
def test_the_gpt_oss_loaders_separate_rows_before_they_shuffle(name, interleave):
    data = tensors(name)
    w13, s13 = deinterleaved(data["in_w13"]), deinterleaved(data["in_w13_scale"])
    for weight, codes, scale, gate_up in (
        ("w13", w13, s13, True),
        ("w2", data["in_w2"], data["in_w2_scale"], False),
    ):
        got = shuffle_weight(codes, is_guinterleave=interleave, gate_up=interleave and gate_up)
        assert_same(got, data[f"out_{weight}"])
        stacked = scale.reshape(-1, scale.shape[-1])
        if interleave:
            got = shuffle_scale(stacked, 1, is_guinterleave=True, gate_up=gate_up)
        else:
            got = e8m0_shuffle(stacked)
        assert_same(got, data[f"out_{weight}_scale"])
