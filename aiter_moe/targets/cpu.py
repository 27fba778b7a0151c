# SPDX-License-Identifier: MIT
"""The CPU target: its facts, and the launcher that runs compiled kernels on a thread pool.

`cpu_facts` reads /proc/cpuinfo and the environment and starts nothing; `cpu_launcher` builds and
loads the support library with its first launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import addressof
from functools import cache

import torch

from aiter_moe import env
from aiter_moe.codegen.instance import Instance
from aiter_moe.enums import ScaleRounding
from aiter_moe.errors import ArgumentError, DtypeError, LaunchError
from aiter_moe.formats import MX_BLOCK
from aiter_moe.layouts import S
from aiter_moe.targets.arguments import StageArgs
from aiter_moe.targets.base import DeviceFacts, LayerShape, RoutedTokens, SortedTokens
from aiter_moe.targets.cpu_arena import Arena
from aiter_moe.targets.cpu_features import read_cpuinfo, thread_count, usable_features
from aiter_moe.targets.cpu_layer import CpuLayer
from aiter_moe.targets.cpu_runtime import FLOAT_CODES, Kernel, Runtime, load_kernel, load_runtime
from aiter_moe.targets.cpu_sort import (
    RoutedPairs,
    SortExtras,
    routed_pairs,
    sort_pairs,
)
from aiter_moe.targets.cpu_tile import set_tile


@cache
def _facts(threads: int, isa: str) -> DeviceFacts:
    info = read_cpuinfo()
    return DeviceFacts("cpu", threads, usable_features(isa, info), info.product)


def cpu_facts() -> DeviceFacts:
    """Return the identity of the CPU target: threads count as compute units.

    Raises
    ------
    ConfigError
        If AITER_MOE_THREADS or AITER_MOE_CPU_ISA cannot be used.
    """
    return _facts(thread_count(), env.CPU_ISA.text())


@cache
def _launcher_of(features: frozenset[str]) -> CpuLauncher:
    return CpuLauncher(features)


def cpu_launcher() -> CpuLauncher:
    """Return the launcher of this process, made on first use; a forked child may use it too.

    Raises
    ------
    ConfigError
        If AITER_MOE_THREADS or AITER_MOE_CPU_ISA cannot be used.
    """
    return _launcher_of(cpu_facts().features)


class CpuLauncher:
    """Runs kernels on the CPU (`aiter_moe.targets.base.LayerLauncher`).

    Safe to call from several threads at once; launches that use more than one thread take turns.

    Parameters
    ----------
    features : frozenset of str
        Instruction-set features that kernels and the support library may use.
    """

    runs_layers = True

    def __init__(self, features: frozenset[str]) -> None:
        self._features = features
        # Keyed by identity: hashing an instance costs more than launching a small kernel. The
        # value holds the instance, so that its identity is not given to another one.
        self._kernels: dict[int, tuple[Instance, Kernel]] = {}
        self._scratch = Arena()
        self.arena = Arena()
        """Memory between the steps of layers."""
        self._runtime: Runtime | None = None

    @property
    def facts(self) -> DeviceFacts:
        """Identity of the device, with the threads a launch would use now."""
        return cpu_facts()

    def _ready(self) -> tuple[Runtime, int]:
        """Return the support library, loaded on first use, and the threads of a launch."""
        runtime = self._runtime
        if runtime is None:
            # No lock: loading twice gives the same library, and a fork could leave one held.
            runtime = self._runtime = load_runtime(self._features)
        threads = thread_count()
        runtime.tune_for(threads)
        return runtime, threads

    def empty(
        self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> torch.Tensor:
        """Return memory of any content."""
        return torch.empty(shape, dtype=dtype, device=device)

    def sort(
        self, routed: RoutedTokens, block_m: int, cleared: torch.Tensor | None = None
    ) -> SortedTokens:
        """Sort (token, slot) pairs by expert, padded per expert to `block_m`.

        Parameters
        ----------
        routed : RoutedTokens
            What is sorted.
        block_m : int
            Slots per block.
        cleared : torch.Tensor or None
            Filled with zeros.

        Returns
        -------
        SortedTokens
            With a whole number of blocks: as many as the pairs can need, which for few tokens is
            far below aiter's allocation. Positions where some pair may have no slot.

        Raises
        ------
        ArgumentError, DtypeError
            An input is unusable; an expert id out of range or a routing weight that is not
            finite is named by token and slot.
        """
        pairs = routed_pairs(
            routed.ids, routed.weights, routed.experts, routed.expert_mask,
            routed.local_tokens, routed.first_token,
        )  # fmt: skip
        if cleared is not None:
            cleared.zero_()
        every = routed.expert_mask is None and routed.local_tokens is None
        extras = SortExtras(reverse_sorted=None if every else torch.empty_like(pairs.ids))
        runtime, threads = self._ready()
        bound = pairs.used_slots_bound(block_m)
        return sort_pairs(runtime, threads, pairs, block_m, bound, extras)

    def admit(self, routed: RoutedTokens) -> RoutedTokens:
        """Return the routing as it is: no CPU kernel reads it before the sort."""
        return routed

    def sort_into(
        self, pairs: RoutedPairs, block: int, capacity: int, extras: SortExtras
    ) -> SortedTokens:
        """Sort checked pairs with a given allocation and further outputs; see `sort_pairs`."""
        runtime, threads = self._ready()
        return sort_pairs(runtime, threads, pairs, block, capacity, extras)

    def quantise(
        self,
        x: torch.Tensor,
        routed: SortedTokens | None = None,
        rounding: ScaleRounding = ScaleRounding.RoundUp,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Quantise rows to MXFP4, bit-equal to `aiter_moe.formats.mxfp4.quantise_1x32`.

        Parameters
        ----------
        x : torch.Tensor
            bfloat16, float16 or float32 [rows, K], K a multiple of 32.
        routed : SortedTokens or None
            Makes no difference: CPU kernels gather scales with their rows.
        rounding : ScaleRounding
            How a block's largest magnitude becomes its scale.

        Returns
        -------
        codes : torch.Tensor
            uint8 [rows, K/2]; 0 in blocks that hold an infinity or NaN.
        scales : torch.Tensor
            uint8 [rows, K/32], e8m0.

        Raises
        ------
        ArgumentError, DtypeError
            `x` has another shape, place or dtype.
        """
        code = FLOAT_CODES.get(x.dtype)
        if code is None:
            raise DtypeError(f"quantise: wanted bfloat16, float16 or float32, found {x.dtype}")
        if x.dim() != 2 or x.shape[1] % MX_BLOCK or not x.is_cpu:
            raise ArgumentError(
                f"quantise: wanted [rows, K] in host memory with K a multiple of {MX_BLOCK}, found "
                f"{list(x.shape)} on {x.device}"
            )
        if x.stride(1) != 1:
            x = x.contiguous()
        rows, columns = x.shape
        codes = x.new_empty((rows, columns // 2), dtype=torch.uint8)
        scales = x.new_empty((rows, columns // MX_BLOCK), dtype=torch.uint8)
        runtime, threads = self._ready()
        runtime.quantise(
            x.data_ptr(), codes.data_ptr(), scales.data_ptr(), rows, columns, x.stride(0), code,
            int(rounding), threads,
        )  # fmt: skip
        return codes, scales

    def sort_scales(
        self, scales: torch.Tensor, sorted_ids: torch.Tensor, used: int, tokens: int
    ) -> torch.Tensor:
        """Gather e8m0 rows into sorted order and 32x8 tiles (aiter ``moe_mxfp4_sort``).

        Parameters
        ----------
        scales : torch.Tensor
            uint8 [rows, slots, columns], contiguous; ``slots == 1`` serves every slot.
        sorted_ids : torch.Tensor
            int32 [sorted], contiguous.
        used : int
            Leading sorted slots that are used.
        tokens : int
            Ids with a token from here on are pads.

        Returns
        -------
        torch.Tensor
            uint8 [sorted rounded up to 32, columns rounded up to 8], 0 in pads.
        """
        _, slots, columns = scales.shape
        out = scales.new_empty(S.physical_shape(sorted_ids.shape[0], columns))
        runtime, threads = self._ready()
        runtime.sort_scales(
            scales.data_ptr(), sorted_ids.data_ptr(), out.data_ptr(), sorted_ids.shape[0], used,
            tokens, slots, columns, threads,
        )  # fmt: skip
        return out

    def stage_scales(self, scales: torch.Tensor, routed: SortedTokens) -> torch.Tensor:
        """Return `scales` as they are: CPU kernels gather them with their rows."""
        return scales

    def run_stage(
        self, instance: Instance, args: StageArgs, tensors: Sequence[torch.Tensor]
    ) -> None:
        """Run one stage kernel to its end.

        Parameters
        ----------
        instance : Instance
            The kernel; built and loaded on first use.
        args : StageArgs
            Its arguments; ``scratch``, the threads and the tile's numbers are set here.
        tensors : sequence of Tensor
            What the arguments point into.

        Raises
        ------
        LaunchError
            The kernel cannot be loaded or needs features this CPU lacks.
        """
        kernel = self._kernel(instance)
        runtime, threads = self._ready()
        set_tile(args, instance)
        args.threads = threads
        address = addressof(args)
        self._scratch.grow(kernel.scratch_bytes(address))
        args.scratch = self._scratch.address
        runtime.pool_run(kernel.task, address, threads)

    def layer(self, shape: LayerShape) -> CpuLayer:
        """Return a planned layer of one shape, which runs as one launch.

        Raises
        ------
        ArgumentError
            The pairs need more sorted slots than int32 counts.
        LaunchError
            A kernel cannot be loaded or needs features this CPU lacks.
        """
        runtime, threads = self._ready()
        kernels = self._kernel(shape.stage1), self._kernel(shape.stage2)
        return CpuLayer(runtime, kernels, shape, threads, self.arena)

    def _kernel(self, instance: Instance) -> Kernel:
        held = self._kernels.get(id(instance))
        return held[1] if held is not None else self._load(instance)

    def _load(self, instance: Instance) -> Kernel:
        missing = instance.tile.requires - self._features
        if instance.target != "cpu" or missing:
            raise LaunchError(
                f"{instance.name} cannot run on the CPU target here; it is for target "
                f"{instance.target} and needs {', '.join(sorted(missing)) or 'nothing'} that is "
                "missing: choose another kernel (aiter-moe lookup --explain)"
            )
        kernel = load_kernel(instance)
        self._kernels[id(instance)] = (instance, kernel)
        return kernel

    def reduce(self, rows: torch.Tensor, routed: SortedTokens, out: torch.Tensor) -> None:
        """Sum rows [tokens * topk, n] over the slots of a token; columns of `out` past n become 0.

        Raises
        ------
        ArgumentError, DtypeError
            As `sum_slots`.
        """
        columns = rows.shape[1]
        if columns < out.shape[1]:
            out[:, columns:] = 0
        topk = rows.shape[0] // max(out.shape[0], 1)
        self.sum_slots(rows, topk, out[:, :columns], routed.positions)

    def sum_slots(
        self, rows: torch.Tensor, topk: int, out: torch.Tensor, positions: torch.Tensor | None
    ) -> None:
        """Sum rows over the slots of a token, in slot order and float32, rounded once.

        Parameters
        ----------
        rows : torch.Tensor
            float32 [tokens * topk, H], contiguous.
        topk : int
            Slots per token.
        out : torch.Tensor
            bfloat16, float16 or float32 [tokens, H]; rows may lie further apart than H.
        positions : torch.Tensor or None
            int32 [tokens, topk]; rows of negative slots are not read, and a token without any
            other becomes zero.

        Raises
        ------
        ArgumentError, DtypeError
            Shapes do not fit, or a tensor has another dtype or place.
        """
        code = _checked_reduction(rows, topk, out, positions)
        tokens, columns = out.shape
        places = None if positions is None else positions.contiguous()
        runtime, threads = self._ready()
        runtime.reduce(
            rows.data_ptr(), None if places is None else places.data_ptr(), out.data_ptr(), tokens,
            topk, columns, out.stride(0), code, threads,
        )  # fmt: skip


def _checked_reduction(
    rows: torch.Tensor, topk: int, out: torch.Tensor, positions: torch.Tensor | None
) -> int:
    """Return the code of out's dtype, or raise where the tensors do not belong together."""
    code = FLOAT_CODES.get(out.dtype)
    if code is None or rows.dtype != torch.float32:
        raise DtypeError(
            f"reduce: wanted float32 rows into bfloat16, float16 or float32, found {rows.dtype} "
            f"into {out.dtype}"
        )
    if positions is not None and positions.dtype != torch.int32:
        raise DtypeError(f"reduce: positions are {positions.dtype}; pass torch.int32")
    tokens, columns = out.shape
    fits = rows.shape == (tokens * topk, columns) and rows.is_contiguous()
    if not fits or out.stride(1) != 1 or not (rows.is_cpu and out.is_cpu):
        raise ArgumentError(
            f"reduce: contiguous rows {list(rows.shape)} with topk {topk} do not sum to rows of "
            f"{list(out.shape)} with strides {out.stride()}"
        )
    if positions is not None and positions.shape != (tokens, topk):
        raise ArgumentError(f"reduce: positions {list(positions.shape)} must be [{tokens}, {topk}]")
    return code
