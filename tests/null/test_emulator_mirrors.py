# SPDX-License-Identifier: MIT
"""What Python and the emulator both list is the same, name by name and in the same order."""

from __future__ import annotations

import re

import pytest

from aiter_moe.codegen.includes import csrc_root
from aiter_moe.targets.emulator_report import (
    COUNTERS,
    HITS,
    FaultKind,
    FaultRecord,
    InstructionClass,
)


def body(header: str, opening: str) -> str:
    """Return the text between the braces behind `opening`, without comments."""
    text = re.sub(r"//.*", "", (csrc_root() / "emulator" / header).read_text())
    return text.partition(opening)[2].partition("{")[2].partition("}")[0]


def fields(header: str, struct: str) -> list[tuple[str, str, int]]:
    """Return type, name and number of elements of each field of a struct."""
    found = re.findall(r"(\w+) (\w+)(?:\[(\d+)\])?;", body(header, f"struct {struct} "))
    return [(kind, name, int(count or 1)) for kind, name, count in found]


@pytest.mark.parametrize(
    ("mirror", "header", "name", "last"),
    [(FaultKind, "fault.h", "FaultKind", ["count"]),
     (InstructionClass, "isa/instruction.h", "Class", [])],
)  # fmt: skip
def test_an_enumeration_has_the_same_members(mirror, header, name, last):
    members = re.findall(r"\w+", body(header, f"enum class {name} "))
    assert [*(member.name for member in mirror), *last] == members
    assert [member.value for member in mirror] == list(range(len(mirror)))


def test_counters_have_the_same_names():
    assert fields("counters.h", "Counters") == [("u64", name, 1) for name in COUNTERS]


def test_a_fault_has_the_same_fields():
    names = {"c_uint": "u32", "c_ulong": "u64", "c_char": "char"}
    mirror = []
    for name, kind in FaultRecord._fields_:
        element = getattr(kind, "_type_", kind)
        single = isinstance(element, str)
        mirror.append((names[(kind if single else element).__name__], name,
                       1 if single else kind._length_))  # fmt: skip
    assert mirror == fields("fault.h", "Fault")


def test_executed_instructions_have_the_same_fields():
    kinds = {"<u4": ("u32", 1), "<u8": ("u64", 1), "|S128": ("char", 128)}
    mirror = [(kinds[kind][0], name, kinds[kind][1]) for name, kind in HITS.descr]
    assert mirror == fields("api.h", "InstructionHits")
