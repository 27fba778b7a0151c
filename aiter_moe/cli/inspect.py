# SPDX-License-Identifier: MIT
"""``aiter-moe inspect``: what the machine code of kernels is, side by side.

Options and printing; what is read from the code is `aiter_moe.inspect`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from aiter_moe.errors import ArgumentError

if TYPE_CHECKING:
    from aiter_moe.inspect.inspection import Inspection


def inspect(
    kernels: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of instances or parts of them, patterns with * or ?, or code objects."
        ),
    ] = None,
    target: Annotated[str, typer.Option(help="gfx950 or gfx942 (default: both).")] = "",
    code: Annotated[
        bool, typer.Option("--code", help="Also list the instructions of the hot loops.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Print registers, LDS, occupancy, hot loop, bytes in flight and the bound of kernels."""
    from aiter_moe.inspect import view
    from aiter_moe.inspect.subjects import inspections_of

    if not kernels:
        raise ArgumentError("name a kernel; `aiter-moe build --target gfx950 --plan` lists them")
    found = inspections_of(kernels, (target,) if target else ())
    if as_json:
        print(json.dumps(view.as_json(found), indent=1, allow_nan=False))
        return
    _print(found)
    if code:
        _print_code(found)


def _print(found: Sequence[Inspection]) -> None:
    from rich.console import Console

    from aiter_moe.cli.terminal import show_table
    from aiter_moe.inspect import view

    console = Console()
    print(*view.legend(found), sep="\n")
    for title, table in view.tables(found):
        show_table(console, title, table, ("",))
    waits = view.wait_lines(found)
    if waits:
        print("\nwaits of the hot loop, in order", *waits, sep="\n")


def _print_code(found: Sequence[Inspection]) -> None:
    for inspection in found:
        if inspection.loop:
            print(f"\nhot loop of {inspection.name}")
            print(*(f"{i.pc:#8x}  {i.text}" for i in inspection.loop.instructions), sep="\n")
