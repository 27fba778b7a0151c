# SPDX-License-Identifier: MIT
"""``aiter-moe config``: every environment variable, its value here, and what they lead to."""

from __future__ import annotations


def config() -> None:
    """Show the running target, its compiler, the cache, and the environment variables read."""
    from rich.console import Console
    from rich.table import Table

    from aiter_moe import env
    from aiter_moe.codegen.cache import default_cache
    from aiter_moe.targets.registry import running_target

    target = running_target()
    facts = target.facts
    console = Console(highlight=False)
    units = "threads" if facts.gfx == "cpu" else "compute units"
    rows = {
        "target": f"{target.name}, {facts.cu_num} {units} {facts.product}".rstrip(),
        "compiler": _compiler(facts.gfx),
        "cache": str(default_cache().root),
    }
    for name, text in rows.items():
        console.print(f"{name:<9} {text}", markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("variable", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("meaning", min_width=24)
    for variable in env.TABLE:
        table.add_row(variable.name, variable.text() or "-", variable.doc)
    console.print(table)


def _compiler(target: str) -> str:
    """Return what compiles for a target, or why nothing does."""
    from aiter_moe.codegen.toolchain import compiler_for
    from aiter_moe.errors import ToolchainError

    try:
        return compiler_for(target).label
    except ToolchainError as error:
        return f"none: {error}"
