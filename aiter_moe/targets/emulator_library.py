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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import c_char_p, c_double, c_int, c_long, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

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
from aiter_moe.targets.host_memory import (
    Tensor,
    is_writeable,
    require_host_memory,
    span,
    united,
)

__all__ = ["ALL_CHECKS", "Emulator", "EmulatorFaultError", "LaunchReport", "emulator"]

# Device numbers of the library; each is one architecture.
DEVICES = {"gfx950": 0, "gfx942": 1}
LDS_BYTES = {"gfx950": 160 * 1024, "gfx942": 64 * 1024}
# The structs both sides know, by name and size, in the order of aiter_moe_emulator_struct_size.
MIRRORS = (
    ("Fault", ctypes.sizeof(FaultRecord)),
    ("Counters", ctypes.sizeof(CounterWords)),
    ("InstructionHits", HITS.itemsize),
)
ELF_MAGIC, SECTION_WITHOUT_BYTES = b"\x7fELF", 8
# Instructions a wave may take before it counts as hung.
INSTRUCTION_LIMIT = 1 << 28

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
    read_only : callable
        Makes memory that was registered such that a store to it is a fault.
    stop : callable
        Ends the launch under way early.

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
        self.read_only = self.function("aiter_moe_emulator_read_only", c_int, c_void_p)
        self.stop = self.function("aiter_moe_emulator_stop", None)

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
        code_object: Path | str | bytes,
        symbol: str,
        grid: tuple[int, int, int],
        threads: int | tuple[int, int, int],
        arguments: bytes,
        tensors: Sequence[Tensor],
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
        code_object : Path, str or bytes
            What a GPU would load, or where it lies.
        symbol : str
            The kernel in it.
        grid : tuple of int
            Workgroups.
        threads : int or tuple of int
            Lanes a workgroup.
        arguments : bytes
            The kernel argument segment, without hidden arguments.
        tensors : sequence of torch.Tensor or numpy.ndarray
            The memory the kernel may touch, to the byte; of an array that is not writeable, read.
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
        data = code_object if isinstance(code_object, bytes) else Path(code_object).read_bytes()
        require_whole(data)
        with ONE_LAUNCH, self._loaded(data) as module, reachable(self.library, tensors):
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
        block = (threads, 1, 1) if isinstance(threads, int) else threads
        require_sizes("grid", grid)
        require_sizes("threads", block)
        buffer = ctypes.create_string_buffer(arguments, len(arguments))
        try:
            interruptible(
                self.library,
                lambda: self._runtime.launch(
                    function, grid, block, buffer, dynamic_lds=dynamic_lds
                ),
            )
        except HipError as error:
            raise LaunchError(
                f"the launch is refused with {error.name} ({error.code}): grid {grid}, threads "
                f"{block}, {dynamic_lds} bytes of dynamic LDS, {len(arguments)} bytes of "
                "arguments. A workgroup has at most 1024 threads (or what the kernel was compiled "
                f"for) and {LDS_BYTES[self.arch]} bytes of LDS with those of the kernel; the "
                "arguments are all that the kernel declares, at their offsets"
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
def reachable(library: Library, tensors: Sequence[Tensor]) -> Iterator[None]:
    """Let kernels reach the bytes of `tensors` and no others, and write where Python may."""
    require_host_memory(tensors)
    writeable = [span(tensor) for tensor in tensors if is_writeable(tensor)]
    done: list[int] = []
    try:
        for begin, end in united(span(tensor) for tensor in tensors):
            library.runtime.register(begin, end - begin)
            done.append(begin)
            if not any(first < end and begin < behind for first, behind in writeable):
                library.read_only(begin)
        yield
    finally:
        for begin in done:
            library.runtime.unregister(begin)


def interruptible(library: Library, launch: Callable[[], None]) -> None:
    """Run a launch so that Ctrl-C ends it: Python sees signals only between its own steps."""
    if threading.current_thread() is not threading.main_thread():
        launch()
        return
    ended = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            launch()
        except BaseException as error:
            failures.append(error)
        finally:
            ended.set()

    # An event: `Thread.join` takes a thread whose join was interrupted for one that has ended.
    threading.Thread(target=run).start()
    try:
        ended.wait()
    except KeyboardInterrupt:
        _stop(library, ended)
        raise
    if failures:
        raise failures[0]


def _stop(library: Library, ended: threading.Event) -> None:
    """End a launch, which must not outlive its tensors, however often Ctrl-C is pressed."""
    while not ended.is_set():
        try:
            # It may have begun only just now, and not have noticed the last time.
            library.stop()
            ended.wait(timeout=0.05)
        except KeyboardInterrupt:
            continue


def require_sizes(what: str, sizes: tuple[int, int, int]) -> None:
    """Refuse sizes that are not three positive numbers of 32 bits, which ctypes would cut off.

    Raises
    ------
    LaunchError
        If they are not.
    """
    right = isinstance(sizes, tuple | list) and len(sizes) == len("xyz")
    if not right or not all(isinstance(n, int | np.integer) and 0 < n < 2**32 for n in sizes):
        raise LaunchError(f"{what} {sizes!r}: three numbers from 1 to {2**32 - 1} are needed")


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
    """Refuse a file that ends before what it names: HIP's interface does not say a length.

    Raises
    ------
    LaunchError
        If it does.
    """
    size = len(code_object)
    if code_object.startswith(ELF_MAGIC) and any(end > size for end in _ends_of_parts(code_object)):
        raise LaunchError(
            f"the code object is cut off after {size} bytes, or damaged; delete it, and compile it "
            "again"
        )


def _ends_of_parts(elf: bytes) -> Iterator[int]:
    """Yield where an ELF file's header, tables, segments and sections end."""
    yield 64
    segments, sections, segment_count, section_count = struct.unpack_from("<QQ8xHxxH", elf, 32)
    yield segments + 56 * segment_count
    for at in range(segments, segments + 56 * segment_count, 56):
        offset, size = struct.unpack_from("<Q16xQ", elf, at + 8)
        yield offset + size
    yield sections + 64 * section_count
    for at in range(sections, sections + 64 * section_count, 64):
        kind, offset, size = struct.unpack_from("<I16xQQ", elf, at + 4)
        yield offset + size if kind != SECTION_WITHOUT_BYTES else 0


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
