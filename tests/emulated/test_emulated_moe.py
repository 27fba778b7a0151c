# SPDX-License-Identifier: MIT
"""`fused_moe` on the emulated GPUs: the pipeline, launcher, argument bytes and kernels of a GPU.

Compared with float64 of the same quantised operands, and with the CPU target.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from reference import MoeProblem, problem_of_a_rank, random_problem, reference_moe, relative_l2

from aiter_moe import (
    ActivationType,
    GateMode,
    Kind,
    Layout,
    PackedWeight,
    dtypes,
    fused_moe,
    per_1x32_f4_quant,
    prepare_weights,
)
from aiter_moe.targets.emulator import EmulatorLauncher, emulator_launcher
from aiter_moe.targets.emulator_report import EmulatorFaultError, FaultKind, InstructionClass
from aiter_moe.targets.registry import Target, running_target

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

TOLERANCE = 4e-3
GFX950, GFX942 = "gfx950:emulator", "gfx942:emulator"
Q_DTYPE = {Kind.A16W4: torch.bfloat16, Kind.A4W4: dtypes.fp4x2}
TARGETS_OF = {Kind.A16W4: (GFX950, GFX942), Kind.A4W4: (GFX950,)}
ON = [(kind, target) for kind in Kind for target in TARGETS_OF[kind]]


def run(
    p: MoeProblem, activation: ActivationType, kind: Kind, target: Target | str = GFX950,
    layout: Layout = Layout.SHUFFLED, **options,
) -> torch.Tensor:  # fmt: skip
    return fused_moe(
        p.x, PackedWeight.pack(p.w1, p.s1, layout), PackedWeight.pack(p.w2, p.s2),
        p.topk_weights, p.topk_ids, activation=activation, bias1=p.bias1, bias2=p.bias2,
        q_dtype_a=Q_DTYPE[kind], target=target, **options,
    )  # fmt: skip


def check(p: MoeProblem, activation: ActivationType, kind: Kind, target=GFX950, **options) -> None:
    """Compare a call with float64, and with the same call on the CPU."""
    known = {name: options[name] for name in ("doweight_stage1",) if name in options}
    want = reference_moe(
        p, activation, kind, skip_inter_quant=bool(options.get("skip_inter_quant")), **known
    )
    got = run(p, activation, kind, target, **options)
    assert relative_l2(got, want) <= TOLERANCE
    assert relative_l2(run(p, activation, kind, "cpu", **options), got.double()) <= TOLERANCE


@dataclass(frozen=True)
class Model:
    """A layer of a model with few of its experts."""

    activation: ActivationType
    hidden: int
    inter: int
    experts: int
    topk: int
    bias: bool

    def problem(self, tokens: int) -> MoeProblem:
        sizes = (self.hidden, self.inter, self.experts, self.topk)
        return random_problem(tokens, *sizes, bias=self.bias)


GPT_OSS = Model(ActivationType.Swiglu, 2880, 2880, 2, 1, bias=True)
MINIMAX_M2_TP8 = Model(ActivationType.Silu, 3072, 192, 4, 2, bias=False)


@pytest.mark.parametrize(("kind", "target"), ON, ids=str)
def test_gpt_oss(kind, target):
    requantise = {"skip_inter_quant": False} if kind is Kind.A4W4 else {}
    check(GPT_OSS.problem(5), GPT_OSS.activation, kind, target, **requantise)


@pytest.mark.parametrize(("kind", "target"), ON, ids=str)
def test_minimax_m2_in_eight_parts(kind, target):
    requantise = {"skip_inter_quant": False} if kind is Kind.A4W4 else {}
    check(MINIMAX_M2_TP8.problem(19), MINIMAX_M2_TP8.activation, kind, target, **requantise)


def test_a4w4_may_leave_the_intermediate_in_bf16():
    p = MINIMAX_M2_TP8.problem(7)
    check(p, MINIMAX_M2_TP8.activation, Kind.A4W4, skip_inter_quant=True)


@pytest.mark.parametrize("target", [GFX950, GFX942])
@pytest.mark.parametrize("ksplit", [2, 4])
def test_split_k_has_its_workspace_and_its_finish(ksplit, target):
    p = random_problem(3, 1024, 64, 4, 2, bias=True)
    symbols = []
    gfx = running_target(target).facts.gfx
    launcher = EmulatorLauncher(gfx, on_report=lambda symbol, _: symbols.append(symbol))
    watched = replace(running_target(target), launcher=lambda: launcher)
    got = run(p, ActivationType.Swiglu, Kind.A16W4, watched, splitk=ksplit)
    assert [symbol.endswith("_finish") for symbol in symbols] == [False, False, True, False, False]
    want = reference_moe(p, ActivationType.Swiglu, Kind.A16W4)
    assert relative_l2(got, want) <= TOLERANCE


@pytest.mark.parametrize("activation", ["Silu", "Gelu", "Swiglu", "Situv2"])
@pytest.mark.parametrize("kind", Kind, ids=str)
def test_every_activation(kind, activation):
    check(random_problem(9, 128, 96, 4, 2, bias=True), ActivationType[activation], kind)


@pytest.mark.parametrize("kind", Kind, ids=str)
def test_every_block_m_with_one_busy_expert_and_idle_ones(kind):
    p = random_problem(37, 160, 64, 5, 2, routing="one")
    want = reference_moe(p, ActivationType.Silu, kind)
    for block_m in (16, 32, 64, 128):
        got = run(p, ActivationType.Silu, kind, block_size_M=block_m)
        assert relative_l2(got, want) <= TOLERANCE, block_m


@pytest.mark.parametrize(("kind", "target"), ON, ids=str)
def test_interleaved_weights_give_the_bits_of_separated_ones(kind, target):
    p = random_problem(9, 256, 192, 4, 2, bias=True)
    separated, interleaved = (
        run(p, ActivationType.Swiglu, kind, target, layout)
        for layout in (Layout.SHUFFLED, Layout.SHUFFLED_GATE_UP)
    )
    assert torch.equal(separated, interleaved)


@pytest.mark.parametrize("kind", Kind, ids=str)
def test_masked_experts_and_foreign_tokens_contribute_nothing(kind):
    p, local = problem_of_a_rank()
    want = reference_moe(p, ActivationType.Silu, kind, local=local.bool())
    p.topk_ids[11:] = 2**30  # never looked at
    got = run(
        p, ActivationType.Silu, kind, expert_mask=local,
        num_local_tokens=torch.tensor([11], dtype=torch.int32),
    )  # fmt: skip
    assert relative_l2(got[:11], want[:11]) <= TOLERANCE
    assert torch.count_nonzero(got[0]) == 0
    assert torch.count_nonzero(got[11:]) == 0


@pytest.mark.parametrize("layout", [Layout.SHUFFLED, Layout.SHUFFLED_GATE_UP], ids=str)
@pytest.mark.parametrize(("kind", "target"), ON, ids=str)
def test_declared_padding_is_not_computed(kind, target, layout):
    p = random_problem(9, 192, 96, 4, 2, bias=True)
    want = reference_moe(p, ActivationType.Swiglu, kind)
    wide = random_problem(9, 256, 256, 4, 2, bias=True)
    wide.x = torch.cat((p.x, torch.full((9, 64), math.nan, dtype=torch.bfloat16)), 1)
    if kind is Kind.A4W4:
        wide.x[:, 192:] = 0  # quantised with the rest
    for half in (0, 1):
        rows, into = slice(half * 96, half * 96 + 96), slice(half * 256, half * 256 + 96)
        wide.w1[:, into, :96] = p.w1[:, rows]
        wide.s1[:, into, :6] = p.s1[:, rows]
        wide.bias1[:, into] = p.bias1[:, rows]
    wide.w2[:, :192, :48] = p.w2
    wide.s2[:, :192, :3] = p.s2
    wide.bias2[:, :192] = p.bias2
    wide.bias2[:, 192:] = math.nan  # loaders leave the padding of a bias undefined
    wide.topk_ids, wide.topk_weights = p.topk_ids, p.topk_weights
    got = run(
        wide, ActivationType.Swiglu, kind, target, layout, hidden_pad=64, intermediate_pad=160
    )
    assert relative_l2(got[:, :192], want) <= TOLERANCE
    assert torch.count_nonzero(got[:, 192:]) == 0


@pytest.mark.parametrize("kind", Kind, ids=str)
def test_routing_weights_may_multiply_in_stage_1(kind):
    p = random_problem(5, 128, 64, 4, 2, bias=True)
    check(p, ActivationType.Silu, kind, doweight_stage1=True)


def test_rows_that_kernels_could_not_load_where_they_are_give_the_same_bits():
    p = random_problem(5, 128, 64, 4, 2)
    want = run(p, ActivationType.Silu, Kind.A16W4)
    for columns, first in ((131, 0), (136, 1)):  # an odd pitch, an odd start
        wide = torch.full((5, columns), math.nan, dtype=torch.bfloat16)
        wide[:, first : first + 128] = p.x
        moved = replace(p, x=wide[:, first : first + 128])
        assert torch.equal(run(moved, ActivationType.Silu, Kind.A16W4), want)


@pytest.mark.parametrize(("kind", "target"), ON, ids=str)
@pytest.mark.parametrize("tokens", [5, 20])
@pytest.mark.parametrize("pitch", [0, 8])
def test_rows_that_overlap_give_the_same_bits(kind, target, tokens, pitch):
    p = random_problem(tokens, 128, 64, 4, 2)
    memory = torch.randn(128 + 8 * tokens, generator=torch.Generator().manual_seed(1))
    rows = memory.to(torch.bfloat16).as_strided((tokens, 128), (pitch, 1))
    want = run(replace(p, x=rows.contiguous()), ActivationType.Silu, kind, target)
    assert torch.equal(run(replace(p, x=rows), ActivationType.Silu, kind, target), want)


def test_quantised_and_half_precision_hidden_states():
    p = random_problem(9, 256, 128, 4, 2)
    want = run(p, ActivationType.Silu, Kind.A4W4)
    codes, scale = per_1x32_f4_quant(p.x)
    got = fused_moe(
        codes, PackedWeight.pack(p.w1, p.s1), PackedWeight.pack(p.w2, p.s2), p.topk_weights,
        p.topk_ids, a1_scale=scale, dtype=torch.bfloat16, target=GFX950,
    )  # fmt: skip
    assert torch.equal(got, want)
    half = run(replace(p, x=p.x.to(torch.float16)), ActivationType.Silu, Kind.A4W4)
    assert half.dtype is torch.float16
    assert relative_l2(half, reference_moe(p, ActivationType.Silu, Kind.A4W4)) <= TOLERANCE


def test_long_calls_are_cut_into_runs_without_a_trace(monkeypatch):
    p = random_problem(17, 128, 128, 4, 2)
    local = torch.tensor([13], dtype=torch.int32)
    # of one block, since runs of a few tokens would take kernels without a sort
    whole = run(p, ActivationType.Silu, Kind.A4W4, num_local_tokens=local, block_size_M=64)
    monkeypatch.setattr("aiter_moe.runs.RUN_BYTES", 5 * 4 * 2 * 128)
    cut = run(p, ActivationType.Silu, Kind.A4W4, num_local_tokens=local, block_size_M=64)
    assert torch.equal(cut, whole)


def test_the_environment_names_the_target(monkeypatch):
    p = random_problem(3, 128, 64, 2, 1)
    want = run(p, ActivationType.Silu, Kind.A16W4)
    monkeypatch.setenv("AITER_MOE_TARGET", GFX950)
    assert torch.equal(run(p, ActivationType.Silu, Kind.A16W4, None), want)


def test_panels_packed_for_the_cpu_run_too():
    p = random_problem(3, 128, 64, 2, 1)
    want = run(p, ActivationType.Silu, Kind.A16W4, GFX950)
    w1, w2 = prepare_weights(p.w1, p.w2, p.s1, p.s2, target="cpu")
    for gate_mode in GateMode.SEPARATED, GateMode.INTERLEAVE:
        got = fused_moe(
            p.x, w1, w2, p.topk_weights, p.topk_ids, q_dtype_a=Q_DTYPE[Kind.A16W4],
            gate_mode=gate_mode, target=GFX950,
        )  # fmt: skip
        assert torch.equal(got, want)


# A wrong layout given past the types must show as an error near 1, not as a pass.


def wrongly_laid(p: MoeProblem, which: str) -> tuple[PackedWeight, PackedWeight]:
    w1, w2 = PackedWeight.pack(p.w1, p.s1), PackedWeight.pack(p.w2, p.s2)

    def marked(weight: PackedWeight, codes: torch.Tensor, scales: torch.Tensor, layout: Layout):
        return PackedWeight(codes, scales, layout, weight.rows, weight.cols)

    if which == "gate and up flag flipped":
        return marked(w1, w1.codes, w1.scales, Layout.SHUFFLED_GATE_UP), w2
    if which == "unshuffled w1 codes":
        return marked(w1, p.w1.contiguous(), w1.scales, w1.layout), w2
    if which == "unshuffled w2 codes":
        return w1, marked(w2, p.w2.contiguous(), w2.scales, w2.layout)
    swapped = w1.codes >> 4 | w1.codes << 4
    return marked(w1, swapped, w1.scales, w1.layout), w2


@pytest.mark.parametrize(
    "which",
    ["gate and up flag flipped", "unshuffled w1 codes", "unshuffled w2 codes", "swapped nibbles"],
)
@pytest.mark.parametrize(("kind", "target"), ON, ids=str)
def test_a_wrong_weight_layout_past_the_type_check_is_an_error_near_one(kind, target, which):
    p = random_problem(17, 256, 256, 2, 1)
    want = reference_moe(p, ActivationType.Silu, kind)
    got = fused_moe(
        p.x, *wrongly_laid(p, which), p.topk_weights, p.topk_ids, q_dtype_a=Q_DTYPE[kind],
        target=target,
    )  # fmt: skip
    assert relative_l2(got, want) > 0.7


# The launcher itself.


class Dropping(EmulatorLauncher):
    """Leaves one tensor out of what kernels may reach."""

    which = 0

    def run_stage(self, instance, args, tensors):
        super().run_stage(instance, args, [t for i, t in enumerate(tensors) if i != self.which])


def test_a_kernel_that_leaves_its_tensors_raises_with_a_report():
    p = random_problem(3, 128, 64, 2, 1)
    launcher = Dropping("gfx950")
    target = replace(running_target(GFX950), launcher=lambda: launcher)
    launcher.which = 1  # the weights of stage 1, a16w4
    with pytest.raises(EmulatorFaultError) as caught:
        run(p, ActivationType.Silu, Kind.A16W4, target)
    fault = caught.value.report.faults[0]
    assert fault.kind is FaultKind.buffer_out_of_range
    assert "buffer_load" in str(caught.value)
    kernel = caught.value.report.kernel
    assert f"`aiter-moe verify --target gfx950:emulator -k {kernel}`" in str(caught.value)
    # The launcher is none the worse for it.
    launcher.which = -1
    assert torch.equal(
        run(p, ActivationType.Silu, Kind.A16W4, target), run(p, ActivationType.Silu, Kind.A16W4)
    )


def test_what_kernels_write_starts_as_nan():
    launcher = emulator_launcher("gfx950")
    for dtype in (torch.bfloat16, torch.float32):
        assert launcher.empty((3, 5), dtype, torch.device("cpu")).isnan().all()


@pytest.mark.parametrize("kind", Kind, ids=str)
def test_the_order_of_waves_changes_no_bit(kind):
    p = random_problem(21, 512, 128, 3, 2, bias=True)
    launcher = EmulatorLauncher("gfx950")
    target = replace(running_target(GFX950), launcher=lambda: launcher)
    results = []
    for seed, threads in ((0, 1), (1, 2), (2, 0)):
        launcher.seed, launcher.threads = seed, threads
        results.append(run(p, ActivationType.Silu, kind, target))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_reports_count_what_a_launch_did():
    p = random_problem(16, 512, 128, 1, 1)
    reports = []
    launcher = EmulatorLauncher("gfx950", on_report=lambda _, report: reports.append(report))
    target = replace(running_target(GFX950), launcher=lambda: launcher)
    run(p, ActivationType.Silu, Kind.A16W4, target, block_size_M=16)
    assert [report.faults for report in reports] == [()] * 4
    # One block of 16 rows: 2 * 128 columns of 512, and 512 columns of 128, in steps of 16x16x32.
    # Steps of 256 elements are computed whole.
    counts = [sum(r.by_mnemonic(InstructionClass.mfma).values()) for r in reports]
    assert counts == [0, 256 // 16 * 512 // 32, 512 // 16 * 256 // 32, 0]


def test_events_time_what_is_queued():
    launcher = emulator_launcher("gfx950")
    p = random_problem(3, 128, 64, 2, 1)
    results = []
    took = launcher.elapsed_ms(
        lambda: results.append(run(p, ActivationType.Silu, Kind.A16W4)), torch.device("cpu")
    )
    assert took > 0
    assert torch.equal(results[0], run(p, ActivationType.Silu, Kind.A16W4))


def test_modules_are_loaded_again_after_they_were_freed():
    launcher = EmulatorLauncher("gfx950")
    target = replace(running_target(GFX950), launcher=lambda: launcher)
    p = random_problem(3, 128, 64, 2, 1)
    first = run(p, ActivationType.Silu, Kind.A16W4, target)
    launcher.unload()
    assert torch.equal(run(p, ActivationType.Silu, Kind.A16W4, target), first)
