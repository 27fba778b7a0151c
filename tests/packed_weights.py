# SPDX-License-Identifier: MIT
"""Small packed weights for tests, a module that holds one, and what makes two of them the same."""

from __future__ import annotations

import torch

from aiter_moe.layouts import Layout, PackedWeight

LAYOUTS = list(Layout)
SHUFFLED = [Layout.SHUFFLED, Layout.SHUFFLED_GATE_UP]


def plain(experts=3, rows=64, cols=96, seed=0):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 256, (experts, rows, cols // 2), generator=generator)
    scales = torch.randint(0, 255, (experts, rows, cols // 32), generator=generator)
    return codes.to(torch.uint8), scales.to(torch.uint8)


def packed(layout=Layout.SHUFFLED, **sizes):
    return PackedWeight.pack(*plain(**sizes), layout)


def assert_same(found, wanted):
    assert type(found) is PackedWeight
    assert (found.layout, found.rows, found.cols) == (wanted.layout, wanted.rows, wanted.cols)
    assert torch.equal(found.codes, wanted.codes)
    assert torch.equal(found.scales, wanted.scales)


class Holder(torch.nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.w = torch.nn.Parameter(weight, requires_grad=False)
        self.bias = torch.nn.Parameter(torch.zeros(4))
