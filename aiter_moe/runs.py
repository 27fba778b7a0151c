# SPDX-License-Identifier: MIT
"""The tokens of a call: where they go, and how a long call is cut into runs.

A run is what kernels, whose offsets have 31 bits, reach at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from aiter_moe.problem import token_tier
from aiter_moe.sizes import ceil_div

# What each tensor with a row per token or slot may take at a time where a call is cut: half of what
# kernels reach with their 31-bit offsets, since a plan is made for the run's tier, which may be
# twice its tokens.
RUN_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Routing:
    """Who goes where: routed experts per token, and which of them this rank holds."""

    weights: torch.Tensor
    ids: torch.Tensor
    expert_mask: torch.Tensor | None = None
    num_local_tokens: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """A run of tokens: their inputs, and where their output goes.

    Attributes
    ----------
    first_token : int or None
        Tokens of the call before these; None: they are the whole call.
    """

    hidden: torch.Tensor
    a1_scale: torch.Tensor | None
    routing: Routing
    out: torch.Tensor
    first_token: int | None = None


def run_length(tokens: int, row_bytes: int) -> int:
    """Return the tokens of a run: all where kernels reach them, else a part of nearly equal length.

    Parameters
    ----------
    tokens : int
        Tokens of the call.
    row_bytes : int
        What the largest of its tensors takes for each.
    """
    if max(tokens, token_tier(tokens)) * row_bytes < 2 * RUN_BYTES:
        return tokens
    longest = max(1, RUN_BYTES // row_bytes)
    return ceil_div(tokens, max(1, ceil_div(tokens, longest)))


def token_bytes(hidden: torch.Tensor, topk: int, model_dim: int, inter_dim: int, gfx: str) -> int:
    """Return what the largest tensor that a call cuts by takes for each token.

    Hidden states at their own pitch and the bf16 intermediate, which stage kernels read; on the
    CPU, where a run costs no launches, also the float32 rows of stage 2, to save memory.
    """
    pitch = max(hidden.stride(0), hidden.shape[1]) * hidden.element_size()
    rows = 4 * topk * model_dim if gfx == "cpu" else 0
    return max(pitch, 2 * topk * inter_dim, rows)


def runs(whole: Rows, step: int) -> Iterator[Rows]:
    """Cut a call into runs of `step` tokens.

    Tokens are independent of each other and all runs take the same kernels, so the cut changes no
    bit of the result.
    """
    tokens = whole.routing.ids.shape[0]
    if tokens <= step:
        yield whole
        return
    for begin in range(0, tokens, step):
        cut = slice(begin, begin + step)
        yield Rows(
            whole.hidden[cut],
            None if whole.a1_scale is None else whole.a1_scale[cut],
            Routing(
                whole.routing.weights[cut],
                whole.routing.ids[cut],
                whole.routing.expert_mask,
                whole.routing.num_local_tokens,
            ),
            whole.out[cut],
            begin,
        )
