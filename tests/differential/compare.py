# SPDX-License-Identifier: MIT
"""Runs random kernels as machine code of a GPU in the emulator and natively, bit for bit.

``make fuzz COUNT=5000 SEED=1`` runs thousands; the tests run a few hundred. A
kernel is named by its seed and number, and made again from them.
"""

from __future__ import annotations

import argparse
import ctypes
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aiter_moe.codegen.compiler import pip_clang
from aiter_moe.targets.emulator_library import Emulator, emulator
from differential import generate

BATCH = 25  # kernels a file
GROUPS, LANES, STATE_WORDS, WINDOW = 2, 128, 19, 64
WORDS = GROUPS * LANES * STATE_WORDS
COMMON = (
    "-std=c++20", "-ffp-contract=off", "-fwrapv", "-fno-strict-aliasing", "-fno-math-errno",
    "-Xclang", "-ffloat16-excess-precision=none", "-w",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Difference:
    """A kernel whose two results are not the same."""

    seed: int
    number: int
    text: str

    def __str__(self) -> str:
        return f"seed {self.seed}, kernel k{self.number}: {self.text}"


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[:3])}: {done.stderr[:2000]}")


def compiled(source: str, arch: str, folder: Path) -> tuple[Path, ctypes.CDLL]:
    """Return the code object and the host library of one file of kernels."""
    pip = pip_clang()
    assert pip is not None, "run pip install 'aiter_moe[toolchain]'"
    zig, text = pip.binary, folder / "kernels.hip"
    text.write_text(source)
    paths = {name: str(folder / f"kernels.{name}") for name in ("s", "device.o", "co", "o", "so")}
    _run(
        zig, "clang", "-x", "hip", f"--offload-arch={arch}", "--cuda-device-only", "-nogpulib",
        "-nogpuinc", "-O3", "-fuse-cuid=none", *COMMON, "-S", str(text), "-o", paths["s"],
    )  # fmt: skip
    _run(zig, "clang", "--target=amdgcn-amd-amdhsa", f"-mcpu={arch}", "-c", paths["s"],
         "-o", paths["device.o"])  # fmt: skip
    _run(zig, "ld.lld", "-shared", paths["device.o"], "-o", paths["co"])
    machine = platform.machine()
    native = ("-mf16c", "-mfma") if machine == "x86_64" else ()
    _run(
        zig, "clang", "-x", "c++", f"--target={machine}-linux-gnu", "-O1", "-fPIC",
        "-ffreestanding", "-nostdinc", *native, *COMMON, "-c", str(text), "-o", paths["o"],
    )  # fmt: skip
    _run(zig, "ld.lld", "-shared", paths["o"], "-o", paths["so"])
    return Path(paths["co"]), ctypes.CDLL(paths["so"])


def inputs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the words states start from, with special values among them, and the windows."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 1 << 32, WORDS, dtype=np.uint32)
    special = np.array(
        [0, 1, 0x80000000, 0xFFFFFFFF, 0x3F800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x00000001,
         0x7BFF, 0x7C00, 0x8000, 0x8001, 0x3FF00000, 0x7FF00000], np.uint32
    )  # fmt: skip
    chosen = rng.random(WORDS) < 0.25
    words[chosen] = rng.choice(special, chosen.sum())
    near = rng.random(WORDS) < 0.25  # floats of ordinary size
    words[near] = rng.standard_normal(near.sum()).astype(np.float32).view(np.uint32)
    return words, rng.integers(0, 256, GROUPS * LANES * WINDOW, dtype=np.uint8)


def _difference(found: np.ndarray, wanted: np.ndarray) -> str | None:
    at = np.flatnonzero(found != wanted)
    if not len(at):
        return None
    lane, word = divmod(int(at[0]), STATE_WORDS)
    return (
        f"{len(at)} of {len(wanted)} differ; first: lane {lane}, word {word}: "
        f"{int(found[at[0]]):#x}, wanted {int(wanted[at[0]]):#x}"
    )


def compare(
    device: Emulator, seed: int, count: int, mnemonics: Counter[str] | None = None
) -> Iterator[Difference]:
    """Yield what differs among the first `count` kernels of a seed; count executed mnemonics."""
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(device, *compiled(generate.source(seed, count), device.arch, Path(folder)))
        for number in range(count):
            for text in pair.differences(number, seed * 1000 + number, mnemonics):
                yield Difference(seed, number, text)


@dataclass(frozen=True, slots=True)
class Pair:
    """The same kernels for the emulated device and for the host."""

    device: Emulator
    code: Path
    host: ctypes.CDLL

    def differences(
        self, number: int, seed: int, mnemonics: Counter[str] | None = None
    ) -> Iterator[str]:
        """Run kernel `number` twice on the inputs of `seed`; yield faults and what differs."""
        words, window = inputs(seed)
        wanted, found = np.zeros(WORDS, np.uint32), np.zeros(WORDS, np.uint32)
        native = window.copy()
        pointers = (a.ctypes.data for a in (words, wanted, native))
        self.host[f"k{number}"](*map(ctypes.c_void_p, pointers), ctypes.c_uint32(GROUPS))
        arguments = np.array([a.ctypes.data for a in (words, found, window)], np.uint64)
        report = self.device.launch(
            self.code, f"k{number}", (GROUPS, 1, 1), LANES, arguments.tobytes(),
            [words, found, window], seed=seed, raise_on_fault=False,
        )  # fmt: skip
        if mnemonics is not None:
            mnemonics.update(report.by_mnemonic())
        yield from map(str, report.faults)
        text = _difference(found, wanted)
        if text is None and not np.array_equal(native, window):
            text = "memory differs"
        if text is not None:
            yield text


def main() -> int:
    """Compare as many kernels as asked; return 1 if any differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--arch", choices=("gfx950", "gfx942"), default="gfx950")
    asked = parser.parse_args()
    device, seen, bad, begin = emulator(asked.arch), Counter[str](), 0, time.monotonic()
    for first in range(0, asked.count, BATCH):
        size = min(BATCH, asked.count - first)
        for difference in compare(device, asked.seed + first // BATCH, size, seen):
            bad += 1
            print(difference)
        if sys.stderr.isatty():
            print(f"\r{first + size} of {asked.count}", end="", file=sys.stderr)
    print(
        f"{asked.count} kernels, {len(seen)} mnemonics, {sum(seen.values())} instructions, "
        f"{bad} differences, {time.monotonic() - begin:.0f} s"
    )
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
