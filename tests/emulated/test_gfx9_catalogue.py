# SPDX-License-Identifier: MIT
"""The GPU catalogues compile, within the registers, LDS and waits that their tiles declare."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable

import pytest
from gfx9_kernels import assembly

from aiter_moe.codegen.build import build_many
from aiter_moe.codegen.cache import default_cache
from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.codegen.gfx9 import FINISH_SUFFIX, gfx9_tile
from aiter_moe.codegen.gfx9.device import DEVICES, device_of
from aiter_moe.codegen.gfx9.resources import lds_bytes, loads_in_flight
from aiter_moe.codegen.gfx9.rules import TALL_ROWS
from aiter_moe.codegen.gfx9.tile import FINISH_THREADS
from aiter_moe.codegen.instance import Instance
from aiter_moe.codegen.render import render
from aiter_moe.codegen.unit import Artifact
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.targets.arguments import StageArgs

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

TARGETS = tuple(DEVICES)


def covering(target: str) -> list[Instance]:
    """Return every tile once; the other activations differ in the epilogue alone."""
    return [i for i in sorting(target) if i.activation in (None, ActivationType.Swiglu)]


def sorting(target: str) -> list[Instance]:
    """Return the kernels that read a sort; `test_direct_code` has those that do not."""
    return [i for i in catalogue(target) if not i.tile.direct]


def rolls(instance: Instance) -> bool:
    """Say whether a kernel has the loop of tall waves; `test_gfx950_hot_loops` holds its waits."""
    rows = instance.block_m // gfx9_tile(instance).row_waves
    return instance.kind is Kind.A4W4 and rows >= TALL_ROWS


def build(instances: Iterable[Instance]) -> dict[Instance, Artifact]:
    by_name = {i.name: i for i in instances}
    found = {}
    for report in build_many([render(i) for i in by_name.values()], 2, default_cache()):
        assert report.artifact is not None, f"{report.unit.name}: {report.error}"
        found[by_name[report.unit.name]] = report.artifact
    return found


def check_resources(instance: Instance, artifact: Artifact) -> None:
    tile = gfx9_tile(instance)
    resources = artifact.manifest["resources"]
    kernels = {k["name"]: k for k in resources["kernels"]}
    expected = {instance.name} | ({instance.name + FINISH_SUFFIX} if instance.split_k else set())
    assert resources["arch"] == instance.target and set(kernels) == expected
    for kernel in kernels.values():
        assert (kernel["vgpr_spills"], kernel["sgpr_spills"], kernel["scratch_bytes"]) == (0, 0, 0)
        assert kernel["kernarg_bytes"] == ctypes.sizeof(StageArgs) == 248
    main = kernels[instance.name]
    assert main["lds_bytes"] == lds_bytes(instance) <= device_of(instance).lds_bytes
    assert main["vgprs"] <= tile.vgpr_budget
    assert main["waves_per_simd"] >= tile.waves_per_simd
    assert main["max_workgroup"] == tile.threads
    if instance.split_k:
        assert kernels[instance.name + FINISH_SUFFIX]["max_workgroup"] == FINISH_THREADS


def matrix_loops(assembly: str) -> list[str]:
    """Return the text of the innermost loops that multiply."""
    lines = assembly.splitlines()
    place = {m[1]: n for n, line in enumerate(lines) if (m := re.match(r"(\.L\w+):", line))}
    spans = []
    for n, line in enumerate(lines):
        jump = re.match(r"\ts_cbranch_\w+ (\.L\w+)", line)
        if jump and place[jump[1]] < n:
            spans.append((place[jump[1]], n))
    innermost = [
        (a, b)
        for a, b in spans
        if not any(a <= c and d <= b and (a, b) != (c, d) for c, d in spans)
    ]
    bodies = ["\n".join(lines[a:b]) for a, b in innermost]
    return [body for body in bodies if "v_mfma" in body]


@pytest.mark.parametrize("target", TARGETS)
def test_every_tile_compiles_within_its_limits(target):
    built = build(covering(target))
    assert len(built) == len(covering(target))
    for instance, artifact in built.items():
        check_resources(instance, artifact)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_the_whole_catalogue_compiles_within_its_limits(target):
    for instance, artifact in build(sorting(target)).items():
        check_resources(instance, artifact)


@pytest.mark.parametrize("target", TARGETS)
def test_no_wait_in_a_loop_drains_what_was_requested_ahead(target):
    for instance in build(i for i in covering(target) if not rolls(i)):
        loops = matrix_loops(assembly(instance).read_text())
        tile = gfx9_tile(instance)
        # Scale dwords come first of a step's weights; the compiler may copy them at a loop's end.
        early = loads_in_flight(instance) - tile.strips
        assert len(loops) == 2, f"{instance}: one for whole steps, one with masks"
        for loop in loops:
            barriers = 1 if tile.stages > 1 else 2
            assert loop.count("s_barrier") == barriers * (tile.depth + 1), instance
            waits = [int(n) for n in re.findall(r"vmcnt\((\d+)\)", loop)]
            assert early <= min(waits) <= loads_in_flight(instance), instance
            assert "scratch_" not in loop and "flat_" not in loop, instance
