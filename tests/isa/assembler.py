# SPDX-License-Identifier: MIT
"""The pip clang as an oracle: what it encodes a line of assembly to, and how it prints it."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from aiter_moe.codegen.compiler import PipClang, pip_clang

# Labels number the lines: a line with an error prints nothing behind its label.
_LABEL = re.compile(r"^L(\d+):")
# Encodings with letters in them wait for a symbol and match nothing.
_PRINTED = re.compile(r"^\t(.*?)\s*; encoding: \[([0-9a-fx,]+)\]$")
_MNEMONIC_PREFIXES = b"s|v|ds|buffer|tbuffer|global|flat|scratch"
_LINES_PER_RUN = 200_000


@dataclass(frozen=True, slots=True)
class Encoded:
    """One instruction: the text the assembler prints for it, and its bytes."""

    text: str
    data: bytes

    @property
    def mnemonic(self) -> str:
        """First word of the text."""
        return self.text.split(maxsplit=1)[0]

    @property
    def words(self) -> tuple[int, ...]:
        """Return the encoding as 32-bit words."""
        parts = range(0, len(self.data), 4)
        return tuple(int.from_bytes(self.data[i : i + 4], "little") for i in parts)


def assemble(lines: list[str], arch: str) -> list[Encoded | None]:
    """Return the encoding of every line, None for those the assembler refuses.

    Parameters
    ----------
    lines : list of str
        One instruction each; operands must be known numbers, not symbols.
    arch : str
        ``gfx942`` or ``gfx950``.
    """
    found: list[Encoded | None] = []
    for start in range(0, len(lines), _LINES_PER_RUN):
        found += _assemble(lines[start : start + _LINES_PER_RUN], arch)
    return found


def _assemble(lines: list[str], arch: str) -> list[Encoded | None]:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "lines.s"
        source.write_text("".join(f"L{i}:\n {line}\n" for i, line in enumerate(lines)))
        done = _run(source, arch)
    found: list[Encoded | None] = [None] * len(lines)
    index = 0
    for line in done.stdout.splitlines():
        if label := _LABEL.match(line):
            index = int(label[1])
        elif printed := _PRINTED.match(line):
            found[index] = Encoded(printed[1].strip(), _bytes(printed[2]))
    return found


def known_mnemonics(mnemonics: list[str], arch: str) -> set[str]:
    """Return those the assembler knows for a GPU, whatever their operands."""
    refused = re.compile(r"^[^:]*:(\d+):\d+: error: (?:invalid instruction|instruction not)")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "lines.s"
        source.write_text("".join(f"{mnemonic}\n" for mnemonic in mnemonics))
        errors = _run(source, arch).stderr.splitlines()
    unknown = {mnemonics[int(match[1]) - 1] for match in map(refused.match, errors) if match}
    return set(mnemonics) - unknown


def _run(source: Path, arch: str) -> subprocess.CompletedProcess[str]:
    command = [
        _clang().binary, "clang", "-cc1as", "-triple", "amdgcn-amd-amdhsa", "-target-cpu", arch,
        "-filetype", "asm", "-show-encoding", str(source), "-o", "-",
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _bytes(text: str) -> bytes:
    """Return the bytes of an encoding comment such as ``0x01,0x05``."""
    return bytes(int(part, 0) for part in text.split(","))


def _clang() -> PipClang:
    clang = pip_clang()
    if clang is None:
        raise FileNotFoundError("the pip clang is not installed")
    return clang


def has_assembler() -> bool:
    """Say whether there is a pip clang to ask."""
    return pip_clang() is not None


def candidate_mnemonics() -> set[str]:
    """Return every string of the assembler that looks like a mnemonic of some AMD GPU.

    Its matcher keeps mnemonics in one text, each behind its length.
    """
    data = Path(_clang().binary).read_bytes()
    pattern = re.compile(rb"(?=([\x04-\x60])((?:" + _MNEMONIC_PREFIXES + rb")_[a-z0-9_]+))")
    return {
        match[2][: match[1][0]].decode()
        for match in pattern.finditer(data)
        if len(match[2]) >= match[1][0]
    }
