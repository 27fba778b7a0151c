# SPDX-License-Identifier: MIT
"""A small catalogue, problems and rows for tests of tables and plans, independent of any target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from aiter_moe import dtypes
from aiter_moe.codegen.constraints import Rule
from aiter_moe.codegen.instance import BLOCK_M, Instance, Output
from aiter_moe.configs.table import Key, Row
from aiter_moe.configs.writer import cells_of
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.problem import Problem
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.verdict import Kernels

PUBLIC_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FACTS = DeviceFacts("gfx950", 256)
HASH = "0123456789abcdef"
ACTIVATIONS = (ActivationType.Silu, ActivationType.Gelu, ActivationType.Swiglu)


@dataclass(frozen=True, slots=True)
class FakeTile:
    label: str = "t"
    multiple: int = 32
    block_k: int = 64
    requires: frozenset[str] = frozenset()
    output: Output = Output.BF16
    direct: bool = False

    @property
    def template(self) -> str:
        return "none.j2"

    @property
    def compile_flags(self) -> tuple[str, ...]:
        return ()

    def parameters(self) -> dict[str, int | str | bool]:
        return {}

    def constraints(self):
        def check(problem, instance):
            if problem.inter_dim % self.multiple:
                return f"inter_dim {problem.inter_dim} is not a multiple of {self.multiple}"
            return None

        return (Rule("multiple", check),)


def catalogue(
    tile: Callable[[Kind, int, int], FakeTile] = lambda kind, stage, block: FakeTile(),
    blocks: tuple[int, ...] = BLOCK_M,
    target: str = "gfx950",
) -> Kernels:
    """Every kind, block and activation, with a split-k stage 1 for a16w4, fp4 rows for a4w4."""
    found = []
    for kind in Kind:
        for block in blocks:
            for act in ACTIVATIONS:
                one = tile(kind, 1, block)
                found.append(Instance(target, kind, 1, block, act, False, one))
                if kind is Kind.A16W4:
                    found.append(Instance(target, kind, 1, block, act, True, one))
                else:
                    fp4 = replace(one, label=f"{one.label}_fp4", output=Output.FP4)
                    found.append(Instance(target, kind, 1, block, act, False, fp4))
            down = replace(tile(kind, 2, block), output=Output.ROWS)
            found.append(Instance(target, kind, 2, block, None, False, down))
    return Kernels(target, tuple(found), HASH)


KERNELS = catalogue()


def name(
    kind: str,
    stage: int,
    block: int,
    act: str = "silu",
    split: bool = False,
    output: Output | None = None,
) -> str:
    """The name of an instance of `catalogue`; stage 1 of a4w4 leaves fp4 unless told otherwise."""
    usual = Output.ROWS if stage == 2 else Output.FP4 if kind == "a4w4" else Output.BF16
    found = [
        i.name
        for i in KERNELS.instances
        if (i.kind.value, i.stage, i.block_m, i.split_k) == (kind, stage, block, split)
        and (stage == 2 or i.activation.name.lower() == act)
        and i.tile.output is (output or usual)
    ]
    assert len(found) == 1
    return found[0]


def problem(kind: str = "a16w4", **changes) -> Problem:
    base = Problem(
        token=16, model_dim=1024, inter_dim=512, experts=32, topk=4,
        activation=ActivationType.Silu,
        q_dtype_a=dtypes.fp4x2 if kind == "a4w4" else torch.bfloat16,
    )  # fmt: skip
    return replace(base, **changes)


def row(of: Problem, facts: DeviceFacts = FACTS, **fields) -> Row:
    """A row for `of` with the default kernels of block 32."""
    kind = of.kind.value
    defaults = {
        "block_m": 32,
        "ksplit": 0 if kind == "a4w4" else 1,
        "kernel1": name(kind, 1, 32),
        "kernel2": name(kind, 2, 32),
        "template_hash": HASH,
        "file": "tuned.csv",
        "line": 2,
    }
    return Row(key=Key.of(of, facts), **(defaults | fields))


def write_csv(path: Path, rows: list[Row], drop: tuple[str, ...] = ()) -> Path:
    """Write rows without the package's writer, leaving out columns `drop`."""
    cells = [cells_of(row) for row in rows]
    header = [column for column in cells[0] if column not in drop]
    lines = [",".join(header), *(",".join(c[column] for column in header) for c in cells)]
    path.write_text("\n".join(lines) + "\n")
    return path
