# SPDX-License-Identifier: MIT
"""Occupancy, bytes in flight and cycles of kernels written by hand, against figures by hand."""

from __future__ import annotations

import numpy as np
import pytest
from gcn_asm import Snippet, run_one
from inspected import code_object

from aiter_moe.inspect import inspect_code
from aiter_moe.inspect.bound import turn_cycles
from aiter_moe.inspect.flight import in_flight
from aiter_moe.inspect.inspection import Inspection
from aiter_moe.inspect.machine import MACHINES, flops_of, operand_type
from aiter_moe.inspect.occupancy import occupancy

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

KIB = 1024
GFX950, GFX942 = MACHINES["gfx950"], MACHINES["gfx942"]
FP4 = (
    "v_mfma_scale_f32_16x16x128_f8f6f4 v[0:3], v[4:7], v[8:11], v[0:3], v12, v13"
    " op_sel_hi:[0,0,0] cbsz:4 blgp:4"
)
FP8 = (
    "v_mfma_scale_f32_32x32x64_f8f6f4 v[0:15], v[16:23], v[24:31], v[0:15], v32, v33"
    " op_sel_hi:[0,0,0]"
)
WEIGHTS = "buffer_load_dwordx4 v[4:7], v20, s[16:19], s5 offen nt"


def kernel(body: str, arch: str = "gfx950", **resources):
    return inspect_code(code_object({"kernel": body}, arch, **resources))["kernel"]


def loop(*lines: str):
    return kernel("\n".join(["loop:", *lines, FP4, "s_cbranch_scc1 loop"])).hot


@pytest.mark.parametrize(
    ("resources", "groups", "limit"),
    [
        ({"vgprs": 128, "lds": 0}, (4, 8, 8), "registers"),
        ({"vgprs": 129, "lds": 0}, (3, 8, 8), "registers"),
        ({"vgprs": 257, "lds": 81920}, (1, 2, 8), "registers"),
        ({"vgprs": 64, "lds": 65536}, (8, 2, 8), "LDS"),
        ({"vgprs": 64, "lds": 65537}, (8, 2, 8), "LDS"),
        ({"vgprs": 64, "lds": 80640}, (8, 2, 8), "LDS"),
        ({"vgprs": 64, "lds": 81921}, (8, 1, 8), "LDS"),
        ({"vgprs": 64, "threads": 1024}, (2, 2, 2), "registers"),
        ({"vgprs": 256, "threads": 64}, (8, 32, 32), "registers"),
    ],
)
def test_workgroups_of_a_compute_unit(resources, groups, limit):
    found = occupancy(kernel("s_nop 0", **resources).resources, GFX950)
    assert (found.by_registers, found.by_lds, found.by_waves) == groups
    assert (found.groups, found.limit) == (min(groups), limit)
    assert found.waves == min(groups) * found.waves_a_group


def test_gfx942_has_less_lds():
    found = occupancy(kernel("s_nop 0", "gfx942", lds=32768).resources, GFX942)
    assert found.by_lds == 2


def test_bytes_between_requests_and_waits():
    flight = in_flight(loop(WEIGHTS, WEIGHTS, WEIGHTS, WEIGHTS, "s_waitcnt vmcnt(6)"))
    # 6 stay, 4 come: while they are waited for 10, 9, 8 and 7 are in flight
    assert (flight.least, flight.most, flight.requests) == (6 * KIB, 10 * KIB, 6)
    assert flight.mean == 8.5 * KIB


def test_scales_and_rows_count_as_requests_and_not_as_weights():
    flight = in_flight(
        loop(
            WEIGHTS, "buffer_load_dword v12, v20, s[16:19], 0 offen",
            "buffer_load_dwordx4 v21, s[16:19], 0 offen lds", WEIGHTS, "s_waitcnt vmcnt(5)",
        )
    )  # fmt: skip
    # the last five of weights, scale, rows, weights: weights, weights, scale, rows, weights
    assert (flight.requests, flight.least, flight.most) == (5, 3 * KIB, 5 * KIB)


def test_rows_that_pass_through_registers_are_no_weights():
    rows = "buffer_load_dwordx4 v[40:43], v20, s[16:19], 0 offen"
    found = loop(WEIGHTS.replace(" nt", ""), rows, "ds_write_b128 v22, v[40:43]")
    assert [i.text for i in found.instructions if i.pc in found.weight_loads] == [
        "buffer_load_dwordx4 v[4:7], v20, s[16:19], s5 offen"
    ]


def test_rows_beside_streamed_weights_are_no_weights():
    found = loop(WEIGHTS, "buffer_load_dwordx4 v[40:43], v20, s[16:19], 0 offen")
    assert len(found.weight_loads) == 1


def test_a_drained_queue_has_nothing_in_flight():
    flight = in_flight(loop(WEIGHTS, "s_waitcnt vmcnt(0)"))
    assert (flight.least, flight.most, flight.mean) == (0, KIB, KIB)


def test_a_loop_that_never_waits_fills_the_counter():
    flight = in_flight(loop(WEIGHTS))
    assert flight.least == flight.most == 63 * KIB


def test_cycles_of_matrix_instructions():
    both = kernel(f"loop:\n{FP4}\n{FP8}\ns_cbranch_scc1 loop").hot.instructions
    assert [GFX950.matrix_cycles(i) for i in both] == [16, 64, 0]
    assert [flops_of(i) for i in both[:2]] == [65536, 131072]
    assert [operand_type(i) for i in both[:2]] == ["fp4", "fp8"]
    bf16 = [
        "v_mfma_f32_16x16x32_bf16 v[0:3], v[4:7], v[8:11], v[0:3]",
        "v_mfma_f32_32x32x16_bf16 v[0:15], v[16:19], v[20:23], v[0:15]",
        "v_mfma_f32_16x16x16_bf16 v[0:3], v[4:5], v[8:9], v[0:3]",
    ]
    found = kernel("\n".join(bf16)).instructions
    assert [GFX950.matrix_cycles(i) for i in found[:3]] == [16, 32, 16]
    assert GFX942.matrix_cycles(found[2]) == 16


def test_cycles_of_a_turn():
    code = kernel(
        "\n".join(
            [
                "loop:", WEIGHTS, WEIGHTS, "ds_read_b128 v[8:11], v22", "s_waitcnt vmcnt(8)",
                FP4, FP4, FP4, "v_add_u32 v30, v31, v30", "s_nop 3", "s_cbranch_scc1 loop",
            ]
        )
    )  # fmt: skip
    cycles = turn_cycles(code.hot, GFX950, 8)
    assert cycles.matrix == 2 * 3 * 16
    # 9 instructions of one slot and a nop of four, more than two waves' 4 vector instructions
    assert cycles.issue == 4 * 13
    assert cycles.lds == 8 * KIB / 256
    share = 8e12 / 256 / 2.4e9
    assert cycles.memory == pytest.approx(8 * 2 * KIB / share)
    assert cycles.bound == "memory"
    slow = turn_cycles(code.hot, GFX950, 1, in_flight(code.hot))
    # one wave with 9.5 KiB in flight on average gets that much a microsecond
    assert slow.memory == pytest.approx(2 * KIB / (9.5 * KIB / 2400))


def test_waves_that_share_weights_load_them_once():
    code = kernel("\n".join(["loop:", WEIGHTS, FP4, "s_cbranch_scc1 loop"]))
    alone, shared = (turn_cycles(code.hot, GFX950, 8, sharers=n) for n in (1, 2))
    assert shared.memory == alone.memory / 2


def test_what_should_not_be_is_said():
    body = "\n".join(
        [
            "loop:",
            WEIGHTS,
            "s_waitcnt vmcnt(0)",
            "v_add_u32 v20, 4, v20",
            FP4,
            "s_cbranch_scc1 loop",
        ]
    )
    found = Inspection(kernel(body, spills=3)).findings
    assert [text.split(":")[0] for text in found] == [
        "3 registers spilled, 0 bytes of scratch a lane",
        "a vmcnt(0) in the hot loop",
        "1 VALU of the hot loop make addresses",
    ]


def test_requests_in_flight_are_those_the_emulator_counts():
    weights = np.zeros(1024, np.uint32)
    loads = [f"global_load_dwordx4 v[{8 + 4 * n}:{11 + 4 * n}], v2, s[8:9]" for n in range(4)]
    body = "\n".join(
        [
            "v_lshlrev_b32 v2, 4, v0", "s_mov_b32 s4, 0", "loop:", *loads, "s_waitcnt vmcnt(6)",
            "s_add_u32 s4, s4, 1", "s_cmp_lt_u32 s4, 16", "s_cbranch_scc1 loop",
        ]
    )  # fmt: skip
    code = kernel(f"{body}\n{FP4}").loops[0]
    snippet = Snippet("kernel", body, {}, [], {"s[8:9]": weights})
    counters = run_one(snippet, checks=0).report.counters
    flight = in_flight(code)
    assert counters["peak_vector_requests"] == flight.requests + len(loads) == 10
    assert counters["peak_vector_bytes"] == flight.most == 10 * KIB
