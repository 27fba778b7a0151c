# SPDX-License-Identifier: MIT
"""Runs compile commands as child processes that can all be ended at once.

Each child leads its own process group, so an interrupt reaches this process alone, which then
ends the group: a compiler driver's own children go with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

COMPILE_SECONDS = 1800.0


class CommandFailedError(Exception):
    """A compile command did not end well; internal, turned into BuildError by `codegen.build`."""

    def __init__(self, command: Sequence[str], reason: str) -> None:
        super().__init__(reason)
        self.command = list(command)
        self.reason = reason


class BuildEndedError(CommandFailedError):
    """The command was not run, or was killed, because `Processes.end` was called."""


class Processes:
    """The running children of one build or of many."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._ended = False

    def run(self, commands: Sequence[Sequence[str]], folder: Path, log: Path) -> None:
        """Run `commands` one after the other in `folder`, with all they print going to `log`.

        Raises
        ------
        CommandFailedError
            If one cannot start, fails, runs for half an hour, or `end` was called.
        """
        with log.open("ab") as output:
            for command in commands:
                output.write((" ".join(command) + "\n").encode())
                output.flush()
                self._run_one(command, folder, output.fileno())

    def end(self) -> None:
        """Kill every running child; later runs fail at once."""
        with self._guard:
            self._ended = True
            for child in self._running:
                _kill(child)

    def _run_one(self, command: Sequence[str], folder: Path, output: int) -> None:
        child = self._start(command, folder, output)
        try:
            status = child.wait(timeout=COMPILE_SECONDS)
        except subprocess.TimeoutExpired:
            raise CommandFailedError(command, f"did not end in {COMPILE_SECONDS:.0f} s") from None
        finally:
            _kill(child)
            child.wait()
            with self._guard:
                self._running.discard(child)
        if self._ended:
            raise BuildEndedError(command, "was interrupted")
        if status:
            raise CommandFailedError(command, _ending(status))

    def _start(self, command: Sequence[str], folder: Path, output: int) -> subprocess.Popen[bytes]:
        with self._guard:
            if self._ended:
                raise BuildEndedError(command, "was interrupted")
            try:
                child = subprocess.Popen(
                    command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                    start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise CommandFailedError(command, f"cannot be run: {error}") from error
            self._running.add(child)
            return child


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Kill a child that has not been waited for, with its process group."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)


def _ending(status: int) -> str:
    if status > 0:
        return f"ended with exit status {status}"
    hint = " (out of memory?)" if -status == signal.SIGKILL else ""
    return f"was ended by signal {-status}{hint}"
