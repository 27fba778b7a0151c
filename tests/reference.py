# SPDX-License-Identifier: MIT
"""float64 reference of the two-stage MoE over quantised operands, and random problems for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from aiter_moe.enums import ActivationType, Kind
from aiter_moe.formats import dequantise, quantise_1x32
from aiter_moe.layouts import Layout, PackedWeight


def activate(gate: torch.Tensor, up: torch.Tensor, activation: ActivationType, **constants: float):
    """act(gate, up) in float64."""
    limit = constants.get("limit", 0.0)
    if activation is ActivationType.Swiglu:
        limit = limit or 7.0
        gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
        return gate * torch.sigmoid(1.702 * gate) * (up + 1.0)
    if activation is ActivationType.Silu:
        if limit:
            gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
        return gate * torch.sigmoid(gate) * up
    if activation is ActivationType.Gelu:
        return 0.5 * gate * (1.0 + torch.erf(gate / 2.0**0.5)) * up
    if activation is ActivationType.Situv2:
        beta, linear = constants.get("beta", 1.0), constants.get("linear_beta", 1.0)
        bounded_up = linear * torch.tanh(up / linear)
        return beta * torch.tanh(gate / beta) * torch.sigmoid(gate) * bounded_up
    raise ValueError(activation)


@dataclass
class MoeProblem:
    """Random operands of one call; weights are plain (unshuffled) codes and scales."""

    x: torch.Tensor  # bf16 [T, H]
    w1: torch.Tensor  # uint8 [E, 2I, H/2]
    s1: torch.Tensor  # uint8 [E, 2I, H/32]
    w2: torch.Tensor  # uint8 [E, H, I/2]
    s2: torch.Tensor  # uint8 [E, H, I/32]
    topk_ids: torch.Tensor  # int32 [T, k]
    topk_weights: torch.Tensor  # float32 [T, k]
    bias1: torch.Tensor | None = None
    bias2: torch.Tensor | None = None

    @property
    def experts(self) -> int:
        return self.w1.shape[0]


def random_problem(
    tokens: int,
    hidden: int,
    inter: int,
    experts: int,
    topk: int,
    *,
    seed: int = 0,
    bias: bool = False,
    routing: str = "random",
) -> MoeProblem:
    """Make a problem; `routing` is random, one (expert 0 takes all its slot) or sparse."""
    g = torch.Generator().manual_seed(seed)

    def codes(*shape: int) -> torch.Tensor:
        return torch.randint(0, 256, shape, generator=g, dtype=torch.uint8)

    def scales(k: int, *shape: int) -> torch.Tensor:
        centre = 127 - round(torch.log2(torch.tensor(k / 8.0)).item() / 2) - 1
        return torch.randint(centre - 1, centre + 2, shape, generator=g, dtype=torch.uint8)

    logits = torch.randn(tokens, experts, generator=g)
    if routing == "one":
        logits[:, 0] = 100.0
    if routing == "sparse":
        logits[:, 1::2] = -100.0
    weights, ids = torch.softmax(logits, -1).topk(topk)
    return MoeProblem(
        x=torch.randn(tokens, hidden, generator=g).to(torch.bfloat16),
        w1=codes(experts, 2 * inter, hidden // 2),
        s1=scales(hidden, experts, 2 * inter, hidden // 32),
        w2=codes(experts, hidden, inter // 2),
        s2=scales(inter, experts, hidden, inter // 32),
        topk_ids=ids.to(torch.int32),
        topk_weights=(weights / weights.sum(-1, keepdim=True)).to(torch.float32),
        bias1=torch.randn(experts, 2 * inter, generator=g) if bias else None,
        bias2=torch.randn(experts, hidden, generator=g) if bias else None,
    )


# tokens, hidden, inter, experts, topk, routing
ODD_SHAPES = [
    (1, 256, 128, 4, 2, "random"),
    (3, 256, 192, 8, 3, "sparse"),
    (17, 2880, 384, 4, 2, "random"),
    (129, 128, 640, 16, 4, "one"),
    (17, 96, 160, 3, 1, "random"),
]


def panel_operands(p: MoeProblem) -> dict[str, object]:
    """Return the operands of `fused_moe` for a problem, weights as the CPU reads them."""
    return {
        "hidden_states": p.x,
        "w1": PackedWeight.pack(p.w1, p.s1, Layout.PANEL_GATE_UP),
        "w2": PackedWeight.pack(p.w2, p.s2, Layout.PANEL),
        "topk_weight": p.topk_weights,
        "topk_ids": p.topk_ids,
    }


def problem_of_a_rank() -> tuple[MoeProblem, torch.Tensor]:
    """Return a problem with the weights of three of six experts, and the mask that says which.

    Token 0 is routed to none of them.
    """
    local = torch.tensor([1, 0, 1, 1, 0, 0], dtype=torch.int32)
    p = random_problem(17, 128, 128, 6, 3, bias=True)
    held = local.bool()
    p.w1, p.s1, p.w2, p.s2 = p.w1[held], p.s1[held], p.w2[held], p.s2[held]
    assert p.bias1 is not None and p.bias2 is not None
    p.bias1, p.bias2 = p.bias1[held].contiguous(), p.bias2[held].contiguous()
    p.topk_ids[0] = torch.tensor([1, 4, 5])
    return p, local


def dense_moe(
    x: torch.Tensor,
    w1,
    w2,
    topk_ids: torch.Tensor,
    topk_weights: torch.Tensor,
    act,
    *,
    bias1: torch.Tensor | None = None,
    bias2: torch.Tensor | None = None,
    doweight_stage1: bool = False,
    between=lambda a2: a2,
    local: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return float64 [T, H] of a MoE over float64 rows `x`.

    `w1(e)` and `w2(e)` give expert e's dense float64 matrix; `act` maps stage 1's row to the
    intermediate; `between` is what happens to it before stage 2 (rounding, quantisation);
    `local` (bool [E_global]) maps global ids to the experts held here.
    """
    tokens, topk = topk_ids.shape
    out = torch.zeros(tokens, w2(0).shape[0], dtype=torch.float64)
    rank = torch.cumsum(local.long(), 0) - 1 if local is not None else None
    for t in range(tokens):
        for s in range(topk):
            e = int(topk_ids[t, s])
            if local is not None:
                if not local[e]:
                    continue
                e = int(rank[e])
            weight = float(topk_weights[t, s])
            z = w1(e) @ x[t]
            z = z * weight if doweight_stage1 else z
            z = z + bias1[e].double() if bias1 is not None else z
            y = w2(e) @ between(act(z))
            y = y + bias2[e].double() if bias2 is not None else y
            out[t] += y if doweight_stage1 else y * weight
    return out


def _rows(x: torch.Tensor, quantise: bool) -> torch.Tensor:
    return dequantise(*quantise_1x32(x)) if quantise else x.double()


def reference_moe(
    p: MoeProblem,
    activation: ActivationType,
    kind: Kind,
    *,
    doweight_stage1: bool = False,
    skip_inter_quant: bool = False,
    local: torch.Tensor | None = None,
    **constants: float,
) -> torch.Tensor:
    """Return float64 [T, H] over the quantised operands of `p`."""
    requantise = kind is Kind.A4W4 and not skip_inter_quant
    dense1 = cache(lambda e: dequantise(p.w1[e], p.s1[e]))
    dense2 = cache(lambda e: dequantise(p.w2[e], p.s2[e]))
    return dense_moe(
        _rows(p.x, kind is Kind.A4W4),
        dense1,
        dense2,
        p.topk_ids,
        p.topk_weights,
        lambda z: activate(*z.chunk(2), activation, **constants),
        bias1=p.bias1,
        bias2=p.bias2,
        doweight_stage1=doweight_stage1,
        between=lambda a2: _rows(a2[None].to(torch.bfloat16), requantise)[0],
        local=local,
    )


def relative_l2(got: torch.Tensor, want: torch.Tensor) -> float:
    """||got - want|| / ||want||; NaN anywhere in `got` gives NaN."""
    return float((got.double() - want).norm() / want.norm())
