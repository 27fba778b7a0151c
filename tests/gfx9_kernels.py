# SPDX-License-Identifier: MIT
"""Runs one gfx950 or gfx942 stage as compiled, in the emulator, on operands of a CPU test case.

Bytes are laid out here by the formulas of the layouts. Padding is hostile: codes of 6, scale bytes
of NaN, NaN routing weights, NaN activations past k; outputs and workspace start as NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from cpu_kernels import Case, interleave

from aiter_moe.codegen.build import ensure
from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.codegen.gfx9 import gfx9_tile, launches
from aiter_moe.codegen.instance import Instance, Output
from aiter_moe.codegen.render import render
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.targets.arguments import ElementType, StageArgs
from aiter_moe.targets.emulator_library import emulator

SIX_SIX, NAN_SCALE, NAN_BF16, UNTOUCHED = 0x77, 0xFF, 0x7FC0, 0xA5
MARGIN = 32


def instance_of(
    target: str, kind: Kind, stage: int, block_m: int, activation: ActivationType | None = None,
    *, split_k: bool = False, widest: bool = True,
) -> Instance:  # fmt: skip
    """Return the widest (or narrowest) tile with these fields, such that it leaves plain rows."""
    wanted = (kind, stage, block_m, activation, split_k)
    found = [
        i for i in catalogue(target)
        if (i.kind, i.stage, i.block_m, i.activation, i.split_k) == wanted and not i.tile.direct
    ]  # fmt: skip
    found.sort(key=lambda i: i.tile.parameters()["threads"] * i.tile.block_n)
    return with_output(found[-1 if widest else 0], Output.BF16 if stage == 1 else Output.ROWS)


def with_output(instance: Instance, output: Output) -> Instance:
    """Return the same tile with another epilogue."""
    return replace(instance, tile=replace(gfx9_tile(instance), output=output))


gfx950 = partial(instance_of, "gfx950")


def assembly(instance: Instance) -> Path:
    """Return the assembly that the instance's code object was made from."""
    path = ensure(render(instance)).path.with_name("kernel.s")
    if not path.exists():
        pytest.skip("hipcc compiles in one step and leaves no assembly; unset HIPCC and ROCM_PATH")
    return path


def compiled(instance: Instance) -> bytes:
    return ensure(render(instance)).path.read_bytes()


def rounded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def padded(array: np.ndarray, shape: tuple[int, ...], value: int) -> np.ndarray:
    out = np.full(shape, value, array.dtype)
    out[tuple(slice(n) for n in array.shape)] = array
    return out


def code_tiles(codes: np.ndarray) -> np.ndarray:
    """Lay [E, N, K/2] out in map W, K padded to a multiple of 64."""
    experts, rows, width = codes.shape
    full = padded(codes, (experts, rows, rounded(width, 32)), SIX_SIX)
    tiles = full.reshape(experts, rows // 16, 16, -1, 16)
    return np.ascontiguousarray(tiles.transpose(0, 1, 3, 2, 4))


def scale_tiles(scales: np.ndarray) -> tuple[np.ndarray, int]:
    """Lay [R, K/32] out in map S; return the bytes and their columns."""
    rows, columns = rounded(scales.shape[0], 32), rounded(scales.shape[1], 8)
    full = padded(scales, (rows, columns), NAN_SCALE)
    parts = full.reshape(rows // 32, 2, 16, columns // 8, 2, 4)
    return np.ascontiguousarray(parts.transpose(0, 3, 5, 2, 4, 1)), columns


@dataclass
class Run:
    """A case made ready for a launch: arguments, and the tensors they point to."""

    case: Case
    args: StageArgs = field(default_factory=StageArgs)
    tensors: list[np.ndarray] = field(default_factory=list)

    def point(self, name: str, array: np.ndarray) -> np.ndarray:
        array = np.ascontiguousarray(array)
        self.tensors.append(array)
        setattr(self.args, name, array.ctypes.data)
        return array

    def activations(self) -> None:
        case, args = self.case, self.args
        if case.x_scale is None:
            bits = case.x.view(torch.int16).numpy().view(np.uint16)
            rows, k = bits.shape
            args.x_stride = k + 8
            self.point("x", padded(bits, (rows, k + 8), NAN_BF16))
            return
        self.point("x", case.x.numpy())
        args.x_stride = 2 * case.x.shape[1]
        ids = case.sorted.ids.view(np.uint32)
        used = int(case.sorted.valid[0])
        token, slot = (ids & 0xFFFFFF).astype(int), (ids >> 24).astype(int)
        topk = case.weights.shape[1]
        source = token if case.instance.stage == 1 else token * topk + slot
        gathered = np.full((self.sorted_rows, case.x_scale.shape[1]), NAN_SCALE, np.uint8)
        real = np.flatnonzero((slot < topk) & (np.arange(len(ids)) < used))
        gathered[real] = case.x_scale.numpy()[source[real]]
        tiles, args.x_scale_stride = scale_tiles(gathered)
        self.point("x_scale", tiles)

    @property
    def sorted_rows(self) -> int:
        return len(self.case.sorted.experts) * self.case.instance.block_m

    def weights(self) -> None:
        case, args = self.case, self.args
        codes, scales = case.codes.numpy(), case.scales.numpy()
        if case.interleaved:
            codes, scales = interleave(codes), interleave(scales)
        tiles = self.point("w", code_tiles(codes))
        columns = scales.shape[2]
        scale, args.w_scale_cols = scale_tiles(scales.reshape(-1, columns))
        self.point("w_scale", scale)
        args.w_rows = codes.shape[1]
        args.w_k, args.k = tiles.shape[2] * 32, columns * 32

    def routing(self) -> None:
        case, args = self.case, self.args
        for name, array in (
            ("sorted_ids", case.sorted.ids),
            ("sorted_weights", case.sorted.weights),
            ("sorted_expert_ids", case.sorted.experts),
            ("num_valid_ids", case.sorted.valid),
        ):
            self.point(name, array)
        args.tokens, args.topk = case.weights.shape
        args.sorted_rows, args.doweight = self.sorted_rows, int(case.doweight)

    def outputs(self) -> torch.Tensor:
        """Let the output be rows token * topk + slot of NaN, with a margin of columns."""
        case, args = self.case, self.args
        dtype = torch.bfloat16 if case.instance.stage == 1 else torch.float32
        out = torch.full((case.rows, case.columns + MARGIN), torch.nan, dtype=dtype)
        bits = torch.int16 if dtype == torch.bfloat16 else dtype
        self.point("out", out.view(bits).numpy())
        args.n, args.out_stride = case.columns, out.shape[1]
        return out

    def workspace(self) -> None:
        case = self.case
        if case.instance.split_k:
            size = case.ksplit * self.sorted_rows * 2 * case.columns
            self.point("workspace", np.full(size, np.nan, np.float32))

    def quantised_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Let the output be fp4 rows and their scales in map S, with a margin of columns each."""
        case, args = self.case, self.args
        stride = case.columns + MARGIN
        codes = self.point("out", np.full((case.rows, stride // 2), UNTOUCHED, np.uint8))
        columns = rounded(stride // 32, 8)
        size = (rounded(self.sorted_rows, 32), columns)
        scales = self.point("out_scale", np.full(size, UNTOUCHED, np.uint8))
        args.n, args.out_stride, args.out_scale_stride = case.columns, stride, columns
        return codes, scales

    def sums(self, dtype: torch.dtype) -> torch.Tensor:
        """Let the output be zeroed rows of tokens, with a margin of NaN columns."""
        case, args = self.case, self.args
        out = torch.full((args.tokens, case.columns + MARGIN), torch.nan, dtype=dtype)
        out[:, : case.columns] = 0
        bits = torch.int16 if dtype == torch.bfloat16 else dtype
        self.point("out", out.view(bits).numpy())
        args.n, args.out_stride = case.columns, out.shape[1]
        args.out_type = int(ElementType.of(dtype))
        return out

    def launch(self, seed: int = 0, code_object: bytes | None = None) -> None:
        """Run all kernels of the stage; `code_object` stands in for the instance's own."""
        case, args = self.case, self.args
        self.workspace()
        if case.bias is not None:
            args.bias_stride = self.point("bias", case.bias.numpy()).shape[1]
        args.interleaved, args.ksplit = int(case.interleaved), case.ksplit
        for name, value in case.constants.items():
            setattr(args, name, value)
        for step in launches(case.instance, args):
            emulator(case.instance.target).launch(
                code_object or compiled(case.instance), step.symbol, step.grid, step.threads,
                bytes(args), self.tensors, seed=seed,
            )  # fmt: skip


def laid_out(run: Run) -> Run:
    """Return `run` with its operands in memory, and no output yet."""
    run.activations()
    run.weights()
    run.routing()
    return run


def run(
    case: Case, seed: int = 0, code_object: bytes | None = None, ready: Run | None = None
) -> torch.Tensor:
    """Return the kernels' [T*k, columns + MARGIN]; what they do not write stays NaN.

    `code_object` stands in for the instance's own, `ready` makes tensors of another kind.

    Raises
    ------
    EmulatorFaultError
        If a kernel does what is not allowed.
    """
    made = laid_out(ready or Run(case))
    out = made.outputs()
    made.launch(seed, code_object)
    assert out[:, case.columns :].isnan().all(), "columns past n were written"
    return out[:, : case.columns]
