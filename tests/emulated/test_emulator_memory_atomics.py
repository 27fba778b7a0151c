# SPDX-License-Identifier: MIT
"""Atomics of global, flat and buffer instructions and of the LDS, one after the other in numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from gcn_asm import UNTOUCHED, Snippet, range_of, run, run_one
from memory_widths import random_words
from wave_lanes import LANES, active_lanes, random_mask

from aiter_moe.targets.emulator_report import FaultKind

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

PLACES = 16  # fewer than lanes: several change the same place
LANE = np.arange(LANES, dtype=np.uint32)


def bits_of_bfloat(value: float) -> int:
    """Return the nearest bfloat16, ties to even."""
    word = int(np.float32(value).view(np.uint32))
    return (word + 0x7FFF + (word >> 16 & 1)) >> 16


def pair_sum(old: int, data: int, to_float: Callable, to_bits: Callable) -> int:
    total = 0
    for shift in (0, 16):
        parts = (to_float(word >> shift & 0xFFFF) for word in (old, data))
        total |= to_bits(np.float32(sum(np.float32(part) for part in parts))) << shift
    return total


def add_halves(old: int, data: int, _: int) -> int:
    return pair_sum(
        old, data, lambda bits: np.uint16(bits).view(np.float16),
        lambda value: int(np.float16(value).view(np.uint16)),
    )  # fmt: skip


def add_bfloats(old: int, data: int, _: int) -> int:
    return pair_sum(old, data, lambda bits: np.uint32(bits << 16).view(np.float32), bits_of_bfloat)


@dataclass(frozen=True)
class Operation:
    """What becomes of a place: (old, data, second) -> new, as Python numbers of `kind`."""

    apply: Callable[[int, int, int], int]
    kind: str = "u"  # numpy kind of the numbers: u, i, f

    def dtype(self, size: int) -> np.dtype:
        return np.dtype(f"{self.kind}{size}")


OPERATIONS = {
    "swap": Operation(lambda _, data, __: data),
    "add": Operation(lambda old, data, _: old + data),
    "sub": Operation(lambda old, data, _: old - data),
    "smin": Operation(lambda old, data, _: min(old, data), "i"),
    "umin": Operation(lambda old, data, _: min(old, data)),
    "smax": Operation(lambda old, data, _: max(old, data), "i"),
    "umax": Operation(lambda old, data, _: max(old, data)),
    "and": Operation(lambda old, data, _: old & data),
    "or": Operation(lambda old, data, _: old | data),
    "xor": Operation(lambda old, data, _: old ^ data),
    "inc": Operation(lambda old, data, _: 0 if old >= data else old + 1),
    "dec": Operation(lambda old, data, _: data if old == 0 or old > data else old - 1),
    "rsub": Operation(lambda old, data, _: data - old),
    "mskor": Operation(lambda old, data, second: old & ~data | second),
    "wrap": Operation(lambda old, data, second: old - data if old >= data else old + second),
    "cmpswap": Operation(lambda old, data, second: second if old == data else old),
    "add_float": Operation(lambda old, data, _: old + data, "f"),
    "min_float": Operation(lambda old, data, _: min(old, data), "f"),
    "max_float": Operation(lambda old, data, _: max(old, data), "f"),
    "halves": Operation(add_halves),
    "bfloats": Operation(add_bfloats),
}
INTEGERS = ("swap", "cmpswap", "add", "sub", "smin", "umin", "smax", "umax", "and", "or", "xor",
            "inc", "dec")  # fmt: skip
FLOATS = {
    "add_f32": ("add_float", 4), "add_f64": ("add_float", 8), "min_f64": ("min_float", 8),
    "max_f64": ("max_float", 8), "pk_add_f16": ("halves", 4), "pk_add_bf16": ("bfloats", 4),
}  # fmt: skip
VECTOR = {
    **{name: (name, 4) for name in INTEGERS},
    **{f"{name}_x2": (name, 8) for name in INTEGERS},
    **FLOATS,
}
LDS_INTEGERS = {
    "add_rtn_u": "add", "sub_rtn_u": "sub", "rsub_rtn_u": "rsub", "inc_rtn_u": "inc",
    "dec_rtn_u": "dec", "min_rtn_i": "smin", "max_rtn_i": "smax", "min_rtn_u": "umin",
    "max_rtn_u": "umax", "and_rtn_b": "and", "or_rtn_b": "or", "xor_rtn_b": "xor",
    "mskor_rtn_b": "mskor", "wrxchg_rtn_b": "swap", "cmpst_rtn_b": "cmpswap",
    "min_rtn_f": "min_float", "max_rtn_f": "max_float", "add_rtn_f": "add_float",
    "cmpst_rtn_f": "cmpswap",
}  # fmt: skip
LDS = {
    **{f"{name}{8 * size}": (of, size) for name, of in LDS_INTEGERS.items() for size in (4, 8)},
    "wrap_rtn_b32": ("wrap", 4), "pk_add_rtn_f16": ("halves", 4), "pk_add_rtn_bf16": ("bfloats", 4),
}  # fmt: skip
TWO_OPERANDS = ("cmpswap", "mskor", "wrap")


def values(rng: np.random.Generator, name: str, size: int, count: int) -> np.ndarray:
    """Return values as unsigned words: small numbers, so that they meet; floats of mixed sign."""
    dtype = np.dtype(f"u{size}")
    operation = OPERATIONS[name]
    if operation.kind == "f":
        return rng.normal(size=count).astype(operation.dtype(size)).view(dtype)
    if name == "halves":
        return rng.normal(size=2 * count).astype(np.float16).view(dtype)
    if name == "bfloats":
        return (rng.normal(size=2 * count).astype(np.float32).view(np.uint32) >> 16).astype(
            np.uint16
        ).view(dtype)  # fmt: skip
    if name in ("smin", "smax", "and", "or", "xor", "mskor"):
        return rng.integers(0, np.iinfo(dtype).max, count, dtype=dtype, endpoint=True)
    return rng.integers(0, 6, count).astype(dtype)


def one_after_the_other(
    name: str, memory: np.ndarray, at: np.ndarray, data: np.ndarray, second: np.ndarray,
    active: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return memory afterwards and what each active lane found, by plain sequential code."""
    operation = OPERATIONS[name]
    view = operation.dtype(memory.itemsize)
    memory, found = memory.copy(), np.zeros(LANES, memory.dtype)
    for lane in np.flatnonzero(active):
        old = memory[at[lane]]
        found[lane] = old
        numbers = (np.array([word]).view(view)[0] for word in (old, data[lane], second[lane]))
        if operation.kind == "f":
            new = np.array([operation.apply(*numbers)], view)
        else:
            bits = 8 * memory.itemsize
            new = np.array([operation.apply(*map(int, numbers)) % (1 << bits)], memory.dtype)
        memory[at[lane]] = new.view(memory.dtype)[0]
    return memory, found


def words_of(values_: np.ndarray) -> np.ndarray:
    """Return uint32 [registers, lanes]."""
    return np.ascontiguousarray(values_).view(np.uint32).reshape(LANES, -1).T


def found_words(found: np.ndarray, active: np.ndarray) -> np.ndarray:
    return np.where(active, words_of(found), np.uint32(UNTOUCHED))


def vector_text(form: str, name: str, to: str, data: str) -> str:
    return {
        "global": f"global_atomic_{name} {to}, v[2:3], {data}, off sc0",
        "flat": f"flat_atomic_{name} {to}, v[2:3], {data} sc0",
        "buffer": f"buffer_atomic_{name} {data}, v1, s[8:11], 0 offen sc0",
    }[form]


@pytest.mark.parametrize(
    ("form", "arch"), [("global", "gfx950"), ("global", "gfx942"), ("flat", "gfx950"),
                       ("buffer", "gfx950")],
)  # fmt: skip
def test_memory_atomics(form: str, arch: str) -> None:
    rng = np.random.default_rng(len(form))
    cases = []
    for name, (of, size) in VECTOR.items():
        memory = values(rng, of, size, PLACES)
        at = rng.integers(0, PLACES, LANES)
        data, second = (values(rng, of, size, LANES) for _ in range(2))
        mask = random_mask(rng)
        active = active_lanes(mask)
        operands = words_of(data)
        if of == "cmpswap":
            operands = np.concatenate([words_of(second), operands])
        key = range_of("v", 4, len(operands))
        to = key if form == "buffer" else range_of("v", 12, size // 4)
        resource = memory.ctypes.data | memory.nbytes << 64 | 0x20000 << 96
        inputs = {
            "v[2:3]": (memory.ctypes.data + size * at).astype(np.uint64),
            "v1": (size * at).astype(np.uint32), key: operands, "s[8:11]": resource, "exec": mask,
        }  # fmt: skip
        text = vector_text(form, name, to, key)
        snippet = Snippet(name, text, inputs, [to], {"s[6:7]": memory})
        after, found = one_after_the_other(of, memory, at, data, second, active)
        wanted = found_words(found, active)
        if form == "buffer":  # the result replaces the first operand
            wanted = np.concatenate([np.where(active, wanted, operands[: size // 4]),
                                     operands[size // 4 :]])  # fmt: skip
        cases.append((snippet, memory, after, wanted))
    results = run([case[0] for case in cases], arch)
    for (snippet, memory, after, wanted), result in zip(cases, results, strict=True):
        np.testing.assert_array_equal(memory, after, snippet.name)
        (key,) = snippet.outputs
        np.testing.assert_array_equal(np.atleast_2d(result[key]), wanted, snippet.name)


LDS_TEXT = """
v_lshlrev_b32 v240, 2, v250
global_load_dword v241, v240, s[4:5]
s_waitcnt vmcnt(0)
ds_write_b32 v240, v241
s_mov_b64 exec, s[8:9]
{atomic}
s_mov_b64 exec, -1
ds_read_b32 v241, v240
s_waitcnt lgkmcnt(0)
global_store_dword v240, v241, s[6:7]
"""


@pytest.mark.parametrize("returning", [True, False])
def test_lds_atomics(returning: bool) -> None:
    rng = np.random.default_rng(9)
    cases = []
    for name, (of, size) in LDS.items():
        if not returning and name.startswith(("wrxchg", "wrap")):
            continue
        memory = np.zeros(256 // size, f"u{size}")
        memory[:PLACES] = values(rng, of, size, PLACES)
        out = np.zeros_like(memory)
        at = rng.integers(0, PLACES, LANES)
        data, second = (values(rng, of, size, LANES) for _ in range(2))
        mask = random_mask(rng)
        registers = size // 4
        keys = [range_of("v", 4 + 4 * n, registers) for n in range(1 + (of in TWO_OPERANDS))]
        to = range_of("v", 12, registers)
        text = f"ds_{name} {to}, v1, " if returning else f"ds_{name.replace('_rtn', '')} v1, "
        inputs = {
            "v250": LANE, "v1": (size * at).astype(np.uint32), "s[8:9]": mask,
            **{key: words_of(x) for key, x in zip(keys, (data, second), strict=False)},
        }  # fmt: skip
        snippet = Snippet(
            name, LDS_TEXT.format(atomic=text + ", ".join(keys)), inputs, [to],
            {"s[4:5]": memory, "s[6:7]": out}, lds=256,
        )  # fmt: skip
        after, found = one_after_the_other(of, memory, at, data, second, active_lanes(mask))
        cases.append((snippet, out, after, found_words(found, active_lanes(mask))))
    results = run([case[0] for case in cases])
    for (snippet, out, after, wanted), result in zip(cases, results, strict=True):
        np.testing.assert_array_equal(out, after, snippet.name)
        (key,) = snippet.outputs
        expected = wanted if returning else np.uint32(UNTOUCHED)
        np.testing.assert_array_equal(np.atleast_2d(result[key]), expected, snippet.name)


@pytest.mark.parametrize(("kind", "size"), [("2", 4), ("2st64", 4), ("2", 8)])
def test_two_exchanges(kind: str, size: int) -> None:
    rng = np.random.default_rng(size)
    registers, unit = size // 4, size * (64 if "st64" in kind else 1)
    memory = random_words(rng, 2 * LANES * registers + 512)
    out = np.zeros_like(memory)
    data = random_words(rng, 2, registers, LANES)
    at = rng.permutation(LANES).astype(np.uint32) * (4 if "st64" in kind else 2 * size)
    copy = "\n".join(
        f"global_load_dword v241, v240, s[4:5] offset:{offset}\ns_waitcnt vmcnt(0)\n"
        f"ds_write_b32 v240, v241 offset:{offset}"
        for offset in range(0, memory.nbytes, 256)
    )
    back = "\n".join(
        f"ds_read_b32 v241, v240 offset:{offset}\ns_waitcnt lgkmcnt(0)\n"
        f"global_store_dword v240, v241, s[6:7] offset:{offset}"
        for offset in range(0, memory.nbytes, 256)
    )
    keys = [range_of("v", 4 + 4 * n, registers) for n in range(2)]
    to = range_of("v", 12, 2 * registers)
    name = f"ds_wrxchg{kind}_rtn_b{8 * size}"
    body = f"""
    v_lshlrev_b32 v240, 2, v250
    {copy}
    {name} {to}, v1, {keys[0]}, {keys[1]} offset0:1 offset1:0
    {back}
    """
    inputs = {"v250": LANE, "v1": at, **dict(zip(keys, data, strict=True))}
    snippet = Snippet(
        "two", body, inputs, [to], {"s[4:5]": memory, "s[6:7]": out}, lds=memory.nbytes
    )
    result = run_one(snippet)
    wanted, found = memory.copy(), []
    for offset, words in zip((unit, 0), data, strict=True):
        place = (at // 4 + offset // 4)[:, None] + np.arange(registers)
        found.append(wanted[place].T)
        wanted[place] = words.T
    np.testing.assert_array_equal(result[to], np.concatenate(found))
    np.testing.assert_array_equal(out, wanted)


def test_many_workgroups_lose_no_addition() -> None:
    groups, waves = 64, 4
    memory = np.zeros(4, np.uint32)
    sums = np.zeros(1, np.float32)
    body = """
    v_mov_b32 v1, 0
    v_mov_b32 v2, 1
    v_mov_b32 v3, 1.0
    global_atomic_add v1, v2, s[4:5] offset:4
    global_atomic_add_f32 v1, v3, s[6:7]
    """
    snippet = Snippet(
        "many", body, {}, [], {"s[4:5]": memory, "s[6:7]": sums}, threads=64 * waves,
        grid=(groups, 1, 1),
    )  # fmt: skip
    report = run_one(snippet).report
    assert list(memory) == [0, 64 * waves * groups, 0, 0]
    assert sums[0] == 64 * waves * groups
    assert report.counters["vmem_atomic_bytes"] == 8 * 64 * waves * groups


def test_buffer_atomics_out_of_range_do_nothing_and_return_zero() -> None:
    memory = np.full(LANES, 5, np.uint32)
    resource = memory.ctypes.data | 128 << 64 | 0x20000 << 96
    text = "buffer_atomic_add v4, v1, s[8:11], 0 offen sc0"
    inputs = {"v1": 4 * LANE, "v4": LANE + 1, "s[8:11]": resource}
    result = run_one(Snippet("masked", text, inputs, ["v4"], {"s[6:7]": memory}))
    inside = LANE < 32
    np.testing.assert_array_equal(memory, np.where(inside, LANE + 6, 5))
    np.testing.assert_array_equal(result["v4"], np.where(inside, 5, 0))


@pytest.mark.parametrize(
    "text",
    [
        "global_atomic_add v1, v4, s[6:7] offset:2",
        "global_atomic_add_f64 v1, v[4:5], s[6:7] offset:4",
        "buffer_atomic_add v4, v1, s[8:11], 0 offen offset:1",
        "ds_write_b64 v1, v[4:5]\nds_add_u32 v1, v4 offset:2",
        "ds_write2_b64 v1, v[4:5], v[4:5] offset1:1\nds_add_f64 v1, v[4:5] offset:4",
    ],
)
def test_atomics_must_be_aligned(text: str) -> None:
    memory = np.zeros(8, np.uint32)
    resource = memory.ctypes.data | memory.nbytes << 64 | 0x20000 << 96
    inputs = {"v1": 0, "v[4:5]": np.zeros((2, LANES), np.uint32), "s[8:11]": resource}
    snippet = Snippet("crooked", text, inputs, [], {"s[6:7]": memory}, lds=64)
    (fault,) = run_one(snippet, raise_on_fault=False).report.faults
    assert fault.kind == FaultKind.misaligned
