# SPDX-License-Identifier: MIT
"""Reading figures out of code objects, and refusing what is none."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiter_moe.codegen.codeobject import (
    KernelResources,
    combined_resources,
    read_code_object,
    require_arch,
)
from aiter_moe.codegen.msgpack import decode
from aiter_moe.errors import LaunchError

GFX950, GFX942 = 0x54F, 0x54C


def pack(value: object) -> bytes:
    """Write the MessagePack that the tests need."""
    if isinstance(value, dict):
        items = b"".join(pack(k) + pack(v) for k, v in value.items())
        return b"\xde" + struct.pack(">H", len(value)) + items
    if isinstance(value, list):
        return b"\xdc" + struct.pack(">H", len(value)) + b"".join(map(pack, value))
    if isinstance(value, str):
        return b"\xd9" + struct.pack(">B", len(value)) + value.encode()
    return b"\xce" + struct.pack(">I", value)


def kernel(**changes: object) -> dict[str, object]:
    names = (
        "vgpr_count", "agpr_count", "sgpr_count", "group_segment_fixed_size",
        "private_segment_fixed_size", "vgpr_spill_count", "sgpr_spill_count",
        "max_flat_workgroup_size", "kernarg_segment_size",
    )  # fmt: skip
    fields: dict[str, object] = {f".{name}": 10 + i for i, name in enumerate(names)}
    return {".name": "k", **fields, **{f".{name}": value for name, value in changes.items()}}


def code_object(
    kernels: list[dict[str, object]],
    flags: int = GFX950,
    target: str = "gfx950",
    machine: int = 224,
) -> bytes:
    """Return an ELF file of a header, one note section and its table."""
    metadata = pack({"amdhsa.kernels": kernels, "amdhsa.target": f"amdgcn-amd-amdhsa--{target}"})
    other = struct.pack("<III", 4, 2, 1) + b"GNU\0" + b"id\0\0"
    note = struct.pack("<III", 7, len(metadata), 32) + b"AMDGPU\0\0" + metadata
    section = other + note + b"\0" * (-len(metadata) % 4)
    table = 64 + len(section)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01\x40", 3, machine, 1, 0, 0, table, flags,
        64, 0, 0, 64, 2, 0,
    )  # fmt: skip
    sections = [(0, 0, 0), (7, 64, len(section))]
    entries = b"".join(
        struct.pack("<IIQQQQIIQQ", 0, kind, 0, 0, at, size, 0, 0, 0, 0)
        for kind, at, size in sections
    )
    return header + section + entries


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "kernel.co"
    path.write_bytes(data)
    return path


def test_every_figure_is_read_from_its_field(tmp_path: Path) -> None:
    found = read_code_object(written(tmp_path, code_object([kernel(), kernel(name="finish")])))
    assert found.arch == "gfx950"
    assert found.kernels[0] == KernelResources(
        name="k", vgprs=10, agprs=11, sgprs=12, lds_bytes=13, scratch_bytes=14, vgpr_spills=15,
        sgpr_spills=16, max_workgroup=17, kernarg_bytes=18,
    )  # fmt: skip
    assert found.kernels[0].vgpr_spills + found.kernels[0].sgpr_spills == 31
    assert found.resources()["kernels"][1]["name"] == "finish"


# Steps of the table that LLVM prints as "; Occupancy:" for gfx950.
@pytest.mark.parametrize(
    ("vgprs", "waves"),
    [
        (0, 8), (1, 8), (64, 8), (65, 7), (72, 7), (73, 6), (80, 6), (81, 5), (96, 5), (97, 4),
        (128, 4), (129, 3), (168, 3), (169, 2), (256, 2), (257, 1), (512, 1),
    ],
)  # fmt: skip
def test_vector_registers_bound_the_waves_of_a_simd(tmp_path: Path, vgprs: int, waves: int) -> None:
    path = written(tmp_path, code_object([kernel(vgpr_count=vgprs)]))
    assert read_code_object(path).resources()["kernels"][0]["waves_per_simd"] == waves


def test_another_architecture_is_refused_with_both_names(tmp_path: Path) -> None:
    path = written(tmp_path, code_object([kernel()], GFX942, "gfx942"))
    require_arch(path, "gfx942")
    with pytest.raises(LaunchError, match=r"compiled for gfx942, asked for was gfx950"):
        require_arch(path, "gfx950")


def test_header_and_metadata_must_name_one_architecture(tmp_path: Path) -> None:
    path = written(tmp_path, code_object([kernel()], GFX942, "gfx950:xnack-"))
    with pytest.raises(LaunchError, match=r"header says gfx942, its metadata .*gfx950"):
        read_code_object(path)


def test_target_features_do_not_change_the_architecture(tmp_path: Path) -> None:
    path = written(tmp_path, code_object([kernel()], GFX950 | 0x300, "gfx950:sramecc+:xnack-"))
    assert read_code_object(path).arch == "gfx950"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no 64-bit"),
        (b"int x;" * 20, "no 64-bit"),
        (b"__CLANG_OFFLOAD_BUNDLE__" + b"\0" * 80, "offload bundle"),
        (code_object([kernel()], machine=62), "machine 62"),
        (code_object([kernel()])[:200], "outside the file"),
        (code_object([{".name": "k"}]), "vgpr_count"),
    ],
)
def test_what_is_no_code_object_is_refused_with_the_reason(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    with pytest.raises(LaunchError, match=reason):
        read_code_object(written(tmp_path, data))


def test_any_truncation_and_any_damage_is_an_error_or_read_as_it_stands(tmp_path: Path) -> None:
    whole = code_object([kernel()])
    for end in range(len(whole)):
        with pytest.raises(LaunchError):
            read_code_object(written(tmp_path, whole[:end]))
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        try:
            assert read_code_object(written(tmp_path, bytes(damaged))).arch == "gfx950"
        except LaunchError as error:
            assert "delete it" in str(error)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"\x07", 7), (b"\xff", -1), (b"\xe0", -32), (b"\xc0", None), (b"\xc2", False),
        (b"\xc3", True), (b"\xcc\xff", 255), (b"\xcd\x01\x00", 256), (b"\xd0\x80", -128),
        (b"\xd1\xff\xfe", -2), (b"\xcf" + b"\xff" * 8, 2**64 - 1), (b"\xa2hi", "hi"),
        (b"\xda\x00\x02hi", "hi"), (b"\xc4\x02\x00\x01", b"\x00\x01"), (b"\x92\x01\xc3", [1, True]),
        (b"\x81\xa1a\x90", {"a": []}), (b"\xcb\x3f\xf0" + b"\0" * 6, 1.0),
    ],
)  # fmt: skip
def test_messagepack_is_decoded(data: bytes, value: object) -> None:
    assert decode(data) == value


@pytest.mark.parametrize(
    "data", [b"\xc1", b"\xd4\x00\x00", b"\x07\x07", b"\x91" * 100, b"\x81\x90\x01"]
)
def test_messagepack_that_llvm_never_writes_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="metadata"):
        decode(data)


@given(st.binary(max_size=40))
def test_no_bytes_make_the_decoder_fail_otherwise(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        decode(data)


def test_figures_of_several_kernels_in_one_artifact_are_the_worst_of_each() -> None:
    main = {
        "vgprs": 128, "agprs": 0, "sgprs": 40, "lds_bytes": 65536, "scratch_bytes": 0,
        "vgpr_spills": 0, "sgpr_spills": 1, "waves_per_simd": 4,
    }  # fmt: skip
    finish = main | {"vgprs": 20, "sgprs": 50, "lds_bytes": 0, "waves_per_simd": 8}
    assert combined_resources([main, finish]) == {
        "vgprs": 128, "agprs": 0, "sgprs": 50, "lds_bytes": 65536, "scratch_bytes": 0,
        "spills": 2, "waves_per_simd": 4,
    }  # fmt: skip
