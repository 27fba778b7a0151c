# SPDX-License-Identifier: MIT
"""What memory instructions count: bytes, lines of 128 bytes, bank cycles, and peaks in flight."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
from gcn_asm import Snippet, run
from wave_lanes import LANES

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

BYTES = 1 << 16
LANE = np.arange(LANES)
LINE = 128


def aligned_memory() -> np.ndarray:
    room = np.zeros(BYTES + LINE, np.uint8)
    start = -room.ctypes.data % LINE
    return room[start : start + BYTES]


TURNS = 4096  # the harness's own loads count for less than one turn


def measured(cases: Mapping[str, tuple[str, np.ndarray]], arch: str = "gfx950") -> dict[str, Any]:
    """Return counters by case: what one run of the code, with v1 at the addresses, counts."""
    memory = aligned_memory()
    resource = memory.ctypes.data | BYTES << 64 | 0x20000 << 96
    snippets = []
    for name, (text, at) in cases.items():
        loop = f"""
        s_movk_i32 s30, {TURNS}
        again_{name}:
        {text}
        s_waitcnt vmcnt(0) lgkmcnt(0)
        s_sub_u32 s30, s30, 1
        s_cmp_lg_u32 s30, 0
        s_cbranch_scc1 again_{name}
        """
        inputs = {
            "v1": at.astype(np.uint32), "v[4:7]": np.zeros((4, LANES), np.uint32),
            "s[8:11]": resource, "m0": 0,
        }  # fmt: skip
        snippets.append(Snippet(name, loop, inputs, [], {"s[4:5]": memory}, lds=BYTES))
    results = run(snippets, arch, checks=0)
    return {
        name: {key: value // TURNS for key, value in result.report.counters.items()}
        for name, result in zip(cases, results, strict=True)
    }


RNG = np.random.default_rng(1)
PLACES = {
    "contiguous": 16 * LANE,
    "off_by_four": 16 * LANE + 4,
    "fragment_rows": 512 * (LANE % 16) + 16 * (LANE // 16),
    "strided": 256 * LANE,
    "reversed": 16 * (63 - LANE),
    "one_place": 0 * LANE,
    "two_rows": 4096 * (LANE % 2) + 16 * (LANE // 2),
    "random": RNG.integers(0, BYTES - 16, LANES) & ~3,
    "few_lines": RNG.integers(0, 1024, LANES) & ~3,
}


@cache
def vector_counts() -> dict[str, Any]:
    text = {
        16: "global_load_dwordx4 v[12:15], v1, s[4:5]",
        4: "buffer_load_dword v12, v1, s[8:11], 0 offen",
        2: "global_store_short v1, v4, s[4:5]",
    }
    return measured(
        {f"{name}_{size}": (text[size], at) for name, at in PLACES.items() for size in text}
    )


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("size", [16, 4, 2])
def test_lines(name: str, size: int) -> None:
    at = PLACES[name]
    touched = np.concatenate([(at + byte) // LINE for byte in range(size)])
    counters = vector_counts()[f"{name}_{size}"]
    assert counters["vmem_lines"] == len(np.unique(touched))
    assert counters["vmem_ideal_lines"] == -(-size * LANES // LINE)
    bytes_key = "vmem_store_bytes" if size == 2 else "vmem_load_bytes"
    assert counters[bytes_key] == size * LANES


def expected_cycles(places: np.ndarray, size: int, banks: int) -> tuple[int, int]:
    """Return cycles and those beyond the ideal, bank by bank and phase by phase."""
    dwords = max(size, 4) // 4
    dwords = 4 if dwords == 3 else dwords
    phase = banks // dwords
    cycles = 0
    for begin in range(0, LANES, phase):
        units = np.unique(places[begin : begin + phase] // (4 * dwords))
        cycles += np.bincount(units % phase).max()
    return cycles, cycles - LANES // phase


LDS_PLACES = {
    "contiguous": lambda size: size * LANE,
    "one_place": lambda size: 0 * LANE,
    "same_bank": lambda size: 256 * LANE,
    "two_way": lambda size: 2 * size * LANE,
    "padded_rows": lambda size: 144 * (LANE % 16) + 16 * (LANE // 16),
    "unpadded_rows": lambda size: 128 * (LANE % 16) + 16 * (LANE // 16),
    "swizzled": lambda size: size * (LANE ^ (LANE // 8)),
    "columns": lambda size: size * (LANE // 4),
    "random": lambda size: np.random.default_rng(size).integers(0, BYTES // 16, LANES) * 16,
}
LDS_TEXT = {
    4: "ds_read_b32 v12, v1", 8: "ds_write_b64 v1, v[4:5]", 16: "ds_read_b128 v[12:15], v1",
    2: "ds_write_b16 v1, v4",
}  # fmt: skip


@cache
def lds_counts(arch: str) -> dict[str, Any]:
    cases = {
        f"{name}_{size}": (text, places(size))
        for name, places in LDS_PLACES.items()
        for size, text in LDS_TEXT.items()
    }
    return measured(cases, arch)


@pytest.mark.parametrize("arch", ["gfx950", "gfx942"])
@pytest.mark.parametrize("size", LDS_TEXT)
@pytest.mark.parametrize("name", LDS_PLACES)
def test_bank_conflicts(name: str, size: int, arch: str) -> None:
    counters = lds_counts(arch)[f"{name}_{size}"]
    banks = 32 if arch == "gfx942" else 64
    wanted = expected_cycles(LDS_PLACES[name](size), size, banks)
    assert (counters["lds_cycles"], counters["lds_conflict_cycles"]) == wanted
    key = "lds_write_bytes" if "write" in LDS_TEXT[size] else "lds_read_bytes"
    assert counters[key] == size * LANES


def test_accesses_in_two_pieces_take_the_cycles_of_both() -> None:
    text = "ds_read2_b32 v[12:13], v1 offset0:0 offset1:64"
    counters = measured({"two": (text, 4 * LANE), "twice": (text, 8 * LANE)})
    assert counters["two"]["lds_cycles"] == 2
    assert counters["twice"]["lds_cycles"] == 4
    assert counters["twice"]["lds_conflict_cycles"] == 2
    assert counters["two"]["lds_read_bytes"] == 8 * LANES


def test_idle_lanes_count_for_nothing() -> None:
    text = """
    s_mov_b64 exec, 0xf0f0
    global_load_dword v12, v1, s[4:5]
    ds_read_b32 v13, v1
    s_mov_b64 exec, -1
    """
    counters = measured({"few": (text, 256 * LANE)})["few"]
    assert counters["vmem_load_bytes"] == counters["lds_read_bytes"] == 32
    assert counters["vmem_lines"] == 8
    assert counters["lds_cycles"] == 8


def test_peaks_in_flight() -> None:
    """The harness's own loads are all of one dword a lane and wait for no one but the end."""
    loads = "\n".join(
        f"global_load_dwordx4 v[{20 + 4 * n}:{23 + 4 * n}], v1, s[4:5]" for n in range(40)
    )
    reads = "\n".join(f"ds_read_b32 v{20 + n}, v1" for n in range(20))
    snippets = [
        Snippet(name, text, {"v1": 16 * LANE.astype(np.uint32)}, [], {"s[4:5]": aligned_memory()},
                lds=2048)
        for name, text in (("loads", loads), ("reads", reads))
    ]  # fmt: skip
    counted = [result.report.counters for result in run(snippets, checks=0)]
    assert counted[0]["peak_vector_requests"] == 40
    assert counted[0]["peak_vector_bytes"] == 40 * 16 * LANES
    assert counted[1]["peak_other_requests"] == 15
    assert counted[1]["peak_vector_requests"] < 10
