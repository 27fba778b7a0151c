# SPDX-License-Identifier: MIT
"""Mistakes put into our kernels on purpose: each is found, by a wrong result or by a check.

This is what makes a clean run of the catalogue say something.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from cpu_kernels import Case, Shape, bound, make_case, relative_l2
from gfx9_kernels import Run, run, with_output
from kernel_mutants import Mutant, mutated_code

from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.codegen.instance import Instance, Output
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.targets.emulator_report import EmulatorFaultError, FaultKind

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

# A result this far off is wrong whatever the rounding; most mistakes give about 1.
WRONG = 0.1
LDS_ORDER = {FaultKind.lds_race, FaultKind.in_flight_lds, FaultKind.undefined_lds}
OUT_OF_RANGE = {FaultKind.global_out_of_range, FaultKind.buffer_out_of_range}


@dataclass(frozen=True)
class Mistake:
    """A mutant, where it applies, and the checks that find it (none: the result does)."""

    mutant: Mutant
    kernels: tuple[str, ...]
    checks: frozenset[FaultKind] = frozenset()


def mistake(header: str, old: str, new: str, *kernels: str, checks: set[FaultKind] | None = None):
    return Mistake(Mutant(f"hip/{header}", old, new), kernels, frozenset(checks or ()))


A4W4, A16W4, GFX942 = "gfx950 a4w4", "gfx950 a16w4", "gfx942 a16w4"
TALL = "gfx950 a4w4 128"
ALL = (A4W4, A16W4, GFX942, TALL)
MISTAKES = {
    "swapped nibbles, a4w4": mistake(
        "a4w4_tile.h", "weights = r.weights.code[t][Half];",
        "weights = (r.weights.code[t][Half] & 0x0f0f0f0f) << 4 |"
        " (r.weights.code[t][Half] >> 4 & 0x0f0f0f0f);", A4W4, TALL,
    ),
    "swapped nibbles, a16w4": mistake(
        "a16w4_tile.h", "decoder[tile](weights.code[tile][half][j])",
        "decoder[tile]((weights.code[tile][half][j] & 0x0f0f0f0f) << 4 |"
        " (weights.code[tile][half][j] >> 4 & 0x0f0f0f0f))",
        A16W4, GFX942,
    ),
    "scale of the other rows, a4w4": mistake(
        "a4w4_tile.h", "w_byte = 2 * Half + t % 2,", "w_byte = 2 * Half + (t + 1) % 2,", A4W4, TALL
    ),
    "scale of the other half, activations": mistake(
        "a4w4_tile.h", "x_byte = 2 * Half + M % 2;", "x_byte = 2 * (1 - Half) + M % 2;", A4W4,
        TALL,
    ),
    "scale of the other rows, a16w4": mistake(
        "a16w4_tile.h", "fp4_decoder<2 * half + tile % 2>", "fp4_decoder<2 * half>", A16W4, GFX942
    ),
    "scale of the other half, a16w4": mistake(
        "a16w4_tile.h", "fp4_decoder<2 * half + tile % 2>",
        "fp4_decoder<2 - 2 * half + tile % 2>", A16W4, GFX942,
    ),
    "transposed result, a4w4": mistake(
        "a4w4_tile.h",
        "mfma_fp4<w_byte, x_byte>(weights, rows, sums[M][t], w_scale, x_scale)",
        "mfma_fp4<x_byte, w_byte>(rows, weights, sums[M][t], x_scale, w_scale)",
        A4W4,
    ),
    "transposed result, a16w4": mistake(
        "a16w4_tile.h",
        "mfma_bf16(weights[f % (ahead + 1)], group_rows.piece[piece_of(f) % pieces][m],",
        "mfma_bf16(group_rows.piece[piece_of(f) % pieces][m], weights[f % (ahead + 1)],",
        A16W4, GFX942,
    ),
    "rows in the order of memory": mistake(
        "gfx942.h", "even_elements_first(not_before(row[i]))", "not_before(row[i])", GFX942
    ),
    "a wrong entry in the table": mistake(
        "gfx942.h", "times(2.0f, 3.0f)", "times(2.0f, 4.0f)", GFX942
    ),
    "no sign": mistake("gfx942.h", "(signs & sign) | ", "", GFX942),
    "no barrier": mistake(
        "pipeline.h", "stage_of.template operator()<slot>());\n    barrier();\n",
        "stage_of.template operator()<slot>());\n", A4W4, A16W4, GFX942, checks=LDS_ORDER,
    ),
    "no barrier, tall": mistake(
        "rolling.h", "w_requests : 0)>();\n        barrier();\n", "w_requests : 0)>();\n", TALL,
        checks=LDS_ORDER,
    ),
    "a wait for rows too short by one, tall": mistake(
        "rolling.h", "(Ask ? w_requests : 0)>", "(Ask ? w_requests : 0) + 1>", TALL,
        checks=LDS_ORDER,
    ),
    "no wait for rows": mistake(
        "gfx950.h", "const { wait_loads<Later>(); }", "const {}", A4W4, A16W4, checks=LDS_ORDER
    ),
    "a wait too short by one": mistake(
        "gfx950.h", "wait_loads<Later>()", "wait_loads<Later + 1>()", A4W4, A16W4, checks=LDS_ORDER
    ),
    "no wait for the LDS": mistake(
        "gfx942.h", "    wait_lds();\n", "", GFX942, checks=LDS_ORDER
    ),
    "rows requested before the barrier": mistake(
        "pipeline.h",
        "      land.template operator()<slot, w_requests + (depth - 1) * step_requests>();\n"
        "      request_x.template operator()<next, Whole, slot>(cursor);\n",
        "      request_x.template operator()<next, Whole, slot>(cursor);\n"
        "      land.template operator()<slot, depth * step_requests>();\n",
        A4W4, A16W4, checks=LDS_ORDER,
    ),
    "pads taken for tokens": mistake(
        "rows.h", "slot, slot < a.topk};", "slot, true};", *ALL, checks=OUT_OF_RANGE
    ),
    "an expert's codes one tile late": mistake(
        "tile.h", "s.code[2 * i] = w_tile_offset(2 * strip, a.w_k) +",
        "s.code[2 * i] = w_tile_offset(2 * strip + 1, a.w_k) +", *ALL,
    ),
    "the end of k forgotten": mistake(
        "tile.h", "return {quarter < left, quarter + 4 < left};", "return {true, true};", *ALL
    ),
    "scales past the end of k kept": mistake(
        "tile.h", "return second ? 0xffffffffu : 0xffffu;", "return 0xffffffffu;", *ALL
    ),
}  # fmt: skip


def instance_of(kernel: str, stage: int = 1, **fields: object) -> Instance:
    """Return the first tile of "<target> <kind> [<rows>]" in the catalogue, of 32 rows else."""
    target, kind, *rows = kernel.split()
    activation = ActivationType.Silu if stage == 1 else None
    wanted = {"kind": Kind(kind), "stage": stage, "activation": activation,
              "block_m": int(rows[0]) if rows else 32, "split_k": False} | fields  # fmt: skip
    found = (i for i in catalogue(target) if all(getattr(i, k) == v for k, v in wanted.items()))
    first = next(i for i in found if not i.tile.direct)
    return with_output(first, Output.BF16 if stage == 1 else Output.ROWS)


def case_of(kernel: str) -> Case:
    """Return a case with pads in its blocks, several steps of k, and one that ends in a half."""
    shape = Shape(tokens=37, topk=2, experts=3, n=96, k=1920)
    return make_case(instance_of(kernel), shape, seed=5, bias=True)


def outcome(case: Case, code: bytes) -> tuple[float, frozenset[FaultKind]]:
    """Return the error of the result, or infinity and the kinds of fault that were found."""
    try:
        return relative_l2(run(case, code_object=code), case.reference()), frozenset()
    except EmulatorFaultError as found:
        return np.inf, frozenset(fault.kind for fault in found.report.faults)


@pytest.mark.parametrize("kernel", ALL)
def test_the_kernels_are_sound_without_a_mistake(kernel):
    case = case_of(kernel)
    error, kinds = outcome(case, mutated_code(case.instance, None))
    assert not kinds and error <= bound(case.instance)


@pytest.mark.parametrize(
    ("name", "kernel"), [(name, kernel) for name, m in MISTAKES.items() for kernel in m.kernels]
)
def test_a_mistake_is_found(name, kernel):
    made = MISTAKES[name]
    case = case_of(kernel)
    error, kinds = outcome(case, mutated_code(case.instance, made.mutant))
    if made.checks:
        assert kinds and kinds <= made.checks, (error, kinds)
    else:
        assert not error <= WRONG, error


@pytest.mark.parametrize("kernel", [A16W4, GFX942])
def test_a_forgotten_part_of_a_split_is_found(kernel):
    shape = Shape(tokens=9, topk=2, experts=2, n=64, k=1024)
    case = make_case(instance_of(kernel, split_k=True), shape, ksplit=2)
    forgotten = Mutant("hip/splitk.h", "int part = 0;", "int part = 1;")
    sound = outcome(case, mutated_code(case.instance, None))
    assert sound[0] <= bound(case.instance)
    assert not outcome(case, mutated_code(case.instance, forgotten))[0] <= WRONG


def unshuffled(codes: np.ndarray) -> np.ndarray:
    """Leave rows as they are, in the shape that tiles would have."""
    experts, rows, _ = codes.shape
    return np.ascontiguousarray(codes).reshape(experts, rows // 16, -1, 16, 16)


@pytest.mark.parametrize("kernel", ALL)
def test_weights_in_a_wrong_layout_give_an_error_near_one(kernel, monkeypatch):
    shape = Shape(tokens=37, topk=2, experts=3, n=96, k=512)
    case = make_case(instance_of(kernel), shape, seed=5)
    assert relative_l2(run(case), case.reference()) <= bound(case.instance)
    monkeypatch.setattr("gfx9_kernels.code_tiles", unshuffled)
    assert relative_l2(run(case), case.reference()) > 0.5


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("kernel", ALL)
def test_a_flipped_gate_up_flag_gives_an_error_near_one(kernel, interleaved, monkeypatch):
    shape = Shape(tokens=37, topk=2, experts=3, n=96, k=512)
    case = make_case(instance_of(kernel), shape, seed=5, interleaved=interleaved)
    weights = Run.weights

    def flipped(self: Run) -> None:
        weights(self)
        self.case.interleaved = not interleaved

    monkeypatch.setattr(Run, "weights", flipped)
    assert relative_l2(run(case), case.reference()) > 0.5
