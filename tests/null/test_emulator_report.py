# SPDX-License-Identifier: MIT
"""Reports of emulated launches, and which bytes a launch may touch."""

import struct

import numpy as np
import pytest
import torch

from aiter_moe.errors import LaunchError
from aiter_moe.targets.emulator_library import (
    SECTION_WITHOUT_BYTES,
    Library,
    require_sizes,
    require_whole,
)
from aiter_moe.targets.emulator_report import (
    ALL_CHECKS,
    COUNTERS,
    HITS,
    CounterWords,
    EmulatorFaultError,
    FaultKind,
    FaultRecord,
    InstructionClass,
    LaunchReport,
)
from aiter_moe.targets.host_memory import require_host_memory, span, united


def make_report(faults=()):
    rows = [
        (0, InstructionClass.salu, 8, b"s_mov_b32 s0, 0"),
        (4, InstructionClass.valu, 16, b"v_add_f32_e32 v0, v1, v2"),
        (8, InstructionClass.mfma, 4, b"v_mfma_f32_16x16x32_bf16 a[0:3], v[0:3], v[4:7], a[0:3]"),
        (16, InstructionClass.mfma, 2, b"v_mfma_f32_16x16x32_bf16 a[4:7], v[0:3], v[4:7], a[4:7]"),
        (24, InstructionClass.valu, 0, b"v_add_f32_e32 v9, v1, v2"),
        (28, InstructionClass.other, 8, b"s_endpgm"),
    ]
    counters = CounterWords(**{name: n for n, name in enumerate(COUNTERS)})
    return LaunchReport.of("k", list(faults), counters, np.array(rows, HITS), 0.5)


def test_executed_instructions_are_counted_by_name_and_class():
    report = make_report()
    assert report.by_mnemonic() == {
        "s_mov_b32": 8, "v_add_f32_e32": 16, "v_mfma_f32_16x16x32_bf16": 6, "s_endpgm": 8,
    }  # fmt: skip
    assert report.by_mnemonic(InstructionClass.mfma) == {"v_mfma_f32_16x16x32_bf16": 6}
    by_class = report.by_class()
    assert set(by_class) == set(InstructionClass)
    assert {kind.name: n for kind, n in by_class.items() if n} == {
        "salu": 8, "valu": 16, "mfma": 6, "other": 8,
    }  # fmt: skip
    assert report.instructions[3].pc == 16
    assert report.instructions[4].hits == 0


def test_counters_have_names():
    assert dict(make_report().counters) == {name: n for n, name in enumerate(COUNTERS)}
    with pytest.raises(TypeError):
        make_report().counters["waves"] = 3


def record(kind, pc, times=1):
    return FaultRecord(
        kind=kind, pc=pc, occurrences=times, group=(3, 0, 1), wave=2, lane=17, kernel=b"k",
        instruction=b"ds_read_b32 v1, v2", detail=b"beyond 64 bytes",
    )  # fmt: skip


def test_a_fault_reads_as_one_line():
    (fault,) = make_report([record(FaultKind.lds_out_of_range, 0x40, 5)]).faults
    assert str(fault) == (
        "lds_out_of_range at 0x40 'ds_read_b32 v1, v2': beyond 64 bytes "
        "(workgroup (3, 0, 1), wave 2, lane 17, 5 times)"
    )


def test_an_error_names_the_kernel_and_its_first_faults():
    faults = [record(FaultKind.lds_race, 4 * n) for n in range(11)]
    error = EmulatorFaultError(make_report(faults))
    assert len(error.report.faults) == 11
    text = str(error)
    assert text.startswith("k ran with faults")
    assert text.count("lds_race") == 8
    assert "3 more" in text
    assert text.endswith("compile it with -g and run it again to see source lines")


def test_every_kind_of_fault_has_a_bit():
    assert 2 ** len(FaultKind) - 1 == ALL_CHECKS


def touched(tensor):
    """Return the first byte of any element and the one behind the last, element by element."""
    size = tensor.element_size()
    flat = torch.arange(tensor.untyped_storage().nbytes() // size)
    places = torch.as_strided(flat, tensor.shape, tensor.stride(), tensor.storage_offset())
    start = tensor.untyped_storage().data_ptr()
    return start + int(places.min()) * size, start + (int(places.max()) + 1) * size


@pytest.mark.parametrize(
    "view",
    [
        lambda t: t, lambda t: t[2:5], lambda t: t[:, 3:7], lambda t: t.T, lambda t: t[1::2, ::3],
        lambda t: t[3, 5], lambda t: t[:, :1].expand(10, 6),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_the_span_of_a_tensor_is_what_its_elements_touch(view, dtype):
    tensor = view(torch.zeros(10, 12, dtype=dtype))
    assert span(tensor) == touched(tensor)


def test_the_span_of_an_array_is_that_of_the_same_tensor():
    array = np.zeros((6, 8), np.int32)
    for part in (array, array[1:4, 2:], array.T, array[::2]):
        assert span(part) == span(torch.from_numpy(part))
    assert span(array[:0])[0] == span(array[:0])[1]


def test_overlapping_spans_are_one_and_neighbours_two():
    spans = [(40, 50), (10, 20), (15, 30), (30, 40), (12, 13), (60, 60)]
    assert united(iter(spans)) == [(10, 30), (30, 40), (40, 50)]


def test_a_file_that_is_no_library_is_refused_by_name(tmp_path):
    path = tmp_path / "kernel.so"
    path.write_text("nothing")
    with pytest.raises(LaunchError, match=r"cannot load .*kernel\.so"):
        Library(path)


def elf(**tables):
    """Return a file of 448 bytes: a segment of 32 bytes at 64 and a section of 40 at 100."""
    at = {"segments": 136, "sections": 192, "segment": (64, 32), "section": (100, 40)} | tables
    out = bytearray(448)
    out[:4] = b"\x7fELF"
    struct.pack_into("<QQ8xHxxH", out, 32, at["segments"], at["sections"], 1, 3)
    struct.pack_into("<Q16xQ", out, 144, *at["segment"])
    struct.pack_into("<I16xQQ", out, 196, 1, *at["section"])
    struct.pack_into("<I16xQQ", out, 260, SECTION_WITHOUT_BYTES, 400, 5000)
    return bytes(out)


@pytest.mark.parametrize("kept", [4, 40, 63, 64, 100, 383])
def test_a_code_object_that_is_cut_off_is_refused(kept):
    require_whole(elf()[:384])
    with pytest.raises(LaunchError, match=f"cut off after {kept} bytes"):
        require_whole(elf()[:kept])


@pytest.mark.parametrize(
    "part",
    [
        {"segments": 2**63}, {"segments": 393}, {"sections": 2**64 - 1}, {"sections": 257},
        {"segment": (64, 385)}, {"segment": (2**64 - 1, 2)}, {"section": (449, 0)},
        {"section": (8, 2**40)},
    ],
)  # fmt: skip
def test_a_code_object_that_names_what_it_does_not_hold_is_refused(part):
    with pytest.raises(LaunchError, match="or damaged"):
        require_whole(elf(**part))


def test_an_array_stepped_through_backwards_spans_the_same_bytes():
    array = np.zeros((6, 8), np.int32)
    assert span(array[::-1, ::-1]) == span(array)
    assert span(array[4:1:-1, 2:5]) == span(array[2:5, 2:5])


def test_what_is_no_memory_of_the_host_is_refused_by_name():
    require_host_memory([torch.zeros(2), np.zeros(2)])
    for tensor, name in [
        (torch.empty(2, device="meta"), "on meta"), (torch.eye(2).to_sparse(), "sparse"),
        ([1, 2], "list"),
    ]:  # fmt: skip
        with pytest.raises(LaunchError, match=name):
            require_host_memory([tensor])


@pytest.mark.parametrize(
    "sizes", [(1, 1), 5, (0, 1, 1), (2**32 + 1, 1, 1), (-1, 1, 1), (1.5, 1, 1)]
)
def test_sizes_that_a_launch_cannot_have_are_refused(sizes):
    require_sizes("grid", (np.int64(1), 2, 2**32 - 1))
    with pytest.raises(LaunchError, match=r"grid .*three numbers"):
        require_sizes("grid", sizes)
