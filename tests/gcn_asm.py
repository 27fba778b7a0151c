# SPDX-License-Identifier: MIT
"""Runs pieces of gfx950 or gfx942 assembly in the emulator on chosen register contents.

A snippet becomes a kernel: registers named in ``inputs`` are loaded, the snippet runs, registers
named in ``outputs`` are stored. All snippets of one call go through one assembler run.

>>> run([Snippet("add", "v_add_u32 v3, v1, v2", {"v1": ones, "v2": twos}, ["v3"])])[0]["v3"]

Keys are registers as the assembler writes them: ``v1``, ``v[2:5]``, ``a0``, ``s4``, ``s[6:7]``,
``vcc``, ``exec``, ``m0``, ``scc``. A vector input is [threads] (or one value for all lanes) for
each register: ``v[2:5]`` takes [4, threads]; 64-bit element types take two registers. An output
is uint32 of the same shapes, one number for a single scalar. A ``numpy`` array under a scalar
pair among ``buffers`` is memory the snippet may touch: the pair gets its address.

Output registers that are no inputs start as UNTOUCHED, unless ``preset`` is off. The snippet may
not use s[90:101] and v[252:255], and starts with all its waits done.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from aiter_moe.codegen.device_compiler import device_compiler
from aiter_moe.codegen.process import Processes
from aiter_moe.errors import ToolchainError
from aiter_moe.targets.emulator_library import ALL_CHECKS, LaunchReport, emulator

UNTOUCHED = 0xA5A5A5A5

_REGISTER = re.compile(r"([vas])(?:(\d+)|\[(\d+):(\d+)\])")
_SPECIAL = {"vcc": 2, "exec": 2, "m0": 1, "scc": 1}


@dataclass(frozen=True, slots=True)
class Registers:
    """A range of registers: file ``v``, ``a``, ``s`` or a special's name, first, count."""

    file: str
    first: int
    count: int

    @property
    def is_vector(self) -> bool:
        return self.file in "va"

    def name(self, index: int) -> str:
        if self.file in {"vcc", "exec"}:
            return f"{self.file}_{('lo', 'hi')[index]}"
        return self.file if self.file in _SPECIAL else f"{self.file}{self.first + index}"


def registers(text: str) -> Registers:
    if text in _SPECIAL:
        return Registers(text, 0, _SPECIAL[text])
    match = _REGISTER.fullmatch(text)
    assert match, f"{text} is no register"
    first = int(match[2] or match[3])
    return Registers(match[1], first, int(match[4] or first) - first + 1)


def range_of(file: str, first: int, count: int) -> str:
    """Return `count` registers from `first` on as the assembler writes them."""
    return f"{file}{first}" if count == 1 else f"{file}[{first}:{first + count - 1}]"


@dataclass(frozen=True)
class Snippet:
    """A piece of assembly with what goes in and what comes out.

    `lds` and `scratch` are bytes a workgroup and a lane, `directives` more ``.amdhsa_`` lines
    (``{"float_denorm_mode_32": 0}``), `data` assembly of a section of constants.
    """

    name: str
    body: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    outputs: Sequence[str] = ()
    buffers: Mapping[str, np.ndarray] = field(default_factory=dict)
    threads: int = 64
    grid: tuple[int, int, int] = (1, 1, 1)
    lds: int = 0
    scratch: int = 0
    preset: bool = True
    directives: Mapping[str, int] = field(default_factory=dict)
    data: str = ""


@dataclass(frozen=True)
class Result:
    """Outputs by register, and what the launch reported; ``result["v3"]`` is an output."""

    outputs: Mapping[str, Any]
    report: LaunchReport

    def __getitem__(self, key: str) -> Any:
        return self.outputs[key]

    def lanes(self, key: str, dtype: type) -> np.ndarray:
        """Return an output as [..., threads] of a type of 4 or of 8 bytes."""
        words = self.outputs[key]
        if np.dtype(dtype).itemsize == 4:
            return words.view(dtype)
        pairs = np.ascontiguousarray(np.moveaxis(words.reshape(-1, 2, words.shape[-1]), 1, -1))
        values = pairs.view(dtype)[..., 0]
        return values[0] if len(values) == 1 else values


def run(
    snippets: Sequence[Snippet], arch: str = "gfx950", *, seed: int = 0, checks: int = ALL_CHECKS,
    raise_on_fault: bool = True,
) -> list[Result]:  # fmt: skip
    """Return the result of each snippet.

    Raises
    ------
    EmulatorFaultError
        If a launch has faults, unless `raise_on_fault` is off: then they are in the report.
    """
    code_object = assemble("".join(kernel_text(s) for s in snippets), arch)
    results = []
    for snippet in snippets:
        room = _input_rows(snippet)
        out = np.full((max(1, _count(snippet.outputs)), snippet.threads), UNTOUCHED, np.uint32)
        arguments = np.array([room.ctypes.data, out.ctypes.data], np.uint64).tobytes()
        report = emulator(arch).launch(
            code_object, snippet.name, snippet.grid, snippet.threads, arguments,
            [room, out, *snippet.buffers.values()], seed=seed, checks=checks,
            raise_on_fault=raise_on_fault,
        )  # fmt: skip
        results.append(Result(_outputs(snippet, out), report))
    return results


def run_one(snippet: Snippet, arch: str = "gfx950", **options: Any) -> Result:
    return run([snippet], arch, **options)[0]


@lru_cache(maxsize=32)
def assemble(text: str, arch: str = "gfx950", *, debug: bool = False) -> bytes:
    """Return the code object of an assembly text; skips the test where nothing assembles it."""
    try:
        programs = device_compiler(arch).programs
    except ToolchainError as error:
        pytest.skip(str(error))
    if "lld" not in programs:
        pytest.skip("hipcc is no assembler here; unset HIPCC and ROCM_PATH")
    target = ["--target=amdgcn-amd-amdhsa", f"-mcpu={arch}", *(["-g"] if debug else [])]
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "kernel.s").write_text(f'.amdgcn_target "amdgcn-amd-amdhsa--{arch}"\n{text}')
        steps = [
            [*programs["clang"], *target, "-c", "kernel.s", "-o", "kernel.o"],
            [*programs["lld"], "-shared", "kernel.o", "-o", "kernel.co"],
        ]
        try:
            Processes().run(steps, folder, folder / "log")
        except Exception:
            print((folder / "log").read_text())
            raise
        return (folder / "kernel.co").read_bytes()


def kernel_text(snippet: Snippet) -> str:
    """Return the snippet as a kernel with its descriptor."""
    lines = [
        "  s_load_dwordx4 s[96:99], s[0:1], 0x0",
        "  v_and_b32 v255, 0x3ff, v0",
        "  v_lshlrev_b32 v255, 2, v255",
        "  s_waitcnt lgkmcnt(0)",
        *_load_inputs(snippet),
        *(f"  {line.strip()}" for line in snippet.body.splitlines()),
        *_store_outputs(snippet),
        "  s_endpgm",
    ]
    return (
        f".text\n.globl {snippet.name}\n.p2align 8\n.type {snippet.name},@function\n"
        f"{snippet.name}:\n" + "\n".join(lines) + "\n" + _data(snippet) + _descriptor(snippet)
    )


def _data(snippet: Snippet) -> str:
    return f'.section .rodata,"a"\n.p2align 6\n{snippet.data}\n' if snippet.data else ""


def _descriptor(snippet: Snippet) -> str:
    directives = {
        "user_sgpr_kernarg_segment_ptr": 1,
        "kernarg_size": 16,
        "group_segment_fixed_size": snippet.lds,
        "private_segment_fixed_size": snippet.scratch,
        "enable_private_segment": int(snippet.scratch > 0),
        "next_free_vgpr": 512,
        "accum_offset": 256,
        "next_free_sgpr": 102,
        **snippet.directives,
    }
    rows = "".join(f"  .amdhsa_{name} {value}\n" for name, value in directives.items())
    return (
        f".section .rodata\n.p2align 6\n.amdhsa_kernel {snippet.name}\n{rows}.end_amdhsa_kernel\n"
    )


def _count(keys: Sequence[str]) -> int:
    return sum(registers(key).count for key in keys)


def _all_inputs(snippet: Snippet) -> dict[str, Any]:
    """Return inputs, buffers and presets by register, those that end the others' work last."""
    presets = (key for key in snippet.outputs if snippet.preset and key not in ("exec", "scc"))
    given = {
        **{key: UNTOUCHED for key in presets},
        **{key: buffer.ctypes.data for key, buffer in snippet.buffers.items()},
        **snippet.inputs,
    }
    return dict(sorted(given.items(), key=lambda item: ("scc", "exec").count(item[0])))


def _words(value: Any, wanted: Registers, threads: int) -> np.ndarray:
    """Return a value as uint32 [registers, threads]."""
    array = np.asarray(value)
    if array.ndim == 0 and isinstance(value, int):
        words = [value >> 32 * n & 0xFFFFFFFF for n in range(wanted.count)]
        if value == UNTOUCHED:
            words = [UNTOUCHED] * wanted.count
        return np.repeat(np.array(words, np.uint32)[:, None], threads, 1)
    if array.dtype.itemsize == 8:
        halves = np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:-1], threads)))
        halves = halves.view(np.uint32).reshape(-1, threads, 2)
        return np.moveaxis(halves, 2, 1).reshape(wanted.count, threads)
    assert array.dtype.itemsize == 4, f"{array.dtype} has no 4 or 8 bytes"
    words = np.atleast_1d(array).view(np.uint32)
    if not wanted.is_vector:
        return np.repeat(words.reshape(wanted.count, 1), threads, 1)
    return np.broadcast_to(words.reshape(-1, words.shape[-1]), (wanted.count, threads))


def _input_rows(snippet: Snippet) -> np.ndarray:
    rows = [
        _words(value, registers(key), snippet.threads)
        for key, value in _all_inputs(snippet).items()
    ]
    return np.ascontiguousarray(np.concatenate([np.zeros((1, snippet.threads), np.uint32), *rows]))


def _load_inputs(snippet: Snippet) -> list[str]:
    """Load row after row through s[94:95], specials through s90 and s91."""
    vector: list[str] = []
    scalar: list[str] = []
    finish: list[str] = []
    row_bytes = 4 * snippet.threads
    row = 1
    for key in _all_inputs(snippet):
        wanted = registers(key)
        for index in range(wanted.count):
            at = row_bytes * (row + index)
            if wanted.is_vector:
                vector += [
                    f"  s_add_u32 s94, s96, {at:#x}", "  s_addc_u32 s95, s97, 0",
                    f"  global_load_dword {wanted.name(index)}, v255, s[94:95]",
                ]  # fmt: skip
            elif wanted.file == "s":
                scalar.append(f"  s_load_dword {wanted.name(index)}, s[96:97], {at:#x}")
            else:
                finish += _load_special(wanted, index, at)
        row += wanted.count
    return [*vector, *scalar, "  s_waitcnt vmcnt(0) lgkmcnt(0)", *finish]


def _load_special(wanted: Registers, index: int, at: int) -> list[str]:
    load = [f"  s_load_dword s{90 + index}, s[96:97], {at:#x}", "  s_waitcnt lgkmcnt(0)"]
    if wanted.file == "scc":
        return [*load, "  s_cmp_lg_u32 s90, 0"]
    if wanted.file == "m0":
        return [*load, "  s_mov_b32 m0, s90"]
    return [*load, f"  s_mov_b64 {wanted.file}, s[90:91]"] if index else load


def _store_outputs(snippet: Snippet) -> list[str]:
    lines = [
        "  s_cselect_b32 s92, 1, 0",
        "  s_mov_b64 s[90:91], exec",
        "  s_mov_b64 exec, -1" if snippet.threads % 64 == 0 else "",
        "  s_waitcnt vmcnt(0) lgkmcnt(0)",
    ]
    held = {"exec_lo": "s90", "exec_hi": "s91", "scc": "s92"}
    row = 0
    for key in snippet.outputs:
        wanted = registers(key)
        for index in range(wanted.count):
            name = wanted.name(index)
            at = 4 * snippet.threads * row
            if not wanted.is_vector:
                lines.append(f"  v_mov_b32 v254, {held.get(name, name)}")
                name = "v254"
            lines += [
                f"  s_add_u32 s94, s98, {at:#x}", "  s_addc_u32 s95, s99, 0",
                f"  global_store_dword v255, {name}, s[94:95]",
            ]  # fmt: skip
            row += 1
    return lines


def _outputs(snippet: Snippet, out: np.ndarray) -> dict[str, Any]:
    found: dict[str, Any] = {}
    row = 0
    for key in snippet.outputs:
        wanted = registers(key)
        words = out[row : row + wanted.count]
        row += wanted.count
        if wanted.is_vector:
            found[key] = words[0] if wanted.count == 1 else words
        else:
            found[key] = sum(int(word) << 32 * n for n, word in enumerate(words[:, 0]))
    return found
