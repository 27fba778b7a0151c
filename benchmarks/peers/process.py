# SPDX-License-Identifier: MIT
"""Speaks to the process of a peer, and stops it whenever it is not being asked.

A stopped process spins on no core, whatever its thread pool does while it waits, so peers keep
the waiting policy they come with. What ends a process (a signal, an exception, silence) becomes
the reason of a `PeerFailedError`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from aiter_moe import env
from aiter_moe.targets.cpu_features import read_cpuinfo
from peers.peer import Peer

HERE = Path(__file__).resolve().parent
LAST_WORDS = 400
MEANINGS = {
    "SIGILL": ": an instruction that this CPU does not have",
    "SIGKILL": ": by the system, where memory ran out",
}


class PeerFailedError(Exception):
    """A peer that ended or that told an exception; the text says which."""


def environment(peer: Peer, folder: Path | None, threads: int) -> dict[str, str]:
    """Return the environment of a peer's process: its package before this environment's."""
    paths = [str(HERE.parent), *([str(folder)] if folder else [])]
    return {
        **env.child_environment({}),
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": str(threads),
        **peer.settings,
    }


def ending(status: int) -> str:
    """Return what an exit status of `subprocess` means."""
    if status >= 0:
        return f"ended with status {status}"
    name = signal.Signals(-status).name
    return f"killed by {name}{MEANINGS.get(name, '')}"


def lacking(peer: Peer) -> str:
    """Return what a peer may want of the CPU that is not there, as an explanation."""
    missing = sorted(set(peer.needs) - read_cpuinfo().features)
    return f" (this CPU lacks {', '.join(missing)})" if missing else ""


class PeerProcess:
    """A running peer; a context manager that ends it."""

    def __init__(
        self,
        peer: Peer,
        folder: Path | None,
        threads: int,
        command: Sequence[str] = (sys.executable, "-m", "peers.child"),
    ) -> None:
        self.peer = peer
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  `end` closes it
        self._child = subprocess.Popen(
            [*command, peer.implementation],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment(peer, folder, threads),
            cwd=tempfile.gettempdir(),
            start_new_session=True,
        )

    def __enter__(self) -> PeerProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> None:
        """Kill the process, stopped or not."""
        self._child.kill()
        self._child.wait()
        for file in (self._child.stdin, self._child.stdout, self._errors):
            if file is not None:
                with suppress(OSError):  # a request that nobody read
                    file.close()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._child.pid

    def start(self, seconds: float) -> None:
        """Wait until the peer's modules are imported.

        Raises
        ------
        PeerFailedError
            If that fails.
        """
        self._answer(seconds)
        self._child.send_signal(signal.SIGSTOP)

    def ask(self, seconds: float, **request: Any) -> dict[str, Any]:
        """Return the answer to a request.

        Raises
        ------
        PeerFailedError
            If the process ends, tells an exception, or is silent for `seconds`.
        """
        pipe = self._child.stdin
        assert pipe is not None
        self._child.send_signal(signal.SIGCONT)
        try:
            pipe.write(json.dumps(request).encode() + b"\n")
            pipe.flush()
        except OSError:
            raise PeerFailedError(self._epitaph()) from None
        answer = self._answer(seconds)
        self._child.send_signal(signal.SIGSTOP)
        return answer

    def _answer(self, seconds: float) -> dict[str, Any]:
        pipe = self._child.stdout
        assert pipe is not None
        if not select.select([pipe], [], [], seconds)[0]:
            self.end()
            raise PeerFailedError(f"no answer in {seconds:g} s")
        line = pipe.readline()
        if not line:
            raise PeerFailedError(self._epitaph())
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise PeerFailedError(answer["failed"] + lacking(self.peer))
        return answer

    def _epitaph(self) -> str:
        """Return how the process ended, with the end of what it printed."""
        status = self._child.wait()
        self._errors.seek(0)
        words = self._errors.read()[-LAST_WORDS:].decode(errors="replace").strip()
        last = words.splitlines()[-1] if words else ""
        return ending(status) + lacking(self.peer) + (f"; it said: {last}" if last else "")
