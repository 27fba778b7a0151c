# SPDX-License-Identifier: MIT
"""What a stage must give, in float64, and how far from it an output may lie.

The result of the same quantised operands by dense products; no kernel of ours runs here.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, nan

import torch

from aiter_moe.tuning.activations import activate
from aiter_moe.verify.matrices import BASES, base_of, dense_base
from aiter_moe.verify.operands import Prepared, held_experts

BF16_TOLERANCE = 4e-3
"""Relative L2 error of bf16 rows: rounding alone costs 1.7e-3, evenly over the rows."""
F32_UNIT = 2.0**-24
"""Rounding error of one float32 operation, relative."""
WORST_SUM = 32
"""An element may be off by so many times what is expected of a float32 sum."""


def expected_rows(prepared: Prepared) -> torch.Tensor:
    """Return float64 [tokens * topk, columns]; rows that are not computed are NaN.

    Parameters
    ----------
    prepared : Prepared
        A case with its tensors.
    """
    case = prepared.case
    owners = prepared.owners.flatten()
    out = torch.full((len(owners), case.columns), torch.nan, dtype=torch.float64)
    computed = torch.nonzero(owners >= 0).flatten()
    if not len(computed):
        return out
    sums = _products(prepared, owners, computed)
    bias = _bias(prepared, owners[computed])
    factor: torch.Tensor | float = 1.0
    if case.doweight:
        factor = prepared.routing.weights.double().flatten()[computed, None]
    if case.instance.stage == 2:
        out[computed] = (sums + bias) * factor
    else:
        assert case.instance.activation is not None
        gate_up = sums * factor + bias
        out[computed] = activate(gate_up, case.instance.activation, case.constants)
    return out


def _products(prepared: Prepared, owners: torch.Tensor, computed: torch.Tensor) -> torch.Tensor:
    """Return float64 [computed rows, weight rows]: one product for the experts of a base."""
    key, case = prepared.key, prepared.case
    mine = owners[computed]
    x = prepared.values[computed // case.topk if case.instance.stage == 1 else computed]
    sums = torch.empty((len(computed), key.rows), dtype=torch.float64)
    for base in range(BASES):
        rows = torch.nonzero(mine % BASES == base).flatten()
        if len(rows):
            sums[rows] = x[rows] @ dense_base(key, base).T
    for expert in held_experts(mine):
        _, turn = base_of(key, expert)
        if turn:
            rows = torch.nonzero(mine == expert).flatten()
            sums[rows] = sums[rows].roll(turn, 1)
    return sums


def _bias(prepared: Prepared, owners: torch.Tensor) -> torch.Tensor:
    """Return the bias of each row's computed columns, gate then up; zero without one."""
    if prepared.bias is None:
        return torch.zeros(1, dtype=torch.float64)
    experts = len(prepared.bias)
    own = prepared.bias.view(experts, prepared.key.halves, -1)[:, :, : prepared.case.columns]
    return own.flatten(1).double()[owners]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far an output may lie from its reference.

    Attributes
    ----------
    relative_l2 : float
        Of all rows together.
    of_element, of_row : float
        An element may be off by `of_element` times its own magnitude plus `of_row` times the root
        mean square of its row.
    """

    relative_l2: float
    of_element: float
    of_row: float


def tolerance_of(stage: int, reduction: int) -> Tolerance:
    """Return the tolerance of a stage's output.

    Stage 1 gives bf16: rounding errs by at most 2^-8 of an element. What float32 sums and the
    activation's approximations add, some 2^-17 of a row, has 2^-10 of a row to itself.

    Stage 2 gives float32. Products of a bf16 or fp4 number with an fp4 number are exact; each
    addition errs by at most u = 2^-24 of the partial sum, which after j of K random products is
    about sqrt(j / K) of the result: together u * sqrt(K / 6), relative L2. Bias and weight add
    two roundings. Eight times that is allowed for the whole, `WORST_SUM` times for an element,
    measured against its row, since sums that happen to be small err no less.
    """
    if stage == 1:
        return Tolerance(BF16_TOLERANCE, 2.0**-8, 2.0**-10)
    sum_error = F32_UNIT * ((reduction / 6) ** 0.5 + 2)
    return Tolerance(8 * sum_error, 4 * F32_UNIT, WORST_SUM * sum_error)


@dataclass(frozen=True, slots=True)
class Judgement:
    """How an output compares.

    Attributes
    ----------
    error : float
        Relative L2 error over all computed rows; NaN if the output holds a NaN, 0 without rows.
    worst : float
        Largest error of an element as a part of what is allowed; above 1 is wrong.
    reasons : tuple of str
        What is wrong; empty if nothing.
    """

    error: float
    worst: float
    reasons: tuple[str, ...] = ()


def allowed_by(tolerance: Tolerance, want: torch.Tensor) -> torch.Tensor:
    """Return how far each element of an output may lie from `want`, float64 of its shape."""
    rows = want.norm(dim=1, keepdim=True) * want.shape[1] ** -0.5
    return want.abs().mul_(tolerance.of_element).add_(rows * tolerance.of_row)


def judge(got: torch.Tensor, want: torch.Tensor, tolerance: Tolerance) -> Judgement:
    """Compare computed rows with their reference.

    Parameters
    ----------
    got : torch.Tensor
        [rows, columns], any float type.
    want : torch.Tensor
        float64 of the same shape, without NaN.
    tolerance : Tolerance
        What is allowed.
    """
    return judge_within(got, want, allowed_by(tolerance, want), tolerance.relative_l2)


def judge_within(
    got: torch.Tensor, want: torch.Tensor, allowed: torch.Tensor, relative_l2: float
) -> Judgement:
    """Compare computed rows with their reference.

    Parameters
    ----------
    got : torch.Tensor
        [rows, columns], any float type.
    want, allowed : torch.Tensor
        float64 of the same shape, without NaN: the reference, and how far each element may lie
        from it. `allowed` is overwritten.
    relative_l2 : float
        What is allowed of all rows together.
    """
    if not want.numel():
        return Judgement(0.0, 0.0)
    difference = got.double().sub_(want).abs_()
    error = float(difference.norm() / want.norm().clamp(min=1e-300))
    if not isfinite(error):
        holes = int((~difference.isfinite()).any(dim=1).sum())
        return Judgement(nan, nan, (f"{holes} of {len(want)} rows hold NaN or infinity",))
    parts = difference.div_(allowed.clamp_(min=1e-300))
    worst = float(parts.max())
    reasons = []
    if error > relative_l2:
        reasons.append(f"relative L2 error {error:.2e} (at most {relative_l2:.1e})")
    if worst > 1:
        row, column = divmod(int(parts.argmax()), want.shape[1])
        reasons.append(
            f"{int((parts > 1).sum())} of {want.numel()} elements are off by more than allowed, "
            f"most [{row}, {column}]: {float(got[row, column]):.6g} for "
            f"{float(want[row, column]):.6g}"
        )
    return Judgement(error, worst, tuple(reasons))
