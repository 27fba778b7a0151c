# SPDX-License-Identifier: MIT
"""Every check of the emulator, on a kernel of tests/faulty that commits exactly that fault.

Each source is compiled twice: with FAULTY=1, and with FAULTY=0, which is the same kernel put
right and has to run clean. Right ones copy `in` to `out`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from gcn_hip import compiled

from aiter_moe.targets.emulator_library import ALL_CHECKS, emulator
from aiter_moe.targets.emulator_report import EmulatorFaultError, FaultKind, LaunchReport
from aiter_moe.targets.source_lines import source_line

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

FOLDER = Path(__file__).parents[1] / "faulty"
MARK = "// fault"
MACROS = """
#if FAULTY
#define IF_FAULTY(text) text
#define IF_SOUND(text) ""
#else
#define IF_FAULTY(text) ""
#define IF_SOUND(text) text
#endif
#define LDS __attribute__((address_space(3))) void*
#define LDS_ADDRESS(pointer) ((u32)(u64)(LDS)(pointer))
#define BUFFER(base, bytes) __builtin_amdgcn_make_buffer_rsrc((void*)(base), 0, bytes, 0x20000)
"""
KINDS = {
    "global_read": FaultKind.global_out_of_range,
    "global_write": FaultKind.global_out_of_range,
    "global_atomic": FaultKind.global_out_of_range,
    "scalar_read": FaultKind.global_out_of_range,
    "buffer_past_allocation": FaultKind.buffer_out_of_range,
    "buffer_store": FaultKind.buffer_out_of_range,
    "buffer_partly": FaultKind.buffer_out_of_range,
    "lds_read": FaultKind.lds_out_of_range,
    "lds_write": FaultKind.lds_out_of_range,
    "scratch": FaultKind.scratch_out_of_range,
    "misaligned": FaultKind.misaligned,
    "undefined_vgpr": FaultKind.undefined_register,
    "undefined_lanes": FaultKind.undefined_register,
    "undefined_agpr": FaultKind.undefined_register,
    "undefined_sgpr": FaultKind.undefined_register,
    "undefined_lds": FaultKind.undefined_lds,
    "load_without_wait": FaultKind.in_flight_register,
    "load_waited_for_in_part": FaultKind.in_flight_register,
    "load_overwritten": FaultKind.in_flight_register,
    "scalar_load_without_wait": FaultKind.in_flight_register,
    "lds_read_without_wait": FaultKind.in_flight_register,
    "dma_without_wait": FaultKind.in_flight_lds,
    "race_write_read": FaultKind.lds_race,
    "race_write_write": FaultKind.lds_race,
    "race_before_landing": FaultKind.lds_race,
    "barrier_divergence": FaultKind.barrier_divergence,
    "hang": FaultKind.hang,
    "unknown_instruction": FaultKind.unknown_instruction,
    "bad_instruction": FaultKind.bad_instruction,
}
# What a kernel cannot do without the fault it is about.
IN_COMPANY = {"barrier_divergence": {FaultKind.hang}}
TWO_WAVES = {name for name in KINDS if name.startswith(("race", "barrier"))}
ARCHS = ("gfx950", "gfx942")


def source(name: str) -> str:
    return (FOLDER / f"{name}.hip").read_text()


@cache
def code_object(name: str, arch: str, faulty: bool) -> Path:
    text = MACROS + f'#line 1 "{name}.hip"\n' + source(name)
    return compiled(text, arch, ("-g", f"-DFAULTY={int(faulty)}"))


def run(
    name: str, arch: str, *, faulty: bool, seed: int = 0, checks: int = ALL_CHECKS
) -> tuple[LaunchReport, bool]:
    """Run a kernel; return its report, and whether it copied."""
    lanes = 128 if name in TWO_WAVES else 64
    values = np.random.default_rng(seed).integers(-1000, 1000, lanes, dtype=np.int32) * 2
    copy = np.zeros_like(values)
    arguments = np.array([copy.ctypes.data, values.ctypes.data], np.uint64).tobytes()
    report = emulator(arch).launch(
        code_object(name, arch, faulty), "kernel", (1, 1, 1), lanes, arguments, [copy, values],
        seed=seed, checks=checks, instruction_limit=10_000, raise_on_fault=False,
    )  # fmt: skip
    return report, bool((copy == values).all())


def test_every_kind_of_fault_has_a_kernel_and_every_kernel_a_kind():
    assert set(KINDS.values()) == set(FaultKind)
    assert {path.stem for path in FOLDER.glob("*.hip")} == set(KINDS)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("name", KINDS)
def test_a_fault_is_reported_as_what_it_is_and_nothing_else(name, arch):
    for seed in range(3):
        report, _ = run(name, arch, faulty=True, seed=seed)
        expected = {KINDS[name]} | IN_COMPANY.get(name, set())
        assert {fault.kind for fault in report.faults} == expected, report.faults
        first = report.faults[0]
        assert first.kernel == "kernel" and first.group == (0, 0, 0)
        assert first.instruction in {i.text for i in report.instructions if i.pc == first.pc}


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("name", KINDS)
def test_the_same_kernel_put_right_runs_clean(name, arch):
    for seed in range(3):
        report, copied = run(name, arch, faulty=False, seed=seed)
        assert not report.faults
        assert copied


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("name", KINDS)
def test_a_report_names_the_line_that_is_at_fault(name, arch):
    marked = {n for n, line in enumerate(source(name).splitlines(), 1) if line.endswith(MARK)}
    code = code_object(name, arch, True).read_bytes()
    report, _ = run(name, arch, faulty=True)
    for fault in report.faults:
        found = source_line(code, fault.pc)
        assert found is not None
        assert Path(found.file).name == f"{name}.hip"
        assert found.line in marked, str(fault)


# Without these the emulator could not go on.
FATAL = (FaultKind.unknown_instruction, FaultKind.bad_instruction, FaultKind.hang)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind not in FATAL])
def test_a_check_that_is_turned_off_says_nothing(name):
    report, _ = run(name, "gfx950", faulty=True, checks=ALL_CHECKS & ~(1 << KINDS[name]))
    assert KINDS[name] not in {fault.kind for fault in report.faults}


def test_a_fault_raises_with_its_report():
    values = np.zeros(64, np.int32)
    arguments = np.array([values.ctypes.data] * 2, np.uint64).tobytes()
    path = code_object("global_read", "gfx950", True)
    with pytest.raises(EmulatorFaultError, match="global_out_of_range") as found:
        emulator().launch(path, "kernel", (1, 1, 1), 64, arguments, [values])
    (fault,) = found.value.report.faults
    assert fault.lane == 63
    assert fault.address == values.ctypes.data + values.nbytes
