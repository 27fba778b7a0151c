# SPDX-License-Identifier: MIT
"""``aiter-moe inspect``: what the machine code of kernels is, side by side, or that of a layer.

Options and printing; what is read from the code is `aiter_moe.inspect`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from aiter_moe.enums import Kind
from aiter_moe.errors import ArgumentError

if TYPE_CHECKING:
    from rich.console import Console

    from aiter_moe.inspect.inspection import Inspection
    from aiter_moe.inspect.shape import Tier

DEFAULT_TOKENS = "1,16,128,1024"
# Columns of a terminal that the names of figures take, and a kernel.
LEFT_WIDTH, CELL_WIDTH = 28, 13
MEMORY_NOTE = (
    "memory: as if the weights of every turn came from the HBM; row blocks of one expert share "
    "them in the L2"
)


def inspect(  # noqa: PLR0913, PLR0917 - each is an option of the command line
    kernels: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of instances or parts of them, patterns with * or ?, or code objects."
        ),
    ] = None,
    shape: Annotated[
        str,
        typer.Option(
            help="A layer: E=32,topk=4,hidden=2880,inter=2880 (,act=swiglu), or a packaged one, "
            "e.g. gptoss-20b."
        ),
    ] = "",
    tokens: Annotated[str, typer.Option(help="Token counts of the layer.")] = DEFAULT_TOKENS,
    kind: Annotated[Kind | None, typer.Option(help="Only this kind (default: both).")] = None,
    target: Annotated[str, typer.Option(help="gfx950 or gfx942.")] = "gfx950",
    code: Annotated[
        bool, typer.Option("--code", help="Also list the instructions of the hot loops.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Print registers, LDS, occupancy, hot loop, bytes in flight and the bound of kernels."""
    from aiter_moe.inspect import shape_view, view
    from aiter_moe.inspect.subjects import inspections_of, require_target

    require_target(target)
    if bool(kernels) == bool(shape):
        raise ArgumentError(
            "name kernels, or a layer with --shape; `aiter-moe build --plan` lists the kernels"
        )
    tiers = _tiers(shape, tokens, kind, target) if shape else []
    found = shape_view.inspections(tiers) if shape else inspections_of(kernels or [], target)
    if as_json:
        layer = {"tiers": shape_view.as_json(tiers)} if shape else {}
        print(json.dumps({**layer, **view.as_json(found)}, indent=1, allow_nan=False))
        return
    _print(found, tiers)
    if code:
        _print_code(found)


def _tiers(shape: str, tokens: str, kind: Kind | None, target: str) -> list[Tier]:
    from aiter_moe.inspect.shape import shape_of, tiers_of

    parts = [part.strip() for part in tokens.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise ArgumentError(f"--tokens {tokens}: give numbers with commas between, e.g. 1,16,128")
    kinds = [kind] if kind else [k for k in Kind if target != "gfx942" or k is Kind.A16W4]
    return tiers_of(shape_of(shape), target, kinds, [int(part) for part in parts])


def _print(found: Sequence[Inspection], tiers: Sequence[Tier]) -> None:
    from rich.console import Console

    from aiter_moe.cli.terminal import show_table
    from aiter_moe.inspect import view

    console = Console()
    if tiers:
        _print_layer(console, tiers)
    print(*view.legend(found), sep="\n")
    fits = view.SIDE_BY_SIDE
    if console.is_terminal:
        fits = max(1, min(fits, (console.width - LEFT_WIDTH) // CELL_WIDTH))
    for title, table in view.tables(found, fits):
        show_table(console, title, table, ("",))
    waits = view.wait_lines(found)
    if waits:
        print(MEMORY_NOTE, "\nwaits of the hot loop, in order", *waits, sep="\n")


def _print_layer(console: Console, tiers: Sequence[Tier]) -> None:
    from aiter_moe.cli.terminal import show_table
    from aiter_moe.inspect import shape_view

    title = "Device kernels of a call, and how many there may be"
    show_table(console, title, shape_view.chain_table(tiers), ("kind",))
    print("", *shape_view.chain_lines(tiers), sep="\n")
    title = "Stages: work, least bytes, and microseconds of the hot loops by what they wait for"
    show_table(console, title, shape_view.stage_table(tiers), ("kind",))
    print()


def _print_code(found: Sequence[Inspection]) -> None:
    for inspection in found:
        if inspection.loop:
            print(f"\nhot loop of {inspection.name}")
            print(*(f"{i.pc:#8x}  {i.text}" for i in inspection.loop.instructions), sep="\n")
