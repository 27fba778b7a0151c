# SPDX-License-Identifier: MIT
"""Control flow, constants, status bits and hardware registers of the emulator's scalar unit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gcn_asm import Result, Snippet, run

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

M32, M64 = 2**32 - 1, 2**64 - 1


def value_of(body: str, key: str, inputs: dict[str, Any] | None = None) -> int:
    (result,) = run([Snippet("k", body, inputs or {}, [key])])
    return int(result[key])


def test_constants() -> None:
    floats = {
        "0.5": 0x3F000000,
        "-0.5": 0xBF000000,
        "1.0": 0x3F800000,
        "-1.0": 0xBF800000,
        "2.0": 0x40000000,
        "-2.0": 0xC0000000,
        "4.0": 0x40800000,
        "-4.0": 0xC0800000,
        "0.15915494": 0x3E22F983,
    }
    doubles = {"0.5": 0x3FE0000000000000, "-4.0": 0xC010000000000000}
    words = {**{str(n): n & M32 for n in range(-16, 65)}, **floats, "0xdeadbeef": 0xDEADBEEF}
    pairs = {**{str(n): n & M64 for n in (-16, -1, 0, 64)}, **doubles, "0x87654321": 0x87654321}
    jobs = [("s_mov_b32 s4", "s4", words), ("s_mov_b64 s[4:5]", "s[4:5]", pairs)]
    snippets, results = [], []
    for n, (text, key, known) in enumerate(jobs):
        for m, (constant, bits) in enumerate(known.items()):
            snippets.append(Snippet(f"k{n}_{m}", f"{text}, {constant}", {}, [key]))
            results.append((constant, key, bits))
    for (constant, key, bits), result in zip(results, run(snippets), strict=True):
        assert result[key] == bits, constant


def test_a_literal_of_a_signed_pair_is_extended() -> None:
    assert value_of("s_ashr_i64 s[4:5], 0x80000000, 4", "s[4:5]") == 0xFFFFFFFFF8000000
    assert value_of("s_lshr_b64 s[4:5], 0x80000000, 4", "s[4:5]") == 0x08000000


@pytest.mark.parametrize(
    ("setup", "source", "value"),
    [
        ("s_cmp_eq_u32 0, 0", "src_scc", 1),
        ("s_cmp_eq_u32 0, 1", "src_scc", 0),
        ("s_mov_b64 vcc, 0", "src_vccz", 1),
        ("s_mov_b64 vcc, 4", "src_vccz", 0),
        ("s_mov_b64 exec, 0", "src_execz", 1),
        ("s_mov_b64 exec, 2", "src_execz", 0),
    ],
)
def test_status_bits_are_sources(setup: str, source: str, value: int) -> None:
    assert value_of(f"{setup}\ns_mov_b32 s4, {source}", "s4") == value


def test_registers_addressed_by_m0() -> None:
    inputs = {"m0": 2, "s4": 40, "s6": 60, "s[8:9]": 0x123456789}
    body = """
    s_movrels_b32 s10, s4
    s_movreld_b32 s12, s4
    s_movrels_b64 s[16:17], s[6:7]
    s_movreld_b64 s[18:19], s[8:9]
    """
    (result,) = run([Snippet("k", body, inputs, ["s10", "s14", "s[16:17]", "s[20:21]"])])
    assert result.outputs == {
        "s10": 60,
        "s14": 40,
        "s[16:17]": 0x123456789,
        "s[20:21]": 0x123456789,
    }


def test_index_mode_counts_registers_from_m0() -> None:
    """Arrays in registers, as compilers index them: sources, destinations, and an index changed."""
    body = """
    s_set_gpr_idx_on s4, gpr_idx(SRC0)
    v_mov_b32 v20, v10
    s_set_gpr_idx_off
    s_set_gpr_idx_on s5, gpr_idx(DST)
    v_mov_b32 v24, v10
    s_set_gpr_idx_idx s4
    v_mov_b32 v24, 7
    s_set_gpr_idx_mode gpr_idx(SRC0,DST)
    v_mov_b32 v30, v10
    s_set_gpr_idx_off
    v_mov_b32 v21, v10
    """
    rows = np.arange(4 * 64, dtype=np.uint32).reshape(4, 64)
    inputs = {"v[10:13]": rows, "s4": 2, "s5": 1, "m0": 0xFFFF0F00}
    outputs = ["v20", "v25", "v26", "v32", "v21", "m0"]
    (result,) = run([Snippet("k", body, inputs, outputs)])
    for key, wanted in {
        "v20": rows[2],
        "v25": rows[0],
        "v26": 7,
        "v32": rows[2],
        "v21": rows[0],
    }.items():
        np.testing.assert_array_equal(result[key], np.broadcast_to(wanted, 64), err_msg=key)
    assert result["m0"] == 0xFFFF9F02
    executed = sum(row.hits for row in result.report.instructions)
    assert executed == result.report.counters["instructions"]


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        ("v_add_u32 v20, v10, v10", "index mode"),
        ("s_barrier", "index mode"),
        ("v_mov_b32 v2, v250", "past"),
    ],
)
def test_index_mode_is_for_moves_among_registers(inside: str, words: str) -> None:
    body = f"s_set_gpr_idx_on s4, gpr_idx(SRC0)\n{inside}\ns_set_gpr_idx_off"
    (fault,) = faults_of(body, inputs={"s4": 9, "v10": 0}).report.faults
    assert fault.kind.name == "bad_instruction"
    assert words in fault.detail


BRANCHES = [
    ("s_branch", "", True),
    *[(f"s_cbranch_scc{n}", f"s_cmp_eq_u32 {m}, 1", n == m) for n in (0, 1) for m in (0, 1)],
    *[("s_cbranch_vccz", f"s_mov_b64 vcc, {m}", m == 0) for m in (0, 8)],
    *[("s_cbranch_vccnz", f"s_mov_b64 vcc, {m}", m != 0) for m in (0, 8)],
    *[("s_cbranch_execz", f"s_mov_b64 exec, {m}", m == 0) for m in (0, 8)],
    *[("s_cbranch_execnz", f"s_mov_b64 exec, {m}", m != 0) for m in (0, 8)],
]


def test_branches_go_where_their_condition_says() -> None:
    snippets = [
        Snippet(
            f"k{n}",
            f"s_mov_b32 s4, 1\n{setup}\n{name} after_{n}\ns_mov_b32 s4, 0\nafter_{n}:",
            {},
            ["s4"],
        )
        for n, (name, setup, _) in enumerate(BRANCHES)
    ]
    for (name, setup, taken), result in zip(BRANCHES, run(snippets), strict=True):
        assert result["s4"] == taken, f"{setup}; {name}"


def test_a_loop_counts() -> None:
    body = """
    s_mov_b32 s4, 0
    s_movk_i32 s5, 100
    again:
    s_add_i32 s4, s4, s5
    s_sub_u32 s5, s5, 1
    s_cmp_lg_u32 s5, 0
    s_cbranch_scc1 again
    """
    assert value_of(body, "s4") == 5050


CALLS = {
    "s_call_b64": "s_call_b64 s[6:7], function",
    "s_swappc_b64": """
    s_getpc_b64 s[8:9]
    s_add_u32 s8, s8, function@rel32@lo+4
    s_addc_u32 s9, s9, function@rel32@hi+12
    s_swappc_b64 s[6:7], s[8:9]
    """,
}


@pytest.mark.parametrize("call", CALLS)
def test_calls_return_behind_themselves(call: str) -> None:
    body = f"""
    s_movk_i32 s4, 1
    {CALLS[call]}
    s_add_u32 s4, s4, 10
    s_branch done
    function:
    s_mul_i32 s4, s4, 3
    s_setpc_b64 s[6:7]
    done:
    """
    assert value_of(body, "s4") == 13


def test_distances_in_code_are_those_of_the_binary() -> None:
    body = "s_getpc_b64 s[4:5]\ns_nop 0\ns_mov_b32 s6, 0x12345678\ns_getpc_b64 s[8:9]"
    (result,) = run([Snippet("k", body, {}, ["s[4:5]", "s[8:9]"])])
    assert result["s[8:9]"] - result["s[4:5]"] == 4 + 8 + 4


def faults_of(body: str, **more: Any) -> Result:
    (result,) = run([Snippet("k", body, **more)], raise_on_fault=False)
    return result


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("s_trap 2", "trap"),
        ("s_sethalt 1", "halt"),
        ("s_mov_b64 s[4:5], 64\ns_setpc_b64 s[4:5]", "target"),
        ("s_mov_b32 m0, 1000\ns_mov_b32 s4, 0\ns_movrels_b32 s5, s4", "M0"),
        ("s_getreg_b32 s4, hwreg(HW_REG_TBA_LO)", "register"),
        ("s_setreg_imm32_b32 hwreg(HW_REG_TRAPSTS), 1", "register"),
    ],
)
def test_what_no_kernel_should_do_is_a_fault(body: str, words: str) -> None:
    (fault,) = faults_of(body).report.faults
    assert fault.kind.name == "bad_instruction"
    assert words in fault.detail


def test_fields_of_the_mode_register_are_read_and_written() -> None:
    body = """
    s_setreg_imm32_b32 hwreg(HW_REG_MODE, 4, 4), 0x5
    s_mov_b32 s4, 0x2
    s_setreg_b32 hwreg(HW_REG_MODE, 0, 2), s4
    s_getreg_b32 s5, hwreg(HW_REG_MODE, 0, 8)
    s_getreg_b32 s6, hwreg(HW_REG_MODE, 4, 2)
    """
    (result,) = run([Snippet("k", body, {}, ["s5", "s6"])])
    assert result["s5"] & 0xF3 == 0x52
    assert result["s6"] == 1
