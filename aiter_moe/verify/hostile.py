# SPDX-License-Identifier: MIT
"""A launcher that makes what a target allocates hostile, and looks afterwards what was touched.

It stands between the pipeline and the real launcher: pads of the sort get NaN weights and NaN
scales, memory for kernels to write is full of NaN and lies inside wider memory. Every call goes
on to the real launcher.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from aiter_moe.codegen.instance import Instance
from aiter_moe.formats import MX_BLOCK, NAN_SCALE
from aiter_moe.layouts import S
from aiter_moe.targets.arguments import StageArgs
from aiter_moe.targets.base import DeviceFacts, Launcher, RoutedTokens, SortedTokens

MARGIN = 32
"""Columns after each row of a matrix that kernels write, and rows after the last, that nobody
owns. A multiple of 4 elements, which GPU kernels ask of row strides."""
UNTOUCHED = {
    torch.bfloat16: (torch.int16, 0x7FA5),
    torch.float32: (torch.int32, 0x7FA5A5A5),
    torch.uint8: (torch.uint8, 0xA5),
}
"""Per type: an integer type of the same size, and the bits of a NaN that no arithmetic gives; of
codes and scales a byte that is one of many, so that a row tells more than an element."""


@dataclass(frozen=True, slots=True)
class Given:
    """Memory handed out for a kernel to write: `inside` is the kernel's, `margins` are not."""

    inside: torch.Tensor
    margins: tuple[torch.Tensor, ...]

    def spilt(self) -> int:
        """Return how many elements of the margins were written."""
        return sum(int(written(margin).sum()) for margin in self.margins)


def written(memory: torch.Tensor) -> torch.Tensor:
    """Return which elements of memory that was given out were written, bool."""
    integer, bits = UNTOUCHED[memory.dtype]
    return memory.view(integer) != bits


def _poisoned(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    integer, bits = UNTOUCHED[dtype]
    return torch.full(shape, bits, dtype=integer, device=device).view(dtype)


@dataclass(slots=True)
class HostileLauncher:
    """`aiter_moe.targets.base.Launcher` around another one.

    Attributes
    ----------
    inner : Launcher
        Where kernels run.
    topk : int
        Slots per token of what is sorted.
    reduction : int
        Elements of the reduction of the stage; scale columns beyond it are padding.
    given : list of Given
        What `empty` handed out, in order.
    """

    inner: Launcher
    topk: int
    reduction: int
    given: list[Given] = field(default_factory=list)

    @property
    def facts(self) -> DeviceFacts:
        """Identity of the device."""
        return self.inner.facts

    @property
    def runs_layers(self) -> bool:
        """No: what it looks at lies between the steps."""
        return False

    def empty(
        self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> torch.Tensor:
        """Return NaN that lies inside more NaN: a matrix with margins, anything else in a row."""
        if len(shape) == 2:
            rows, columns = shape
            whole = _poisoned((rows + MARGIN, columns + MARGIN), dtype, device)
            given = Given(whole[:rows, :columns], (whole[:rows, columns:], whole[rows:]))
        else:
            size = torch.Size(shape).numel()
            whole = _poisoned((size + MARGIN,), dtype, device)
            given = Given(whole[:size].view(shape), (whole[size:],))
        self.given.append(given)
        return given.inside

    def sort(
        self, routed: RoutedTokens, block_m: int, cleared: torch.Tensor | None = None
    ) -> SortedTokens:
        """Sort, and give every pad a weight of NaN."""
        found = self.inner.sort(routed, block_m, cleared)
        weights = found.weights.masked_fill(pad_slots(found, self.topk), torch.nan)
        return replace(found, weights=weights)

    def admit(self, routed: RoutedTokens) -> RoutedTokens:
        """Admit as the target does."""
        return self.inner.admit(routed)

    def quantise(
        self, x: torch.Tensor, routed: SortedTokens | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Quantise as the target does."""
        return self.inner.quantise(x, routed)

    def stage_scales(self, scales: torch.Tensor, routed: SortedTokens) -> torch.Tensor:
        """Lay scales out as the target does; scales of pads and padding columns become NaN."""
        laid = self.inner.stage_scales(scales, routed)
        if laid is scales:
            return laid
        rows = S.unshuffle(laid)
        pads = pad_slots(routed, self.topk)
        rows[: len(pads)][pads] = NAN_SCALE
        rows[len(pads) :] = NAN_SCALE
        rows[:, self.reduction // MX_BLOCK :] = NAN_SCALE
        return S.shuffle(rows)

    def run_stage(
        self, instance: Instance, args: StageArgs, tensors: Sequence[torch.Tensor]
    ) -> None:
        """Launch on the target."""
        self.inner.run_stage(instance, args, tensors)

    def reduce(self, rows: torch.Tensor, routed: SortedTokens, out: torch.Tensor) -> None:
        """Sum as the target does."""
        self.inner.reduce(rows, routed, out)


def pad_slots(routed: SortedTokens, topk: int) -> torch.Tensor:
    """Return which sorted slots belong to no token, bool [slots]."""
    slots = torch.arange(len(routed.ids), device=routed.ids.device)
    named = (routed.ids >> 24 & 0xFF) >= topk
    return named | (slots >= routed.num_valid[0])
