# SPDX-License-Identifier: MIT
"""Progress and tables of long commands: a line that moves on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

    from aiter_moe.tuning.report import Table


class Lines:
    """Progress for logs and pipes: lines that stay, and a step's end."""

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, flush=True)

    def progress(self, what: str, done: int, total: int) -> None:
        """Print the end of a step."""
        if done == total:
            print(f"{what}: {done} of {total}", flush=True)


class Status:
    """Progress on a terminal: one line that is overwritten."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("starting")
        self._status.start()

    def say(self, text: str) -> None:
        """Print a line that stays, above the moving one."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def progress(self, what: str, done: int, total: int) -> None:
        """Show how far a step is."""
        self._status.update(f"{what}: {done} of {total}")

    def stop(self) -> None:
        """Take the moving line away."""
        self._status.stop()


AnyLines = TypeVar("AnyLines", bound=Lines)
AnyStatus = TypeVar("AnyStatus", bound=Status)


@contextmanager
def watcher(
    console: Console, lines: Callable[[], AnyLines], status: Callable[[Console], AnyStatus]
) -> Iterator[AnyLines | AnyStatus]:
    """Give whoever shows progress on this console: `status` on a terminal, else `lines`."""
    if not console.is_terminal:
        yield lines()
        return
    moving = status(console)
    try:
        yield moving
    finally:
        moving.stop()


def show_table(console: Console, title: str, table: Table, left: tuple[str, ...] = ()) -> None:
    """Print a table under its title; columns named in `left` begin at the left."""
    from aiter_moe.tuning.report import plain

    if not console.is_terminal:
        print(f"\n{title}\n{plain(table, left)}", flush=True)
        return
    import rich.box
    import rich.table

    shown = rich.table.Table(
        title=title, title_justify="left", box=rich.box.SIMPLE_HEAD, padding=(0, 0, 0, 1)
    )
    for name in table.header:
        shown.add_column(name, justify="left" if name in left else "right")
    for line in table.lines:
        shown.add_row(*line)
    console.print(shown)
