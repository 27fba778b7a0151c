# SPDX-License-Identifier: MIT
"""Laying weights out at load for the target that will run them, so that no call copies any."""

from __future__ import annotations

import torch

from aiter_moe import checks
from aiter_moe.enums import GateMode
from aiter_moe.layouts import PackedWeight
from aiter_moe.targets.registry import Target, running_target
from aiter_moe.weights import given_weight, kernel_layout, row_order


def prepare_weights(
    w1: torch.Tensor | PackedWeight,
    w2: torch.Tensor | PackedWeight,
    w1_scale: torch.Tensor | None = None,
    w2_scale: torch.Tensor | None = None,
    *,
    gate_mode: GateMode | str | None = None,
    target: Target | str | None = None,
) -> tuple[PackedWeight, PackedWeight]:
    """Return both weights of a layer as the kernels of a target read them, for use at load.

    Keep these and drop the originals: `fused_moe` then copies nothing. Beside the result, one
    expert at a time takes extra memory.

    Parameters
    ----------
    w1, w2, w1_scale, w2_scale, gate_mode, target
        As of `fused_moe`.

    Returns
    -------
    w1, w2 : PackedWeight
        A weight that lies so already is wrapped, not copied. Panels, which the CPU reads, do not
        remember an order of gate and up rows: where they came interleaved, pass
        ``gate_mode="interleave"`` to `fused_moe`, whose default type of activations asks for it.

    Raises
    ------
    ArgumentError, DtypeError, LayoutError
        As of `fused_moe`.
    """
    if not isinstance(target, Target):
        target = running_target(target)
    order = None if gate_mode is None else checks.gate_order(gate_mode)
    first = given_weight(w1, w1_scale, order, "w1")
    second = given_weight(w2, w2_scale, None, "w2")
    gfx, order = target.facts.gfx, row_order(first.layout, order)
    return (
        first.to_layout(kernel_layout(gfx, "w1", order)),
        second.to_layout(kernel_layout(gfx, "w2", order)),
    )
