# SPDX-License-Identifier: MIT
"""A whole MoE layer of one shape on the CPU: one call into the support library.

What the call does is in csrc/cpu/runtime/layer.h. Everything that does not change from call to
call is laid down once; a call fills in addresses and allocates nothing.
"""

from __future__ import annotations

import ctypes

from aiter_moe.codegen.instance import Output
from aiter_moe.enums import Kind
from aiter_moe.errors import ArgumentError
from aiter_moe.targets.arguments import ElementType, StageArgs
from aiter_moe.targets.base import LayerShape, LayerTensors
from aiter_moe.targets.cpu_arena import Arena
from aiter_moe.targets.cpu_arguments import LayerCall, LayerPlan, StageKernel
from aiter_moe.targets.cpu_runtime import Kernel, Runtime
from aiter_moe.targets.cpu_sort import SORTED, refused
from aiter_moe.targets.cpu_tile import set_tile
from aiter_moe.targets.routed_pairs import check_capacity, used_slots_bound

_NO_ARENA, _NO_OPERAND = -1, -2


class CpuLayer:
    """A layer of one shape (`aiter_moe.targets.base.Layer`), for several threads at once.

    Parameters
    ----------
    runtime : Runtime
        The support library.
    kernels : tuple of Kernel
        Those of the two stages.
    shape : LayerShape
        What is computed.
    threads : int
        Threads that may take part.
    arena : Arena
        Memory between the steps.

    Raises
    ------
    ArgumentError
        The pairs need more sorted slots than int32 counts.
    """

    def __init__(
        self,
        runtime: Runtime,
        kernels: tuple[Kernel, Kernel],
        shape: LayerShape,
        threads: int,
        arena: Arena,
    ) -> None:
        self._runtime = runtime
        self._kernels = kernels  # they own what the plan points to
        self._plan = _plan(kernels, shape)
        self._address = ctypes.addressof(self._plan)
        self._threads = threads
        self._arena = arena

    def run(self, tensors: LayerTensors) -> None:
        """Run the layer to its end.

        Raises
        ------
        ArgumentError
            An expert id is out of range, a routing weight is not finite, or the mask marks
            another number of experts than there are weights, or a tensor has no memory; the
            output is as it was.
        """
        x, x_scale, ids, weights, mask, processed, w1, w2, bias1, bias2, out = tensors
        runtime, threads, arena = self._runtime, self._threads, self._arena
        runtime.tune_for(threads)
        call = LayerCall(
            x.data_ptr(),
            None if x_scale is None else x_scale.data_ptr(),
            ids.data_ptr(),
            weights.data_ptr(),
            None if mask is None else mask.data_ptr(),
            w1.data_ptr(),
            w2.data_ptr(),
            None if bias1 is None else bias1.data_ptr(),
            None if bias2 is None else bias2.data_ptr(),
            out.data_ptr(),
            arena.address,
            arena.bytes,
            0,
            processed,
        )
        verdict = runtime.layer_run(self._address, ctypes.byref(call), threads)
        if verdict == _NO_ARENA:
            arena.grow(call.wanted_bytes)
            call.arena, call.arena_bytes = arena.address, arena.bytes
            verdict = runtime.layer_run(self._address, ctypes.byref(call), threads)
            arena.shrink()
        if verdict == _NO_OPERAND:
            raise ArgumentError(
                "a tensor has no memory of its own, as fake, meta and wrapped ones; pass what it "
                "stands for, or call where its mode is active"
            )
        if verdict != SORTED:
            plan = self._plan
            raise refused(verdict, call, plan.experts, plan.held)


def _plan(kernels: tuple[Kernel, Kernel], shape: LayerShape) -> LayerPlan:
    plan = LayerPlan(
        *(StageKernel(kernel.entry_points, kernel.scratch_entry) for kernel in kernels)
    )
    first, second = plan.stage1, plan.stage2
    block = shape.stage1.block_m
    slots = used_slots_bound(shape.tokens * shape.topk, shape.experts, block)
    check_capacity((shape.tokens, shape.topk), shape.experts, block, slots)
    for args, instance in ((first, shape.stage1), (second, shape.stage2)):
        set_tile(args, instance)
        args.tokens, args.topk, args.sorted_rows, args.ksplit = shape.tokens, shape.topk, slots, 1
    _fill_stage1(first, shape)
    _fill_stage2(second, shape)
    plan.experts, plan.held = shape.experts, shape.held
    plan.quantise = shape.stage1.kind is Kind.A4W4 and shape.x.kind is not ElementType.fp4
    plan.reduce = shape.stage2.tile.output is Output.ROWS
    return plan


def _fill_stage1(args: StageArgs, shape: LayerShape) -> None:
    args.n, args.k = shape.inter_dim, shape.model_dim
    args.x_type, args.x_stride = shape.x.kind, shape.x.stride
    args.x_scale_stride = shape.x_scale_stride
    args.w_rows, args.w_k = shape.weight1
    args.bias_stride = shape.bias1
    args.out_stride, args.out_columns = shape.inter_dim, shape.inter_dim
    args.doweight = shape.doweight_stage1
    args.limit, args.beta, args.linear_beta = shape.limit, shape.beta, shape.linear_beta
    if shape.stage1.split_k:
        args.ksplit = max(shape.ksplit, 1)


def _fill_stage2(args: StageArgs, shape: LayerShape) -> None:
    args.n, args.k = shape.model_dim, shape.inter_dim
    args.x_type, args.x_stride = ElementType.bf16, shape.inter_dim
    args.w_rows, args.w_k = shape.weight2
    args.bias_stride = shape.bias2
    args.out_type, args.out_stride = shape.out.kind, shape.out.stride
    args.out_columns = shape.out_columns
    args.doweight = not shape.doweight_stage1
