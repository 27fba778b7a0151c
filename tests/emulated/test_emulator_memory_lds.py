# SPDX-License-Identifier: MIT
"""LDS reads and writes, loads straight to it, lane permutations and transposing reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gcn_asm import UNTOUCHED, Snippet, range_of, run, run_one
from memory_widths import LOADS, STORES, Width, apart, gathered, random_bytes, random_words
from wave_lanes import ALL, LANES, active_lanes, random_mask

from aiter_moe.targets.emulator_report import FaultKind

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

BYTES = 4096
LANE = np.arange(LANES, dtype=np.uint32)

# Copies BYTES from s[4:5] to the LDS, through registers v[240:244].
FILL = "\n".join(
    [
        "v_lshlrev_b32 v240, 4, v250",
        *(
            f"global_load_dwordx4 v[{200 + 4 * n}:{203 + 4 * n}], v240, s[4:5] offset:{1024 * n}"
            for n in range(BYTES // 1024)
        ),
        "s_waitcnt vmcnt(0)",
        *(
            f"ds_write_b128 v240, v[{200 + 4 * n}:{203 + 4 * n}] offset:{1024 * n}"
            for n in range(BYTES // 1024)
        ),
        "s_waitcnt lgkmcnt(0)",
    ]
)
# Copies the LDS to s[6:7].
DUMP = "\n".join(
    [
        "s_mov_b64 exec, -1",
        *(
            f"ds_read_b128 v[{200 + 4 * n}:{203 + 4 * n}], v240 offset:{1024 * n}"
            for n in range(BYTES // 1024)
        ),
        "s_waitcnt lgkmcnt(0)",
        *(
            f"global_store_dwordx4 v240, v[{200 + 4 * n}:{203 + 4 * n}], s[6:7] offset:{1024 * n}"
            for n in range(BYTES // 1024)
        ),
    ]
)
READS = {
    "read_u8": LOADS["ubyte"], "read_i8": LOADS["sbyte"], "read_u16": LOADS["ushort"],
    "read_i16": LOADS["sshort"], "read_u8_d16": LOADS["ubyte_d16"],
    "read_u8_d16_hi": LOADS["ubyte_d16_hi"], "read_i8_d16": LOADS["sbyte_d16"],
    "read_i8_d16_hi": LOADS["sbyte_d16_hi"], "read_u16_d16": LOADS["short_d16"],
    "read_u16_d16_hi": LOADS["short_d16_hi"], "read_b32": Width(4), "read_b64": Width(8),
    "read_b96": Width(12), "read_b128": Width(16),
}  # fmt: skip
WRITES = {
    "write_b8": STORES["byte"], "write_b8_d16_hi": STORES["byte_d16_hi"],
    "write_b16": STORES["short"], "write_b16_d16_hi": STORES["short_d16_hi"],
    "write_b32": Width(4), "write_b64": Width(8), "write_b96": Width(12), "write_b128": Width(16),
}  # fmt: skip


def filled(name: str, body: str, memory: np.ndarray, out: np.ndarray, **fields: Any) -> Snippet:
    """Return a snippet that starts with `memory` in the LDS, and leaves the LDS in `out`."""
    inputs = {"v250": LANE, "v1": 0, **fields.pop("inputs", {})}
    mask = inputs.pop("exec", ALL)
    text = f"{FILL}\ns_mov_b64 exec, s[8:9]\n{body}\n{DUMP}"
    return Snippet(
        name, text, {**inputs, "s[8:9]": mask}, fields.pop("outputs", []),
        {"s[4:5]": memory, "s[6:7]": out}, lds=BYTES, **fields,
    )  # fmt: skip


@pytest.mark.parametrize("arch", ["gfx950", "gfx942"])
def test_reads(arch: str) -> None:
    rng = np.random.default_rng(1)
    memory, out = random_bytes(rng, BYTES), np.zeros(BYTES, np.uint8)
    cases = []
    for number, (name, width) in enumerate(READS.items()):
        offset = (0, 7, 64)[number % 3]
        at = rng.integers(0, BYTES - width.bytes - offset, LANES, endpoint=True)
        if number % 2:
            at &= ~np.int64(width.bytes - 1) if width.bytes != 12 else ~np.int64(3)
        mask = random_mask(rng) if number % 3 else ALL
        key = range_of("v", 4, width.registers)
        words = np.full((width.registers, LANES), UNTOUCHED, np.uint32)
        active = active_lanes(mask)
        words[:, active] = width.loaded(gathered(memory, at + offset, width.bytes))[:, active]
        snippet = filled(
            name, f"ds_{name} {key}, v1 offset:{offset}\ns_waitcnt lgkmcnt(0)", memory, out,
            inputs={"v1": at.astype(np.uint32), "exec": mask}, outputs=[key],
        )  # fmt: skip
        cases.append((snippet, key, words))
    for (_, key, words), result in zip(cases, run([c[0] for c in cases], arch), strict=True):
        np.testing.assert_array_equal(np.atleast_2d(result[key]), words)
    np.testing.assert_array_equal(out, memory)


def test_writes() -> None:
    rng = np.random.default_rng(2)
    cases = []
    for number, (name, width) in enumerate(WRITES.items()):
        memory, out = random_bytes(rng, BYTES), np.zeros(BYTES, np.uint8)
        at = apart(rng, BYTES - 64, width.bytes)
        mask = random_mask(rng) if number % 3 else ALL
        data = random_words(rng, width.registers, LANES)
        key = range_of("v", 4, width.registers)
        wanted, active = memory.copy(), active_lanes(mask)
        wanted[(at + 5)[active, None] + np.arange(width.bytes)] = width.stored(data)[active]
        snippet = filled(
            name, f"ds_{name} v1, {key} offset:5", memory, out,
            inputs={"v1": at.astype(np.uint32), key: data, "exec": mask},
        )  # fmt: skip
        cases.append((snippet, out, wanted))
    run([case[0] for case in cases])
    for snippet, out, wanted in cases:
        np.testing.assert_array_equal(out, wanted, snippet.name)


@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize("spacing", [1, 64])
def test_reads_and_writes_of_two_places(size: int, spacing: int) -> None:
    rng = np.random.default_rng(size + spacing)
    memory, out = random_bytes(rng, BYTES), np.zeros(BYTES, np.uint8)
    registers, unit = size // 4, size * spacing
    first, second = (9, 2) if spacing == 1 else (3, 1)
    at = rng.permutation(np.arange(LANES) * (8 if spacing == 64 else 48))
    data = random_words(rng, 2, registers, LANES)
    keys = [range_of("v", 12 + 4 * n, registers) for n in range(2)]
    kind = f"2st64_b{8 * size}" if spacing == 64 else f"2_b{8 * size}"
    to = range_of("v", 4, 2 * registers)
    body = f"""
    ds_read{kind} {to}, v1 offset0:{first} offset1:{second}
    s_waitcnt lgkmcnt(0)
    ds_write{kind} v1, {keys[0]}, {keys[1]} offset0:{first} offset1:{second}
    """
    inputs = {"v1": at.astype(np.uint32), **dict(zip(keys, data, strict=True))}
    result = run_one(filled("two", body, memory, out, inputs=inputs, outputs=[to]))
    wanted, read = memory.copy(), []
    for offset, words in zip((first, second), data, strict=True):
        place = (at + offset * unit)[:, None] + np.arange(size)
        read.append(Width(size).loaded(memory[place]))
        wanted[place] = Width(size).stored(words)
    np.testing.assert_array_equal(result[to], np.concatenate(read))
    np.testing.assert_array_equal(out, wanted)


def test_addresses_from_the_lane_number() -> None:
    rng = np.random.default_rng(3)
    memory, out = random_bytes(rng, BYTES), np.zeros(BYTES, np.uint8)
    body = """
    s_mov_b32 m0, 256
    ds_read_addtid_b32 v4 offset:16
    s_waitcnt lgkmcnt(0)
    ds_write_addtid_b32 v5 offset:1024
    """
    data = random_words(rng, LANES)
    result = run_one(filled("addtid", body, memory, out, inputs={"v5": data}, outputs=["v4"]))
    words = memory.view(np.uint32)
    np.testing.assert_array_equal(result["v4"], words[68 : 68 + LANES])
    words[320 : 320 + LANES] = data
    np.testing.assert_array_equal(out.view(np.uint32), words)


def test_permute_and_bpermute() -> None:
    rng = np.random.default_rng(4)
    mask = random_mask(rng)
    active = active_lanes(mask)
    to = rng.permutation(LANES)
    source = rng.integers(0, 4 * LANES, LANES)
    data = random_words(rng, LANES)
    body = """
    ds_permute_b32 v4, v1, v3
    ds_bpermute_b32 v5, v2, v3 offset:8
    """
    inputs = {"v1": (4 * to).astype(np.uint32), "v2": (4 * source).astype(np.uint32), "v3": data}
    result = run_one(Snippet("permute", body, {**inputs, "exec": mask}, ["v4", "v5"]))
    sent = np.zeros(LANES, np.uint32)
    sent[to[active]] = data[active]
    np.testing.assert_array_equal(result["v4"], np.where(active, sent, UNTOUCHED))
    asked = (source + 2) % LANES
    fetched = np.where(active[asked], data[asked], 0)
    np.testing.assert_array_equal(result["v5"], np.where(active, fetched, UNTOUCHED))


def swizzled(text: str) -> np.ndarray:
    """Return the lane each lane reads."""
    lane = np.arange(LANES)
    kind, numbers = text.split(":")
    values = [int(number) for number in numbers.split(",")]
    if kind == "quad":
        return lane // 4 * 4 + np.array(values)[lane % 4]
    if kind == "reverse":
        return lane // values[0] * values[0] + values[0] - 1 - lane % values[0]
    if kind == "rotate":
        direction, distance = values
        moved = lane - distance if direction else lane + distance
        return lane // 32 * 32 + moved % 32
    keep, setting, flip = values
    return lane // 32 * 32 + ((lane % 32 & keep | setting) ^ flip)


@pytest.mark.parametrize(
    ("offset", "meaning"),
    [
        (0x8000 | 0b00_01_11_10, "quad:2,3,1,0"),
        (0x001F | 3 << 10, "reverse:4"),
        (0x0014 | 1 << 5 | 9 << 10, "bits:20,1,9"),
        (0xC000 | 5 << 5, "rotate:0,5"),
        (0xC400 | 7 << 5, "rotate:1,7"),
    ],
)
def test_swizzle(offset: int, meaning: str) -> None:
    data = random_words(np.random.default_rng(5), LANES)
    mask = random_mask(np.random.default_rng(offset))
    active, source = active_lanes(mask), swizzled(meaning)
    text = f"ds_swizzle_b32 v4, v1 offset:{offset}"
    result = run_one(Snippet("swizzle", text, {"v1": data, "exec": mask}, ["v4"]))
    wanted = np.where(active[source], data[source], 0)
    np.testing.assert_array_equal(result["v4"], np.where(active, wanted, UNTOUCHED))


def bits_of(raw: np.ndarray, element_bits: int) -> np.ndarray:
    """Return the elements of uint8 [lanes, bytes] as [lanes, elements]."""
    bits = np.unpackbits(raw, axis=1, bitorder="little")
    elements = bits.reshape(len(raw), -1, element_bits)
    return (elements * (1 << np.arange(element_bits))).sum(2)


@pytest.mark.parametrize(("bits", "size"), [(16, 8), (8, 8), (4, 8), (6, 12)])
def test_transposing_reads(bits: int, size: int) -> None:
    """16 lanes read a matrix of 16 columns row by row, and each gets a column."""
    rng = np.random.default_rng(bits)
    memory, out = random_bytes(rng, BYTES), np.zeros(BYTES, np.uint8)
    at = rng.permutation(BYTES // 16)[:LANES] * 16
    name, registers = f"ds_read_b{8 * size}_tr_b{bits}", size // 4
    key = range_of("v", 4, registers)
    body = f"{name} {key}, v1\ns_waitcnt lgkmcnt(0)"
    inputs = {"v1": at.astype(np.uint32)}
    result = run_one(filled("turned", body, memory, out, inputs=inputs, outputs=[key]))
    pieces = bits_of(gathered(memory, at, size), bits)
    wanted = pieces.reshape(4, -1, 16).swapaxes(1, 2).reshape(LANES, -1)
    words = np.ascontiguousarray(result[key].T)
    np.testing.assert_array_equal(bits_of(words.view(np.uint8), bits), wanted)


def test_transposing_reads_need_all_lanes_and_alignment() -> None:
    memory, out = np.zeros(BYTES, np.uint8), np.zeros(BYTES, np.uint8)
    text = "ds_read_b64_tr_b16 v[4:5], v1\ns_waitcnt lgkmcnt(0)"
    for inputs, kind in (
        ({"exec": ALL >> 1, "v1": 8 * LANE}, FaultKind.bad_instruction),
        ({"v1": 8 * LANE + 4}, FaultKind.misaligned),
    ):
        snippet = filled("turned", text, memory, out, inputs=inputs)
        (fault,) = run_one(snippet, raise_on_fault=False).report.faults
        assert fault.kind == kind


DMA = {
    "gfx950": ["ubyte", "sshort", "dword", "dwordx3", "dwordx4"],
    "gfx942": ["ubyte", "sshort", "dword"],
}


@pytest.mark.parametrize("arch", ["gfx950", "gfx942"])
@pytest.mark.parametrize("form", ["buffer", "global"])
def test_loads_to_the_lds(arch: str, form: str) -> None:
    rng = np.random.default_rng(len(form))
    cases = []
    for number, name in enumerate(DMA[arch]):
        width = LOADS[name]
        each = 4 * width.registers
        memory, out = random_bytes(rng, BYTES), np.zeros(BYTES, np.uint8)
        at = rng.integers(0, BYTES - 64, LANES) & ~3
        mask = random_mask(rng) if number % 2 else ALL
        text = f"""
        s_mov_b32 m0, 1024
        {form}_load_{"lds_" if form == "global" else ""}{name} v1, OPERANDS offset:32
        s_waitcnt vmcnt(0)
        """
        operands = "s[4:5]" if form == "global" else "s[12:15], 0 offen"
        text = (
            text.replace("OPERANDS", operands)
            if form == "global"
            else text.replace("OPERANDS offset:32", "s[12:15], 0 offen offset:32 lds")
        )
        wanted = memory.copy()
        place = 1024 + 32 + each * np.arange(LANES)[:, None] + np.arange(each)
        loaded = width.loaded(gathered(memory, at + 32, width.bytes))
        active = active_lanes(mask)
        wanted[place[active]] = np.ascontiguousarray(loaded.T).view(np.uint8)[active]
        resource = memory.ctypes.data | BYTES << 64 | 0x20000 << 96
        inputs = {"v1": at.astype(np.uint32), "exec": mask, "s[12:15]": resource}
        cases.append((filled(name, text, memory, out, inputs=inputs), width, out, wanted))
    results = run([case[0] for case in cases], arch)
    for (snippet, width, out, wanted), result in zip(cases, results, strict=True):
        np.testing.assert_array_equal(out, wanted, snippet.name)
        lanes = active_lanes(snippet.inputs["s[8:9]"]).sum()
        assert result.report.counters["lds_dma_bytes"] == lanes * width.bytes


def test_loads_to_the_lds_write_zeros_where_masked() -> None:
    rng = np.random.default_rng(8)
    memory, out = random_bytes(rng, BYTES), np.ones(BYTES, np.uint8)
    records = 512
    resource = memory.ctypes.data | records << 64 | 0x20000 << 96
    text = """
    s_mov_b32 m0, 0
    buffer_load_dwordx4 v1, s[12:15], 0 offen lds
    s_waitcnt vmcnt(0)
    """
    inputs = {"v1": 16 * LANE, "s[12:15]": resource}
    run_one(filled("masked", text, memory, out, inputs=inputs))
    wanted = memory.copy()
    wanted[records:1024] = 0
    np.testing.assert_array_equal(out, wanted)


@pytest.mark.parametrize(
    ("text", "lane"),
    [
        ("ds_read_b64 v[4:5], v1 offset:4092", 0),
        ("ds_write_b32 v1, v1 offset:4093", 0),
        ("ds_read2_b32 v[4:5], v1 offset0:0 offset1:255", 13),
        ("ds_add_u32 v1, v1 offset:4096", 0),
        ("s_mov_b32 m0, 3584\nbuffer_load_dwordx4 v1, s[12:15], 0 offen lds", 32),
    ],
)
def test_beyond_the_lds(text: str, lane: int) -> None:
    memory, out = np.zeros(BYTES, np.uint8), np.zeros(BYTES, np.uint8)
    resource = memory.ctypes.data | BYTES << 64 | 0x20000 << 96
    at = np.where(LANE == 13, 3080, 0) if "read2" in text else 0 * LANE
    inputs = {"v1": at.astype(np.uint32), "s[12:15]": resource}
    snippet = filled("beyond", f"{text}\ns_waitcnt vmcnt(0)", memory, out, inputs=inputs)
    (fault,) = run_one(snippet, raise_on_fault=False).report.faults
    assert (fault.kind, fault.lane) == (FaultKind.lds_out_of_range, lane)
