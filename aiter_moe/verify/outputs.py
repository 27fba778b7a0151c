# SPDX-License-Identifier: MIT
"""What a stage left, in the form in which it can be judged: one way for each `Output`.

Rows are compared as they are. Requantised rows are right if every code is the nearest to a value
within the tolerance of bf16 rows, at a scale that such values have. Sums over slots are compared
with sums of the reference; adding in bf16 errs by a rounding for every slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from aiter_moe.codegen.instance import Output
from aiter_moe.formats import (
    MX_BLOCK,
    NAN_SCALE,
    dequantise,
    f32_to_e8m0_scale,
    mxfp4_to_f32,
    quantise_1x32,
)
from aiter_moe.layouts import S
from aiter_moe.verify.expected import (
    BF16_TOLERANCE,
    Judgement,
    Tolerance,
    allowed_by,
    judge,
    judge_within,
    tolerance_of,
)
from aiter_moe.verify.hostile import Given, written
from aiter_moe.verify.operands import Prepared

BF16_UNIT = 2.0**-8
"""Rounding error of one bf16 operation, relative."""
FLIPS = 0.1
"""Relative L2 distance from the quantised reference: codes next to a boundary may tip over it."""
SUMMED = (Output.ATOMIC, Output.FINAL)
"""Outputs that hold a row per token instead of one per token and slot."""

# Half-way points between neighbouring magnitudes of fp4.
_MIDDLES = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], dtype=torch.float64)


@dataclass(frozen=True, slots=True)
class Left:
    """What a run left behind.

    Attributes
    ----------
    given : tuple of Given
        Memory that was handed out, the output first; for fp4 rows their scales next.
    positions : torch.Tensor or None
        int [tokens * topk]: sorted row of each pair; None without a sort.
    """

    given: tuple[Given, ...]
    positions: torch.Tensor | None = None


def judge_left(prepared: Prepared, want: torch.Tensor, left: Left) -> Judgement:
    """Judge what a stage left against its reference, and which memory it wrote.

    Parameters
    ----------
    prepared : Prepared
        The case.
    want : torch.Tensor
        float64 [tokens * topk, columns], NaN in rows that are not computed.
    left : Left
        After the run.
    """
    output = prepared.case.instance.tile.output
    if output in SUMMED:
        judged, foreign = _judge_sums(prepared, want, left), 0
    else:
        computed = (prepared.owners >= 0).flatten()
        kind = _judge_fp4 if output is Output.FP4 else _judge_rows
        judged = kind(prepared, want[computed], left, computed)
        inside = left.given[0].inside.cpu()[~computed]
        foreign = int(written(inside).any(dim=1).sum())
    reasons = list(judged.reasons)
    if foreign:
        reasons.append(f"{foreign} rows that are not computed here were written")
    names = ("output", "scales" if output is Output.FP4 else "workspace")
    for name, memory in zip(names, left.given, strict=False):
        spilt = memory.spilt()
        if spilt:
            reasons.append(f"{spilt} elements outside the {name} were written")
    return Judgement(judged.error, judged.worst, tuple(reasons))


def _judge_rows(
    prepared: Prepared, want: torch.Tensor, left: Left, computed: torch.Tensor
) -> Judgement:
    case = prepared.case
    tolerance = tolerance_of(case.instance.stage, case.reduction)
    return judge(left.given[0].inside.cpu()[computed], want, tolerance)


def _judge_fp4(
    prepared: Prepared, want: torch.Tensor, left: Left, computed: torch.Tensor
) -> Judgement:
    """Judge codes and scales of computed rows."""
    if not want.numel():
        return Judgement(0.0, 0.0)
    codes = left.given[0].inside.cpu()[computed]
    scales = _scales_of(prepared, left)[computed]
    allowed = allowed_by(tolerance_of(1, prepared.case.reduction), want)
    low, high = _scale_bounds(want, allowed)
    odd = (scales < low) | (scales > high) | (scales == NAN_SCALE)
    got = dequantise(codes, scales.where(~odd, low))
    reasons = []
    if odd.any():
        row, group = (int(i) for i in torch.nonzero(odd)[0])
        reasons.append(
            f"{int(odd.sum())} of {odd.numel()} scales are none that the values have, first "
            f"[{row}, {group}]: {int(scales[row, group])} for {int(low[row, group])}"
        )
    beyond = _distance(codes, scales.where(~odd, low), want).div_(allowed.clamp(min=1e-300))
    nearest = dequantise(*quantise_1x32(want.to(torch.bfloat16)))
    error = float((got - nearest).norm() / nearest.norm().clamp(min=1e-300))
    worst = float(beyond.max())
    if worst > 1:
        row, column = divmod(int(beyond.argmax()), want.shape[1])
        reasons.append(
            f"{int((beyond > 1).sum())} of {want.numel()} codes are not the nearest, most "
            f"[{row}, {column}]: {float(got[row, column]):.6g} for {float(want[row, column]):.6g}"
        )
    if error > FLIPS:
        reasons.append(f"relative L2 distance {error:.2e} from quantised rows (at most {FLIPS})")
    return Judgement(error, worst, tuple(reasons))


def _scales_of(prepared: Prepared, left: Left) -> torch.Tensor:
    """Return the scales that were left, uint8 [tokens * topk, blocks], in the order of rows."""
    blocks = prepared.case.columns // MX_BLOCK
    memory, width = left.given[1].inside.cpu(), S.physical_shape(1, blocks)[1]
    if left.positions is None:  # rows in order
        return memory.view(-1, width)[:, :blocks]
    by_sorted_row = S.unshuffle(memory.view(-1, width))
    return by_sorted_row[left.positions.cpu().flatten().clamp(min=0).long(), :blocks]


def _scale_bounds(want: torch.Tensor, allowed: torch.Tensor) -> Sequence[torch.Tensor]:
    """Return the least and the largest scale of values within `allowed` of `want`."""
    magnitudes = want.abs().view(len(want), -1, MX_BLOCK)
    room = allowed.view(magnitudes.shape)
    least, most = (magnitudes - room).amax(2).clamp(min=0), (magnitudes + room).amax(2)
    return [f32_to_e8m0_scale(amax.float()) for amax in (least, most)]


def _distance(codes: torch.Tensor, scales: torch.Tensor, want: torch.Tensor) -> torch.Tensor:
    """Return how far `want` lies outside what rounds to the codes; 0 inside."""
    values = mxfp4_to_f32(codes).double()
    negative = torch.stack([codes & 8, codes >> 4 & 8], 2).flatten(1) != 0
    unit = dequantise(torch.full_like(codes, 0x22), scales)  # code 2 is 1.0
    magnitude = values.abs()
    position = torch.bucketize(magnitude, _MIDDLES)
    bounds = torch.cat([-_MIDDLES[:1], _MIDDLES, torch.tensor([torch.inf], dtype=torch.float64)])
    signed = torch.where(negative, -want, want)
    below = bounds[position] * unit - signed
    above = signed - bounds[position + 1] * unit
    return torch.maximum(below, above).clamp_(min=0)


def _judge_sums(prepared: Prepared, want: torch.Tensor, left: Left) -> Judgement:
    """Judge the sums over slots; tokens without a computed slot, and columns past n, are 0."""
    case = prepared.case
    slots = want.nan_to_num(0.0).view(case.tokens, case.topk, -1)
    sums, magnitudes = slots.sum(1), slots.abs().sum(1)
    got = left.given[0].inside.cpu()
    exact = allowed_by(tolerance_of(2, case.reduction), magnitudes)
    if case.instance.tile.output is Output.FINAL:
        allowed = exact + allowed_by(Tolerance(BF16_TOLERANCE, BF16_UNIT, 0.0), sums)
        whole = BF16_TOLERANCE
    else:
        # the product and the partial sum are rounded at every addition
        allowed = exact + magnitudes * (1.02 * BF16_UNIT * (case.topk + 1))
        whole = 0.5 * float(allowed.norm() / sums.norm().clamp(min=1e-300))
    judged = judge_within(got[:, : case.columns], sums, allowed, whole)
    if bool(got[:, case.columns :].any()):
        return Judgement(judged.error, judged.worst, (*judged.reasons, "columns past n are not 0"))
    return judged
