# SPDX-License-Identifier: MIT
"""The loops of the kernels as compiled: what they must hold to, read from the machine code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from aiter_moe.codegen.build import ensure
from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.codegen.gfx9 import Gfx9Tile, gfx9_tile
from aiter_moe.codegen.gfx9.resources import waves_per_simd
from aiter_moe.codegen.instance import Instance
from aiter_moe.codegen.render import render
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.inspect.code import KernelCode, inspect_code
from aiter_moe.inspect.flight import in_flight
from aiter_moe.inspect.instructions import VECTOR_ALU, VECTOR_MEMORY, Group, Instruction

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

# All instructions of the loop over its matrix instructions, by stage, rows and weight rows.
MOST_PER_MFMA = {
    Kind.A4W4: {
        (1, 32, 256): 2.9, (1, 64, 256): 2.3, (1, 128, 256): 2.1, (1, 256, 256): 2.1,
        (2, 32, 256): 2.9, (2, 64, 256): 2.3, (2, 64, 128): 3.0, (2, 128, 256): 2.1,
        (2, 256, 256): 2.1,
    },
    # at least 4 conversions for what a row tile multiplies by, used for all rows of the tile
    Kind.A16W4: {
        (1, 16, 128): 6.8, (1, 16, 256): 6.8, (1, 32, 128): 4.2, (1, 32, 256): 4.2,
        (1, 64, 256): 3.2, (1, 64, 512): 3.2, (1, 128, 256): 2.4,
        (2, 16, 128): 6.8, (2, 16, 256): 6.8, (2, 32, 256): 4.2, (2, 64, 128): 3.2,
        (2, 64, 256): 3.2, (2, 128, 256): 2.4,
    },
}  # fmt: skip
KIB = 1024
SIMDS = 4
# Wait states between a matrix instruction that the compiler does not see and what it does not
# know to depend on it: LLVM's figures for instructions of 8 passes.
BEFORE_OPERANDS = 2
BEHIND_RESULTS = 11


def one_for_each_tile() -> dict[str, Instance]:
    """Return an instance of each tile of the catalogue, by operand kind, stage, rows and label.

    Kernels that read the routing themselves have another loop and are not among them.
    """
    found: dict[str, Instance] = {}
    for i in catalogue("gfx950"):
        if isinstance(i.tile, Gfx9Tile) and i.activation in (None, ActivationType.Silu):
            parts = "_splitk" if i.split_k else ""
            found.setdefault(f"{i.kind}_s{i.stage}_m{i.block_m}_{i.tile.label}{parts}", i)
    return found


KERNELS = one_for_each_tile()
TALL = [
    name for name, i in KERNELS.items()
    if i.kind is Kind.A4W4 and i.block_m // 16 // gfx9_tile(i).row_waves >= 8
]  # fmt: skip


def code_of(instance: Instance) -> KernelCode:
    return inspect_code(ensure(render(instance)).path)[instance.name]


@pytest.mark.parametrize("name", KERNELS)
def test_a_loop_has_no_spill_no_address_arithmetic_and_never_waits_for_everything(name):
    loop = code_of(KERNELS[name]).hot
    assert loop is not None
    assert not loop.uses_scratch and not loop.drains and not loop.address_valu
    moves = loop.mix[Group.MOVE] + loop.mix[Group.ACC_MOVE]
    assert moves == 0, "sums or weights change registers"


@pytest.mark.parametrize("name", KERNELS)
def test_a_loop_is_short(name):
    instance = KERNELS[name]
    tile = gfx9_tile(instance)
    rows = 2 * tile.block_n if instance.stage == 1 else tile.block_n
    limit = MOST_PER_MFMA[instance.kind].get((instance.stage, instance.block_m, rows))
    if limit is None:
        pytest.skip("no figure to hold to")
    assert code_of(instance).hot.per_mfma <= limit


@pytest.mark.parametrize("name", [n for n, i in KERNELS.items() if i.block_m <= 32])
def test_few_rows_keep_enough_weights_under_way(name):
    """8 TB/s x 1 us over 256 CUs is 32 KiB each, also behind the strictest wait."""
    instance = KERNELS[name]
    of_a_wave = in_flight(code_of(instance).hot).least
    assert of_a_wave * waves_per_simd(instance) * SIMDS >= 32 * KIB


def wait_states(instruction: Instruction) -> int:
    nop = instruction.group is Group.NOP
    return int(instruction.operands[0], 0) + 1 if nop else 1


def paths(code: KernelCode) -> Iterator[Sequence[Instruction]]:
    """Yield the instructions of every block, and those on either side of every edge."""
    for block in code.blocks.values():
        yield block.instructions
        for following in block.successors:
            near = BEHIND_RESULTS + 1
            yield [*block.instructions[-near:], *code.blocks[following].instructions[:near]]


def too_close(
    path: Sequence[Instruction], writers: frozenset[Group], readers: frozenset[Group], least: int
) -> Iterator[tuple[str, str]]:
    """Yield readers of vector registers with fewer than `least` wait states since their writer."""
    for at, writer in enumerate(path):
        if writer.group not in writers:
            continue
        passed = 0
        for reader in path[at + 1 :]:
            if passed >= least:
                break
            shared = {r for r in writer.writes & reader.reads if r[0] != "s"}
            if reader.group in readers and shared:
                yield writer.text, reader.text
            passed += wait_states(reader)


@pytest.mark.parametrize("name", TALL)
def test_what_the_compiler_cannot_know_of_matrix_instructions_is_kept(name):
    others = VECTOR_ALU | VECTOR_MEMORY | {Group.LDS_WRITE}
    matrix = frozenset({Group.MFMA})
    for path in paths(code_of(KERNELS[name])):
        assert not list(too_close(path, VECTOR_ALU, matrix, BEFORE_OPERANDS))
        assert not list(too_close(path, matrix, frozenset(others), BEHIND_RESULTS))


def test_the_search_finds_what_is_too_close():
    product = Instruction(0, "v_mfma_f32_16x16x32_bf16 v[0:3], v[4:7], v[8:11], v[0:3]")
    nop, move = Instruction(8, "s_nop 1"), Instruction(16, "v_mov_b32_e32 v4, v0")
    matrix = frozenset({Group.MFMA})
    assert list(too_close([move, product], VECTOR_ALU, matrix, BEFORE_OPERANDS))
    assert not list(too_close([move, nop, product], VECTOR_ALU, matrix, BEFORE_OPERANDS))
    assert list(too_close([product, nop, move], matrix, VECTOR_ALU, BEHIND_RESULTS))
    assert not list(too_close([product, *[nop] * 6, move], matrix, VECTOR_ALU, BEHIND_RESULTS))
