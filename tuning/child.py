# SPDX-License-Identifier: MIT
"""The parent's end of the measuring child: one process, JSON lines, a deadline per reply.

Knows nothing of problems or candidates. A child that dies or stays silent raises; whose fault
that was is `tuning.measurer`'s business.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

Message = dict[str, Any]


class ChildDied(Exception):  # noqa: N818 - an event the parent handles, not an error it reports
    """The child ended while a reply was due; the message says how."""


class ChildHung(Exception):  # noqa: N818
    """The child gave no sign of life within the deadline and was killed."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer within {seconds:g} s")
        self.seconds = seconds


class Conversation(Protocol):
    """A running child, or a fake of one."""

    def ask(
        self,
        request: Mapping[str, Any],
        deadline_s: float,
        news: Callable[[Message], None] = ...,
    ) -> Message:
        """Send one command and return its reply; raise `ChildDied` or `ChildHung`."""

    def close(self) -> None:
        """End the child at once."""


def _ignore(message: Message) -> None:
    """Drop a progress message."""


def how_it_ended(status: int) -> str:
    """Return what a wait status means, e.g. ``killed by SIGSEGV``."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


class Child:
    """A process that answers JSON lines.

    It gets a session of its own, so that Ctrl-C in the terminal reaches the parent alone, which
    then ends the child.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=dict(environment),
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._commands = self._process.stdin
        self._replies = self._process.stdout.fileno()
        self._pending = b""

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def ask(
        self,
        request: Mapping[str, Any],
        deadline_s: float,
        news: Callable[[Message], None] = _ignore,
    ) -> Message:
        """Send one command and return its reply.

        Parameters
        ----------
        request : Mapping
            JSON object.
        deadline_s : float
            Longest silence, in seconds, before the child is killed; progress messages count
            as signs of life.
        news : Callable
            Receives progress messages.

        Raises
        ------
        ChildDied
            If the process ended.
        ChildHung
            If the deadline passed.
        """
        try:
            self._commands.write(json.dumps(request).encode() + b"\n")
            self._commands.flush()
        except BrokenPipeError:
            raise self._death() from None
        while True:
            message = json.loads(self._line(deadline_s))
            if "reply" in message:
                reply: Message = message["reply"]
                return reply
            news(message)

    def _line(self, deadline_s: float) -> bytes:
        end = time.monotonic() + deadline_s
        while b"\n" not in self._pending:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._replies], [], [], left)[0]:
                self.close()
                raise ChildHung(deadline_s)
            received = os.read(self._replies, 1 << 16)
            if not received:
                raise self._death()
            self._pending += received
        line, self._pending = self._pending.split(b"\n", 1)
        return line

    def _death(self) -> ChildDied:
        # Not reaped yet, so that the process group is still its own when `close` kills it.
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        said = self._last_words()
        self.close()
        return ChildDied(how_it_ended(self._process.returncode) + (f": {said}" if said else ""))

    def _last_words(self) -> str:
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - 4096))
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def close(self) -> None:
        """Kill the child and everything it started, and wait for it."""
        if self._process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
