# SPDX-License-Identifier: MIT
"""The console command ``aiter-moe``: build, tune and look up kernels."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; a known error becomes one message and exit status 1."""
    import typer

    from aiter_moe.cli.build import build
    from aiter_moe.cli.config import config
    from aiter_moe.cli.lookup import lookup
    from aiter_moe.cli.tune import tune
    from aiter_moe.errors import AiterMoeError

    app = typer.Typer(
        name="aiter-moe",
        help="MXFP4 mixture-of-experts kernels: build, tune, look up.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for command in (tune, build, lookup, config):
        app.command()(command)
    try:
        app()
    except AiterMoeError as error:
        print(f"aiter-moe: {error}", file=sys.stderr)
        sys.exit(1)
