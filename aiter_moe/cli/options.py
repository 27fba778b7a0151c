# SPDX-License-Identifier: MIT
"""Options of the command line as a whole, before the name of a command."""

from __future__ import annotations

from typing import Annotated

import typer

import aiter_moe


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aiter_moe {aiter_moe.__version__}")
        raise typer.Exit


def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Print the version and end."
        ),
    ] = False,
) -> None:
    """MXFP4 mixture-of-experts kernels: build, verify, tune, look up."""
