# SPDX-License-Identifier: MIT
"""What a kernel's machine code is: loops, mix of instructions, waits, registers, bounds.

Reads code objects of gfx950 and gfx942, whoever compiled them; nothing is executed and no GPU is
needed. Not here: what a kernel does when it runs (`aiter_moe.targets.emulator_report`).
"""

from aiter_moe.inspect.code import KernelCode, hot_loop, inspect_code
from aiter_moe.inspect.instructions import Group, Instruction
from aiter_moe.inspect.loops import Loop

__all__ = ["Group", "Instruction", "KernelCode", "Loop", "hot_loop", "inspect_code"]
