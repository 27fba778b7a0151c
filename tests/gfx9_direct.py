# SPDX-License-Identifier: MIT
"""Runs a whole MoE layer of a few tokens by two direct kernels, or stage by stage after a sort.

Both in the emulator, on bytes laid out here; padding is hostile and outputs start as NaN, as in
`gfx9_kernels`, which runs the sorted stages.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import torch
from cpu_kernels import ACTIVATION_CONSTANTS, Case, interleave, sort
from gfx9_kernels import (
    MARGIN,
    NAN_BF16,
    code_tiles,
    compiled,
    instance_of,
    padded,
    rounded,
    scale_tiles,
)
from gfx9_kernels import run as run_stage
from reference import MoeProblem, reference_moe

from aiter_moe.codegen.gfx9 import launches
from aiter_moe.codegen.gfx9.direct import DirectTile
from aiter_moe.codegen.instance import Instance, Output
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.formats import NAN_SCALE, quantise_1x32
from aiter_moe.targets.arguments import ElementType, StageArgs
from aiter_moe.targets.emulator_library import emulator


def direct(
    target: str, kind: Kind, stage: int, columns: int = 16, *, waves: int = 4,
    parts: int | None = None, depth: int = 1, activation: ActivationType = ActivationType.Silu,
    output: Output | None = None,
) -> Instance:  # fmt: skip
    """Return a direct kernel; in stage 1 all waves share the block, in stage 2 one does."""
    if parts is None:
        parts = waves if stage == 1 else 1
    if output is None:
        output = Output.BF16 if stage == 1 else Output.FINAL
    tile = DirectTile(stage, columns, waves, parts, depth, 2, True, output)
    return Instance(target, kind, stage, 16, activation if stage == 1 else None, False, tile)


def pair(
    kind: Kind, columns: int = 16, *, target: str = "gfx950", in_order: bool = False,
    activation: ActivationType = ActivationType.Silu, output: Output | None = None,
) -> tuple[Instance, Instance]:  # fmt: skip
    """Return a stage 1 and a stage 2; `in_order`: no reduction is cut into parts."""
    return (
        direct(target, kind, 1, columns, waves=1 if in_order else 4, activation=activation,
               output=output),
        direct(target, kind, 2, columns, parts=1 if in_order else 2),
    )  # fmt: skip


def quantised(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return codes and scales as kernels make them: no codes under the NaN scale."""
    codes, scales = quantise_1x32(rows)
    undefined = (scales == NAN_SCALE).repeat_interleave(16, dim=1)
    return codes.masked_fill_(undefined, 0), scales


Rows: TypeAlias = torch.Tensor | tuple[torch.Tensor, torch.Tensor]
"""Rows of 16-bit floats, or their codes and scales."""


@dataclass
class Layer:
    """A problem with what the kernels are to do with it.

    `local` says which experts of `p.topk_ids` are held: the weights are those of the held ones.
    """

    p: MoeProblem
    kind: Kind
    activation: ActivationType = ActivationType.Silu
    interleaved: bool = False
    doweight_stage1: bool = False
    local: torch.Tensor | None = None
    local_tokens: int | None = None
    x_type: ElementType = ElementType.bf16
    out_dtype: torch.dtype = torch.float32
    hidden_pad: int = 0
    seed: int = 0
    tensors: list[np.ndarray] = field(default_factory=list)

    @property
    def constants(self) -> dict[str, float]:
        return ACTIVATION_CONSTANTS[self.activation]

    @property
    def counted(self) -> int:
        tokens = self.p.topk_ids.shape[0]
        return tokens if self.local_tokens is None else self.local_tokens

    @property
    def hidden(self) -> torch.Tensor:
        return self.p.x.to(torch.float16) if self.x_type is ElementType.f16 else self.p.x

    def experts_of(self) -> torch.Tensor:
        """Return local experts [T, k], -1 where a pair is not computed."""
        ids = self.p.topk_ids.long()
        if self.local is not None:
            held = self.local.bool()
            number = torch.where(held, held.cumsum(0) - 1, -1)
            ids = number[ids.clamp(0, len(held) - 1)]
        else:
            ids = ids.clamp(0, self.p.experts - 1)
        ids[self.counted :] = -1
        return ids

    # The two kernels.

    def point(self, args: StageArgs, name: str, array: np.ndarray) -> np.ndarray:
        array = np.ascontiguousarray(array)
        self.tensors.append(array)
        setattr(args, name, array.ctypes.data)
        return array

    def _weights(self, args: StageArgs, stage: int) -> None:
        p = self.p
        codes, scales = (p.w1, p.s1) if stage == 1 else (p.w2, p.s2)
        codes, scales = codes.numpy(), scales.numpy()
        if self.interleaved and stage == 1:
            codes, scales = interleave(codes), interleave(scales)
        tiles = self.point(args, "w", code_tiles(codes))
        columns = scales.shape[2]
        scale, args.w_scale_cols = scale_tiles(scales.reshape(-1, columns))
        self.point(args, "w_scale", scale)
        args.w_rows, args.w_k, args.k = codes.shape[1], tiles.shape[2] * 32, columns * 32
        bias = p.bias1 if stage == 1 else p.bias2
        if bias is not None:
            args.bias_stride = self.point(args, "bias", bias.numpy()).shape[1]

    def _routing(self, args: StageArgs) -> None:
        args.tokens, args.topk = self.p.topk_ids.shape
        args.experts = self.p.experts if self.local is None else len(self.local)
        self.point(args, "topk_ids", self.p.topk_ids.numpy())
        self.point(args, "topk_weights", self.p.topk_weights.numpy())
        if self.local is not None:
            self.point(args, "expert_mask", self.local.to(torch.int32).numpy())
        if self.local_tokens is not None:
            self.point(args, "local_tokens", np.array([self.local_tokens], np.int32))

    def _rows(
        self, args: StageArgs, stage: int, rows: torch.Tensor | tuple[torch.Tensor, torch.Tensor]
    ):
        if isinstance(rows, tuple):
            codes, scales = (r.numpy() for r in rows)
            args.x_type = ElementType.fp4
            args.x_stride = 2 * self.point(args, "x", codes).shape[1]
            # rows that a caller quantised begin anywhere, those of our own at multiples of 8
            pitch = scales.shape[1] + 3 if stage == 1 else rounded(scales.shape[1] + 1, 8)
            shape = (scales.shape[0], pitch)
            args.x_scale_stride = shape[1]
            self.point(args, "x_scale", padded(scales, shape, 0xFF))
            return
        bits = rows.view(torch.int16).numpy().view(np.uint16)
        shape = (bits.shape[0], bits.shape[1] + 8)
        args.x_type, args.x_stride = ElementType.of(rows.dtype), shape[1]
        self.point(args, "x", padded(bits, shape, NAN_BF16))

    def _launch(self, instance: Instance, args: StageArgs) -> None:
        for step in launches(instance, args):
            emulator(instance.target).launch(
                compiled(instance), step.symbol, step.grid, step.threads, bytes(args),
                self.tensors, seed=self.seed,
            )  # fmt: skip

    def _args(self, stage: int) -> StageArgs:
        args = StageArgs()
        self.tensors.clear()
        self._weights(args, stage)
        self._routing(args)
        args.ksplit, args.interleaved = 1, int(self.interleaved and stage == 1)
        args.doweight = int(self.doweight_stage1 == (stage == 1))
        return args

    def stage1(self, instance: Instance) -> Rows:
        """Return bf16 rows token * topk + slot, or codes and scales; unwritten ones are NaN."""
        args = self._args(1)
        fp4_x = self.x_type is ElementType.fp4
        self._rows(args, 1, quantised(self.hidden) if fp4_x else self.hidden)
        for name, value in self.constants.items():
            setattr(args, name, value)
        args.n = self.p.w2.shape[2] * 2
        count = args.tokens * args.topk
        args.out_stride = args.n + MARGIN
        if instance.tile.output is Output.FP4:
            codes = self.point(args, "out", np.full((count, args.out_stride // 2), 0x77, np.uint8))
            args.out_scale_stride = rounded(args.n // 32 + 1, 8)
            scales = self.point(
                args, "out_scale", np.full((count, args.out_scale_stride), 0xFF, np.uint8)
            )
            self._launch(instance, args)
            assert (codes[:, args.n // 2 :] == 0x77).all(), "codes past n were written"
            assert (scales[:, args.n // 32 :] == 0xFF).all(), "scales past n were written"
            return torch.from_numpy(codes[:, : args.n // 2].copy()), torch.from_numpy(
                scales[:, : args.n // 32].copy()
            )
        bits = self.point(args, "out", np.full((count, args.out_stride), NAN_BF16, np.uint16))
        self._launch(instance, args)
        assert (bits[:, args.n :] == NAN_BF16).all(), "columns past n were written"
        return torch.from_numpy(bits[:, : args.n].view(np.int16).copy()).view(torch.bfloat16)

    def stage2(self, instance: Instance, rows) -> torch.Tensor:
        """Return the layer's output [T, hidden + hidden_pad] of `out_dtype`."""
        args = self._args(2)
        self._rows(args, 2, rows)
        args.n = self.p.w2.shape[1]
        args.out_columns = args.n + self.hidden_pad
        args.out_stride, args.out_type = args.out_columns + 5, ElementType.of(self.out_dtype)
        shape = (args.tokens, args.out_stride)
        out = torch.full(shape, torch.nan, dtype=self.out_dtype)
        self.point(args, "out", out.view(torch.uint8).numpy())
        self._launch(instance, args)
        assert out[:, args.out_columns :].isnan().all(), "columns past the output were written"
        return out[:, : args.out_columns]

    def run(self, first: Instance, second: Instance) -> torch.Tensor:
        return self.stage2(second, self.stage1(first))

    # The same after a sort, with the steps between the stages in torch.

    def _case(self, stage: int, x: torch.Tensor, x_scale: torch.Tensor | None) -> Case:
        p = self.p
        activation = self.activation if stage == 1 else None
        weights = p.topk_weights.numpy()
        experts = self.experts_of().numpy()
        sliced = (p.w1, p.s1, p.bias1) if stage == 1 else (p.w2, p.s2, p.bias2)
        return Case(
            instance=instance_of("gfx950", self.kind, stage, 16, activation),
            x=x, x_scale=x_scale, codes=sliced[0], scales=sliced[1],
            sorted=sort(experts, weights, p.experts, 16), weights=weights, bias=sliced[2],
            doweight=self.doweight_stage1 == (stage == 1),
            interleaved=self.interleaved and stage == 1,
            constants=self.constants if stage == 1 else {},
        )  # fmt: skip

    def sorted_stage1(self) -> torch.Tensor:
        return run_stage(self._case(1, *self._operand(self.hidden)))

    def sorted_stage2(self, rows: torch.Tensor) -> torch.Tensor:
        down = run_stage(self._case(2, *self._operand(rows)))
        topk = self.p.topk_ids.shape[1]
        held = (self.experts_of() >= 0)[..., None]
        total = torch.zeros((len(held), down.shape[1] + self.hidden_pad))
        for slot in range(topk):
            own = total[:, : down.shape[1]]
            own += torch.where(held[:, slot], down[slot::topk], 0.0)
        return total.to(self.out_dtype)

    def _operand(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self.kind is Kind.A16W4:
            return rows, None
        return quantised(rows)

    def reference(self) -> torch.Tensor:
        """Return float64 [T, hidden]."""
        p = replace(self.p, topk_ids=self.p.topk_ids.clamp(0, self.p.experts - 1))
        local = None
        if self.local is not None:
            local = self.local.bool()
            p.topk_ids = self.p.topk_ids.clamp(0, len(local) - 1)
        want = reference_moe(
            p, self.activation, self.kind, doweight_stage1=self.doweight_stage1, local=local,
            **self.constants,
        )  # fmt: skip
        want[self.counted :] = 0
        return want
