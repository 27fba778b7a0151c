# SPDX-License-Identifier: MIT
"""What a compiled kernel takes beside what its instance was expected to take.

`codegen.gfx9.resources` computes; here the figures that the code object states are compared, so
that a constraint never rests on a figure that is not true of the binary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aiter_moe.codegen.gfx9.resources import lds_bytes
from aiter_moe.codegen.gfx9.tile import Gfx9Tile, gfx9_tile
from aiter_moe.codegen.instance import Instance


def departures(instance: Instance, kernels: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return in which figures a binary departs from its instance; empty if in none.

    Parameters
    ----------
    instance : Instance
        A kernel of any target; only those with a tile of `Gfx9Tile` have such figures.
    kernels : sequence of Mapping
        Kernels of the artifact, as `codeobject.CodeObject.resources` lists them.
    """
    if not isinstance(instance.tile, Gfx9Tile):
        return ()
    found = [text for kernel in kernels for text in _spilled(kernel)]
    main = next((k for k in kernels if k["name"] == instance.name), None)
    if main is None:
        return (*found, f"the code object has no kernel {instance.name}")
    return (*found, *_unlike(instance, main))


def _spilled(kernel: Mapping[str, Any]) -> Iterator[str]:
    spills = int(kernel["vgpr_spills"]) + int(kernel["sgpr_spills"])
    scratch = int(kernel["scratch_bytes"])
    if spills or scratch:
        yield f"{kernel['name']} spills {spills} registers, {scratch} bytes of scratch"


def _unlike(instance: Instance, kernel: Mapping[str, Any]) -> Iterator[str]:
    tile = gfx9_tile(instance)
    lds, expected = int(kernel["lds_bytes"]), lds_bytes(instance)
    if lds != expected:
        yield f"{lds} bytes of LDS, {expected} were expected"
    waves, asked = int(kernel["waves_per_simd"]), tile.waves_per_simd
    if waves < asked:
        yield f"{waves} waves a SIMD ({kernel['vgprs']} VGPRs), the tile asks for {asked}"
    threads = int(kernel["max_workgroup"])
    if threads != tile.threads:
        yield f"workgroups of {threads} threads, the tile has {tile.threads}"
