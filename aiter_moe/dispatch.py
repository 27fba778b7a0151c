# SPDX-License-Identifier: MIT
"""`get_2stage_cfgs`: from aiter's arguments to two callables, remembered while nothing changes.

Look-ups write nothing and start no process. What is chosen and why is `aiter_moe.plan`; this file
gathers what a plan depends on (device, environment, files) and announces what it has to say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial

import torch

from aiter_moe import env, pipeline
from aiter_moe.configs.lookup import Stamp, stamps, table_of
from aiter_moe.enums import ActivationType, GateMode, Kind, QuantType
from aiter_moe.errors import ArgumentError, UnsupportedProblemError
from aiter_moe.heuristics import use_nt
from aiter_moe.log import info_once, warn_once
from aiter_moe.pipeline import Operand
from aiter_moe.plan import Plan, make_plan
from aiter_moe.problem import Problem, token_tier
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.targets.registry import Target, running_target
from aiter_moe.verdict import Overrides
from aiter_moe.wish import Notice


@dataclass(frozen=True, slots=True)
class MOEMetadata:
    """What aiter's callers read from a dispatch, and the plan behind it.

    Attributes
    ----------
    stage1, stage2 : callable
        `aiter_moe.pipeline.stage1` and ``stage2`` with the chosen instance bound.
    block_m, ksplit : int
        Sort block; split of stage 1's reduction, 0 for a4w4.
    has_bias, stage2_has_bias : bool
        The stages are given biases.
    use_non_temporal_load : bool
        What aiter's rule says of streaming weights past the caches; here the tile decides.
    skip_inter_quant : bool
        a4w4 whose stage 2 reads the bf16 intermediate.
    plan : Plan
        The chosen kernels, their source and the reasons.

    The other fields are aiter's, in its order, with the one value they have here.
    """

    stage1: Callable[..., Operand]
    stage2: Callable[..., torch.Tensor]
    block_m: int
    ksplit: int
    run_1stage: bool = False
    has_bias: bool = False
    use_non_temporal_load: bool = True
    fuse_quant: str = ""
    stage2_has_bias: bool = False
    flat: bool = False
    output_aux: bool = False
    prequant: bool = True
    skip_inter_quant: bool = False
    route_bucket: str = ""
    expected_sorted_blocks: int | None = None
    min_sorted_blocks: int | None = None
    max_sorted_blocks: int | None = None
    plan: Plan = field(kw_only=True)


def _announce(notices: tuple[Notice, ...]) -> None:
    for notice in notices:
        (warn_once if notice.warning else info_once)(notice.key, notice.text)


def merged_overrides(overrides: Overrides) -> Overrides:
    """Return `overrides` with what the environment insists on; the caller's ksplit comes first."""
    ksplit = env.AITER_KSPLIT.integer()
    if ksplit and not overrides.ksplit:
        origin = f"{env.AITER_KSPLIT.name}={ksplit}"
        overrides = replace(overrides, ksplit=ksplit, origin=origin)
    if env.AITER_BYPASS_TUNE_CONFIG.flag() and not overrides.ignore_rows:
        overrides = replace(overrides, ignore_rows=True)
    return overrides


@lru_cache(maxsize=4096)
def _metadata(
    problem: Problem,
    facts: DeviceFacts,
    overrides: Overrides,
    files: tuple[Stamp, ...],
    non_temporal: int,
) -> MOEMetadata:
    plan = make_plan(problem, facts, table_of(files), overrides)
    _announce(plan.notices)
    return MOEMetadata(
        stage1=partial(pipeline.stage1, instance=plan.stage1, ksplit=plan.ksplit),
        stage2=partial(pipeline.stage2, instance=plan.stage2),
        block_m=plan.block_m,
        ksplit=plan.ksplit,
        plan=plan,
        has_bias=problem.has_bias,
        stage2_has_bias=problem.has_bias,
        use_non_temporal_load=use_nt(
            problem.token, problem.topk, problem.experts, forced=non_temporal
        ),
        skip_inter_quant=plan.skip_inter_quant,
    )


def metadata_for(
    problem: Problem,
    target: Target,
    overrides: Overrides | None = None,
    *,
    config_file: str | None = None,
) -> MOEMetadata:
    """Return the dispatch of a problem on a target.

    Parameters
    ----------
    problem : Problem
        What is to be computed.
    target : Target
        Where (`targets.registry.running_target`).
    overrides : Overrides or None
        What the caller insists on.
    config_file : str or None
        Tuned CSV files to search before those of the environment.

    Raises
    ------
    UnsupportedProblemError
        If no kernel of the target runs the problem.
    ConfigError
        If a tuned file or a variable cannot be used.
    """
    return _metadata(
        problem,
        target.facts,
        merged_overrides(overrides or Overrides()),
        stamps(config_file),
        env.AITER_USE_NT.integer(),
    )


@lru_cache(maxsize=4096)
def problem_of(  # noqa: PLR0913 - the fields of a problem under aiter's names
    *,
    token: int,
    model_dim: int,
    inter_dim: int,
    expert: int,
    topk: int,
    dtype: torch.dtype,
    q_dtype_a: torch.dtype,
    q_dtype_w: torch.dtype,
    q_type: QuantType | int,
    use_g1u1: bool,
    activation: ActivationType | int,
    doweight_stage1: bool,
    gate_mode: GateMode | str,
    has_bias: bool,
) -> Problem:
    """Return the problem aiter's arguments describe.

    Raises
    ------
    ArgumentError
        If a size is not positive, or an enum value is unknown.
    UnsupportedProblemError
        If `q_type` is not ``per_1x32``.
    """
    sizes = {"model_dim": model_dim, "inter_dim": inter_dim, "expert": expert, "topk": topk}
    for name, size in sizes.items():
        if size <= 0:
            raise ArgumentError(f"{name}={size} must be positive")
    if token < 0:
        raise ArgumentError(f"token={token} must not be negative")
    try:
        quant, act, mode = QuantType(q_type), ActivationType(activation), GateMode(gate_mode)
    except ValueError as error:
        raise ArgumentError(f"{error}; see aiter_moe.QuantType, ActivationType, GateMode") from None
    if quant is not QuantType.per_1x32:
        raise UnsupportedProblemError(
            f"q_type {quant}: kernels here read MXFP4 weights, QuantType.per_1x32; use aiter for "
            "other quantisations"
        )
    return Problem(
        token=token_tier(token), model_dim=model_dim, inter_dim=inter_dim, experts=expert,
        topk=topk, activation=act, q_dtype_a=q_dtype_a, dtype=dtype, q_dtype_w=q_dtype_w,
        q_type=quant, use_g1u1=bool(use_g1u1), doweight_stage1=bool(doweight_stage1),
        has_bias=bool(has_bias), gate_mode=mode,
    )  # fmt: skip


def get_2stage_cfgs(  # noqa: PLR0913, PLR0917 - aiter's signature
    token: int,
    model_dim: int,
    inter_dim: int,
    expert: int,
    topk: int,
    dtype: torch.dtype,
    q_dtype_a: torch.dtype,
    q_dtype_w: torch.dtype,
    q_type: QuantType,
    use_g1u1: bool,
    activation: ActivationType,
    doweight_stage1: bool,
    hidden_pad: int = 0,
    intermediate_pad: int = 0,
    is_shuffled: bool = True,
    gate_mode: GateMode | str = "separated",
    is_ep: bool = False,
    has_stage2_bias: bool = False,
    opus_weights_shuffled: object = None,
    config_file: str | None = None,
    *,
    target: str | None = None,
    skip_inter_quant: bool | None = None,
) -> MOEMetadata:
    """Return the kernels of a two-stage MoE, as aiter's function of this name does.

    A tuned row of exactly this problem, activation included, decides if its kernels exist, can
    run it and are current; otherwise the rules do. Pure: writes nothing, starts nothing.

    Parameters
    ----------
    token : int
        Rows of the hidden states, or their tier.
    model_dim, inter_dim, expert, topk : int
        Sizes of the weight tensors in elements, local experts, routed experts per token.
    dtype, q_dtype_a, q_dtype_w : torch.dtype
        Hidden states; activations and weights as the GEMMs see them.
    q_type : QuantType
        ``per_1x32``.
    use_g1u1, activation, doweight_stage1
        As in aiter.
    hidden_pad, intermediate_pad : int
        Trailing zero elements that need not be computed; not part of the key.
    is_shuffled : bool
        Accepted; weights in another layout are converted where they enter.
    gate_mode : GateMode or str
        Order of w1's rows.
    is_ep : bool
        Expert parallelism: tuned rows of topk - 1 serve too.
    has_stage2_bias : bool
        Both stages add a bias.
    opus_weights_shuffled : object
        Accepted for aiter's signature.
    config_file : str or None
        Tuned CSV files to search before those of the environment.
    target : str or None
        ``cpu``, ``gfx950``, ``gfx942``, ``gfx950:emulator`` or ``gfx942:emulator``; None:
        AITER_MOE_TARGET, else the device torch sees, else ``cpu``.
    skip_inter_quant : bool or None
        a4w4: whether stage 2 reads the bf16 intermediate; None: as tuned.

    Raises
    ------
    ArgumentError, ConfigError
        If an argument, a file or a variable cannot be used.
    UnsupportedProblemError
        If no kernel of the target runs the problem.
    """
    problem = problem_of(
        token=token, model_dim=model_dim, inter_dim=inter_dim, expert=expert, topk=topk,
        dtype=dtype, q_dtype_a=q_dtype_a, q_dtype_w=q_dtype_w, q_type=q_type, use_g1u1=use_g1u1,
        activation=activation, doweight_stage1=doweight_stage1, gate_mode=gate_mode,
        has_bias=has_stage2_bias,
    )  # fmt: skip
    overrides = Overrides(
        skip_inter_quant=skip_inter_quant if problem.kind is Kind.A4W4 else None,
        hidden_pad=hidden_pad,
        intermediate_pad=intermediate_pad,
        is_ep=is_ep,
    )
    return metadata_for(problem, running_target(target), overrides, config_file=config_file)
