# SPDX-License-Identifier: MIT
"""What a compiled kernel takes beside what its instance was expected to take.

Tiles say what they expect (`codegen.gfx9.resources`, `codegen.cktile.tile`); the figures that the
code object states are compared with that, so that a constraint never rests on a figure that is not
true of the binary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aiter_moe.codegen.cktile.tile import THREADS, CkTile
from aiter_moe.codegen.gfx9 import direct
from aiter_moe.codegen.gfx9.resources import lds_bytes
from aiter_moe.codegen.gfx9.tile import Gfx9Tile
from aiter_moe.codegen.instance import Instance


def departures(instance: Instance, kernels: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return in which figures a binary departs from its instance; empty if in none.

    Parameters
    ----------
    instance : Instance
        A kernel of any target; a CPU kernel has no such figures.
    kernels : sequence of Mapping
        Kernels of the artifact, as `codeobject.CodeObject.resources` lists them.
    """
    figures = _figures(instance)
    if figures is None:
        return ()
    found = spills(kernels)
    main = next((k for k in kernels if k["name"] == instance.name), None)
    if main is None:
        return (*found, f"the code object has no kernel {instance.name}")
    return (*found, *_unlike(figures, main))


class _Figures(NamedTuple):
    """What a main kernel was expected to take."""

    lds: int
    waves_per_simd: int
    threads: int


def _figures(instance: Instance) -> _Figures | None:
    tile = instance.tile
    if isinstance(tile, CkTile):
        return _Figures(tile.lds_bytes, tile.per_cu, THREADS)
    if isinstance(tile, direct.DirectTile):
        return _Figures(direct.lds_bytes(instance), tile.waves_per_simd, tile.threads)
    if isinstance(tile, Gfx9Tile):
        return _Figures(lds_bytes(instance), tile.waves_per_simd, tile.threads)
    return None


def spills(kernels: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return which kernels of an artifact keep registers in memory, a line each."""
    found = []
    for kernel in kernels:
        count = int(kernel["vgpr_spills"]) + int(kernel["sgpr_spills"])
        scratch = int(kernel["scratch_bytes"])
        if count or scratch:
            found.append(f"{kernel['name']} spills {count} registers, {scratch} bytes of scratch")
    return tuple(found)


def _unlike(wanted: _Figures, kernel: Mapping[str, Any]) -> Iterator[str]:
    lds = int(kernel["lds_bytes"])
    if lds != wanted.lds:
        yield f"{lds} bytes of LDS, {wanted.lds} were expected"
    waves, asked = int(kernel["waves_per_simd"]), wanted.waves_per_simd
    if waves < asked:
        yield f"{waves} waves a SIMD ({kernel['vgprs']} VGPRs), the tile asks for {asked}"
    threads = int(kernel["max_workgroup"])
    if threads != wanted.threads:
        yield f"workgroups of {threads} threads, the tile has {wanted.threads}"
