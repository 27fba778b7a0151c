# SPDX-License-Identifier: MIT
"""The emulator of gfx950 and gfx942 (csrc/emulator): builds it, loads it, launches code objects.

    report = emulator("gfx950").launch(path, "kernel", (8, 1, 1), 256, arguments, tensors)

Runs any code object on host memory; what the figures mean is `emulator_report`. Not here: the
launcher that puts the pipeline on it (`aiter_moe.targets.emulator`).
"""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import c_char_p, c_double, c_int, c_long, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from aiter_moe.errors import LaunchError
from aiter_moe.targets.emulator_report import (
    ALL_CHECKS,
    HITS,
    CounterWords,
    EmulatorFaultError,
    FaultRecord,
    LaunchReport,
)
from aiter_moe.targets.hip import KERNEL_FAILURES, HipError, HipRuntime

__all__ = ["ALL_CHECKS", "Emulator", "EmulatorFaultError", "LaunchReport", "emulator"]

# Device numbers of the library; each is one architecture.
DEVICES = {"gfx950": 0, "gfx942": 1}
# The structs both sides know, by name and size, in the order of aiter_moe_emulator_struct_size.
MIRRORS = (
    ("Fault", ctypes.sizeof(FaultRecord)),
    ("Counters", ctypes.sizeof(CounterWords)),
    ("InstructionHits", HITS.itemsize),
)
# Instructions a wave may take before it counts as hung.
INSTRUCTION_LIMIT = 1 << 28

_Tensor: TypeAlias = torch.Tensor | np.ndarray[Any, Any]
# ctypes has no public names for its simple types and its functions.
_CType: TypeAlias = Any
_Function: TypeAlias = Any


class Library:
    """The shared library: HIP's calls and the emulator's own, by name.

    Parameters
    ----------
    path : Path
        The compiled library.

    Attributes
    ----------
    runtime : HipRuntime
        HIP's calls, which reach the emulated devices.

    Raises
    ------
    LaunchError
        If it cannot be loaded or lays its structs out differently.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._cdll = ctypes.CDLL(str(path))
        except OSError as error:
            raise LaunchError(
                f"cannot load {path}: {error}; delete its folder and try again to rebuild it"
            ) from error
        self.path = path
        size = self.function("aiter_moe_emulator_struct_size", c_long, c_int)
        for which, (name, wanted) in enumerate(MIRRORS):
            if size(which) != wanted:
                raise LaunchError(
                    f"{path} has a struct {name} of {size(which)} bytes, this package reads "
                    f"{wanted}; delete its folder and try again to rebuild it"
                )
        self.runtime = HipRuntime(self._cdll)

    def function(self, name: str, result: _CType, *arguments: _CType) -> _Function:
        """Return a symbol as a callable with these C types."""
        found: _Function = self._cdll[name]
        found.restype, found.argtypes = result, arguments
        return found


class Emulator:
    """One emulated device.

    Parameters
    ----------
    library : Library
        The loaded library; all devices of a process share it.
    arch : str
        ``gfx950`` or ``gfx942``.
    """

    def __init__(self, library: Library, arch: str) -> None:
        self.arch = arch
        self.library = library
        self._runtime = library.runtime
        self._set_option = library.function("aiter_moe_emulator_set", c_int, c_char_p, c_long)
        self._counters = library.function("aiter_moe_emulator_counters", None, c_void_p)
        self._faults = library.function("aiter_moe_emulator_faults", c_long, c_void_p, c_long)
        self._seconds = library.function("aiter_moe_emulator_seconds", c_double)
        self._hits = library.function("aiter_moe_emulator_instructions", c_long, c_void_p, c_long)

    def set_option(self, name: str, value: int) -> None:
        """Set an option of csrc/emulator/api.h for the launches that follow.

        Raises
        ------
        LaunchError
            If there is no such option, or it does not take the value.
        """
        if self._set_option(name.encode(), value):
            raise LaunchError(f"the emulator has no option {name} that takes {value}")

    def launch(  # noqa: PLR0913
        self,
        code_object: Path | bytes,
        symbol: str,
        grid: tuple[int, int, int],
        threads: int | tuple[int, int, int],
        arguments: bytes,
        tensors: Sequence[_Tensor],
        *,
        seed: int = 0,
        checks: int = ALL_CHECKS,
        dynamic_lds: int = 0,
        instruction_limit: int = INSTRUCTION_LIMIT,
        raise_on_fault: bool = True,
    ) -> LaunchReport:
        """Run a kernel to its end and return what it did.

        Parameters
        ----------
        code_object : Path or bytes
            What a GPU would load.
        symbol : str
            The kernel in it.
        grid : tuple of int
            Workgroups.
        threads : int or tuple of int
            Lanes a workgroup.
        arguments : bytes
            The kernel argument segment, without hidden arguments.
        tensors : sequence of torch.Tensor or numpy.ndarray
            The memory the kernel may touch, to the byte.
        seed : int
            Chooses one order in which waves run.
        checks : int
            Which faults to look for: bits of FaultKind.
        dynamic_lds : int
            Bytes of LDS beyond those of the kernel.
        instruction_limit : int
            Instructions a wave may take before it counts as hung.
        raise_on_fault : bool
            Whether faults raise; else they are in the report alone.

        Raises
        ------
        EmulatorFaultError
            If the kernel did what is not allowed.
        LaunchError
            If the code object cannot be loaded, lacks the kernel, or the launch is no valid one.
        """
        data = code_object.read_bytes() if isinstance(code_object, Path) else code_object
        require_whole(data)
        with ONE_LAUNCH, self._loaded(data) as module, reachable(self._runtime, tensors):
            self._set_options(seed, checks, instruction_limit)
            function = self._runtime.function(module, symbol)
            self._start(function, grid, threads, dynamic_lds, arguments)
            ended_clean(self._runtime)
            report = self.report(symbol)
        if report.faults and raise_on_fault:
            raise EmulatorFaultError(report, data)
        return report

    def report(self, kernel: str = "") -> LaunchReport:
        """Return what the last launch of the process did."""
        counters = CounterWords()
        self._counters(ctypes.byref(counters))
        faults = (FaultRecord * self._faults(None, 0))()
        self._faults(faults, len(faults))
        hits = np.zeros(self._hits(None, 0), HITS)
        self._hits(hits.ctypes.data, len(hits))
        return LaunchReport.of(kernel, list(faults), counters, hits, self._seconds())

    def _set_options(self, seed: int, checks: int, instruction_limit: int) -> None:
        self.set_option("seed", seed)
        self.set_option("checks", checks)
        self.set_option("instruction_limit", instruction_limit)

    def _start(
        self, function: int, grid: tuple[int, int, int], threads: int | tuple[int, int, int],
        dynamic_lds: int, arguments: bytes,
    ) -> None:  # fmt: skip
        buffer = ctypes.create_string_buffer(arguments, len(arguments))
        try:
            self._runtime.launch(function, grid, threads, buffer, dynamic_lds=dynamic_lds)
        except HipError as error:
            raise LaunchError(
                f"{error}; grid {grid}, threads {threads}, {dynamic_lds} bytes of dynamic LDS, "
                f"{len(arguments)} bytes of arguments"
            ) from error

    @contextmanager
    def _loaded(self, data: bytes) -> Iterator[int]:
        self._runtime.set_device(DEVICES[self.arch])
        module = self._runtime.load_module(data)
        try:
            yield module
        finally:
            self._runtime.unload_module(module)


# Options and the report of the last launch belong to the process.
ONE_LAUNCH = threading.RLock()


@contextmanager
def reachable(runtime: HipRuntime, tensors: Sequence[_Tensor]) -> Iterator[None]:
    """Let kernels reach the bytes of `tensors` and no others."""
    done: list[int] = []
    try:
        for begin, end in united(span(tensor) for tensor in tensors):
            runtime.register(begin, end - begin)
            done.append(begin)
        yield
    finally:
        for begin in done:
            runtime.unregister(begin)


def ended_clean(runtime: HipRuntime) -> bool:
    """Say whether the last launch had no faults, which HIP tells once, to whoever waits."""
    try:
        runtime.synchronise()
    except HipError as error:
        if error.code not in KERNEL_FAILURES:
            raise
        return False
    return True


def require_whole(code_object: bytes) -> None:
    """Refuse a file that ends before its section table: HIP's interface does not say a length.

    Raises
    ------
    LaunchError
        If it does.
    """
    header = code_object[40:62].ljust(22, b"\0")
    (table, count) = struct.unpack_from("<Q12xH", header)
    if code_object[:4] == b"\x7fELF" and len(code_object) < max(64, table + 64 * count):
        raise LaunchError(
            f"the code object is cut off after {len(code_object)} bytes; delete it, and compile it "
            "again"
        )


def span(tensor: _Tensor) -> tuple[int, int]:
    """Return the first byte of a tensor's elements and the byte after the last."""
    if isinstance(tensor, torch.Tensor):
        begin, size = tensor.data_ptr(), tensor.element_size()
        steps = [stride * size for stride in tensor.stride()]
    else:
        begin, size = tensor.ctypes.data, tensor.itemsize
        steps = list(tensor.strides)
    if 0 in tensor.shape:
        return begin, begin
    reach = sum((n - 1) * step for n, step in zip(tensor.shape, steps, strict=True))
    return begin, begin + size + reach


def united(spans: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the ranges with those that overlap made one; neighbours stay apart."""
    out: list[tuple[int, int]] = []
    for begin, end in sorted(s for s in spans if s[0] < s[1]):
        if out and begin < out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((begin, end))
    return out


@cache
def _library() -> Library:
    from aiter_moe import env
    from aiter_moe.codegen.build import ensure
    from aiter_moe.codegen.render import emulator_unit
    from aiter_moe.targets.cpu_features import read_cpuinfo, usable_features

    return Library(ensure(emulator_unit(usable_features(env.CPU_ISA.text(), read_cpuinfo()))).path)


@cache
def emulator(arch: str = "gfx950") -> Emulator:
    """Return the emulated device of an architecture, built and loaded on first use.

    Raises
    ------
    LaunchError
        If there is no emulation of `arch`.
    """
    if arch not in DEVICES:
        raise LaunchError(f"no emulation of {arch}; there are {', '.join(DEVICES)}")
    return Emulator(_library(), arch)
