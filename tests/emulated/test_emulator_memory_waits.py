# SPDX-License-Identifier: MIT
"""When results land: every pair is code that forgets a wait, and the same code with it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from gcn_asm import Snippet, run, run_one
from wave_lanes import LANES

from aiter_moe.targets.emulator_report import Fault, FaultKind

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

LANE = np.arange(LANES, dtype=np.uint32)
IN_FLIGHT = FaultKind.in_flight_register
BYTES = 4096


def snippet(name: str, body: str) -> Snippet:
    """Return code with 4 KiB at s[4:5] and as a buffer in s[8:11], 4 KiB of LDS, v1 = 4 * lane."""
    memory = np.arange(BYTES // 4, dtype=np.uint32)
    resource = memory.ctypes.data | BYTES << 64 | 0x20000 << 96
    inputs = {
        "v1": 4 * LANE, "v2": 16 * LANE, "v3": 4 * LANE + BYTES,
        "v[4:7]": np.ones((4, LANES), np.uint32), "s[8:11]": resource, "m0": 0,
    }  # fmt: skip
    return Snippet(name, body, inputs, [], {"s[4:5]": memory}, lds=BYTES, scratch=64)


def faults_of(body: str) -> list[Fault]:
    return list(run_one(snippet("waits", body), raise_on_fault=False).report.faults)


@dataclass(frozen=True)
class Forgotten:
    """Code whose wait, in braces, is left out or not; `use` is the instruction at fault."""

    name: str
    body: str
    kind: FaultKind = IN_FLIGHT
    instead: str = ""  # a wait that is not enough

    def __str__(self) -> str:
        return self.name


FILLED = "ds_write_b128 v2, v[4:7]\ns_waitcnt lgkmcnt(0)\n"
CASES = [
    Forgotten("global", "global_load_dword v8, v1, s[4:5]\n{vmcnt(0)}\nv_mov_b32 v9, v8"),
    Forgotten(
        "second_register_of_four",
        "global_load_dwordx4 v[12:15], v2, s[4:5] \n{vmcnt(0)}\nv_mov_b32 v9, v15",
    ),
    Forgotten("buffer", "buffer_load_dword v8, v1, s[8:11], 0 offen\n{vmcnt(0)}\nv_mov_b32 v9, v8"),
    Forgotten(
        "masked_lanes_too",
        "buffer_load_dword v8, v3, s[8:11], 0 offen\n{vmcnt(0)}\nv_mov_b32 v9, v8",
    ),
    Forgotten("scratch", "scratch_store_dword off, v1, off\nscratch_load_dword v8, off, off\n"
              "{vmcnt(0)}\nv_mov_b32 v9, v8"),
    Forgotten(
        "older_of_two",
        "global_load_dword v8, v1, s[4:5]\nglobal_load_dword v9, v1, s[4:5]\n"
        "{vmcnt(1)}\nv_mov_b32 v10, v8",
        instead="vmcnt(2)",
    ),
    Forgotten(
        "younger_of_two",
        "global_load_dword v8, v1, s[4:5]\nglobal_load_dword v9, v1, s[4:5]\n"
        "{vmcnt(0)}\nv_mov_b32 v10, v9",
        instead="vmcnt(1)",
    ),
    Forgotten(
        "stores_count_too",
        "global_load_dword v8, v1, s[4:5]\nglobal_store_dword v1, v4, s[4:5]\n"
        "{vmcnt(1)}\nv_mov_b32 v10, v8",
        instead="vmcnt(2)",
    ),
    Forgotten(
        "atomic_result",
        "global_atomic_add v8, v1, v4, s[4:5] sc0\n{vmcnt(0)}\nv_mov_b32 v9, v8",
        instead="lgkmcnt(0)",
    ),
    Forgotten("address_of_next_load", "global_load_dword v8, v1, s[4:5]\n{vmcnt(0)}\n"
              "v_and_b32 v8, 0xfc, v8\nglobal_load_dword v9, v8, s[4:5]"),
    Forgotten("stored", "global_load_dword v8, v1, s[4:5]\n{vmcnt(0)}\n"
              "global_store_dword v1, v8, s[4:5]"),
    Forgotten("overwritten", "global_load_dword v8, v1, s[4:5]\n{vmcnt(0)}\nv_mov_b32 v8, 0"),
    Forgotten("in_accumulation_registers", "global_load_dword a8, v1, s[4:5]\n{vmcnt(0)}\n"
              "v_accvgpr_read_b32 v9, a8"),
    Forgotten("scalar", "s_load_dword s12, s[4:5], 0x0\n{lgkmcnt(0)}\ns_add_u32 s13, s12, 1"),
    Forgotten("scalar_by_vector", "s_load_dword s12, s[4:5], 0x0\n{lgkmcnt(0)}\n"
              "v_mov_b32 v8, s12"),
    Forgotten("scalar_second", "s_load_dwordx2 s[12:13], s[4:5], 0x0\n{lgkmcnt(0)}\n"
              "s_mov_b32 s14, s13", instead="vmcnt(0)"),
    Forgotten("scalar_overwritten", "s_load_dword s12, s[4:5], 0x0\n{lgkmcnt(0)}\n"
              "s_mov_b32 s12, 0"),
    Forgotten(
        "scalar_loads_come_in_any_order",
        "s_load_dword s12, s[4:5], 0x0\ns_load_dword s13, s[4:5], 0x4\n{lgkmcnt(0)}\n"
        "s_mov_b32 s14, s12",
        instead="lgkmcnt(1)",
    ),
    Forgotten("base_of_a_load", "s_load_dwordx2 s[12:13], s[4:5], 0x0\n{lgkmcnt(0)}\n"
              "s_mov_b64 s[12:13], s[4:5]\nglobal_load_dword v8, v1, s[12:13]"),
    Forgotten("clock", "s_memtime s[12:13]\n{lgkmcnt(0)}\ns_mov_b32 s14, s12"),
    Forgotten("lds", FILLED + "ds_read_b32 v8, v1\n{lgkmcnt(0)}\nv_mov_b32 v9, v8",
              instead="vmcnt(0)"),
    Forgotten("lds_older_of_two", FILLED + "ds_read_b32 v8, v1\nds_read_b32 v9, v1\n"
              "{lgkmcnt(1)}\nv_mov_b32 v10, v8", instead="lgkmcnt(2)"),
    Forgotten(
        "lds_behind_a_scalar_load",
        FILLED + "s_load_dword s12, s[4:5], 0x0\nds_read_b32 v8, v1\n{lgkmcnt(0)}\n"
        "v_mov_b32 v10, v8",
        instead="lgkmcnt(1)",
    ),
    Forgotten("permuted", "ds_bpermute_b32 v8, v1, v4\n{lgkmcnt(0)}\nv_mov_b32 v9, v8"),
    Forgotten("lds_result_over_vector_load", FILLED + "global_load_dword v8, v1, s[4:5]\n"
              "{vmcnt(0)}\nds_read_b32 v8, v1\ns_waitcnt lgkmcnt(0)\nv_mov_b32 v9, v8"),
    Forgotten("flat_needs_both_counters", "v_add_co_u32 v10, vcc, s4, v1\nv_mov_b32 v11, s5\n"
              "v_addc_co_u32 v11, vcc, 0, v11, vcc\nflat_load_dword v8, v[10:11]\n"
              "{vmcnt(0) lgkmcnt(0)}\nv_mov_b32 v9, v8", instead="vmcnt(0)"),
    Forgotten("flat_needs_the_other_counter", "v_add_co_u32 v10, vcc, s4, v1\nv_mov_b32 v11, s5\n"
              "v_addc_co_u32 v11, vcc, 0, v11, vcc\nflat_load_dword v8, v[10:11]\n"
              "{vmcnt(0) lgkmcnt(0)}\nv_mov_b32 v9, v8", instead="lgkmcnt(0)"),
    Forgotten(
        "flat_loads_come_in_any_order",
        "v_add_co_u32 v10, vcc, s4, v1\nv_mov_b32 v11, s5\nv_addc_co_u32 v11, vcc, 0, v11, vcc\n"
        "flat_load_dword v8, v[10:11]\n{vmcnt(0) lgkmcnt(0)}\nflat_load_dword v8, v[10:11]",
    ),
    Forgotten(
        "load_before_a_flat_one",
        "v_add_co_u32 v10, vcc, s4, v1\nv_mov_b32 v11, s5\nv_addc_co_u32 v11, vcc, 0, v11, vcc\n"
        "global_load_dword v8, v1, s[4:5]\nflat_load_dword v9, v[10:11]\n{vmcnt(0)}\n"
        "v_mov_b32 v12, v8",
        instead="vmcnt(1)",
    ),
    Forgotten("dma_read", "buffer_load_dword v1, s[8:11], 0 offen lds\n{vmcnt(0)}\n"
              "ds_read_b32 v8, v1", FaultKind.in_flight_lds, instead="lgkmcnt(0)"),
    Forgotten("dma_overwritten", "buffer_load_dword v1, s[8:11], 0 offen lds\n{vmcnt(0)}\n"
              "ds_write_b32 v1, v4", FaultKind.in_flight_lds),
    Forgotten("dma_over_a_read", FILLED + "ds_read_b32 v8, v1\n{lgkmcnt(0)}\n"
              "buffer_load_dword v1, s[8:11], 0 offen lds", FaultKind.in_flight_lds),
    Forgotten(
        "older_of_two_dma_loads",
        "buffer_load_dword v1, s[8:11], 0 offen lds\ns_mov_b32 m0, 1024\n"
        "buffer_load_dword v1, s[8:11], 0 offen lds\n{vmcnt(1)}\nds_read_b32 v8, v1",
        FaultKind.in_flight_lds,
        instead="vmcnt(2)",
    ),
    Forgotten(
        "younger_of_two_dma_loads",
        "buffer_load_dword v1, s[8:11], 0 offen lds\ns_mov_b32 m0, 1024\n"
        "buffer_load_dword v1, s[8:11], 0 offen lds\n{vmcnt(0)}\nds_read_b32 v8, v1 offset:1024",
        FaultKind.in_flight_lds,
        instead="vmcnt(1)",
    ),
]  # fmt: skip


def text_of(case: Forgotten, right: bool) -> str:
    before, rest = case.body.split("{")
    enough, after = rest.split("}")
    wait = enough if right else case.instead
    return f"{before}{'s_waitcnt ' + wait if wait else ''}\n{after}"


@cache
def faults_of_cases(right: bool) -> dict[str, list[Fault]]:
    snippets = [snippet(case.name, text_of(case, right)) for case in CASES]
    results = run(snippets, raise_on_fault=False)
    return {c.name: list(r.report.faults) for c, r in zip(CASES, results, strict=True)}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forgotten_wait(case: Forgotten) -> None:
    assert faults_of_cases(right=True)[case.name] == []
    assert [fault.kind for fault in faults_of_cases(right=False)[case.name]] == [case.kind]


def test_loads_of_one_kind_may_follow_each_other_into_a_register() -> None:
    """They land in order, so the last one stays; it is what has to be waited for."""
    body = """
    global_load_dword v8, v1, s[4:5]
    global_load_dword v8, v1, s[4:5] offset:256
    global_load_dword v9, v1, s[4:5]
    s_waitcnt vmcnt({left})
    v_add_u32 v10, v8, v8
    """
    assert faults_of(body.format(left=1)) == []
    (fault,) = faults_of(body.format(left=2))
    assert fault.kind == IN_FLIGHT


def test_lanes_of_a_load_under_exec_are_in_flight_alone() -> None:
    body = """
    v_mov_b32 v8, 0
    s_mov_b64 exec, 0xff
    global_load_dword v8, v1, s[4:5]
    s_mov_b64 exec, {lanes}
    v_mov_b32 v9, v8
    s_mov_b64 exec, -1
    """
    assert faults_of(body.format(lanes="0xff00")) == []
    (fault,) = faults_of(body.format(lanes="0x1ff0"))
    assert (fault.kind, fault.lane) == (IN_FLIGHT, 4)


def test_spills_of_values_never_written_are_no_use_of_them() -> None:
    """A function saves its caller's registers; one that a load is to write it must wait for."""
    assert faults_of("scratch_store_dwordx2 off, v[200:201], off") == []
    (never,) = faults_of("global_store_dword v1, v200, s[4:5]")
    assert never.kind == FaultKind.undefined_register
    (late,) = faults_of("global_load_dword v200, v1, s[4:5]\nscratch_store_dword off, v200, off")
    assert late.kind == IN_FLIGHT


def test_counters_hold_63_and_15_requests() -> None:
    """At its limit a counter lets no more be issued, so the oldest has landed by then."""
    vector = "\n".join(f"global_load_dword v{100 + n}, v1, s[4:5]" for n in range(64))
    lds = FILLED + "\n".join(f"ds_read_b32 v{100 + n}, v1" for n in range(16))
    for loads in (vector, lds):
        assert faults_of(loads + "\nv_mov_b32 v8, v100") == []
        (fault,) = faults_of(loads + "\nv_mov_b32 v8, v101")
        assert (fault.kind, fault.detail.split()[0]) == (IN_FLIGHT, "v101")


def test_reports_tell_late_results_from_values_never_written() -> None:
    (late,) = faults_of("global_load_dword v8, v1, s[4:5]\nv_mov_b32 v9, v8")
    (never,) = faults_of("v_add_u32 v9, v200, v200")
    assert late.kind == IN_FLIGHT
    assert never.kind == FaultKind.undefined_register
    assert late.instruction == "v_mov_b32_e32 v9, v8"
