# SPDX-License-Identifier: MIT
"""The console command ``aiter-moe``: build, verify, inspect, tune and look up kernels."""

from __future__ import annotations

import signal
import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line; a known error becomes one message and exit status 1."""
    from aiter_moe.errors import AiterMoeError

    _end_tidily_on_signals()
    try:
        _run()
    except AiterMoeError as error:
        print(f"aiter-moe: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _end_tidily_on_signals() -> None:
    """Let what ends a service or closes a terminal do what Ctrl-C does: summary, no leftovers."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP, and that stays
            signal.signal(number, signal.default_int_handler)


def _run() -> None:
    import typer

    from aiter_moe.cli.build import build
    from aiter_moe.cli.config import config
    from aiter_moe.cli.inspect import inspect
    from aiter_moe.cli.lookup import lookup
    from aiter_moe.cli.options import options
    from aiter_moe.cli.tune import tune
    from aiter_moe.cli.verify import verify

    app = typer.Typer(
        name="aiter-moe",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(options)
    for command in (tune, build, verify, inspect, lookup, config):
        app.command()(command)
    app(prog_name="aiter-moe")
