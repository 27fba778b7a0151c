# SPDX-License-Identifier: MIT
"""Values moved between lanes, to and from scalars, and to and from accumulation registers."""

import numpy as np
import pytest
from gcn_asm import Snippet, run, run_one
from wave_lanes import active_lanes, random_mask

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

LANES = np.arange(64)


def numbers(rng, *shape):
    return rng.integers(0, 1 << 32, (*shape, 64), np.uint32)


@pytest.mark.parametrize("lane", [0, 1, 31, 32, 63, 64, 127])
def test_one_lane_read_and_written(lane):
    rng = np.random.default_rng(60)
    a, b = numbers(rng), numbers(rng)
    body = """
    v_readlane_b32 s10, v1, s4
    v_writelane_b32 v2, s4, s4
    v_writelane_b32 v3, 42, s4
    """
    inputs = {"v1": a, "v2": b, "v3": b, "s4": lane, "exec": random_mask(rng)}
    result = run_one(Snippet("lane", body, inputs, ["s10", "v2", "v3"]))
    assert result["s10"] == a[lane & 63]
    for key, value in (("v2", lane), ("v3", 42)):
        want = b.copy()
        want[lane & 63] = value
        np.testing.assert_array_equal(result[key], want)


def test_the_first_active_lane():
    rng = np.random.default_rng(61)
    a = numbers(rng)
    masks = [1, 1 << 63, 0xFF00, *(random_mask(rng) for _ in range(4)), 0]
    snippets = [
        Snippet(f"first{n}", "v_readfirstlane_b32 s10, v1\nv_readfirstlane_b32 s11, v1",
                {"v1": a, "exec": mask}, ["s10", "s11"])
        for n, mask in enumerate(masks)
    ]  # fmt: skip
    for mask, result in zip(masks, run(snippets), strict=True):
        lane = (mask & -mask).bit_length() - 1 if mask else 0
        assert result["s10"] == result["s11"] == a[lane]


@pytest.mark.parametrize("size", [16, 32])
def test_halves_of_lanes_swapped(size):
    """EXEC does not matter."""
    rng = np.random.default_rng(62)
    a, b = numbers(rng), numbers(rng)
    inputs = {"v1": a, "v2": b, "exec": random_mask(rng)}
    result = run_one(Snippet("swap", f"v_permlane{size}_swap_b32 v1, v2", inputs, ["v1", "v2"]))
    upper = LANES & size != 0
    np.testing.assert_array_equal(result["v1"], np.where(upper, b[LANES - size], a))
    np.testing.assert_array_equal(result["v2"], np.where(upper, b, a[(LANES + size) % 64]))


def test_registers_swapped_in_active_lanes():
    rng = np.random.default_rng(63)
    a, b, mask = numbers(rng), numbers(rng), random_mask(rng)
    inputs = {"v1": a, "v2": b, "exec": mask}
    result = run_one(Snippet("swap", "v_swap_b32 v1, v2", inputs, ["v1", "v2"]))
    on = active_lanes(mask)
    np.testing.assert_array_equal(result["v1"], np.where(on, b, a))
    np.testing.assert_array_equal(result["v2"], np.where(on, a, b))


def test_accumulation_registers():
    rng = np.random.default_rng(64)
    a, b, mask = numbers(rng), numbers(rng), random_mask(rng)
    body = """
    v_accvgpr_write_b32 a3, v1
    v_accvgpr_write_b32 a4, 7
    v_accvgpr_mov_b32 a5, a0
    v_accvgpr_read_b32 v2, a3
    v_accvgpr_read_b32 v3, a4
    v_accvgpr_read_b32 v4, a5
    """
    inputs = {"v1": a, "a0": b, "exec": mask}
    result = run_one(Snippet("acc", body, inputs, ["v2", "v3", "v4"]))
    on = active_lanes(mask)
    for key, want in (("v2", a), ("v3", np.full(64, 7, np.uint32)), ("v4", b)):
        np.testing.assert_array_equal(result[key], np.where(on, want, np.uint32(0xA5A5A5A5)))


def test_instructions_without_effect():
    rng = np.random.default_rng(65)
    a = numbers(rng)
    result = run_one(Snippet("none", "v_nop\nv_clrexcp", {"v1": a}, ["v1"]))
    np.testing.assert_array_equal(result["v1"], a)
