# SPDX-License-Identifier: MIT
"""gfx1250's scale layout: aiter's bytes, its inverse, and refusal where kernels read another."""

from __future__ import annotations

import pytest
import torch
from golden import golden

from aiter_moe import LayoutError, PackedWeight, shuffle_scale_n32k4, shuffle_weight
from aiter_moe.layouts import unshuffle_scale_n32k4


@pytest.mark.parametrize("case", ["c0", "c1"])
def test_bytes_are_aiters_and_come_back(case):
    data = golden("shuffle_scale_n32k4_gfx1250")
    experts, rows, cols, interleave, gate_up = (int(v) for v in data[f"{case}_cfg"])
    src = torch.from_numpy(data[f"{case}_src"].copy()).reshape(experts * rows, cols)
    got = shuffle_scale_n32k4(src, experts, bool(interleave), bool(gate_up))
    assert torch.equal(got, torch.from_numpy(data[f"{case}_out"]))
    assert got.is_shuffled
    back = unshuffle_scale_n32k4(got, bool(interleave), bool(gate_up))
    assert torch.equal(back.reshape(src.shape), src)


@pytest.mark.parametrize("alternate", [False, True])
@pytest.mark.parametrize(("experts", "rows", "cols"), [(1, 32, 4), (3, 96, 12), (2, 64, 90 * 2)])
def test_every_byte_lies_where_the_tiles_say(experts, rows, cols, alternate):
    src = torch.randint(0, 256, (experts, rows, cols), dtype=torch.uint8)
    got = shuffle_scale_n32k4(src, experts, alternate, alternate)
    for e, n, c in torch.cartesian_prod(
        torch.arange(experts), torch.arange(0, rows, 7), torch.arange(0, cols, 3)
    ).tolist():
        half, within = divmod(n, rows // 2)
        row = 2 * within + half if alternate else n
        column = (c // 4) * 128 + (row % 32) * 4 + c % 4
        assert got[e, row // 32, column] == src[e, n, c]
    assert torch.equal(unshuffle_scale_n32k4(got, alternate, alternate), src)


def test_shapes_that_do_not_divide_are_refused():
    with pytest.raises(LayoutError, match="whole tiles"):
        shuffle_scale_n32k4(torch.zeros(48, 4, dtype=torch.uint8), 1)
    with pytest.raises(LayoutError, match="whole tiles"):
        shuffle_scale_n32k4(torch.zeros(32, 6, dtype=torch.uint8), 1)
    with pytest.raises(LayoutError, match="already shuffled"):
        shuffle_scale_n32k4(shuffle_scale_n32k4(torch.zeros(32, 4, dtype=torch.uint8), 1), 1)


def test_kernels_refuse_the_layout_by_name():
    weight = shuffle_weight(torch.zeros(1, 32, 64, dtype=torch.uint8))
    scale = shuffle_scale_n32k4(torch.zeros(32, 4, dtype=torch.uint8), 1)
    with pytest.raises(LayoutError, match=r"Gfx1250|gfx1250"):
        PackedWeight.from_aiter(weight, scale, gate_up=False, name="w1")
