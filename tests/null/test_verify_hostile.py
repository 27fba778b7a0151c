# SPDX-License-Identifier: MIT
"""The hostile launcher: what is padding becomes NaN, and what is touched outside is seen."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from aiter_moe.formats import NAN_SCALE
from aiter_moe.layouts import S
from aiter_moe.targets.arguments import StageArgs
from aiter_moe.targets.base import DeviceFacts, RoutedTokens, SortedTokens
from aiter_moe.verify.hostile import HostileLauncher, pad_slots, written

CPU = torch.device("cpu")


@dataclass
class Recorder:
    """A launcher that notes what it is asked, with a fixed result of the sort."""

    tiled: bool = True
    asked: list = field(default_factory=list)
    facts: DeviceFacts = field(default_factory=lambda: DeviceFacts("gfx950", 256))

    def sort(self, *arguments):
        self.asked.append("sort")
        pad = 2 << 24 | 3
        ids = [0, 1 << 24 | 2, pad, pad, 1, 2, 1 << 24, pad, pad, pad, pad, pad]
        return SortedTokens(
            torch.tensor(ids, dtype=torch.int32), torch.ones(12),
            torch.tensor([0, 1, -1], dtype=torch.int32), torch.tensor([8, 3], dtype=torch.int32),
        )  # fmt: skip

    def quantise(self, x, routed):
        self.asked.append(routed)
        return x, x

    def stage_scales(self, scales, routed):
        return S.shuffle(torch.full((12, 8), 5, dtype=torch.uint8)) if self.tiled else scales

    def run_stage(self, instance, args, tensors):
        self.asked.append((instance, args, tensors))

    def reduce(self, rows, routed, out):
        out.copy_(rows)


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def hostile(recorder):
    return HostileLauncher(recorder, topk=2, reduction=160)


def routed(hostile):
    return hostile.sort(RoutedTokens(torch.zeros(3, 2), torch.zeros(3, 2), 2), 4)


def test_pads_and_slots_past_the_end_get_a_weight_of_nan(hostile):
    found = routed(hostile)
    pads = [False, False, True, True, False, False, False, True] + 4 * [True]
    assert pad_slots(found, 2).tolist() == pads
    assert found.weights.isnan().tolist() == pads


def test_scales_of_pads_and_of_columns_past_the_reduction_become_nan(hostile):
    laid = hostile.stage_scales(torch.zeros(3, 5, dtype=torch.uint8), routed(hostile))
    rows = S.unshuffle(laid)
    real = ~pad_slots(routed(hostile), 2)
    assert (rows[:12][real, :5] == 5).all()
    assert (rows[:, 5:] == NAN_SCALE).all()
    assert (rows[:12][~real] == NAN_SCALE).all()
    assert (rows[12:] == NAN_SCALE).all()


def test_scales_that_a_target_takes_as_they_are_stay(recorder, hostile):
    recorder.tiled = False
    scales = torch.zeros(3, 5, dtype=torch.uint8)
    assert hostile.stage_scales(scales, routed(hostile)) is scales


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_memory_is_nan_inside_more_nan_and_every_element_written_outside_is_counted(hostile, dtype):
    out = hostile.empty((5, 64), dtype, CPU)
    assert out.shape == (5, 64)
    assert out.isnan().all()
    assert out.stride(0) > 64
    given = hostile.given[0]
    assert given.spilt() == 0
    out[:] = 1.0
    assert given.spilt() == 0
    assert written(given.inside).all()
    whole = out.as_strided((6, out.stride(0)), out.stride())
    whole[2, 64] = 0.0
    whole[5, 3] = torch.nan  # another NaN than the one it was filled with
    assert given.spilt() == 2


def test_a_workspace_lies_in_a_row_with_a_margin_behind(hostile):
    space = hostile.empty((2, 8, 64), torch.float32, CPU)
    assert space.is_contiguous()
    assert space.isnan().all()
    space.as_strided((2 * 8 * 64 + 1,), (1,))[-1] = 0.0
    assert hostile.given[0].spilt() == 1


def test_everything_else_goes_on_to_the_target(recorder, hostile):
    args, rows = StageArgs(), torch.ones(2, 4)
    hostile.run_stage("kernel", args, [rows])
    hostile.quantise(rows)
    out = torch.zeros(2, 4)
    hostile.reduce(rows, routed(hostile), out)
    assert recorder.asked == [("kernel", args, [rows]), None, "sort"]
    assert torch.equal(out, rows)
    assert hostile.facts.gfx == "gfx950"
