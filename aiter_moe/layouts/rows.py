# SPDX-License-Identifier: MIT
"""Order of gate and up rows: halves one after the other, or alternating in blocks.

Blocks of 16 rows are what kernels read (R16); blocks of one row are how gpt-oss checkpoints
come. Tiles are `aiter_moe.layouts.weights` and `aiter_moe.layouts.scales`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from aiter_moe.errors import LayoutError


@dataclass(frozen=True, slots=True)
class GateUpRows:
    """Rows [gate..., up...] against blocks of `block` rows, gate and up in turn.

    With h = row // (rows/2) and q = row % (rows/2), row q of half h goes to
    ``2 * block * (q // block) + block * h + q % block``.
    """

    block: int = 16

    def interleave(self, x: torch.Tensor) -> torch.Tensor:
        """Return [..., rows, cols] with gate and up rows alternating in blocks.

        Raises
        ------
        LayoutError
            rows is not a multiple of twice the block.
        """
        blocks = self._blocks(x)
        split = x.reshape(*x.shape[:-2], 2, blocks, self.block, x.shape[-1])
        return split.transpose(-4, -3).reshape(x.shape)

    def separate(self, x: torch.Tensor) -> torch.Tensor:
        """Undo `interleave`: all gate rows, then all up rows.

        Raises
        ------
        LayoutError
            rows is not a multiple of twice the block.
        """
        blocks = self._blocks(x)
        split = x.reshape(*x.shape[:-2], blocks, 2, self.block, x.shape[-1])
        return split.transpose(-4, -3).reshape(x.shape)

    def _blocks(self, x: torch.Tensor) -> int:
        if x.dim() < 2 or x.shape[-2] % (2 * self.block):
            raise LayoutError(
                f"gate and up rows alternate in blocks of {self.block}: the row count must be a "
                f"multiple of {2 * self.block}, found shape {tuple(x.shape)}; pad inter_dim"
            )
        return int(x.shape[-2]) // (2 * self.block)
