# SPDX-License-Identifier: MIT
"""Functions that hardware approximates: here to within a rounding of the exact result."""

import numpy as np
import pytest
from vector_cases import Case, check, values

pytestmark = pytest.mark.usefixtures("gfx950_compiler")


def flush(a):
    with np.errstate(all="ignore"):
        return np.where(np.abs(a) < 2.0**-126, np.copysign(0.0, a), a)


def sine(a):
    """Return the sine of an angle in turns, folded to a quarter of a turn; 0 beyond 256 turns."""
    rest = a - np.rint(a)
    folded = np.where(np.abs(rest) > 0.25, np.copysign(0.5, rest) - rest, rest)
    return np.where(np.isfinite(a) & (np.abs(a) > 256), 0.0, np.sin(2 * np.pi * folded))


def cosine(a):
    folded = 0.25 - np.abs(a - np.rint(a))
    return np.where(np.isfinite(a) & (np.abs(a) > 256), 1.0, np.sin(2 * np.pi * folded))


FUNCTIONS = {
    "exp": np.exp2, "log": np.log2, "rcp": lambda a: 1 / a, "rsq": lambda a: 1 / np.sqrt(a),
    "sqrt": np.sqrt, "sin": sine, "cos": cosine,
}  # fmt: skip


def single(f):
    """Return f with denormal sources and results flushed, as hardware does in binary32."""
    return lambda a: flush(f(flush(a.astype(np.float64))).astype(np.float32))


def double(f):
    return lambda a: f(a.astype(np.float64))


def angles(kind, rng, count=256):
    """Return values of which many are small angles and exponents."""
    found = values(kind, rng, count)
    near = rng.uniform(-130, 130, count).astype(found.dtype)
    return np.where(rng.random(count) < 0.5, near, found)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("sources", [values, angles])
def test_functions(name, sources):
    f = FUNCTIONS[name]
    cases = [
        Case(f"v_{name}_f32 {{d}}, {{a}}", "f32 f32", single(f), ulps=1),
        Case(f"v_{name}_f16 {{d}}, {{a}}", "f16 f16", double(f), ulps=1),
    ]
    if name in ("rcp", "rsq", "sqrt"):
        cases.append(Case(f"v_{name}_f64 {{d}}, {{a}}", "f64 f64", f, ulps=1))
    check(cases * 4, seed=70, sources=sources)


def test_functions_of_other_names():
    check(
        [
            Case("v_rcp_iflag_f32 {d}, {a}", "f32 f32", single(FUNCTIONS["rcp"]), ulps=1),
            Case("v_exp_legacy_f32 {d}, {a}", "f32 f32", single(np.exp2), ulps=1),
            Case("v_log_legacy_f32 {d}, {a}", "f32 f32", single(np.log2), ulps=1),
        ],
        "gfx942",
    )


def test_sources_may_be_negated_and_results_clamped():
    check(
        [
            Case("v_exp_f32_e64 {d}, -{a}", "f32 f32", single(lambda a: np.exp2(-a)), ulps=1),
            Case("v_sqrt_f32_e64 {d}, |{a}| clamp", "f32 f32",
                 lambda a: np.nan_to_num(np.clip(np.sqrt(np.abs(flush(a))), 0, 1)), ulps=1),
        ],
        sources=angles,
    )  # fmt: skip
