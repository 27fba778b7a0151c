# SPDX-License-Identifier: MIT
"""aiter's numbers for problems without a tuned row, as pure functions under aiter's names.

Same results as aiter for the same inputs; what aiter reads from the device or the environment
is an argument here. How our kernels limit these numbers is `aiter_moe.plan`.
"""

from __future__ import annotations

import torch

from aiter_moe import dtypes, env
from aiter_moe.enums import ActivationType, GateMode
from aiter_moe.problem import token_tier
from aiter_moe.sizes import ceil_div
from aiter_moe.targets.registry import GFX9_CUS

_TILE_N = 128

get_padded_M = token_tier  # noqa: N816 - aiter's name


def _compute_units(cu_num: int | None) -> int:
    return cu_num or env.CU_NUM.integer() or GFX9_CUS["gfx950"]


def get_ksplit(  # noqa: PLR0913, PLR0917 - aiter's signature
    token: int,
    topk: int,
    expert: int,
    inter_dim: int,
    model_dim: int,
    cu_num: int | None = None,
    forced: int | None = None,
) -> int:
    """Return aiter's split of the stage-1 reduction for small token counts.

    The largest split that still leaves whole parts of 256 elements and does not exceed what
    fills the device once; 0 where the unsplit grid fills it or more pairs than experts exist.

    Parameters
    ----------
    token : int
        Token tier.
    topk, expert : int
        Routed experts per token, local experts.
    inter_dim, model_dim : int
        Sizes of the weight tensors in elements.
    cu_num : int or None
        Compute units; None: CU_NUM, else 256.
    forced : int or None
        Returned as it is when nonzero; None: AITER_KSPLIT.

    Returns
    -------
    int
        0 for no split, else at least 2 (or what was forced).
    """
    chosen = env.AITER_KSPLIT.integer() if forced is None else forced
    if chosen:
        return chosen
    if token * topk > expert:
        return 0
    units = _compute_units(cu_num)
    grid = ceil_div(inter_dim, _TILE_N) * token * topk
    if grid >= units or grid <= 0:
        return 0
    for split in range(ceil_div(units, grid), 1, -1):
        if model_dim % split == 0 and (model_dim // split) % 256 == 0:
            return split
    return 0


def get_block_size_M(  # noqa: N802 - aiter's name
    token: int, topk: int, expert: int, inter_dim: int, cu_num: int | None = None
) -> int:
    """Return aiter's generic sort block: 32, 64 or 128 by rounds and idle units of the grid.

    Parameters
    ----------
    token, topk, expert, inter_dim : int
        As for `get_ksplit`.
    cu_num : int or None
        Compute units; None: CU_NUM, else 256.

    Returns
    -------
    int
        Rows of a block. The dispatcher takes its block from the token tier instead, as aiter
        does for MXFP4; this is for callers that know aiter's function.
    """
    units = _compute_units(cu_num)
    tiles_n = ceil_div(inter_dim, _TILE_N)

    def cost(block: int) -> tuple[int, int]:
        rows = token * topk + expert * block - topk
        grid = tiles_n * (rows + block - 1) // block
        return ceil_div(grid, units), units - grid % units

    return min((32, 64, 128), key=cost)


def use_nt(token: int, topk: int, expert: int, forced: int | None = None) -> bool:
    """Say whether aiter streams weights past the caches: fewer than 64 rows per expert.

    Parameters
    ----------
    token, topk, expert : int
        As for `get_ksplit`.
    forced : int or None
        0 or 1 decides; -1 leaves it to the rule; None: AITER_USE_NT.
    """
    chosen = env.AITER_USE_NT.integer() if forced is None else forced
    if chosen != -1:
        return bool(chosen)
    return (token * topk) // expert < 64


def activation_dtype(
    activation: ActivationType, gate_mode: GateMode | str, tokens: int, gfx: str
) -> torch.dtype:
    """Return the activation type of the GEMMs (aiter's ``q_dtype_a``) for fp4x2 weights.

    aiter's rule, first match: gfx1250 takes fp4x2; Situv2 bf16 (fp4x2 with
    AITER_SITUV2_A4W4=1); Swiglu with separated rows bf16 below GPTOSS_SWIGLU_MXFP4_BF16_BOUND
    tokens, else fp4x2; other Swiglu, and interleaved rows, bf16; the rest fp4x2.

    Three differences, because fp8 activations have no kernel here and Situv2 has one
    everywhere: (1) interleaved rows (or Swiglu of another gate mode) from
    AITER_BF16_FP8_MOE_BOUND tokens on gfx950 keep bf16 where aiter takes fp8; (2)
    AITER_SITUV2_A8W4 and AITER_FORCE_A8W4 are not read; (3) Situv2 gives bf16 where aiter
    raises without its FlyDSL back end.

    Parameters
    ----------
    activation : ActivationType
        Gate/up activation.
    gate_mode : GateMode or str
        Order of w1's rows.
    tokens : int
        Rows of the hidden states, not their tier.
    gfx : str
        ``cpu`` follows the rule of gfx950.

    Returns
    -------
    torch.dtype
        ``dtypes.fp4x2`` or ``torch.bfloat16``.
    """
    if gfx == "gfx1250":
        return dtypes.fp4x2
    if activation is ActivationType.Situv2:
        return dtypes.fp4x2 if env.SITUV2_A4W4.flag() else dtypes.bf16
    separated = GateMode(gate_mode) is GateMode.SEPARATED
    if activation is ActivationType.Swiglu and separated:
        return dtypes.bf16 if tokens < env.SWIGLU_BF16_BOUND.integer() else dtypes.fp4x2
    if activation is ActivationType.Swiglu or GateMode(gate_mode) is GateMode.INTERLEAVE:
        return dtypes.bf16
    return dtypes.fp4x2
