# SPDX-License-Identifier: MIT
"""Which compiler builds for a target: the one question, answered per target family."""

from __future__ import annotations

from aiter_moe.codegen.compiler import Compiler
from aiter_moe.codegen.device_compiler import device_compiler
from aiter_moe.codegen.host_compiler import host_compiler


def compiler_for(target: str) -> Compiler:
    """Return the compiler of a target (``cpu``, ``gfx950``, ``gfx942``).

    Raises
    ------
    ToolchainError
        If none was found, or the one asked for by environment cannot compile for the target.
    """
    return host_compiler() if target == "cpu" else device_compiler(target)
