# SPDX-License-Identifier: MIT
"""The machine code of direct kernels: what they take, and that what runs ahead stays under way."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiter_moe.codegen.build import ensure
from aiter_moe.codegen.gfx9.direct import (
    direct_instances,
    direct_tile,
    lds_bytes,
    loads_in_flight,
    weight_bytes_in_flight,
)
from aiter_moe.codegen.instance import Instance
from aiter_moe.codegen.readback import departures
from aiter_moe.codegen.render import render
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.inspect import hot_loop

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

TARGETS = ("gfx950", "gfx942")
CODE_LOADS = 4  # of a step of fp4 rows at most; bf16 rows take 8


def covering(target: str) -> list[Instance]:
    """Return every tile once; the other activations differ in the epilogue alone."""
    return [
        i for i in direct_instances(target) if i.activation in (None, ActivationType.Swiglu)
    ]  # fmt: skip


def code(instance: Instance) -> Path:
    return ensure(render(instance)).path


@pytest.mark.parametrize("target", TARGETS)
def test_every_tile_takes_what_was_computed_and_spills_nothing(target):
    for instance in covering(target):
        kernels = ensure(render(instance)).manifest["resources"]["kernels"]
        assert departures(instance, kernels) == (), instance
        assert kernels[0]["lds_bytes"] == lds_bytes(instance)


def test_no_wait_in_a_loop_drains_what_was_requested_ahead():
    for instance in covering("gfx950"):
        loop = hot_loop(code(instance), instance.name)
        tile = direct_tile(instance)
        ahead = loads_in_flight(instance)
        if instance.kind is Kind.A4W4:  # its loop over codes has the most products for its size
            ahead = tile.depth * (3 * tile.weight_tiles + CODE_LOADS - (tile.stage == 2))
        assert min(loop.vmcnts) >= ahead, instance
        assert not loop.uses_scratch


@pytest.mark.parametrize("target", TARGETS)
def test_a_compute_unit_keeps_32_kib_of_weights_under_way(target):
    for instance in direct_instances(target):
        assert weight_bytes_in_flight(instance) >= 32 * 1024, instance
