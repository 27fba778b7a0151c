# SPDX-License-Identifier: MIT
"""The gate/up activations in float64, as the references of the tuner and of verify compute them.

What kernels do instead is csrc/hip/activation.h and csrc/cpu/activation.h.
"""

from __future__ import annotations

import torch

from aiter_moe.enums import ActivationType
from aiter_moe.pipeline import ActivationConstants


def activate(
    z: torch.Tensor, activation: ActivationType, constants: ActivationConstants
) -> torch.Tensor:
    """Return act(gate, up) of pre-activations z [rows, 2 * n], gate columns first."""
    gate, up = z.chunk(2, dim=1)
    if constants.limit:
        gate = gate.clamp(max=constants.limit)
        up = up.clamp(-constants.limit, constants.limit)
    return _activated(gate, up, activation, constants)


def _activated(
    gate: torch.Tensor,
    up: torch.Tensor,
    activation: ActivationType,
    constants: ActivationConstants,
) -> torch.Tensor:
    match activation:
        case ActivationType.Silu:
            return gate * torch.sigmoid(gate) * up
        case ActivationType.Gelu:
            normal = 0.5 * torch.erfc(-gate / 2**0.5)
            return gate * normal * up
        case ActivationType.Swiglu:
            return gate * torch.sigmoid(1.702 * gate) * (up + 1)
        case ActivationType.Situv2:
            beta, linear = constants.beta, constants.linear_beta
            bounded = beta * torch.tanh(gate / beta) * torch.sigmoid(gate)
            return bounded * linear * torch.tanh(up / linear)
    raise AssertionError(activation)
