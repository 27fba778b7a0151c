# SPDX-License-Identifier: MIT
"""The cost model: its parts at their limits, what must be monotonic, and the fit to public data."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning import PUBLIC_DATA

from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.codegen.cktile import cktile_instances
from aiter_moe.codegen.instance import Output
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.problem import Q_DTYPE_A, Problem
from aiter_moe.tuning.cost_model.constants import LEAST, MOST, Constants
from aiter_moe.tuning.cost_model.device import GPUS
from aiter_moe.tuning.cost_model.fit import Errors, fit, log_errors
from aiter_moe.tuning.cost_model.fitted import FITTED
from aiter_moe.tuning.cost_model.least_squares import minimise
from aiter_moe.tuning.cost_model.observations import observations, read_tables
from aiter_moe.tuning.cost_model.public_kernels import public_workgroup
from aiter_moe.tuning.cost_model.ranking import Agreement, rank, spearman
from aiter_moe.tuning.cost_model.routing import active_experts, row_blocks
from aiter_moe.tuning.cost_model.stage_time import core_cycles, stage_time
from aiter_moe.tuning.cost_model.tiles import workgroup_of
from aiter_moe.tuning.cost_model.work import MXFP4, stage_work

GPU = GPUS["gfx950"]
FOUND = FITTED["gfx950"].constants
KERNELS = [i for i in catalogue("gfx950") if i.activation in (None, ActivationType.Silu)]
TOKENS = tuple(1 << i for i in range(16))


def problem(tokens: int, kind: Kind = Kind.A4W4) -> Problem:
    return Problem(tokens, 7168, 512, 256, 8, ActivationType.Silu, Q_DTYPE_A[kind])


def kernels_of(kind: Kind, stage: int) -> list:
    return [i for i in KERNELS if i.kind is kind and i.stage == stage and not i.tile.direct]


def timed(asked, instance, gpu=GPU, constants=FOUND, ksplit=0):
    group = workgroup_of(instance, ksplit)
    return stage_time(stage_work(asked, group), group, gpu, constants)


# What routing asks of the experts


@pytest.mark.parametrize(("experts", "topk"), [(32, 4), (257, 9), (8, 8)])
def test_one_token_has_topk_experts_and_blocks(experts, topk):
    assert active_experts(1, experts, topk) == pytest.approx(topk)
    assert row_blocks(1, experts, topk, 16) == pytest.approx(topk)


def test_many_tokens_reach_all_experts_and_fill_their_blocks():
    assert active_experts(1 << 17, 32, 4) == pytest.approx(32)
    full = (1 << 17) * 4 / 128
    assert full < row_blocks(1 << 17, 32, 4, 128) < full + 32


def test_every_expert_gets_every_token_when_topk_is_all_of_them():
    assert active_experts(3, 8, 8) == 8
    assert row_blocks(33, 8, 8, 32) == 16


ROUTED = [(7, 32, 4, 16), (100, 32, 4, 16), (500, 128, 8, 32), (64, 8, 2, 16)]


@pytest.mark.parametrize(("tokens", "experts", "topk", "block_m"), ROUTED)
def test_blocks_are_those_of_random_routing(tokens, experts, topk, block_m):
    drawn = np.random.default_rng(0).binomial(tokens, topk / experts, (4000, experts))
    mean = np.ceil(drawn / block_m).sum(axis=1).mean()
    assert row_blocks(tokens, experts, topk, block_m) == pytest.approx(mean, rel=0.01)
    assert active_experts(tokens, experts, topk) == pytest.approx(
        (drawn > 0).sum(axis=1).mean(), rel=0.01
    )


@settings(deadline=None)
@given(st.integers(1, 4096), st.sampled_from([(32, 4), (256, 8), (513, 11)]),
       st.sampled_from([16, 32, 64, 128]))  # fmt: skip
def test_blocks_lie_between_what_rows_and_experts_ask_for(tokens, layer, block_m):
    experts, topk = layer
    blocks, active = row_blocks(tokens, experts, topk, block_m), active_experts(tokens, *layer)
    assert max(active, tokens * topk / block_m) <= blocks * (1 + 1e-9)
    assert blocks <= tokens * topk / block_m + active + 1e-9


# What a stage has to do


def test_weights_of_one_token_are_those_of_topk_experts():
    first = kernels_of(Kind.A4W4, 1)[0]
    work = stage_work(problem(1), workgroup_of(first))
    weights = 8 * 2 * 512 * 7168 * MXFP4
    assert work.weight_bytes == pytest.approx(weights)
    assert work.memory_bytes - weights < 0.01 * weights
    assert work.items == pytest.approx(8 * 512 / first.tile.block_n)


def test_rows_and_sums_and_atomics_are_counted_apart():
    found = {i.tile.output: i for i in kernels_of(Kind.A4W4, 2) if i.block_m == 32}
    rows = stage_work(problem(64), workgroup_of(found[Output.ROWS]))
    sums = stage_work(problem(64), workgroup_of(found[Output.ATOMIC]))
    pairs = 64 * 8 * 7168
    assert (rows.atomic_bytes, rows.summed_bytes) == (0, 2 * 4 * pairs + 2 * 64 * 7168)
    assert (sums.atomic_bytes, sums.summed_bytes) == (2 * pairs, 0)


def test_parts_of_the_reduction_share_turns_and_leave_sums():
    split = next(i for i in kernels_of(Kind.A16W4, 1) if i.split_k)
    asked = problem(4, Kind.A16W4)
    whole, parts = (stage_work(asked, workgroup_of(split, k)) for k in (1, 4))
    assert parts.items == pytest.approx(4 * whole.items)
    assert parts.turns == whole.turns / 4
    assert parts.summed_bytes > whole.summed_bytes == 0


# How long it takes


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("stage", [1, 2])
def test_more_tokens_never_take_less_time(kind, stage):
    for instance in kernels_of(kind, stage):
        times = [timed(problem(tokens, kind), instance).us for tokens in TOKENS]
        assert times == sorted(times), instance.name


@pytest.mark.parametrize("tokens", [1, 64, 4096])
def test_more_compute_units_are_never_slower(tokens):
    for instance in KERNELS:
        if not instance.tile.direct:
            sizes = (64, 128, 256, 304, 512)
            gpus = [replace(GPU, compute_units=units) for units in sizes]
            asked = problem(tokens, instance.kind)
            times = [timed(asked, instance, gpu).us for gpu in gpus]
            assert times == sorted(times, reverse=True), instance.name


def test_last_round_costs_what_is_left_in_it():
    group = workgroup_of(kernels_of(Kind.A4W4, 1)[0])
    full = GPU.compute_units * group.resident
    one = core_cycles(group, GPU, 1)
    assert core_cycles(group, GPU, GPU.compute_units) == one
    assert core_cycles(group, GPU, 2 * full) == 2 * core_cycles(group, GPU, full)
    assert core_cycles(group, GPU, full + 1) == core_cycles(group, GPU, full) + one


def test_time_is_between_the_longest_part_and_the_sum():
    for tokens in (1, 128, 8192):
        found = timed(problem(tokens), kernels_of(Kind.A4W4, 2)[0])
        parts = list(found.named().values())
        busy = parts[1:]
        assert found.launch + max(busy) <= found.us <= sum(parts)
        assert found.named()[found.bound] == max(parts)


def test_an_infinite_overlap_leaves_the_longest_part():
    apart = replace(FOUND, overlap=200.0)
    found = timed(problem(512), kernels_of(Kind.A4W4, 1)[0], constants=apart)
    assert found.us == pytest.approx(found.launch + max(list(found.named().values())[1:]), rel=0.01)


def test_few_tokens_wait_for_memory_and_a_prefill_computes():
    few = timed(problem(64), kernels_of(Kind.A4W4, 1)[0])
    large = Problem(32768, 7168, 2048, 32, 8, ActivationType.Silu, Q_DTYPE_A[Kind.A4W4])
    widest = max(kernels_of(Kind.A4W4, 1), key=lambda i: i.block_m)
    assert few.bound == "memory"
    assert timed(large, widest).bound == "core"


def test_no_stage_beats_the_peaks_of_the_device():
    for instance in KERNELS:
        if instance.tile.direct:
            continue
        for tokens in TOKENS:
            asked = problem(tokens, instance.kind)
            group = workgroup_of(instance)
            work, seconds = stage_work(asked, group), timed(asked, instance).us * 1e-6
            operations = 2 * tokens * 8 * 7168 * 512 * (2 if instance.stage == 1 else 1)
            assert operations / seconds < GPU.operations_per_s(instance.kind)
            assert work.memory_bytes / seconds < GPU.memory_bytes_per_s


def test_every_kernel_of_gfx950_is_known_and_none_of_other_targets():
    for instance in (*catalogue("gfx950"), *cktile_instances("gfx950")):
        group = workgroup_of(instance)
        assert group is not None and group.resident >= 1 and group.turn.mfma >= 1
        assert group.turn.instructions > group.turn.vector >= group.turn.mfma
    assert workgroup_of(catalogue("gfx942")[0]) is None


# Names of public tables


def test_names_of_flydsl_say_tile_parts_and_output():
    name = "flydsl_moe1_afp4_wfp4_bf16_t32x64x256_w3_kb4_bnt0_go_xcd4_kw2_fp4"
    group = public_workgroup(name, 1, Kind.A4W4, 32)
    assert (group.rows, group.columns, group.splits, group.parts) == (32, 64, 4, 2)
    assert (group.output, group.weight_rows) == (Output.FP4, 128)
    second = "flydsl_moe2_afp4_wfp4_bf16_t64x256x256_reduce_bnt2_persist_sbm128"
    group = public_workgroup(second, 2, Kind.A4W4, 128)
    assert (group.rows, group.sort_block, group.persistent) == (64, 128, True)
    assert (group.output, group.row_bytes) == (Output.ROWS, 2)


def test_names_of_others_and_unknown_ones():
    ck = "moe_ck2stages_gemm2_64x32x32x128_1x1_MulABScaleExpertWeightShuffled_v1_Nswizzle0"
    assert public_workgroup(ck, 2, Kind.A4W4, 32).waves == 1
    port = public_workgroup("flydsl_mxmoe_g1_a4w4_16x256x256_f16in_nt", 1, Kind.A4W4, 16)
    assert (port.rows, port.columns, port.output) == (16, 256, Output.FP4)
    mark = public_workgroup("swiglu_mxfp4_bf16_cktile", 1, Kind.A16W4, 16)
    assert (mark.columns, mark.weight_rows) == (64, 128)
    assert public_workgroup("opus_moe1_something", 1, Kind.A4W4, 32) is None


def test_instructions_of_public_loops_are_those_of_their_code():
    """FlyDSL's and CK-tile's loops, counted in what they compile to (benchmarks/gfx950.md)."""
    for rows, counted in ((32, 4.38), (64, 3.35), (128, 2.83)):
        turn = public_workgroup(
            f"flydsl_moe1_afp4_wfp4_bf16_t{rows}x128x256_fp4", 1, Kind.A4W4, rows
        ).turn
        assert turn.instructions / turn.mfma == pytest.approx(counted, rel=0.1)
    counts = {(16, 128): 8.94, (32, 256): 5.30, (64, 256): 3.54}
    for instance in cktile_instances("gfx950"):
        turn = workgroup_of(instance).turn
        counted = counts[instance.block_m, instance.tile.block_n]
        assert turn.instructions / turn.mfma == pytest.approx(counted, rel=0.15)


# The fit


def test_least_squares_find_a_minimum_and_keep_to_bounds():
    x = np.linspace(0, 1, 40)

    def residuals(p):
        return np.exp(p[0] * x) * p[1] - np.exp(1.5 * x) * 2.0

    least, most = np.array([-5.0, -5.0]), np.array([5.0, 5.0])
    found = minimise(residuals, np.array([0.1, 1.0]), least, most)
    assert found == pytest.approx([1.5, 2.0], rel=1e-4)
    bounded = minimise(residuals, np.array([0.1, 1.0]), least, np.array([1.0, 5.0]))
    assert bounded[0] == 1.0


def test_committed_constants_are_within_their_bounds():
    for value, low, high in zip(FOUND.values(), LEAST.values(), MOST.values(), strict=True):
        assert low <= value <= high


def test_errors_and_rank_correlation():
    assert Errors.of(np.log([1.1, 0.9, 1.0])).median == pytest.approx(0.1)
    assert spearman([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 1], [1, 1]) == 1
    assert Agreement.of([32, 64, 128], [32, 32, 32]).near == pytest.approx(2 / 3)


def public_tables():
    if not PUBLIC_DATA.is_dir():
        pytest.skip("public tuned tables are not beside the checkout")
    return read_tables(PUBLIC_DATA)


def test_committed_constants_predict_public_measurements():
    tables = public_tables()
    told = FITTED["gfx950"]
    assert {t.name: len(t.rows) for t in tables} == told.tables
    found = [o for table in tables for o in observations(table)]
    assert len(found) == told.observations
    errors = Errors.of(log_errors(found, told.constants))
    assert errors.median == pytest.approx(told.median_error, abs=0.005)
    assert errors.decile9 < 0.2


def test_committed_constants_choose_block_m_as_tables_do():
    ranked = [r for table in public_tables() for r in rank(table.rows, FOUND)]
    agreement = Agreement.of([r.measured for r in ranked], [r.predicted for r in ranked])
    assert agreement.correlation > 0.85
    assert agreement.near == 1.0
    assert max(r.regret for r in ranked) < 0.12


def test_a_fit_to_one_table_predicts_it():
    table = next(t for t in public_tables() if t.name == "glm5_fp4")
    found = list(observations(table))[::3]
    fitted = fit(found)
    assert isinstance(fitted, Constants)
    assert Errors.of(log_errors(found, fitted)).median < 0.08
