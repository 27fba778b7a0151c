# SPDX-License-Identifier: MIT
"""Buffer loads and stores: addressing, the range check of the descriptor, and its faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from gcn_asm import UNTOUCHED, Result, Snippet, range_of, run, run_one
from memory_widths import LOADS, STORES, apart, gathered, random_bytes, random_words
from wave_lanes import ALL, LANES, active_lanes, random_mask

from aiter_moe.targets.emulator_report import FaultKind

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

SIZE = 4096
RAW = 0x00020000
LANE = np.arange(LANES, dtype=np.uint32)


def descriptor(memory: np.ndarray, records: int, stride: int = 0, flags: int = RAW) -> int:
    return memory.ctypes.data | stride << 48 | records << 64 | flags << 96


def load(
    text: str, inputs: Mapping[str, Any], resource: int, outputs: list[str],
    memory: np.ndarray, **options: Any,
) -> Result:  # fmt: skip
    snippet = Snippet("buffer", text, {**inputs, "s[8:11]": resource}, outputs, {"s[4:5]": memory})
    return run_one(snippet, **options)


@pytest.mark.parametrize("arch", ["gfx950", "gfx942"])
def test_loads_of_every_width_within_and_beyond_the_range(arch: str) -> None:
    rng = np.random.default_rng(1)
    memory = random_bytes(rng, SIZE)
    records = SIZE - 1024
    cases = []
    for number, (name, width) in enumerate(LOADS.items()):
        fixed, scalar = (0, 4, 31)[number % 3], (0, 0, 256)[number % 3]
        at = rng.integers(0, records - width.bytes - fixed - scalar, LANES)
        outside = rng.random(LANES) < 0.3
        at = np.where(outside, rng.integers(records, 1 << 31, LANES), at)
        mask = random_mask(rng) if number % 2 else ALL
        key = range_of("v", 12, width.registers)
        soffset = f"{scalar}" if scalar <= 64 else "s6"
        text = f"buffer_load_{name} {key}, v1, s[8:11], {soffset} offen offset:{fixed}"
        raw = np.zeros((LANES, width.bytes), np.uint8)
        inside = at[~outside] + fixed + scalar
        raw[~outside] = gathered(memory, inside, width.bytes)
        words = np.full((width.registers, LANES), UNTOUCHED, np.uint32)
        active = active_lanes(mask)
        words[:, active] = width.loaded(raw)[:, active]
        inputs = {
            "v1": at.astype(np.uint32), "s[8:11]": descriptor(memory, records), "exec": mask,
            "s6": scalar,
        }  # fmt: skip
        snippet = Snippet(f"load_{name}", text, inputs, [key], {"s[4:5]": memory})
        cases.append((snippet, key, words, int((outside & active).sum())))
    results = run([case[0] for case in cases], arch)
    for (snippet, key, words, masked), result in zip(cases, results, strict=True):
        np.testing.assert_array_equal(np.atleast_2d(result[key]), words, snippet.body)
        assert result.report.counters["buffer_lanes_masked"] == masked


def test_stores_of_every_width_within_and_beyond_the_range() -> None:
    rng = np.random.default_rng(2)
    records = SIZE - 1024
    cases = []
    for number, (name, width) in enumerate(STORES.items()):
        memory = random_bytes(rng, SIZE)
        at = apart(rng, records - 64, width.bytes)
        outside = rng.random(LANES) < 0.3
        at = np.where(outside, at + records, at)
        mask = random_mask(rng) if number % 2 else ALL
        data = random_words(rng, width.registers, LANES)
        key = range_of("v", 12, width.registers)
        written = active_lanes(mask) & ~outside
        wanted = memory.copy()
        wanted[(at + 16)[written, None] + np.arange(width.bytes)] = width.stored(data)[written]
        text = f"buffer_store_{name} {key}, v1, s[8:11], 0 offen offset:16"
        inputs = {
            "v1": at.astype(np.uint32), key: data, "exec": mask,
            "s[8:11]": descriptor(memory, records),
        }  # fmt: skip
        snippet = Snippet(f"store_{name}", text, inputs, [], {"s[4:5]": memory})
        cases.append((snippet, memory, wanted))
    run([case[0] for case in cases])
    for snippet, memory, wanted in cases:
        np.testing.assert_array_equal(memory, wanted, snippet.body)


def test_index_and_stride() -> None:
    rng = np.random.default_rng(3)
    memory = random_words(rng, SIZE // 4)
    rows = rng.integers(0, 80, LANES).astype(np.uint32)
    columns = rng.integers(0, 8, LANES).astype(np.uint32) * 4
    text = "buffer_load_dword v4, v[2:3], s[8:11], 4 idxen offen offset:8"
    result = load(text, {"v2": rows, "v3": columns}, descriptor(memory, 64, 48), ["v4"], memory)
    wanted = np.where(rows < 64, memory[(rows % 64 * 48 + columns + 12) // 4], 0)
    np.testing.assert_array_equal(result["v4"], wanted)
    assert result.report.counters["buffer_lanes_masked"] == (rows >= 64).sum()


def test_without_vector_offset_and_with_lane_numbers() -> None:
    rng = np.random.default_rng(4)
    memory = random_words(rng, SIZE // 4)
    adds_lane = RAW | 1 << 23
    text = """
    buffer_load_dwordx2 v[2:3], off, s[8:11], 0 offset:40
    s_bitset1_b32 s11, 23
    s_mov_b32 s9, s6
    buffer_load_dword v4, off, s[8:11], 0 offset:4
    """
    resource = descriptor(memory, SIZE)
    strided = descriptor(memory, SIZE, 12, adds_lane)
    result = load(text, {"s6": strided >> 32 & 0xFFFFFFFF}, resource, ["v[2:3]", "v4"], memory)
    np.testing.assert_array_equal(result["v[2:3]"], np.repeat(memory[10:12, None], LANES, 1))
    np.testing.assert_array_equal(result["v4"], memory[3 * LANE + 1])


PARTLY = "partly out of the descriptor's range"
DOUBT = "in or out of range by whether the scalar offset is checked"


@pytest.mark.parametrize(
    ("text", "records", "detail", "lane"),
    [
        ("buffer_load_dwordx4 v[4:7], v1, s[8:11], 0 offen", 16 * LANES - 4, PARTLY, 63),
        ("buffer_load_dwordx2 v[4:5], v1, s[8:11], 0 offen", 16 * 40 + 4, PARTLY, 40),
        ("buffer_load_ushort v4, v1, s[8:11], 0 offen offset:3", 16 * 33 + 4, PARTLY, 33),
        ("buffer_store_dwordx4 v[4:7], v1, s[8:11], 0 offen", 16 * 40 + 8, PARTLY, 40),
        ("buffer_load_dword v4, v1, s[8:11], 64 offen", 16 * 40, DOUBT, 36),
    ],
)
def test_accesses_at_the_edge_of_the_range_are_faults(
    text: str, records: int, detail: str, lane: int
) -> None:
    memory = np.arange(SIZE // 4, dtype=np.uint32)
    inputs = {"v1": 16 * LANE, "v[4:7]": np.ones((4, LANES), np.uint32)}
    result = load(text, inputs, descriptor(memory, records), [], memory, raise_on_fault=False)
    (fault,) = result.report.faults
    assert (fault.kind, fault.lane) == (FaultKind.buffer_out_of_range, lane)
    assert fault.detail == detail
    sound = load(text, inputs, descriptor(memory, SIZE), [], memory)
    assert sound.report.counters["buffer_lanes_masked"] == 0


def test_dwords_in_range_of_an_access_partly_out_of_it() -> None:
    memory = np.arange(SIZE // 4, dtype=np.uint32) + 1
    records = 16 * 40 + 8
    text = """
    buffer_load_dwordx4 v[4:7], v1, s[8:11], 0 offen
    s_waitcnt vmcnt(0)
    v_add_u32 v8, 1, v4
    v_add_u32 v9, 1, v5
    v_add_u32 v10, 1, v6
    v_add_u32 v11, 1, v7
    buffer_store_dwordx4 v[8:11], v1, s[8:11], 0 offen
    """
    before = memory.copy()
    result = load(
        text, {"v1": 16 * LANE}, descriptor(memory, records), ["v[4:7]"], memory, checks=0
    )
    wanted = np.where(np.arange(4 * LANES) < records // 4, before[: 4 * LANES], 0)
    np.testing.assert_array_equal(result["v[4:7]"].T.reshape(-1), wanted)
    inside = np.arange(SIZE // 4) < records // 4
    np.testing.assert_array_equal(memory, np.where(inside, before + 1, before))


@pytest.mark.parametrize(
    ("resource", "kind"),
    [
        (lambda memory: descriptor(memory, 2 * SIZE), FaultKind.buffer_out_of_range),
        (lambda memory: descriptor(memory, SIZE, flags=0), FaultKind.buffer_out_of_range),
        (lambda memory: descriptor(memory, SIZE) | 1 << 63, FaultKind.bad_instruction),
    ],
)
def test_descriptors_that_cannot_be_right(
    resource: Callable[[np.ndarray], int], kind: FaultKind
) -> None:
    memory = np.zeros(SIZE // 4, np.uint32)
    text = "buffer_load_dword v4, v1, s[8:11], 0 offen"
    result = load(
        text, {"v1": LANE * 64 + SIZE - 2048}, resource(memory), [], memory,
        raise_on_fault=False,
    )  # fmt: skip
    assert {fault.kind for fault in result.report.faults} == {kind}


def test_scalar_buffer_loads_beyond_the_range_are_zero() -> None:
    memory = np.arange(1, 65, dtype=np.uint32)
    text = """
    s_buffer_load_dwordx4 s[12:15], s[8:11], 0x20
    s_buffer_load_dwordx8 s[16:23], s[8:11], 0x30
    s_waitcnt lgkmcnt(0)
    """
    snippet = Snippet(
        "buffer", text, {"s[8:11]": descriptor(memory, 0x40)}, ["s[12:15]", "s[16:23]"],
        {"s[4:5]": memory}, preset=False,
    )  # fmt: skip
    result = run_one(snippet)
    assert result["s[12:15]"] == sum(int(memory[8 + n]) << 32 * n for n in range(4))
    assert result["s[16:23]"] == sum(int(memory[12 + n]) << 32 * n for n in range(4))
