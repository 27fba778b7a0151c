# SPDX-License-Identifier: MIT
"""The reference everything is compared with agrees with aiter's own references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import golden
from reference import activate, dense_moe, relative_l2

from aiter_moe.enums import ActivationType


@pytest.mark.parametrize(
    ("key", "activation", "constants"),
    [
        ("swiglu_default", ActivationType.Swiglu, {}),
        ("swiglu_limit2", ActivationType.Swiglu, {"limit": 2.0}),
        ("situv2_4_25", ActivationType.Situv2, {"beta": 4.0, "linear_beta": 25.0}),
        ("situv2_1_1", ActivationType.Situv2, {"beta": 1.0, "linear_beta": 1.0}),
        ("silu_mul", ActivationType.Silu, {}),
        ("gelu_mul", ActivationType.Gelu, {}),
    ],
)
def test_activations_are_aiters(key, activation, constants):
    data = golden("activations")
    gate, up, want = (
        torch.from_numpy(data[k].view(np.float32)).double() for k in ("gate_f32", "up_f32", key)
    )
    got = activate(gate, up, activation, **constants)
    # aiter computes 1 + erf in f32, which cancels for negative gates
    torch.testing.assert_close(got, want, rtol=2e-6, atol=5e-6)


@pytest.mark.parametrize(
    "name", ["torch_moe_dense_silu", "torch_moe_dense_silu_ep", "torch_moe_dense_gelu_g1u0"]
)
def test_the_dense_moe_is_aiters(name):
    data = golden(name)
    bf16 = {
        k: torch.from_numpy(data[k].view(np.int16)).view(torch.bfloat16).double()
        for k in ("x_bf16", "w1_bf16", "w2_bf16", "out_bf16")
    }
    activation = ActivationType[str(data["act"]).capitalize()]
    gated = bool(data["cfg"][5])

    def act(z):
        if gated:
            return activate(*z.chunk(2), activation)
        return activate(z, torch.ones_like(z), activation)

    mask = "expert_mask" in data.files
    got = dense_moe(
        bf16["x_bf16"],
        lambda e: bf16["w1_bf16"][e],
        lambda e: bf16["w2_bf16"][e],
        torch.from_numpy(data["topk_ids"]),
        torch.from_numpy(data["topk_weights"]),
        act,
        local=torch.from_numpy(data["expert_mask"] != 0) if mask else None,
    )
    assert relative_l2(got, bf16["out_bf16"]) <= 4e-3
