# SPDX-License-Identifier: MIT
"""The decoder reads what the assembler wrote: kernels, and random instructions of every opcode."""

from __future__ import annotations

import random
import re

import pytest
from isa.assembler import assemble, has_assembler
from isa.corpus import random_line
from isa.table import ARCHS, read_table

from aiter_moe.codegen.build import ensure
from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.codegen.render import render
from aiter_moe.errors import LaunchError
from aiter_moe.targets.disassembler import disassemble, disassemble_words

pytestmark = pytest.mark.skipif(not has_assembler(), reason="the pip clang is not installed")

TRIES = 12
UNKNOWN = "unknown instruction"
# Graphics messages and trap handlers' immediates have names that only the assembler knows; it takes
# modifiers for v_pk_fmac_f16 and v_nop that it does not encode, and half of a scaled instruction.
NOT_COMPARED = {
    "s_sendmsg", "s_sendmsghalt", "s_atc_probe", "s_atc_probe_buffer", "v_pk_fmac_f16", "v_nop",
    "v_mfma_ld_scale_b32",
}  # fmt: skip


def branches(name: str) -> bool:
    return name.startswith(("s_branch", "s_cbranch", "s_call"))


@pytest.mark.parametrize("arch", ARCHS)
def test_random_instructions_read_as_the_assembler_prints_them(arch):
    rng = random.Random(arch)
    bit = 1 << ARCHS.index(arch)
    rows = [row for row in read_table() if row.archs & bit and row.name not in NOT_COMPARED]
    rows = [row for row in rows if not branches(row.name)]
    lines = [(row, random_line(row, rng)) for row in rows for _ in range(TRIES)]
    encoded = assemble([line for _, line in lines], arch)
    accepted = [
        (row, e)
        for (row, _), e in zip(lines, encoded, strict=True)
        if e is not None and "/*Invalid" not in e.text
    ]
    words = b"".join(e.data for _, e in accepted)
    listed = disassemble_words(words, arch)
    assert [line.text for line in listed] == [e.text for _, e in accepted]
    silent = {row.name for row in rows} - {row.name for row, _ in accepted}
    assert len(silent) < len(rows) // 50, f"the corpus says nothing of {sorted(silent)}"


def compiler_lines(text: str) -> list[str]:
    """Return the instructions of a kernel.s; symbols as the zeros the assembler leaves for them."""
    body = text.partition(".section\t.rodata")[0]
    lines = (line.partition(";")[0].partition("//")[0].strip() for line in body.splitlines())
    return [
        " ".join(line.split())
        for line in lines
        if line and not line.startswith(".") and not line.endswith(":")
    ]


def comparable(text: str) -> str:
    """Return a line without what depends on addresses: branch targets and relocated literals.

    And without modifiers that select the low halves, which assembly by hand may spell out.
    """
    if branches(text):
        return text.partition(" ")[0]
    text = text.replace(" op_sel:[0,0,0] op_sel_hi:", " op_sel_hi:")
    return re.sub(r"\S+@rel32@\S+$|(?<=, )(lit\()?0x[0-9a-f]+\)?$", "ADDRESS", text)


@pytest.mark.usefixtures("gfx950_compiler")
@pytest.mark.parametrize("pick", [0, 0.35, 0.65, 1])
def test_a_kernel_reads_as_the_compiler_wrote_it(pick):
    kernels = catalogue("gfx950")
    path = ensure(render(kernels[round(pick * (len(kernels) - 1))])).path
    listed = [line.text for line in disassemble(path)]
    written = compiler_lines(path.with_name("kernel.s").read_text())
    padding = listed[len(written) :]
    assert all(text == "s_nop 0" for text in padding)
    for ours, theirs in zip(listed, written, strict=False):
        assert comparable(ours) == comparable(theirs)
    assert len(written) > 200


# A word or two each, with a bit set that no instruction has there.
BROKEN = {
    "SOP1 with a reserved destination": (0xBEFD0000,),
    "SOP1 of an odd register pair": (0xBE800103,),
    "SOP2 with a reserved source": (0x800000D4,),
    "barrier with a number": (0xBF8A0004,),
    "SMEM with bit 15": (0xC0028040, 0),
    "VOP2 with SDWA's reserved bit": (0x020004F9, 0x46060000),
    "VOP1 with DPP control 0x144": (0x7E0002FA, 0xFF014401),
    "VOP1 of 64 bits with a DPP shift": (0x7E0070FA, 0xFF010102),
    "VOP3 of two sources with a third": (0xD1010000, 0x04020501),
    "integer VOP3 with a negation": (0xD1340000, 0x20020501),
    "VOP3 with a literal": (0xD1010000, 0x000204FF),
    "scale without its matrix instruction": (0xD3AC0000, 0x00020501),
    "matrix instruction of an odd tuple": (0xD3C58001, 0x04020501),
    "DS with GDS": (0xD8010000, 0x00000100),
    "wide buffer load to the LDS": (0xE0550000, 0x03020000),
    "FLAT with a scalar base": (0xDC500000, 0x01040002),
}


@pytest.mark.parametrize("words", BROKEN.values(), ids=BROKEN.keys())
def test_a_word_that_is_almost_an_instruction_is_unknown(words):
    data = b"".join(word.to_bytes(4, "little") for word in words)
    first = disassemble_words(data, "gfx950")[0]
    assert first.text == f"{UNKNOWN} {words[0]:#x}"


def test_opcodes_of_the_other_gpu_are_unknown():
    xf32 = bytes.fromhex("0000bed3 00051204")
    assert disassemble_words(xf32, "gfx942")[0].text.startswith("v_mfma_f32_16x16x8_xf32")
    assert disassemble_words(xf32, "gfx950")[0].text.startswith(UNKNOWN)


def test_an_instruction_cut_by_the_end_is_unknown():
    listed = disassemble_words(bytes.fromhex("ff000080"), "gfx950")
    assert [line.text for line in listed] == [f"{UNKNOWN} 0x800000ff"]


@pytest.mark.usefixtures("gfx950_compiler")
def test_damaged_code_objects_are_refused_or_listed_but_never_read_beyond():
    rng = random.Random(11)
    whole = ensure(render(catalogue("gfx950")[0])).path.read_bytes()
    outcomes = {"refused": 0, "listed": 0}
    for _ in range(300):
        damaged = bytearray(whole[: rng.choice([len(whole), rng.randrange(len(whole))])])
        for _ in range(rng.randrange(6)):
            at = rng.randrange(min(len(damaged), rng.choice([64, 0x700, len(damaged)])) or 1)
            damaged[at : at + 1] = bytes([rng.choice([0, 0x7F, 0xFF, rng.randrange(256)])])
        try:
            disassemble(bytes(damaged))
            outcomes["listed"] += 1
        except LaunchError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 20, outcomes
