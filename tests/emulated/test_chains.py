# SPDX-License-Identifier: MIT
"""The device kernels of a whole call: which, in what order, and nothing beside them."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from reference import MoeProblem, problem_of_a_rank, random_problem, reference_moe, relative_l2
from torch.utils._python_dispatch import TorchDispatchMode

from aiter_moe import ActivationType, Kind, PackedWeight, dtypes, fused_moe
from aiter_moe.codegen.instance import Output
from aiter_moe.dispatch import _metadata
from aiter_moe.formats import quantise_1x32
from aiter_moe.pipeline import chain
from aiter_moe.plan import Plan, make_plan
from aiter_moe.targets.launch_record import recorded_launches

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

TOLERANCE = 4e-3
Q_DTYPE = {Kind.A16W4: torch.bfloat16, Kind.A4W4: dtypes.fp4x2}
TARGETS = ("gfx950:emulator", "gfx942:emulator")
# What torch may do in a call: give memory and look at it in another way.
HARMLESS = {
    "aten::empty", "aten::empty_strided", "aten::new_empty", "aten::detach", "aten::alias",
    "aten::view", "aten::_unsafe_view", "aten::slice", "aten::select", "aten::as_strided",
    "aten::reshape", "aten::t", "aten::transpose", "aten::unsqueeze", "aten::expand",
}  # fmt: skip


class NoKernels(TorchDispatchMode):
    """Refuses every operation for which torch would launch a kernel on a GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().partition(".")[0]
        assert name in HARMLESS, f"torch computes {name}"
        return func(*args, **(kwargs or {}))


@pytest.fixture
def plans(monkeypatch):
    """Collect the plans of the calls that a test makes."""
    found: list[Plan] = []

    def watched(*arguments, **more):
        found.append(make_plan(*arguments, **more))
        return found[-1]

    monkeypatch.setattr("aiter_moe.dispatch.make_plan", watched)
    _metadata.cache_clear()
    return found


def called(p: MoeProblem, kind: Kind, target: str, **options) -> tuple[torch.Tensor, list[str]]:
    """Run a call under which torch computes nothing; return its output and its kernels."""
    w1, w2 = PackedWeight.pack(p.w1, p.s1), PackedWeight.pack(p.w2, p.s2)
    more = {
        "activation": ActivationType.Silu,
        "q_dtype_a": Q_DTYPE[kind],
        "target": target,
    } | options
    x = more.pop("hidden", p.x)
    with recorded_launches() as launches, NoKernels():
        out = fused_moe(x, w1, w2, p.topk_weights, p.topk_ids, **more)
    return out, [launch.symbol for launch in launches]


@pytest.fixture(autouse=True)
def _not_traced(monkeypatch):
    # Else a call under a dispatch mode becomes one operator, whose insides the mode does not see.
    monkeypatch.setattr(sys.modules[fused_moe.__module__], "_is_traced", lambda: False)


def test_the_watch_sees_what_torch_computes():
    with NoKernels(), pytest.raises(AssertionError, match="aten::add"):
        torch.empty(3) + 1


@pytest.mark.parametrize(
    ("kind", "tokens", "options"),
    [
        (Kind.A4W4, 21, {"skip_inter_quant": False}),
        (Kind.A4W4, 21, {"skip_inter_quant": True}),
        (Kind.A4W4, 3, {}),
        (Kind.A4W4, 19, {"dtype": torch.float16}),
        (Kind.A16W4, 21, {}),
        (Kind.A16W4, 3, {}),
        (Kind.A16W4, 5, {"splitk": 2}),
    ],
    ids=str,
)
def test_a_call_is_the_chain_of_its_plan_and_nothing_else(plans, kind, tokens, options):
    p = random_problem(tokens, 512, 128, 4, 2)
    p = replace(p, x=p.x.to(options.get("dtype", torch.bfloat16)))
    out, symbols = called(p, kind, TARGETS[0], **options)
    assert symbols == list(chain(plans[-1]))
    assert len(symbols) == 2 if plans[-1].direct else len(symbols) <= 5
    assert plans[-1].direct is (tokens <= 16 and "splitk" not in options)
    skipped = bool(options.get("skip_inter_quant"))
    want = reference_moe(p, ActivationType.Silu, kind, skip_inter_quant=skipped)
    assert relative_l2(out, want) <= TOLERANCE


def test_gfx942_has_the_same_chain(plans):
    p = random_problem(21, 512, 128, 4, 2)
    out, symbols = called(p, Kind.A16W4, TARGETS[1])
    assert symbols == list(chain(plans[-1]))
    assert relative_l2(out, reference_moe(p, ActivationType.Silu, Kind.A16W4)) <= TOLERANCE


def rank_of_many(tokens: int) -> tuple[MoeProblem, torch.Tensor, torch.Tensor]:
    """Return a rank's problem with so many tokens, its mask, and a number of local tokens."""
    p, mask = problem_of_a_rank()
    which = torch.arange(tokens) % len(p.x)
    p = replace(p, x=p.x[which], topk_ids=p.topk_ids[which], topk_weights=p.topk_weights[which])
    return p, mask, torch.tensor([tokens - 3], dtype=torch.int32)


@pytest.mark.parametrize("kind", Kind, ids=str)
def test_a_rank_with_some_experts_needs_no_other_kernel_nor_does_a_cut(plans, kind, monkeypatch):
    p, mask, local = rank_of_many(51)
    given = torch.full((51, 128), 7.0, dtype=p.x.dtype)
    options = {"expert_mask": mask, "num_local_tokens": local}
    monkeypatch.setattr("aiter_moe.runs.RUN_BYTES", 26 * 2 * 3 * 128)
    out, symbols = called(p, kind, TARGETS[0], output=given, **options)
    assert not plans[-1].direct
    assert symbols == list(chain(plans[-1])) * 2
    assert out is given
    assert relative_l2(out, on_the_cpu(p, kind, **options).double()) <= TOLERANCE
    assert not out[-3:].any()


@pytest.mark.parametrize("kind", Kind, ids=str)
def test_runs_of_few_tokens_know_their_place_in_the_call(plans, kind, monkeypatch):
    p, mask, local = rank_of_many(13)
    options = {"expert_mask": mask.bool(), "num_local_tokens": local.long()}
    monkeypatch.setattr("aiter_moe.runs.RUN_BYTES", 5 * 2 * 3 * 128)
    w1, w2 = PackedWeight.pack(p.w1, p.s1), PackedWeight.pack(p.w2, p.s2)
    out = fused_moe(
        p.x, w1, w2, p.topk_weights, p.topk_ids, activation=ActivationType.Silu,
        q_dtype_a=Q_DTYPE[kind], target=TARGETS[0], **options,
    )  # fmt: skip
    assert plans[-1].direct
    assert relative_l2(out, on_the_cpu(p, kind, **options).double()) <= TOLERANCE
    assert not out[-3:].any()


def leaving(output1: Output, output2: Output):
    """Return a planner whose kernels leave what is said."""

    def planner(*arguments, **more):
        plan = make_plan(*arguments, **more)
        first, second = plan.stage1, plan.stage2
        return replace(
            plan,
            stage1=replace(first, tile=replace(first.tile, output=output1)),
            stage2=replace(second, tile=replace(second.tile, output=output2)),
        )

    return planner


@pytest.mark.parametrize("experts_elsewhere", [False, True])
def test_requantised_rows_and_atomic_sums_save_kernels(monkeypatch, experts_elsewhere):
    p, mask, local = rank_of_many(51)
    options = {"skip_inter_quant": False, "block_size_M": 32}
    if experts_elsewhere:
        options |= {"expert_mask": mask, "num_local_tokens": local}
    else:
        p = random_problem(37, 512, 192, 5, 3, bias=True)
        options |= {"bias1": p.bias1, "bias2": p.bias2}
    found = {}
    for outputs in ((Output.BF16, Output.ROWS), (Output.FP4, Output.ROWS),
                    (Output.FP4, Output.ATOMIC)):  # fmt: skip
        monkeypatch.setattr("aiter_moe.dispatch.make_plan", leaving(*outputs))
        _metadata.cache_clear()
        found[outputs], symbols = called(p, Kind.A4W4, TARGETS[0], **options)
        assert len(symbols) == 6 - list(found).index(outputs)
    _metadata.cache_clear()
    asked, rows, sums = found.values()
    assert torch.equal(asked, rows)
    assert relative_l2(sums, rows.double()) <= TOLERANCE
    if experts_elsewhere:
        assert not sums[-3:].any()


@pytest.mark.parametrize("target", TARGETS)
def test_sums_by_atomics_go_to_an_output_at_any_address(monkeypatch, target):
    p = random_problem(19, 96, 64, 3, 2)
    monkeypatch.setattr("aiter_moe.dispatch.make_plan", leaving(Output.BF16, Output.ATOMIC))
    _metadata.cache_clear()
    given = torch.zeros(19 * 96 + 1, dtype=torch.bfloat16)[1:].view(19, 96)
    w1, w2 = PackedWeight.pack(p.w1, p.s1), PackedWeight.pack(p.w2, p.s2)
    with recorded_launches() as launches:
        out = fused_moe(
            p.x, w1, w2, p.topk_weights, p.topk_ids, activation=ActivationType.Silu,
            q_dtype_a=torch.bfloat16, target=target, output=given,
        )  # fmt: skip
    _metadata.cache_clear()
    assert launches[-1].symbol.endswith("_atomic")
    assert out is given
    assert relative_l2(out, reference_moe(p, ActivationType.Silu, Kind.A16W4)) <= TOLERANCE


def on_the_cpu(p: MoeProblem, kind: Kind, **options) -> torch.Tensor:
    """Return what the CPU target makes of a call."""
    w1, w2 = PackedWeight.pack(p.w1, p.s1), PackedWeight.pack(p.w2, p.s2)
    return fused_moe(
        p.x, w1, w2, p.topk_weights, p.topk_ids, activation=ActivationType.Silu,
        q_dtype_a=Q_DTYPE[kind], target="cpu", **options,
    )  # fmt: skip


def test_given_codes_have_their_scales_laid_out(plans):
    p = random_problem(33, 512, 128, 4, 2)
    codes, scales = quantise_1x32(p.x)
    got, symbols = called(
        p, Kind.A4W4, TARGETS[0], hidden=codes, a1_scale=scales, dtype=torch.bfloat16
    )
    assert symbols == list(chain(plans[-1], prequantised=True))
    assert torch.equal(got, called(p, Kind.A4W4, TARGETS[0])[0])


def test_records_nest_and_end():
    p = random_problem(3, 256, 64, 2, 1)
    with recorded_launches() as outer:
        _, symbols = called(p, Kind.A16W4, TARGETS[0])
    assert [launch.symbol for launch in outer] == symbols
    called(p, Kind.A16W4, TARGETS[0])
    assert len(outer) == len(symbols)
    assert all(launch.threads % 64 == 0 and min(launch.grid) > 0 for launch in outer)
