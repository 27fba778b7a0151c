# SPDX-License-Identifier: MIT
"""The launcher of the emulated gfx950 and gfx942: `HipLauncher` on the emulator's library.

Only the device differs: modules, argument buffers and grids are those a GPU would get. What it
runs in is `aiter_moe.targets.emulator_library`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch

from aiter_moe.codegen.gfx9 import Launch
from aiter_moe.targets.base import DeviceFacts, RoutedTokens, SortedTokens
from aiter_moe.targets.device_steps import admitted
from aiter_moe.targets.emulator_library import (
    ALL_CHECKS,
    DEVICES,
    INSTRUCTION_LIMIT,
    ONE_LAUNCH,
    EmulatorFaultError,
    LaunchReport,
    emulator,
    ended_clean,
    interruptible,
    reachable,
)
from aiter_moe.targets.hip_launcher import HipLauncher, Module, Place
from aiter_moe.targets.routed_pairs import check_values

OnReport = Callable[[str, LaunchReport], None]
# Bytes of which every float is NaN and every scale too, and of which no integer is a place.
NAN_BYTE = 0xFF
POISON = {torch.int32: 0x7F}


class EmulatorLauncher(HipLauncher):
    """Runs kernels in the emulator, on tensors in host memory; a launch ends before it returns.

    A kernel reaches the tensors of its launch and not a byte more. What kernels write starts as
    NaN, so that rows nobody writes are seen.

    Parameters
    ----------
    gfx : str
        ``gfx950`` or ``gfx942``.
    seed : int
        Chooses the order in which waves run; may be changed between launches, as `checks`,
        `threads` and `on_report` may.
    checks : int
        Faults to look for: bits of ``FaultKind``.
    threads : int
        CPU threads; 0: as many as there are CPUs.
    on_report : callable or None
        Gets the symbol and the report of every launch; faults are then in the report alone.
        None: a launch with faults raises `EmulatorFaultError`.

    Raises
    ------
    LaunchError
        If the emulator's library cannot be loaded.
    """

    def __init__(
        self,
        gfx: str,
        *,
        seed: int = 0,
        checks: int = ALL_CHECKS,
        threads: int = 0,
        on_report: OnReport | None = None,
    ) -> None:
        self._emulator = emulator(gfx)
        self._device = DEVICES[gfx]
        self.seed = seed
        self.checks = checks
        self.threads = threads
        self.on_report = on_report
        runtime = self._emulator.library.runtime
        properties = runtime.properties(self._device)
        facts = DeviceFacts(gfx, properties.compute_units, product=properties.name)
        super().__init__(runtime, facts)

    def empty(
        self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> torch.Tensor:
        """Return memory full of NaN, and of integers that are no slot and no expert."""
        memory = torch.empty(shape, dtype=dtype, device=device)
        ctypes.memset(memory.data_ptr(), POISON.get(dtype, NAN_BYTE), memory.nbytes)
        return memory

    def sort(
        self, routed: RoutedTokens, block_m: int, cleared: torch.Tensor | None = None
    ) -> SortedTokens:
        """Sort; ids out of range, weights that are not finite and wrong counts are refused."""
        check_values(admitted(routed))
        return super().sort(routed, block_m, cleared)

    def admit(self, routed: RoutedTokens) -> RoutedTokens:
        """Return the routing as kernels read it; values that cannot be sorted are refused."""
        check_values(admitted(routed))
        return super().admit(routed)

    @contextmanager
    def _at(self, tensors: Sequence[torch.Tensor]) -> Iterator[Place]:
        """Let launches reach the bytes of `tensors`, one stage of the process at a time."""
        with ONE_LAUNCH:
            self._runtime.set_device(self._device)
            with reachable(self._emulator.library, tensors):
                yield Place(self._device, None)

    def _start(self, module: Module, step: Launch, args: ctypes.Structure, place: Place) -> None:
        self._emulator.set_option("seed", self.seed)
        self._emulator.set_option("checks", self.checks)
        self._emulator.set_option("threads", self.threads)
        self._emulator.set_option("instruction_limit", INSTRUCTION_LIMIT)
        start = super()._start
        interruptible(self._emulator.library, lambda: start(module, step, args, place))
        clean = ended_clean(self._runtime)
        if self.on_report is not None:
            self.on_report(step.symbol, self._emulator.report(step.symbol))
        elif not clean:
            advice = (
                f"`aiter-moe verify --target {self.facts.gfx}:emulator -k {step.symbol}` runs this "
                "kernel alone: if it is clean there, look at the tensors of this call"
            )
            raise EmulatorFaultError(self._emulator.report(step.symbol), module.code, advice)


@cache
def emulator_launcher(gfx: str) -> EmulatorLauncher:
    """Return the process's launcher on an emulated architecture, made on first use.

    Raises
    ------
    LaunchError
        If there is no emulation of `gfx`, or its library cannot be built or loaded.
    """
    return EmulatorLauncher(gfx)
