# SPDX-License-Identifier: MIT
"""Global, flat and scratch loads and stores against numpy, at any alignment, under random EXEC."""

from __future__ import annotations

import numpy as np
import pytest
from gcn_asm import UNTOUCHED, Result, Snippet, range_of, run, run_one
from memory_widths import LOADS, POISON, STORES, Width, apart, gathered, random_bytes, random_words
from wave_lanes import ALL, LANES, active_lanes, random_mask

from aiter_moe.targets.emulator_report import FaultKind

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

SIZE = 4096
OFFSETS = (0, 4, 25, -16)


def expected(width: Width, raw: np.ndarray, mask: int) -> np.ndarray:
    words = np.full((width.registers, LANES), UNTOUCHED, np.uint32)
    words[:, active_lanes(mask)] = width.loaded(raw)[:, active_lanes(mask)]
    return words


def registers_of(result: Result, key: str) -> np.ndarray:
    return np.atleast_2d(result[key])


@pytest.mark.parametrize("arch", ["gfx950", "gfx942"])
@pytest.mark.parametrize("form", ["global", "global_base", "flat"])
def test_loads(arch: str, form: str) -> None:
    rng = np.random.default_rng(len(form))
    memory = random_bytes(rng, SIZE)
    base = memory.ctypes.data
    cases = []
    for number, (name, width) in enumerate(LOADS.items()):
        offset = 12 if form == "flat" else OFFSETS[number % len(OFFSETS)]
        low, high = max(0, -offset), SIZE - width.bytes - max(0, offset)
        at = rng.integers(low, high, LANES, endpoint=True)
        mask = random_mask(rng) if number % 3 else ALL
        to = range_of("v", 4, width.registers)
        text = {
            "global": f"global_load_{name} {to}, v[2:3], off offset:{offset}",
            "global_base": f"global_load_{name} {to}, v2, s[4:5] offset:{offset}",
            "flat": f"flat_load_{name} {to}, v[2:3] offset:{offset}",
        }[form]
        inputs = {"exec": mask}
        inputs |= (
            {"v2": at.astype(np.uint32)}
            if form == "global_base"
            else {"v[2:3]": (base + at).astype(np.uint64)}
        )
        snippet = Snippet(f"load_{name}", text, inputs, [to], {"s[4:5]": memory})
        cases.append(
            (snippet, to, expected(width, gathered(memory, at + offset, width.bytes), mask))
        )
    results = run([case[0] for case in cases], arch)
    for (snippet, to, words), result in zip(cases, results, strict=True):
        np.testing.assert_array_equal(registers_of(result, to), words, snippet.body)


@pytest.mark.parametrize("form", ["global", "global_base", "flat"])
def test_stores(form: str) -> None:
    rng = np.random.default_rng(7)
    cases = []
    for number, (name, width) in enumerate(STORES.items()):
        memory = random_bytes(rng, SIZE)
        at = apart(rng, SIZE - 64, width.bytes) + 32
        mask = random_mask(rng) if number % 3 else ALL
        data = random_words(rng, width.registers, LANES)
        key = range_of("v", 4, width.registers)
        offset = 8 if form == "flat" else OFFSETS[number % len(OFFSETS)]
        text = {
            "global": f"global_store_{name} v[2:3], {key}, off offset:{offset}",
            "global_base": f"global_store_{name} v2, {key}, s[4:5] offset:{offset}",
            "flat": f"flat_store_{name} v[2:3], {key} offset:{offset}",
        }[form]
        wanted = memory.copy()
        where = (at + offset)[:, None] + np.arange(width.bytes)
        active = active_lanes(mask)
        wanted[where[active]] = width.stored(data)[active]
        inputs = {"exec": mask, key: data}
        inputs |= (
            {"v2": at.astype(np.uint32)}
            if form == "global_base"
            else {"v[2:3]": (memory.ctypes.data + at).astype(np.uint64)}
        )
        snippet = Snippet(f"store_{name}", text, inputs, [], {"s[4:5]": memory})
        cases.append((snippet, memory, wanted))
    run([case[0] for case in cases])
    for snippet, memory, wanted in cases:
        np.testing.assert_array_equal(memory, wanted, snippet.body)


def test_accumulation_registers_hold_memory_data() -> None:
    rng = np.random.default_rng(3)
    memory = random_words(rng, 8 * LANES)
    body = """
    global_load_dwordx4 a[0:3], v1, s[4:5]
    s_waitcnt vmcnt(0)
    global_store_dwordx4 v1, a[0:3], s[4:5] offset:1024
    """
    lane = np.arange(LANES, dtype=np.uint32)
    run_one(Snippet("agprs", body, {"v1": 16 * lane}, [], {"s[4:5]": memory}))
    np.testing.assert_array_equal(memory[4 * LANES :], memory[: 4 * LANES])


def test_scratch_belongs_to_each_lane() -> None:
    rng = np.random.default_rng(4)
    data = random_words(rng, 4, LANES)
    at = rng.integers(0, 12, LANES).astype(np.uint32) * 4
    body = """
    s_mov_b32 s8, 16
    scratch_store_dwordx4 v1, v[2:5], s8 offset:4
    scratch_store_dword off, v1, off offset:96
    scratch_store_byte_d16_hi off, v2, s8 offset:84
    s_waitcnt vmcnt(0)
    scratch_load_dwordx4 v[6:9], v1, off offset:20
    scratch_load_dword v10, off, s8 offset:80
    scratch_load_ubyte v11, off, off offset:100
    """
    inputs = {"v1": at, "v[2:5]": data}
    outputs = ["v[6:9]", "v10", "v11"]
    result = run_one(Snippet("scratch", body, inputs, outputs, scratch=112))
    np.testing.assert_array_equal(result["v[6:9]"], data)
    np.testing.assert_array_equal(result["v10"], at)
    np.testing.assert_array_equal(result["v11"], data[0] >> 16 & 0xFF)
    assert result.report.counters["scratch_bytes"] == LANES * (16 + 4 + 1 + 16 + 4 + 1)


def test_waves_have_scratch_of_their_own() -> None:
    body = """
    scratch_store_dword off, v1, off
    s_waitcnt vmcnt(0)
    s_barrier
    scratch_load_dword v2, off, off
    """
    values = np.arange(256, dtype=np.uint32) * 3
    result = run_one(Snippet("wave_scratch", body, {"v1": values}, ["v2"], threads=256, scratch=4))
    np.testing.assert_array_equal(result["v2"], values)


def test_flat_addresses_reach_lds_scratch_and_global_memory_at_once() -> None:
    rng = np.random.default_rng(5)
    memory = random_words(rng, LANES)
    lane = np.arange(LANES)
    body = """
    v_lshlrev_b32 v1, 2, v10
    ds_write_b32 v1, v11
    scratch_store_dword off, v12, off offset:4
    s_waitcnt vmcnt(0) lgkmcnt(0)
    s_mov_b64 s[6:7], src_shared_base
    s_mov_b64 s[8:9], src_private_base
    v_mov_b32 v2, v1
    v_mov_b32 v3, s7
    s_mov_b64 exec, s[12:13]
    v_mov_b32 v2, 4
    v_mov_b32 v3, s9
    s_mov_b64 exec, s[14:15]
    v_add_co_u32 v2, vcc, s4, v1
    v_mov_b32 v3, s5
    v_addc_co_u32 v3, vcc, 0, v3, vcc
    s_mov_b64 exec, -1
    flat_load_dword v4, v[2:3]
    s_waitcnt vmcnt(0) lgkmcnt(0)
    v_add_u32 v5, 1, v4
    flat_store_dword v[2:3], v5
    s_waitcnt vmcnt(0) lgkmcnt(0)
    ds_read_b32 v6, v1
    scratch_load_dword v7, off, off offset:4
    """
    in_scratch, in_global = lane % 3 == 1, lane % 3 == 2
    mask = {"s[12:13]": in_scratch, "s[14:15]": in_global}
    inputs = {key: int(sum(1 << int(n) for n in np.flatnonzero(on))) for key, on in mask.items()}
    words = random_words(rng, 2, LANES)
    inputs |= {"v10": lane.astype(np.uint32), "v11": words[0], "v12": words[1]}
    before = memory.copy()
    result = run_one(
        Snippet("flat_places", body, inputs, ["v4", "v6", "v7"], {"s[4:5]": memory}, lds=256,
                scratch=16)
    )  # fmt: skip
    loaded = np.where(in_scratch, words[1], np.where(in_global, before, words[0]))
    np.testing.assert_array_equal(result["v4"], loaded)
    np.testing.assert_array_equal(memory, np.where(in_global, before + 1, before))
    np.testing.assert_array_equal(
        result["v6"], np.where(in_scratch | in_global, words[0], words[0] + 1)
    )
    np.testing.assert_array_equal(result["v7"], np.where(in_scratch, words[1] + 1, words[1]))


@pytest.mark.parametrize(
    ("text", "lane"),
    [
        ("global_load_dword v4, v2, s[4:5] offset:4", 63),
        ("global_load_dword v4, v2, s[4:5] offset:-1", 0),
        ("global_store_short v2, v4, s[4:5] offset:3", 63),
        ("global_load_dwordx4 v[4:7], v2, s[4:5]", 61),
        ("global_atomic_add v2, v4, s[4:5] offset:4", 63),
    ],
)
def test_out_of_range(text: str, lane: int) -> None:
    memory = np.zeros(LANES, np.uint32)
    lanes = np.arange(LANES, dtype=np.uint32)
    inputs = {"v2": 4 * lanes, "v[4:7]": np.ones((4, LANES), np.uint32)}
    result = run_one(
        Snippet("astray", text, inputs, ["v4"], {"s[4:5]": memory}), raise_on_fault=False
    )
    (fault,) = result.report.faults
    assert (fault.kind, fault.lane) == (FaultKind.global_out_of_range, lane)
    begin = memory.ctypes.data
    assert fault.address < begin or fault.address + 16 > begin + memory.nbytes
    if "load" in text:
        assert result["v4"][lane] == POISON
        assert (result["v4"] == 0).sum() == LANES - (3 if "x4" in text else 1)


def test_scratch_out_of_range() -> None:
    at = np.where(np.arange(LANES) == 9, 16, 12).astype(np.uint32)
    snippet = Snippet("astray", "scratch_store_dword v1, v2, off", {"v1": at, "v2": 0}, scratch=16)
    (fault,) = run_one(snippet, raise_on_fault=False).report.faults
    assert (fault.kind, fault.lane, fault.address) == (FaultKind.scratch_out_of_range, 9, 16)


def test_scalar_loads() -> None:
    rng = np.random.default_rng(6)
    memory = random_words(rng, 64)
    body = """
    s_mov_b32 s6, 0x10
    s_load_dword s8, s[4:5], 0x4
    s_load_dwordx2 s[10:11], s[4:5], s6
    s_load_dwordx4 s[12:15], s[4:5], s6 offset:0x20
    s_load_dwordx8 s[16:23], s[4:5], 0x40
    s_load_dwordx16 s[24:39], s[4:5], 0x80
    s_waitcnt lgkmcnt(0)
    """
    outputs = ["s8", "s[10:11]", "s[12:15]", "s[16:23]", "s[24:39]"]
    result = run_one(Snippet("scalars", body, {}, outputs, {"s[4:5]": memory}, preset=False))
    for key, first, count in zip(outputs, (1, 4, 12, 16, 32), (1, 2, 4, 8, 16), strict=True):
        words = memory[first : first + count]
        assert result[key] == sum(int(word) << 32 * n for n, word in enumerate(words)), key
    assert result.report.counters["smem_bytes"] >= 4 * 31


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("s_load_dwordx2 s[6:7], s[4:5], 0xfc", FaultKind.global_out_of_range),
        ("s_load_dword s6, s[4:5], 0x2", FaultKind.misaligned),
    ],
)
def test_scalar_faults(text: str, kind: FaultKind) -> None:
    snippet = Snippet("scalar", text, {}, [], {"s[4:5]": np.zeros(64, np.uint32)})
    (fault,) = run_one(snippet, raise_on_fault=False).report.faults
    assert fault.kind == kind


def test_clocks_go_on() -> None:
    body = """
    s_memtime s[4:5]
    s_waitcnt lgkmcnt(0)
    s_memrealtime s[6:7]
    s_waitcnt lgkmcnt(0)
    """
    result = run_one(Snippet("clocks", body, {}, ["s[4:5]", "s[6:7]"], preset=False))
    assert result["s[4:5]"] < result["s[6:7]"]
