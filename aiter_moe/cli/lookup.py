# SPDX-License-Identifier: MIT
"""``aiter-moe lookup``: which kernels a problem gets, from which row or rule, and why."""

from __future__ import annotations

from typing import Annotated

import torch
import typer

from aiter_moe.codegen.instance import ACTIVATIONS
from aiter_moe.enums import ActivationType, GateMode, Kind
from aiter_moe.errors import ArgumentError
from aiter_moe.explain import explain
from aiter_moe.heuristics import activation_dtype
from aiter_moe.problem import Q_DTYPE_A, Problem, token_tier
from aiter_moe.targets.registry import running_target
from aiter_moe.verdict import Overrides

_ACTIVATIONS = {a.name.lower(): a for a in ACTIVATIONS}
_HIDDEN_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def _activation(text: str) -> ActivationType:
    name = text.removeprefix("ActivationType.").lower()
    if name not in _ACTIVATIONS:
        raise ArgumentError(f"--act {text}: give one of {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


def lookup(  # noqa: PLR0913 - one parameter per option
    *,
    token: Annotated[int, typer.Option(help="Rows of the hidden states.", min=1)],
    model_dim: Annotated[int, typer.Option(help="Hidden size.", min=1)],
    inter_dim: Annotated[int, typer.Option(help="Intermediate size of this rank.", min=1)],
    expert: Annotated[int, typer.Option(help="Experts of this rank.", min=1)],
    topk: Annotated[int, typer.Option(help="Routed experts per token.", min=1)],
    act: Annotated[str, typer.Option(help=f"One of {', '.join(_ACTIVATIONS)}.")] = "silu",
    kind: Annotated[
        Kind | None, typer.Option(help="Kind of kernel (default: by aiter's rule).")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Hidden states: bfloat16 or float16.")] = "bfloat16",
    bias: Annotated[bool, typer.Option("--bias", help="Both stages add a bias.")] = False,
    interleave: Annotated[
        bool, typer.Option("--interleave", help="Rows of w1: 16 gate, 16 up, ...")
    ] = False,
    doweight_stage1: Annotated[
        bool, typer.Option("--doweight-stage1", help="Routing weights multiply in stage 1.")
    ] = False,
    target: Annotated[
        str,
        typer.Option(
            help="cpu, gfx950, gfx942, or the latter with :emulator (default: the running one)."
        ),
    ] = "",
    config: Annotated[str, typer.Option(help="Tuned CSV files, searched first.")] = "",
    block_m: Annotated[int, typer.Option(help="Force the sort block.", min=0)] = 0,
    ksplit: Annotated[int, typer.Option(help="Force the split (a16w4); -1: none.")] = 0,
    details: Annotated[
        bool,
        typer.Option("--explain", help="List every row and kernel, and what spoke against it."),
    ] = False,
) -> None:
    """Print the kernels, block_m and ksplit a problem gets, and their source.

    Exits with status 1 where no kernel runs the problem.
    """
    device = running_target(target or None).facts
    mode = GateMode.INTERLEAVE if interleave else GateMode.SEPARATED
    activation = _activation(act)
    if dtype not in _HIDDEN_DTYPES:
        raise ArgumentError(f"--dtype {dtype}: give one of {', '.join(_HIDDEN_DTYPES)}")
    if kind is None:
        q_dtype_a = activation_dtype(activation, mode, token, device.gfx)
    else:
        q_dtype_a = Q_DTYPE_A[kind]
    problem = Problem(
        token=token_tier(token), model_dim=model_dim, inter_dim=inter_dim, experts=expert,
        topk=topk, activation=activation, q_dtype_a=q_dtype_a, dtype=_HIDDEN_DTYPES[dtype],
        doweight_stage1=doweight_stage1, has_bias=bias, gate_mode=mode,
    )  # fmt: skip
    overrides = Overrides(block_m=block_m or None, ksplit=ksplit or None, origin="--ksplit")
    found = explain(problem, device, overrides, config_file=config or None)
    typer.echo(found.choice(), err=found.plan is None)
    if details:
        typer.echo(found.details())
    if found.plan is None:
        raise typer.Exit(1)
