# SPDX-License-Identifier: MIT
"""The kernels of a code object: what each uses, its instructions, its loops, the hot one.

>>> hot_loop(path, "aiter_moe_gfx950_a4w4_s2_m64_n256k256_w4d2").per_mfma
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

from aiter_moe.codegen.codeobject import KernelResources, parse_code_object
from aiter_moe.errors import ArgumentError, LaunchError
from aiter_moe.inspect.flow import Blocks, blocks_of
from aiter_moe.inspect.instructions import Instruction
from aiter_moe.inspect.loops import Loop, hottest, loops_in, multiplying
from aiter_moe.inspect.symbols import code_ranges
from aiter_moe.targets.disassembler import Line, disassemble


@dataclass(frozen=True)
class KernelCode:
    """One kernel of a code object.

    Attributes
    ----------
    arch : str
        ``gfx950`` or ``gfx942``.
    resources : KernelResources
        What its metadata says.
    instructions : tuple of Instruction
        All of it, in address order.
    """

    arch: str
    resources: KernelResources
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        """Its symbol."""
        return self.resources.name

    @cached_property
    def blocks(self) -> Blocks:
        """Basic blocks that can be reached, by the offset of their first instruction."""
        return blocks_of(self.instructions)

    @cached_property
    def loops(self) -> tuple[Loop, ...]:
        """All loops in address order."""
        return loops_in(self.blocks)

    @cached_property
    def hot(self) -> Loop | None:
        """The loop that counts (`aiter_moe.inspect.loops.hottest`); None without MFMA loops."""
        return hottest(self.loops)

    @property
    def copies(self) -> int:
        """Innermost loops with as many matrix instructions as the hot one, that included."""
        hot = self.hot
        return 0 if hot is None else sum(x.mfma == hot.mfma for x in multiplying(self.loops))

    @cached_property
    def whole(self) -> Loop:
        """All that can be reached, as one loop: what there is to count where nothing loops."""
        parts = (block.instructions for block in self.blocks.values())
        return Loop(self.instructions[0].pc, tuple(i for part in parts for i in part))


def inspect_code(code_object: Path | bytes) -> dict[str, KernelCode]:
    """Return the kernels of a code object by symbol, in the order of its metadata.

    Parameters
    ----------
    code_object : Path or bytes
        A code object of gfx950 or gfx942 as the linker writes it.

    Raises
    ------
    LaunchError
        If it is no intact code object, or one of another architecture.
    """
    data = code_object.read_bytes() if isinstance(code_object, Path) else code_object
    origin = str(code_object) if isinstance(code_object, Path) else "the code object"
    described = parse_code_object(data, origin)
    ranges = code_ranges(data, origin)
    lines = disassemble(data)
    found = {}
    for kernel in described.kernels:
        if kernel.name not in ranges:
            raise LaunchError(f"{origin} describes the kernel {kernel.name} and has no code of it")
        found[kernel.name] = KernelCode(
            described.arch, kernel, _between(lines, *ranges[kernel.name])
        )
    return found


def hot_loop(code_object: Path | bytes, symbol: str) -> Loop:
    """Return the hot loop of a kernel.

    Raises
    ------
    ArgumentError
        If there is no such kernel, or it has no loop with matrix instructions.
    LaunchError
        If it is no intact code object, or one of another architecture.
    """
    kernels = inspect_code(code_object)
    hot = _named(kernels, symbol).hot
    if hot is None:
        raise ArgumentError(f"{symbol} has no loop with matrix instructions")
    return hot


def _named(kernels: Mapping[str, KernelCode], symbol: str) -> KernelCode:
    if symbol not in kernels:
        near = get_close_matches(symbol, kernels) or list(kernels)
        raise ArgumentError(f"no kernel {symbol}; the code object has {', '.join(near)}")
    return kernels[symbol]


def _between(lines: Sequence[Line], begin: int, end: int | None) -> tuple[Instruction, ...]:
    return tuple(
        Instruction.of(line)
        for line in lines
        if begin <= line.pc and (end is None or line.pc < end)
    )
