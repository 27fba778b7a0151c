# SPDX-License-Identifier: MIT
"""Which compiler builds for a target: the one question, answered per target family."""

from __future__ import annotations

from aiter_moe.codegen.cktile.compiler import cktile_compiler
from aiter_moe.codegen.cktile.tile import FAMILY
from aiter_moe.codegen.compiler import Compiler
from aiter_moe.codegen.device_compiler import device_compiler
from aiter_moe.codegen.host_compiler import host_compiler


def compiler_for(target: str, family: str = "") -> Compiler:
    """Return the compiler of a target (``cpu``, ``gfx950``, ``gfx942``).

    Parameters
    ----------
    target : str
        What is compiled for.
    family : str
        Third-party headers that the source is made from, as `BuildUnit.family`.

    Raises
    ------
    ToolchainError
        If none was found, or the one asked for by environment cannot compile for the target,
        or the headers of the family are not there.
    """
    if target == "cpu":
        return host_compiler()
    compiler = device_compiler(target)
    return cktile_compiler(compiler) if family == FAMILY else compiler
