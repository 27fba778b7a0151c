# SPDX-License-Identifier: MIT
"""aiter's CK-tile catalogue as data: every name there is, and why some have no kernel here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from aiter_moe.codegen.cktile.tile import FAMILY, CkTile
from aiter_moe.codegen.instance import Instance
from aiter_moe.enums import ActivationType, Kind


class Cut(NamedTuple):
    """A block of rows and columns, and the workgroups a compute unit has room for by default."""

    block_m: int
    block_n: int
    per_cu: int


BLOCK_K = 256
MOST_PER_CU = 4
BF16_K, FP8_K = 32, 128
"""Reduction of a matrix instruction, which tells bf16 activations from fp8 ones in names."""

CUTS = {
    BF16_K: (Cut(16, 128, 2), Cut(32, 256, 2), Cut(64, 256, 1)),
    FP8_K: (Cut(32, 256, 2), Cut(64, 256, 1)),
}
TYPES = {"gfx950": (BF16_K, FP8_K), "gfx942": (BF16_K,)}
"""Activation types that aiter generates for a target."""

# aiter pairs a bias with Swiglu and none with Silu; stage 2 has the bias of its activation.
ACTIVATIONS = {ActivationType.Silu: False, ActivationType.Swiglu: True}


@dataclass(frozen=True, slots=True)
class CkTileInstance(Instance):
    """An instance that goes by aiter's name."""

    @property
    def name(self) -> str:
        """Name in aiter, as rows of its tables and ours spell it."""
        assert isinstance(self.tile, CkTile)
        return self.tile.kernel_name

    @property
    def family(self) -> str:
        """``cktile``: made from Composable Kernel's headers, used where it is named."""
        return FAMILY


@cache
def tiles(target: str) -> tuple[CkTile, ...]:
    """Return every entry that aiter generates for `target`, none for a target without."""
    return tuple(
        tile
        for mfma_k in TYPES.get(target, ())
        for activation, bias in ACTIVATIONS.items()
        for cut, per_cu in _by_room(CUTS[mfma_k])
        for tile in _of_cut(mfma_k, cut, per_cu, activation, bias)
    )


def _by_room(cuts: tuple[Cut, ...]) -> Iterator[tuple[Cut, int]]:
    """Yield the default room of every cut, then the others, as aiter numbers them."""
    for cut in cuts:
        yield cut, cut.per_cu
    for cut in cuts:
        for per_cu in range(1, MOST_PER_CU + 1):
            if per_cu != cut.per_cu:
                yield cut, per_cu


def _of_cut(
    mfma_k: int, cut: Cut, per_cu: int, activation: ActivationType, bias: bool
) -> Iterator[CkTile]:
    sizes = (cut.block_m, cut.block_n, BLOCK_K, mfma_k, per_cu)
    for split_k in (False, True) if mfma_k == BF16_K else (False,):
        yield CkTile(1, *sizes, activation, bias, split_k)
    yield CkTile(2, *sizes, None, bias)


# Registers a lane that a cut needs, from compiled kernels (clang 22).
NEEDED_VGPRS = {(16, 128): 116, (32, 256): 208, (64, 256): 291}


def why_without_kernel(tile: CkTile) -> str | None:
    """Return why an entry of aiter's catalogue has no kernel here, or None."""
    if tile.mfma_k != BF16_K:
        return "fp8 activations have no kernels here"
    if tile.split_k:
        return "Composable Kernel's public headers have no split-k kind of the MoE flatmm"
    need, room = NEEDED_VGPRS[tile.block_m, tile.block_n], tile.vgpr_budget
    if need > room:
        return f"it takes {need} registers and spills, {tile.per_cu} workgroups a CU leave {room}"
    return None


@cache
def cktile_instances(target: str) -> tuple[Instance, ...]:
    """Return the instances that can be made for `target` where the headers are."""
    if target != "gfx950":
        return ()
    return tuple(
        CkTileInstance(target, Kind.A16W4, t.stage, t.block_m, t.activation, t.split_k, t)
        for t in tiles(target)
        if why_without_kernel(t) is None
    )


@cache
def left_out(target: str) -> dict[str, str]:
    """Return the names of aiter's catalogue that have no kernel here, with the reason."""
    if target != "gfx950":
        why = f"aiter declares CK-tile kernels for {target} and defines none"
        return {tile.kernel_name: why for tile in tiles(target)}
    found = ((tile.kernel_name, why_without_kernel(tile)) for tile in tiles(target))
    return {name: why for name, why in found if why is not None}
