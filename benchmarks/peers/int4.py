# SPDX-License-Identifier: MIT
"""MXFP4 weights rounded to int4 for the peers that hold nothing closer; their error shows that."""

from __future__ import annotations

import torch

GROUP = 32


def int4(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Round [rows, cols] of MXFP4 values to symmetric int4.

    A group's unit is the power of two that makes its greatest magnitude 4 to 7: of the values of
    fp4, int4 then holds 1, 2, 3, 4 and 6 exactly, and rounds halves alone.

    Returns
    -------
    tuple
        Values int8 [rows, cols] from -8 to 7, and float32 scales [rows, cols / 32].
    """
    groups = weight.float().view(len(weight), -1, GROUP)
    exponents = torch.frexp(groups.abs().amax(dim=2))[1] - 3
    scales = torch.exp2(exponents.float())
    return (groups / scales[..., None]).round_().to(torch.int8).view(weight.shape), scales
