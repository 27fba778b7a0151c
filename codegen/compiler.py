# SPDX-License-Identifier: MIT
"""A compiler as data: its identity for the key, and its commands with tokens for paths.

Finding one is `codegen.host_compiler` and `codegen.device_compiler`; running one is
`codegen.process`. Probes (version text) run once per program file and process.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from aiter_moe.codegen.unit import BuildUnit
from aiter_moe.errors import ToolchainError

PROBE_SECONDS = 60.0
INSTALL_HINT = "pip install 'aiter_moe[toolchain]'"

# Contents of __FILE__ must not depend on where the package is installed.
PORTABLE_PATHS = "-ffile-prefix-map={csrc}=csrc"

_FIRST_NUMBER = re.compile(r"(\d+)\.\d+")
_PARENTHESES = re.compile(r"\([^()]*\)")
_CLANG = re.compile(r"clang version (\d+)")


class NoCompilerError(ToolchainError):
    """No compiler was found at all; prebuilt kernels may still serve."""


@dataclass(frozen=True, slots=True)
class Compiler:
    """One way to compile for one target.

    Attributes
    ----------
    label : str
        Short text for people, e.g. ``g++ 12.2.0``.
    identity : str
        Version text of every program the recipe runs; enters the key, never a path.
    recipe : tuple of tuple of str
        Commands in order. A word ``{name}`` stands for the words of `programs` or of the unit
        (``{flags}``, ``{source}``); ``{csrc}`` may stand inside a word.
    programs : mapping of str to tuple of str
        What the tokens stand for on this machine.
    """

    label: str
    identity: str
    recipe: tuple[tuple[str, ...], ...]
    programs: Mapping[str, tuple[str, ...]]

    def commands(self, unit: BuildUnit, csrc: Path) -> list[list[str]]:
        """Return the commands that compile `unit`, to be run in the folder of its source."""
        return [expand(step, {**self.programs, **unit_words(unit, str(csrc))})
                for step in self.recipe]  # fmt: skip

    def portable_command(self, unit: BuildUnit) -> str:
        """Return the commands on one line without any absolute path, for records."""
        programs = {k: tuple(Path(w).name for w in words) for k, words in self.programs.items()}
        values = {**programs, **unit_words(unit, "csrc")}
        return " && ".join(" ".join(expand(step, values)) for step in self.recipe)


def unit_words(unit: BuildUnit, csrc: str) -> dict[str, tuple[str, ...]]:
    """Return what the tokens of a recipe stand for in one unit."""
    return {"flags": unit.flags, "source": (unit.file_name,), "csrc": (csrc,)}


def expand(step: Sequence[str], values: Mapping[str, Sequence[str]]) -> list[str]:
    """Replace the tokens of one command by the words they stand for."""
    singles = {name: words[0] for name, words in values.items() if words}
    command: list[str] = []
    for word in step:
        if word.startswith("{") and word.endswith("}"):
            command += values[word[1:-1]]
        else:
            command.append(word.format_map(singles))
    return command


@dataclass(frozen=True, slots=True)
class Program:
    """An executable that answered ``--version``: its command words and what it said."""

    words: tuple[str, ...]
    version_text: str

    @property
    def version_line(self) -> str:
        """First line of the version text."""
        return self.version_text.splitlines()[0].strip()

    @property
    def is_clang(self) -> bool:
        """Whether a clang does the work (also behind hipcc)."""
        return _CLANG.search(self.version_text) is not None

    @property
    def major(self) -> int:
        """Major version of the clang that does the work, else of the program; 0 if unknown."""
        plain = _PARENTHESES.sub("", self.version_line)
        match = _CLANG.search(self.version_text) or _FIRST_NUMBER.search(plain)
        return int(match.group(1)) if match else 0


def which(name: str) -> str | None:
    """Return the absolute path of a program on PATH, or of a path that can be executed."""
    found = shutil.which(name)
    return str(Path(found).absolute()) if found else None


def probe(words: Sequence[str]) -> Program:
    """Ask a program for its version; the answer is kept while the file does not change.

    Parameters
    ----------
    words : sequence of str
        The program's path, then words that belong to it (``ccache g++``, ``zig clang``).

    Raises
    ------
    ToolchainError
        If the program cannot be run or says nothing.
    """
    stat = Path(words[0]).stat()
    return _probe(tuple(words), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _probe(words: tuple[str, ...], mtime_ns: int, size: int) -> Program:
    try:
        done = subprocess.run(
            [*words, "--version"], capture_output=True, text=True, errors="replace",
            timeout=PROBE_SECONDS, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolchainError(f"{' '.join(words)} --version cannot be run: {error}") from error
    text = done.stdout.strip() or done.stderr.strip()
    if done.returncode or not text:
        raise ToolchainError(
            f"{' '.join(words)} --version ended with exit status {done.returncode}: "
            f"{text or 'no output'}"
        )
    return Program(words, text)


@dataclass(frozen=True, slots=True)
class PipClang:
    """The clang and lld inside the ziglang wheel: one binary, no resource folder of its own."""

    clang: Program
    include: Path

    @property
    def binary(self) -> str:
        """Path of the zig executable."""
        return self.clang.words[0]


def pip_clang() -> PipClang | None:
    """Return the clang of the installed ziglang wheel, or None; nothing is imported."""
    spec = importlib.util.find_spec("ziglang")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "zig"
        if binary.is_file():
            clang = probe((str(binary), "clang"))
            return PipClang(clang, Path(folder) / "lib" / "include")
    return None
