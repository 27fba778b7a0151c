# SPDX-License-Identifier: MIT
"""The opcode table says of every row what the assembler says of it."""

from __future__ import annotations

import re

import pytest
from isa.assembler import has_assembler
from isa.table import ARCHS, TABLE, Row, read_table, reassembled

pytestmark = pytest.mark.skipif(not has_assembler(), reason="the pip clang is not installed")


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return read_table()


def test_the_file_has_one_row_a_line_and_nothing_else(rows):
    lines = TABLE.read_text().splitlines()
    assert [row.text() for row in rows] == [text for text in lines if not text.startswith("//")]


def test_a_code_means_one_instruction_on_a_gpu(rows):
    seen = set()
    for row in rows:
        for bit in (1, 2):
            if row.archs & bit:
                assert (row.format, row.code, bit) not in seen, row
                seen.add((row.format, row.code, bit))


def test_every_handler_is_for_a_mnemonic_of_the_table(rows):
    emulator = TABLE.parents[1]
    tables = [*emulator.glob("exec/*.h"), *emulator.glob("memory/*.h")]
    entry = re.compile(r'\{"(\w+)", ')
    handled = {name for path in tables for name in entry.findall(path.read_text())}
    assert len(handled) > 600
    assert handled <= {row.name for row in rows}


@pytest.mark.parametrize("arch", ARCHS)
def test_the_assembler_agrees_with_every_row(rows, arch):
    bit = 1 << ARCHS.index(arch)
    for row, found in zip(rows, reassembled(rows, arch), strict=True):
        if row.archs & bit:
            assert found == row
        else:
            assert found is None or found != row, f"{arch} has {row.name} too"
