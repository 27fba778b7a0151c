# SPDX-License-Identifier: MIT
"""What a compiled AMD GPU kernel uses, read back from the code object itself.

A code object is an ELF file; its note "AMDGPU" of type 32 holds the metadata as MessagePack
(decoded by `codegen.msgpack`). Nothing is executed, and a file of another kind is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aiter_moe.codegen.msgpack import decode
from aiter_moe.errors import LaunchError
from aiter_moe.sizes import ceil_div, round_up

# e_machine of AMD GPUs, and EF_AMDGPU_MACH of the architectures (LLVM's AMDGPU usage manual).
EM_AMDGPU = 224
MACH_MASK = 0xFF
MACHINES = {
    0x30: "gfx908",
    0x3F: "gfx90a",
    0x40: "gfx940",
    0x4B: "gfx941",
    0x4C: "gfx942",
    0x4F: "gfx950",
}
SHT_NOTE = 7
NOTE_NAME, NOTE_METADATA, NOTE_ALIGNMENT = b"AMDGPU", 32, 4
BUNDLE_MAGIC = b"__CLANG_OFFLOAD_BUNDLE__"

# Of several kernels in one code object the largest figure counts.
WORST_FIELDS = ("vgprs", "agprs", "sgprs", "lds_bytes", "scratch_bytes")

# A SIMD of CDNA 3 and 4 has 512 vector registers a lane, given out by 8, for at most 8 waves.
VGPRS_A_SIMD, VGPR_GRANULE, MAX_WAVES = 512, 8, 8


@dataclass(frozen=True, slots=True)
class KernelResources:
    """Registers and memory of one kernel.

    Attributes
    ----------
    vgprs : int
        Vector registers a lane, accumulation registers included.
    agprs, sgprs : int
        Accumulation registers a lane; scalar registers a wave.
    lds_bytes, scratch_bytes : int
        Static LDS a workgroup; scratch (private memory) a lane.
    vgpr_spills, sgpr_spills : int
        Registers the compiler had to keep in memory.
    max_workgroup : int
        Largest workgroup the kernel was compiled for, in lanes.
    kernarg_bytes : int
        Size of the kernel arguments.
    """

    name: str
    vgprs: int
    agprs: int
    sgprs: int
    lds_bytes: int
    scratch_bytes: int
    vgpr_spills: int
    sgpr_spills: int
    max_workgroup: int
    kernarg_bytes: int

    @property
    def waves_per_simd(self) -> int:
        """Waves a SIMD can hold as far as vector registers go (1 to 8)."""
        granules = max(1, ceil_div(self.vgprs, VGPR_GRANULE))
        return min(MAX_WAVES, VGPRS_A_SIMD // (granules * VGPR_GRANULE))


@dataclass(frozen=True, slots=True)
class CodeObject:
    """A code object's architecture and its kernels."""

    arch: str
    kernels: tuple[KernelResources, ...]

    def resources(self) -> dict[str, Any]:
        """Return the figures as a manifest keeps them: per kernel, and waves per SIMD."""
        kernels = [{**asdict(k), "waves_per_simd": k.waves_per_simd} for k in self.kernels]
        return {"arch": self.arch, "kernels": kernels}


def combined_resources(kernels: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the figures of one artifact's kernels as one: the worst of each, spills summed.

    Parameters
    ----------
    kernels : sequence of Mapping
        As `CodeObject.resources` lists them and a manifest keeps them.
    """
    figures = {field: max(int(kernel[field]) for kernel in kernels) for field in WORST_FIELDS}
    figures["spills"] = sum(int(k["vgpr_spills"]) + int(k["sgpr_spills"]) for k in kernels)
    figures["waves_per_simd"] = min(int(k["waves_per_simd"]) for k in kernels)
    return figures


def read_code_object(path: Path) -> CodeObject:
    """Return what a ``.co`` file says of itself.

    Parameters
    ----------
    path : Path
        A code object as the linker writes it, not an offload bundle.

    Raises
    ------
    LaunchError
        If the file is no intact AMDGPU code object, or its ELF flags and its metadata name
        different architectures.
    """
    return parse_code_object(path.read_bytes(), str(path))


def parse_code_object(data: bytes, origin: str) -> CodeObject:
    """Return what a code object says of itself.

    Parameters
    ----------
    data : bytes
        The whole file.
    origin : str
        Where it came from, for errors.

    Raises
    ------
    LaunchError
        As `read_code_object`.
    """
    try:
        arch = _arch(data)
        metadata = _metadata(data)
        kernels = tuple(_kernel(entry) for entry in metadata["amdhsa.kernels"])
        target = str(metadata["amdhsa.target"])
    except (ValueError, LookupError, TypeError, OverflowError, struct.error) as error:
        raise LaunchError(
            f"{origin} is no AMD GPU code object ({error}); delete it, and it will be compiled "
            "again"
        ) from error
    named = target.partition(":")[0].rpartition("-")[2]
    if named != arch:
        raise LaunchError(f"{origin}: its ELF header says {arch}, its metadata {target}; delete it")
    return CodeObject(arch, kernels)


def require_arch(path: Path, arch: str) -> None:
    """Refuse a code object compiled for another architecture than `arch`.

    Raises
    ------
    LaunchError
        If the file is for another architecture, or no AMDGPU ELF file.
    """
    with path.open("rb") as file:
        header = file.read(64)
    try:
        found = _arch(header)
    except (ValueError, struct.error) as error:
        raise LaunchError(
            f"{path} is no AMD GPU code object ({error}); delete it, and it will be compiled again"
        ) from error
    if found != arch:
        raise LaunchError(
            f"{path} was compiled for {found}, asked for was {arch}; it is not loaded. Delete "
            f"{path.parent}, and it will be compiled again"
        )


def _arch(data: bytes) -> str:
    """Return the architecture in the flags of an ELF header."""
    if data.startswith(BUNDLE_MAGIC):
        raise ValueError("it is a clang offload bundle; compile with --no-gpu-bundle-output")
    if data[:4] != b"\x7fELF" or len(data) < 64 or data[4:6] != b"\x02\x01":
        raise ValueError("no 64-bit little-endian ELF header")
    (machine,) = struct.unpack_from("<H", data, 18)
    if machine != EM_AMDGPU:
        raise ValueError(f"an ELF file for machine {machine}, not {EM_AMDGPU} (AMDGPU)")
    (flags,) = struct.unpack_from("<I", data, 48)
    mach = flags & MACH_MASK
    return MACHINES.get(mach, f"an architecture unknown here (0x{mach:02x})")


def _metadata(data: bytes) -> Mapping[str, Any]:
    """Return the decoded AMDGPU metadata note."""
    for offset, size in _note_sections(data):
        for name, kind, description in _notes(_slice(data, offset, size)):
            if name == NOTE_NAME and kind == NOTE_METADATA:
                return _map(decode(description))
    raise ValueError("it has no AMDGPU metadata note")


def _map(metadata: object) -> Mapping[str, Any]:
    if not isinstance(metadata, dict):
        raise ValueError("its metadata is not a map")
    return metadata


def _note_sections(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield offset and size of every note section."""
    (table,) = struct.unpack_from("<Q", data, 40)
    entry_size, count = struct.unpack_from("<HH", data, 58)
    if entry_size < 64 or table + entry_size * count > len(data):
        raise ValueError("its section table lies outside the file")
    for index in range(count):
        start = table + index * entry_size
        _, kind, _, _, offset, size = struct.unpack_from("<IIQQQQ", data, start)
        if kind == SHT_NOTE:
            yield offset, size


def _notes(section: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield name, type and description of every note of a section."""
    at = 0
    while at < len(section):
        name_size, size, kind = struct.unpack_from("<III", section, at)
        name_at = at + 12
        description_at = name_at + round_up(name_size, NOTE_ALIGNMENT)
        name = _slice(section, name_at, name_size)
        yield name.rstrip(b"\0"), kind, _slice(section, description_at, size)
        at = description_at + round_up(size, NOTE_ALIGNMENT)


def _slice(data: bytes, offset: int, size: int) -> bytes:
    if offset + size > len(data):
        raise ValueError(f"it is truncated: {offset + size} bytes expected, {len(data)} found")
    return data[offset : offset + size]


def _kernel(entry: Mapping[str, Any]) -> KernelResources:
    return KernelResources(
        name=str(entry[".name"]),
        vgprs=int(entry[".vgpr_count"]),
        agprs=int(entry.get(".agpr_count", 0)),
        sgprs=int(entry[".sgpr_count"]),
        lds_bytes=int(entry[".group_segment_fixed_size"]),
        scratch_bytes=int(entry[".private_segment_fixed_size"]),
        vgpr_spills=int(entry.get(".vgpr_spill_count", 0)),
        sgpr_spills=int(entry.get(".sgpr_spill_count", 0)),
        max_workgroup=int(entry[".max_flat_workgroup_size"]),
        kernarg_bytes=int(entry[".kernarg_segment_size"]),
    )
