# SPDX-License-Identifier: MIT
"""benchmarks/gfx950.py: its tables of real kernels, and what it says where a limit fails."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.enums import Kind
from aiter_moe.inspect.inspection import inspect_instance
from aiter_moe.inspect.shape import shape_of, tiers_of

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gfx950.py"


@pytest.fixture(scope="module")
def page():
    spec = importlib.util.spec_from_file_location("benchmark_gfx950", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def decode():
    chosen = next(
        i
        for i in catalogue("gfx950")
        if i.kind is Kind.A4W4 and i.stage == 2 and i.block_m == 32 and not i.tile.direct
    )
    return inspect_instance(chosen)[0]


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_a_limit_is_held_by_every_kernel_of_its_tile(page, decode, monkeypatch):
    figure = decode.loop.per_mfma
    size = page.weight_rows(decode)
    limits = [page.Limit("x", Kind.A4W4, (2,), 32, size, "peer", figure + d) for d in (0.1, -0.1)]
    monkeypatch.setattr(page, "LIMITS", [*limits, replace(limits[0], block_m=48)])
    found = rows(page.hot_loops([decode]))[2:]
    assert [row[5] for row in found] == ["yes", "NO", "NO"]
    assert [row[3] for row in found] == [f"{figure:.2f}"] * 2 + ["none"]


def test_decode_kernels_and_their_bytes_in_flight(page, decode):
    (row,) = rows(page.in_flight([decode]))[2:]
    kib = decode.flight.least * decode.occupancy.waves / 1024
    assert row[4] == f"{kib:.0f}" and row[5] == ("yes" if kib >= 32 else "NO")
    (line,) = rows(page.every_loop([decode]))[2:]
    assert line[4] == f"{decode.loop.per_mfma:.2f}" and len(line) == 16


def test_chains_and_bounds_of_a_layer(page):
    tiers = {
        "x": tiers_of(shape_of("E=4,topk=2,hidden=512,inter=256"), "gfx950", [Kind.A4W4], [1, 512])
    }
    found = rows(page.chains(tiers))[2:]
    assert all("stage 1" in row[6] and "stage 2" in row[6] for row in found)
    assert len(rows(page.stage_bounds(tiers))[2:]) == 1  # 512 is not among those shown


def test_what_verify_found_is_told(page, tmp_path):
    path = tmp_path / "verify.json"
    path.write_text('{"kernels": [{"name": "a", "right": true, "cases": [1, 2]},'
                    ' {"name": "b", "right": false, "cases": [3]}]}')  # fmt: skip
    assert page.verified(path) == "2 kernels in 3 cases, 1 wrong: b."
    assert "exit status" in page.verified(None)
