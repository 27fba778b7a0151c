# SPDX-License-Identifier: MIT
"""The launcher of AMD GPUs: compiled kernels as modules, launched on torch's current stream.

Nothing here waits for the device but `HipLauncher.elapsed_ms`. The kernels between stage kernels
are `aiter_moe.targets.device_steps`; the same launcher on the emulator is
`aiter_moe.targets.emulator`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache

import torch

from aiter_moe.codegen.gfx9 import Launch, launches
from aiter_moe.codegen.instance import Instance
from aiter_moe.codegen.unit import BuildUnit
from aiter_moe.errors import LaunchError
from aiter_moe.targets import device_steps
from aiter_moe.targets.arguments import StageArgs
from aiter_moe.targets.base import DeviceFacts, RoutedTokens, SortedTokens
from aiter_moe.targets.device_steps import Step
from aiter_moe.targets.hip import HipRuntime, hip_runtime
from aiter_moe.targets.launch_record import note_launch

STEPS = object()
"""What stands for the module of the steps among those of instances."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a launch goes: HIP's device number, and its stream (None: the null stream)."""

    device: int
    stream: int | None


@dataclass(slots=True)
class Module:
    """A loaded code object.

    Attributes
    ----------
    key : object
        The instance it was compiled from, or `STEPS`; held so that its identity is not given to
        another one.
    code : bytes
        The code object, which HIP reads as long as the module lives.
    handle : int
        HIP's module.
    functions : dict of str to int
        Kernels by symbol, as far as they were asked for.
    """

    key: object
    code: bytes
    handle: int
    functions: dict[str, int] = field(default_factory=dict)


class HipLauncher:
    """Runs kernels on the AMD GPUs of one architecture (`aiter_moe.targets.base.Launcher`).

    Safe to call from several threads at once. Modules are loaded once for each instance and
    device, with the first launch.

    Parameters
    ----------
    runtime : HipRuntime
        HIP, or what stands in for it.
    facts : DeviceFacts
        Identity of the devices.
    """

    runs_layers = False

    def __init__(self, runtime: HipRuntime, facts: DeviceFacts) -> None:
        self._runtime = runtime
        self._facts = facts
        self.compute_units = facts.cu_num
        """How many persistent kernels fill."""
        # Keyed by the instance's identity and the device: hashing an instance costs more than
        # queueing a kernel.
        self._modules: dict[tuple[int, int], Module] = {}

    @property
    def facts(self) -> DeviceFacts:
        """Identity of the device."""
        return self._facts

    def empty(
        self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> torch.Tensor:
        """Return memory of any content."""
        return torch.empty(shape, dtype=dtype, device=device)

    def sort(
        self, routed: RoutedTokens, block_m: int, cleared: torch.Tensor | None = None
    ) -> SortedTokens:
        """Queue the sort of (token, slot) pairs by expert, padded per expert to `block_m`.

        Values are not looked at, since that would wait for the device: a pair whose id is out of
        range goes to the nearest expert with a weight of NaN, and the number of local tokens is
        cut to the tokens.
        """
        step, found = device_steps.sort_step(routed, block_m, cleared, self.empty)
        self._run_step(step)
        return found

    def admit(self, routed: RoutedTokens) -> RoutedTokens:
        """Return the routing as kernels read it; its values are not looked at.

        Kernels that need no sort know no token before their own: torch counts on from there, for
        the few tokens that a cut may leave.
        """
        routed = device_steps.admitted(routed)
        if routed.local_tokens is None or routed.first_token is None:
            return routed
        left = (routed.local_tokens - routed.first_token).clamp(0, routed.ids.shape[0])
        return replace(routed, local_tokens=left, first_token=None)

    def quantise(
        self, x: torch.Tensor, routed: SortedTokens | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Queue the quantisation of rows: codes by row, scales by row or in tiles of sorted rows.

        Of tiles, bytes of pads are not written.
        """
        step, codes, scales = device_steps.quantise_step(x, routed, self.empty)
        self._run_step(step)
        return codes, scales

    def stage_scales(self, scales: torch.Tensor, routed: SortedTokens) -> torch.Tensor:
        """Queue the layout of scales in 32x8 tiles of sorted rows; pads are not written."""
        step, tiles = device_steps.scatter_step(scales, routed, self.empty)
        self._run_step(step)
        return tiles

    def reduce(self, rows: torch.Tensor, routed: SortedTokens, out: torch.Tensor) -> None:
        """Queue the sum of f32 rows over the slots of a token in fixed order into `out`."""
        self._run_step(device_steps.reduce_step(rows, routed, out))

    def _run_step(self, step: Step) -> None:
        launch = step.launch
        if launch is None or 0 in launch.grid:
            return
        with self._at(step.tensors) as place:
            module = self._module(STEPS, place.device, self._load_steps)
            self._start(module, launch, step.args, place)

    def run_stage(
        self, instance: Instance, args: StageArgs, tensors: Sequence[torch.Tensor]
    ) -> None:
        """Queue one stage on torch's current stream: its kernel, and the finish of a split.

        Parameters
        ----------
        instance : Instance
            The kernel; built and loaded on first use.
        args : StageArgs
            Its arguments, copied before this returns.
        tensors : sequence of Tensor
            What the arguments point into, all on one device.

        Raises
        ------
        LaunchError
            The kernel is for another target, a size breaks what it relies on, or HIP refuses.
        """
        if instance.target != self._facts.gfx:
            raise LaunchError(
                f"{instance.name} is a kernel of target {instance.target} and cannot run on "
                f"{self._facts.gfx}"
            )
        steps = launches(instance, args, self.compute_units)
        with self._at(tensors) as place:
            module = self._module(instance, place.device, lambda: self._load(instance))
            for step in steps:
                self._start(module, step, args, place)

    def elapsed_ms(self, work: Callable[[], object], device: torch.device) -> float:
        """Return the milliseconds the device takes for what `work` queues; waits for its end.

        Parameters
        ----------
        work : callable
            Queues launches on the current stream of `device`.
        device : torch.device
            Where it does.
        """
        runtime = self._runtime
        with self._at([torch.empty(0, device=device)]) as place:
            begin, end = runtime.create_event(), runtime.create_event()
            try:
                runtime.record_event(begin, place.stream)
                work()
                runtime.record_event(end, place.stream)
                runtime.synchronise_event(end)
                return runtime.elapsed_ms(begin, end)
            finally:
                runtime.destroy_event(begin)
                runtime.destroy_event(end)

    def unload(self) -> None:
        """Wait for the devices and free all modules; the next launch loads what it needs."""
        modules, self._modules = self._modules, {}
        for (_, device), module in modules.items():
            self._runtime.set_device(device)
            self._runtime.synchronise()
            self._runtime.unload_module(module.handle)

    @contextmanager
    def _at(self, tensors: Sequence[torch.Tensor]) -> Iterator[Place]:
        """Enter the device that holds `tensors`, with the stream to launch on."""
        with torch.cuda.device(tensors[0].device):
            stream = torch.cuda.current_stream()
            yield Place(stream.device.index, stream.cuda_stream or None)

    def _module(self, key: object, device: int, load: Callable[[], Module]) -> Module:
        """Return the module of an instance on the current device, loaded on first use."""
        place = (id(key), device)
        module = self._modules.get(place)
        if module is None:
            # No lock: loading twice gives the same kernel, and a lock could be held in a fork.
            module = self._modules[place] = load()
        return module

    def _load(self, instance: Instance) -> Module:
        from aiter_moe.codegen.render import render

        return self._load_unit(instance, render(instance))

    def _load_steps(self) -> Module:
        from aiter_moe.codegen.gfx9.steps import steps_unit

        return self._load_unit(STEPS, steps_unit(self._facts.gfx))

    def _load_unit(self, key: object, unit: BuildUnit) -> Module:
        from aiter_moe.codegen.build import ensure

        code = ensure(unit).path.read_bytes()
        return Module(key, code, self._runtime.load_module(code))

    def _start(self, module: Module, step: Launch, args: ctypes.Structure, place: Place) -> None:
        """Queue one kernel."""
        function = module.functions.get(step.symbol)
        if function is None:
            function = self._runtime.function(module.handle, step.symbol)
            module.functions[step.symbol] = function
        note_launch(step)
        self._runtime.launch(function, step.grid, step.threads, args, place.stream)


@cache
def hip_launcher(gfx: str) -> HipLauncher:
    """Return the launcher of this process for an architecture, made on first use.

    Raises
    ------
    LaunchError
        If there is no HIP runtime, torch is not built for it, or no such device is visible.
    """
    runtime = hip_runtime()
    if torch.version.hip is None:
        raise LaunchError(
            f"torch {torch.__version__} is not built for ROCm, so no tensor can be on a {gfx}; "
            f"install torch for ROCm, or name the target {gfx}:emulator"
        )
    found = [runtime.properties(device) for device in range(runtime.device_count())]
    matching = next((properties for properties in found if properties.arch == gfx), None)
    if matching is None:
        seen = ", ".join(sorted({properties.arch for properties in found})) or "none"
        raise LaunchError(
            f"no {gfx} is visible (devices: {seen}); name the target of a device that is, or "
            f"{gfx}:emulator"
        )
    facts = DeviceFacts(gfx, matching.compute_units, product=matching.name)
    return HipLauncher(runtime, facts)
