# SPDX-License-Identifier: MIT
"""Source lines of code objects: the lines of a kernel, files without any, damaged tables."""

from __future__ import annotations

import pytest
from gcn_hip import compiled

from aiter_moe.targets.disassembler import disassemble
from aiter_moe.targets.source_lines import SourceLine, source_line

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

SOURCE = """#line 1 "lines.hip"
KERNEL void kernel(float* out, const float* in) {
  const float x = in[LANE];
  float y = x * x;
  for (int n = 0; n < 9; ++n) {
    y = __builtin_sqrtf(y) + in[n];
  }
  out[LANE] = y;
}
"""


def code_object(*flags: str) -> bytes:
    return compiled(SOURCE, flags=flags).read_bytes()


@pytest.mark.parametrize("version", [4, 5])
def test_instructions_come_from_the_lines_that_ask_for_them(version):
    code = code_object(f"-gdwarf-{version}")
    lines = {"global_store": set(), "v_sqrt_f32": set(), "s_endpgm": set()}
    for instruction in disassemble(code):
        for start, found in lines.items():
            if instruction.text.startswith(start):
                found.add(source_line(code, instruction.pc).line)
    assert lines == {"global_store": {7}, "v_sqrt_f32": {5}, "s_endpgm": {8}}
    assert source_line(code, 0).file.endswith("lines.hip")
    assert str(SourceLine("lines.hip", 7)) == "lines.hip:7"


def test_code_without_a_table_and_places_outside_have_no_line():
    assert source_line(code_object(), 0) is None
    code = code_object("-gdwarf-5")
    assert source_line(code, -4) is None
    assert source_line(code, 1 << 40) is None
    assert source_line(b"no code object", 0) is None


@pytest.mark.parametrize("version", [4, 5])
def test_a_table_with_a_byte_of_zero_or_cut_off_raises_nothing(version):
    code = code_object(f"-gdwarf-{version}")
    damaged = [code[:at] + b"\0" + code[at + 1 :] for at in range(64, len(code)) if code[at]]
    cut_off = [code[:at] for at in range(0, len(code), 16)]
    found = [source_line(each, 0) for each in (*damaged, *cut_off)]
    assert {None, source_line(code, 0)} < set(found)
