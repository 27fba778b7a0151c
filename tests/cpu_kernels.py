# SPDX-License-Identifier: MIT
"""Runs one CPU stage kernel by itself, serially, beside a float64 reference of its operands.

Weight bytes are laid out here by the formulas of the layouts, not by `aiter_moe.layouts`. Padding
columns of scales are random, pads of the sort carry NaN weights, outputs, workspace and scratch
start as NaN: a kernel that reads what it must not is found out.
"""

from __future__ import annotations

import ctypes
import random
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from reference import activate

from aiter_moe.codegen.build import ensure
from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.codegen.cpu import SHAPES, feature_flags
from aiter_moe.codegen.instance import BLOCK_M, Instance, Output
from aiter_moe.codegen.render import render
from aiter_moe.codegen.unit import BuildUnit
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.formats import dequantise
from aiter_moe.targets.arguments import ElementType, StageArgs
from aiter_moe.targets.cpu import set_tile
from aiter_moe.targets.cpu_features import read_cpuinfo

# What stands in for a feature: others that must be there, and compiler flags. vpdpbusd on 256 bits
# has an encoding of AVX-512 too; vdpbf16ps gives way to FMAs (csrc/cpu/bf16_dot.h).
_WIDE_VNNI = frozenset({"avx512_vnni", "avx512vl"})
STAND_INS = {
    "avx_vnni": (_WIDE_VNNI, feature_flags(_WIDE_VNNI)),
    "avx512_bf16": (frozenset(), ("-DAITER_MOE_BF16_DOT_IN_F32",)),
}


def runnable_unit(instance: Instance) -> BuildUnit:
    """Return the build of an instance for this CPU, or skip where it cannot run."""
    unit, have = render(instance), read_cpuinfo().features
    missing = instance.tile.requires - have
    for feature, (others, flags) in STAND_INS.items():
        if feature in missing and others <= have:
            missing -= {feature}
            without = set(unit.flags) - set(feature_flags(frozenset({feature})))
            unit = replace(unit, flags=(*sorted(without), *flags))
    if missing:
        pytest.skip(f"this CPU lacks {', '.join(sorted(missing))}")
    return unit


@cache
def library(instance: Instance) -> ctypes.CDLL:
    lib = ctypes.CDLL(str(ensure(runnable_unit(instance)).path))
    lib.aiter_moe_scratch_bytes.restype = ctypes.c_long
    lib.aiter_moe_items.restype = ctypes.c_long
    lib.aiter_moe_run.argtypes = (
        ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_long, ctypes.c_int,
    )  # fmt: skip
    assert lib.aiter_moe_args_size() == ctypes.sizeof(StageArgs)
    return lib


@dataclass(frozen=True)
class Crew:
    """Who runs the items of a phase, and in which order: results must not tell."""

    threads: int = 1
    together: int = 3
    seed: int | None = None

    def chunks(self, items: int) -> list[tuple[int, int, int]]:
        """Return begin, end and worker of each call: last to first, or shuffled by the seed."""
        begins = list(range(0, items, self.together))[::-1]
        if self.seed is not None:
            random.Random(self.seed).shuffle(begins)
        return [
            (begin, min(begin + self.together, items), index % self.threads)
            for index, begin in enumerate(begins)
        ]


def launch(instance: Instance, args: StageArgs, crew: Crew) -> None:
    """Run all phases, on one thread that takes the part of every worker in turn."""
    lib = library(instance)
    set_tile(args, instance)
    args.threads = crew.threads
    by_reference = ctypes.byref(args)
    size = lib.aiter_moe_scratch_bytes(by_reference)
    scratch = np.full(size + 64, 0xFF, np.uint8)
    args.scratch = scratch.ctypes.data + -scratch.ctypes.data % 64
    for phase in range(lib.aiter_moe_phases(by_reference)):
        for begin, end, worker in crew.chunks(lib.aiter_moe_items(by_reference, phase)):
            lib.aiter_moe_run(by_reference, phase, begin, end, worker)
    assert (scratch[args.scratch - scratch.ctypes.data + size :] == 0xFF).all()


def panels(codes: np.ndarray, scales: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lay codes [E, N, K/2] and scales [E, N, K/32] out as panels of 64 rows.

    Rows past N hold random bytes.
    """
    experts, rows, width = codes.shape
    blocks, tall = width // 16, -(-rows // 64) * 64
    codes64 = rng.integers(0, 256, (experts, tall, width), dtype=np.uint8)
    scales64 = rng.integers(0, 255, (experts, tall, blocks), dtype=np.uint8)
    codes64[:, :rows], scales64[:, :rows] = codes, scales
    tiles = np.empty((experts, tall // 64, blocks, 1088), np.uint8)
    tiles[..., :64] = scales64.reshape(experts, -1, 64, blocks).swapaxes(2, 3)
    # expert, panel, group, column, block, line, byte -> expert, panel, block, group, line, ...
    parts = codes64.reshape(experts, -1, 4, 16, blocks, 4, 4).transpose(0, 1, 4, 2, 5, 3, 6)
    tiles[..., 64:] = parts.reshape(experts, -1, blocks, 1024)
    return tiles


def interleave(rows: np.ndarray) -> np.ndarray:
    """Reorder axis 1 from gate rows, up rows to 16 gate, 16 up, 16 gate, ..."""
    experts, count = rows.shape[:2]
    halves = rows.reshape(experts, 2, count // 32, 16, *rows.shape[2:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


@dataclass
class Sorted:
    ids: np.ndarray
    weights: np.ndarray
    experts: np.ndarray
    valid: np.ndarray
    expert_of: np.ndarray  # [T, k]


def sort(expert_of: np.ndarray, weights: np.ndarray, experts: int, block: int) -> Sorted:
    """Sort (token, slot) pairs by expert; entries past the end hold what must not be read."""
    tokens, topk = expert_of.shape
    ids, sorted_weights, owners = [], [], []
    for expert in range(experts):
        token, slot = np.nonzero(expert_of == expert)
        pads = -len(token) % block
        ids += [*(slot << 24 | token), *[topk << 24 | tokens] * pads]
        sorted_weights += [*weights[token, slot], *[np.nan] * pads]
        owners += [expert] * ((len(token) + pads) // block)
    used = len(ids)
    tail = [topk << 24 | tokens] * block
    return Sorted(
        np.array([*ids, *tail], np.uint32).view(np.int32),
        np.array([*sorted_weights, *[np.nan] * block], np.float32),
        np.array([*owners, -1], np.int32),
        np.array([used, tokens], np.int32),
        expert_of,
    )


@dataclass
class Case:
    """Operands of one stage; plain quantised tensors with what the kernel is to do with them."""

    instance: Instance
    x: torch.Tensor  # bf16 [rows, K], or codes uint8 [rows, K/2]
    x_scale: torch.Tensor | None
    codes: torch.Tensor  # uint8 [E, N, K/2]
    scales: torch.Tensor  # uint8 [E, N, K/32]
    sorted: Sorted
    weights: np.ndarray  # routing weights [T, k]
    bias: torch.Tensor | None = None
    doweight: bool = False
    interleaved: bool = False  # w1 of a GPU kernel; panels interleave gate and up rows always
    ksplit: int = 1
    constants: dict[str, float] = field(default_factory=dict)
    crew: Crew = Crew()
    final_dtype: torch.dtype = torch.float32

    @property
    def columns(self) -> int:
        return self.codes.shape[1] // (2 if self.instance.stage == 1 else 1)

    @property
    def final(self) -> bool:
        """Whether a CPU kernel leaves the output itself, of `final_dtype`."""
        return self.instance.target == "cpu" and self.instance.tile.output is Output.FINAL

    @property
    def rows(self) -> int:
        return self.weights.shape[0] if self.final else self.weights.size

    def run(self, margin: int = 16) -> torch.Tensor:
        """Return the kernel's [T*k, columns + margin]; what it does not write stays NaN.

        [T, columns + margin] of a final output, half of whose margin must become zero.
        """
        rng = np.random.default_rng(7)
        codes, scales = self.codes.numpy(), self.scales.numpy()
        if self.instance.stage == 1:
            codes, scales = interleave(codes), interleave(scales)
        w = panels(codes, scales, rng)
        dtype = torch.bfloat16 if self.instance.stage == 1 else self.final_dtype
        out = torch.full((self.rows, self.columns + margin), torch.nan, dtype=dtype)
        padded = len(self.sorted.experts) * self.instance.block_m
        workspace = np.full(self.ksplit * padded * 2 * self.columns, np.nan, np.float32)
        pointers = {
            "w": w, "sorted_ids": self.sorted.ids,
            "sorted_weights": self.sorted.weights, "sorted_expert_ids": self.sorted.experts,
            "num_valid_ids": self.sorted.valid, "workspace": workspace,
        }  # fmt: skip
        args = StageArgs(**{name: array.ctypes.data for name, array in pointers.items()})
        args.x, args.out = self.x.data_ptr(), out.data_ptr()
        args.x_stride = self.x.shape[1] * (1 if self.x_scale is None else 2)
        args.x_type = ElementType.of(self.x.dtype)
        if self.x_scale is not None:
            args.x_scale, args.x_scale_stride = self.x_scale.data_ptr(), self.x_scale.shape[1]
        if self.bias is not None:
            args.bias, args.bias_stride = self.bias.data_ptr(), self.bias.shape[1]
        args.tokens, args.topk = self.weights.shape
        args.w_rows, args.w_k = w.shape[1] * 64, w.shape[2] * 32
        args.n, args.k = self.columns, self.scales.shape[2] * 32
        args.out_stride, args.sorted_rows = out.shape[1], padded
        args.ksplit, args.doweight = self.ksplit, int(self.doweight)
        for name, value in self.constants.items():
            setattr(args, name, value)
        args.out_columns, args.out_type = self.columns + margin // 2, ElementType.of(dtype)
        launch(self.instance, args, self.crew)
        if self.final:
            padding = out[:, self.columns : args.out_columns]
            assert (padding == 0).all()
            padding[:] = torch.nan
        return out

    def reference(self) -> torch.Tensor:
        """Return float64 [T*k, columns] of the same operands; NaN rows of experts not held.

        Of a final output the sums [T, columns] over slots.
        """
        out = torch.full((self.weights.size, self.columns), torch.nan, dtype=torch.float64)
        x = self.x.double() if self.x_scale is None else dequantise(self.x, self.x_scale).double()
        topk = self.weights.shape[1]
        owner = torch.from_numpy(self.sorted.expert_of).reshape(-1)
        weight = torch.from_numpy(self.weights).double().reshape(-1, 1)
        for expert in range(self.codes.shape[0]):
            rows = torch.nonzero(owner == expert).reshape(-1)
            if not len(rows):
                continue
            w = dequantise(self.codes[expert], self.scales[expert]).double()
            y = x[rows // topk if self.instance.stage == 1 else rows] @ w.T
            bias = 0.0 if self.bias is None else self.bias[expert].double()
            factor = weight[rows] if self.doweight else 1.0
            if self.instance.stage == 1:
                gate, up = (y * factor + bias).chunk(2, -1)
                assert self.instance.activation is not None
                y = activate(gate, up, self.instance.activation, **self.constants)
            else:
                y = (y + bias) * factor
            out[rows] = y
        return out.view(-1, topk, self.columns).nansum(1) if self.final else out


def quantised_rows(rows: int, k: int, kind: Kind, seed: int):
    """Return random activations: bf16 without scales, or fp4 codes with e8m0 scales."""
    g = torch.Generator().manual_seed(seed)
    if kind is Kind.A16W4:
        return torch.randn(rows, k, generator=g).to(torch.bfloat16), None
    codes = torch.randint(0, 256, (rows, k // 2), generator=g, dtype=torch.uint8)
    return codes, torch.randint(124, 129, (rows, k // 32), generator=g, dtype=torch.uint8)


@dataclass(frozen=True)
class Shape:
    """Sizes of one stage: n is what it computes (inter_dim or model_dim), k what it reduces."""

    tokens: int
    topk: int
    experts: int
    n: int
    k: int


def route(shape: Shape, routing: str, g: torch.Generator) -> np.ndarray:
    """Choose experts [T, k]; -1 is an expert held elsewhere."""
    chosen = torch.stack(
        [torch.randperm(shape.experts, generator=g)[: shape.topk] for _ in range(shape.tokens)]
    )
    if routing == "one":
        chosen[:] = -1
        chosen[:, -1] = 1
    if routing == "sparse":
        chosen[chosen % 2 == 1] = -1
    return chosen.numpy()


def make_case(
    instance: Instance,
    shape: Shape,
    *,
    seed: int = 0,
    routing: str = "random",
    bias: bool = False,
    **options: Any,
) -> Case:
    """Make random operands; `routing` is random, one (expert 1 has all) or sparse (even ones)."""
    g = torch.Generator().manual_seed(seed)
    rows = shape.n * (2 if instance.stage == 1 else 1)
    chosen = route(shape, routing, g)
    weights = torch.rand(shape.tokens, shape.topk, generator=g).numpy()
    centre = 126 - round(float(np.log2(shape.k / 8.0)) / 2)
    x_rows = shape.tokens * (shape.topk if instance.stage == 2 else 1)
    x, x_scale = quantised_rows(x_rows, shape.k, instance.kind, seed)
    size = (shape.experts, rows, shape.k // 2)
    scale_size = (shape.experts, rows, shape.k // 32)
    return Case(
        instance=instance,
        x=x,
        x_scale=x_scale,
        codes=torch.randint(0, 256, size, generator=g, dtype=torch.uint8),
        scales=torch.randint(centre - 1, centre + 2, scale_size, generator=g).to(torch.uint8),
        sorted=sort(chosen, weights, shape.experts, instance.block_m),
        weights=weights,
        bias=torch.randn(shape.experts, rows, generator=g) if bias else None,
        **options,
    )


def relative_l2(got: torch.Tensor, want: torch.Tensor) -> float:
    """||got - want|| / ||want|| over held rows; NaN if the kernel wrote where it must not."""
    columns = want.shape[1]
    held = ~want[:, 0].isnan()
    outside = got[~held].isnan().all() and got[:, columns:].isnan().all()
    assert outside, "the kernel wrote rows or columns that are not its own"
    return float((got[held, :columns].double() - want[held]).norm() / want[held].norm())


ACTIVATION_CONSTANTS: dict[ActivationType | None, dict[str, float]] = {
    None: {},
    ActivationType.Silu: {},
    ActivationType.Gelu: {},
    ActivationType.Swiglu: {"limit": 7.0},
    ActivationType.Situv2: {"beta": 4.0, "linear_beta": 25.0},
}
BF16_OUT, F32_OUT = 4e-3, 1e-5  # relative L2 that rounding to the output type allows


every_kernel = pytest.mark.parametrize(
    ("isa", "kind"), [pytest.param(*key, id=f"{key[0]}-{key[1]}") for key in SHAPES]
)
"""Tests of every micro-kernel: their instruction set and kind."""


def every_shape(kind: Kind | None = None) -> pytest.MarkDecorator:
    """Tests of every shape of every micro-kernel (of a kind): a stage-2 instance with rows out."""
    found: dict[tuple[str, Kind, int, int], Instance] = {}
    for i in catalogue("cpu"):
        if i.stage == 2 and i.tile.output is Output.ROWS and i.block_m == 32:
            found.setdefault((i.tile.isa, i.kind, i.tile.rows, i.tile.groups), i)
    chosen = [i for i in found.values() if kind in (None, i.kind)]
    ids = [f"{i.kind}-{i.tile.code_label}" for i in chosen]
    return pytest.mark.parametrize("instance", chosen, ids=ids)


def instance_of(
    isa: str, kind: Kind, stage: int, block_m: int, output: Output | None = None, **fields: object
) -> Instance:
    """Return an instance of the catalogue with these fields; block_m picks among tiles.

    Stage 2 leaves rows unless told otherwise.
    """
    output = output or (Output.BF16 if stage == 1 else Output.ROWS)
    found = [
        i
        for i in catalogue("cpu")
        if (i.tile.isa, i.kind, i.stage, i.block_m) == (isa, kind, stage, block_m)
        and i.tile.output is output
        and all(getattr(i, name) == value for name, value in fields.items())
    ]
    # Far enough from each other to differ in shape, columns and prefetch distance.
    return found[7 * BLOCK_M.index(block_m) % len(found)]


def bound(instance: Instance) -> float:
    return BF16_OUT if instance.stage == 1 else F32_OUT
