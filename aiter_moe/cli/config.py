# SPDX-License-Identifier: MIT
"""``aiter-moe config``: every environment variable, its value here, and the device it leads to."""

from __future__ import annotations


def config() -> None:
    """Show the environment variables the package reads, and the running target."""
    from rich.console import Console
    from rich.table import Table

    from aiter_moe import env
    from aiter_moe.targets.registry import running_target

    facts = running_target().facts
    console = Console()
    units = "threads" if facts.gfx == "cpu" else "compute units"
    console.print(f"target {facts.gfx}, {facts.cu_num} {units} {facts.product}".rstrip())
    table = Table("variable", "value", "meaning", box=None, pad_edge=False)
    for variable in env.TABLE:
        table.add_row(variable.name, variable.text() or "-", variable.doc)
    console.print(table)
